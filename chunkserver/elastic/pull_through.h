// Answers reads from the cache of an elastic target, and fetches what it lacks (docs/elastic.md, "Pull-through").
//
// What is being fetched is fetched once, however many readers wait for it. They are answered as soon as the bytes are there and
// their sums hold; only then the bytes are written to the cache. Whatever fails ends with kAskPrimary: the reader asks an
// in-sync member itself.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "chunkserver/elastic/sources.h"
#include "chunkserver/elastic/unit.h"
#include "chunkserver/elastic/unit_cache.h"
#include "chunkserver/replication/environment.h"
#include "common/base/buffer_pool.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/base/worker_pool.h"
#include "proto/cluster.pb.h"
#include "proto/data.pb.h"

namespace tarn::elastic {

struct ReadCall {
  ChunkId chunk;
  Generation generation;
  Range range;
  GroupId group;
  SessionId session;
  uint64_t truncated_chunk_bytes = 0;
  bool from_elastic = false;
};

struct ReadAnswer {
  Status status;
  proto::ReadChunkReply reply;
  Buffer payload;                       // unless
  std::optional<store::ReadPlan> pages; // these pages of files are it
};
using ReadDone = std::function<void(ReadAnswer)>;

// All outlive the object.
struct PullThroughParts {
  UnitCache* cache = nullptr;
  replication::PeerNetwork* network = nullptr;
  WorkerPool* workers = nullptr;
  BufferPool* buffers = nullptr;
  const Clock* clock = nullptr;
  std::function<void(uint64_t version)> want_map;
};

// Thread-safe.
class PullThrough {
 public:
  static constexpr uint64_t kFetchBytesMax = 64u << 20;  // under way

  explicit PullThrough(PullThroughParts parts);
  PullThrough(const PullThrough&) = delete;
  PullThrough& operator=(const PullThrough&) = delete;

  // `self`: this target's id by that map.
  void AdoptMap(const proto::ClusterMap& map, TargetId self);
  // Does not block. `done` runs once, on any thread, perhaps before Read returns; after the network was closed it may be dropped.
  void Read(const ReadCall& call, ReadDone done);
  // A reader got bytes whose sums did not hold: what is bad is dropped. `done` as above; its payload is empty.
  void Verify(const ReadCall& call, ReadDone done);
  void FillUse(proto::ElasticUse* use) const;

 private:
  // One request to other servers.
  struct Fetch;
  using FetchPtr = std::shared_ptr<Fetch>;
  // A reader that waits for fetches.
  struct Waiter {
    ReadCall call;
    ReadDone done;
    std::vector<FetchPtr> fetches;
    size_t left = 0;  // the lock's
  };
  using WaiterPtr = std::shared_ptr<Waiter>;
  struct Fetch {
    ReadCall call;  // of the first reader
    UnitRun run;
    std::vector<Source> sources;
    size_t next_source = 0;
    // Set once, before `ready`.
    Buffer bytes;
    proto::ReadChunkReply reply;
    // The lock's.
    bool ready = false;
    bool failed = false;
    std::vector<WaiterPtr> waiters;

    Range range() const { return {uint64_t{run.first} * kUnitBytes, run.count * kUnitBytes}; }
    bool Covers(uint32_t unit) const { return unit >= run.first && unit < run.first + run.count; }
  };

  void AnswerCached(const ReadCall& call, Found found, const ReadDone& done);
  void AnswerBlocking(const ReadCall& call, const CachedRead& read, const ReadDone& done);
  void AnswerPayload(const ReadCall& call, proto::ReadChunkReply reply, Buffer payload, const ReadDone& done);
  void Refuse(const ReadDone& done, const std::string& why);

  // The fetches that the waiter needs: those under way are joined. nullopt: too much is under way.
  std::optional<std::vector<FetchPtr>> Join(const WaiterPtr& waiter, const std::vector<UnitRun>& missing) REQUIRES(mutex_);
  void AskNext(const FetchPtr& fetch);
  void OnReply(const FetchPtr& fetch, const Source& source, const replication::PeerReply& reply);
  void OnBytes(const FetchPtr& fetch);
  void End(const FetchPtr& fetch, bool ok);
  void Forget(const FetchPtr& fetch);
  void FinishSoon(const WaiterPtr& waiter);
  void Finish(Waiter& waiter);
  // Appends what one unit has of the range. False: it is not there any more. `end`: the chunk ends in it.
  bool AppendUnit(const Waiter& waiter, uint32_t unit, std::span<uint8_t> payload, size_t* used, proto::ReadChunkReply* reply, bool* end);
  bool MayAsk(TargetId target);
  void NoteBad(TargetId target);

  const PullThroughParts parts_;
  std::atomic<uint64_t> hits_ = 0;
  std::atomic<uint64_t> misses_ = 0;
  std::atomic<uint64_t> refusals_ = 0;
  std::atomic<uint64_t> bytes_served_ = 0;
  std::atomic<uint64_t> bytes_filled_ = 0;

  Mutex mutex_;
  std::shared_ptr<const Sources> sources_ GUARDED_BY(mutex_);
  std::unordered_map<UnitKey, FetchPtr, UnitKeyHash> under_way_ GUARDED_BY(mutex_);
  uint64_t fetch_bytes_ GUARDED_BY(mutex_) = 0;
  std::unordered_map<TargetId, int64_t> avoided_until_ns_ GUARDED_BY(mutex_);
};

}  // namespace tarn::elastic
