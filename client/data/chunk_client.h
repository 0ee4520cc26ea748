// Requests to chunk servers: finds the members of a chunk's group, keeps connections, retries, checks every sum.
//
// Reads go to any in-sync member, the one on this node first; everything else goes to the primary. A request is
// repeated after a lost connection, a time-out, a stale epoch (with a fresh cluster map) or a busy server, until it has
// been tried for the retry deadline; then it fails with a text that names chunk, target and address. Writes and
// truncates carry a number per session and group, so that a repeat has no second effect, whoever is the primary by
// then. What a server refuses for a reason of its own (kNoSpace, kStaleTruncate, kFenced ...) is passed on at once.
//
// Thread-safe. Callbacks run on an event loop's thread, or on the caller's before the call returns (closed); none is
// lost.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/data/data_plane.h"
#include "client/data/metadata_gate.h"
#include "client/types.h"
#include "common/base/byte_range.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/rpc/event_loop.h"

namespace tarn::client {

struct ChunkClientOptions {
  int64_t retry_deadline_ms = 30'000;
  int64_t request_timeout_ms = 10'000;  // of one attempt
  std::string peer_name;
  std::string token;
  // This client's: copies on it are read first. Empty: unknown.
  std::string node;
  // A read without an answer is asked for at another member after this time at the latest; a server that answers nobody
  // for so long is taken for silent.
  int64_t hedge_ms = 300;
  // Of the writes under way to one server; more wait in the order in which they came. Bounded so that a read is not
  // held up behind the whole write buffer.
  uint64_t server_write_bytes_max = 16 << 20;
  uint32_t server_writes_max = 192;
};

// A chunk as the inode's attributes describe it now.
struct ChunkReference {
  DataId data;
  uint32_t chunk_index = 0;
  FileLayout layout;
  uint64_t truncate_generation = 0;
  uint64_t truncated_chunk_bytes = 0;  // what a chunk last touched under an older generation may show
  uint64_t data_generation = 0;
  bool settled = false;  // exactly this generation is what the chunk holds, and so copies outside of the in-sync set will do (docs/elastic.md)
};

// What a chunk was when a write of it was acknowledged; rises with its changes. Epoch 0: the server does not know.
struct AcknowledgedStamp {
  Epoch epoch;
  uint64_t version = 0;
};

// Holds as long as this target is the group's primary under this incarnation.
struct WriteAck {
  GroupId group;
  TargetId target;
  Incarnation incarnation;
  bool durable = false;
  AcknowledgedStamp stamp = {};
  // Of a write that had been acknowledged before: the parts of it, as ranges of the chunk, where later writes lie.
  // Nothing was applied, what is left may be sent again. Empty: it is there.
  std::vector<ByteRange> superseded = {};
};

struct WriteOptions {
  bool durable = false;
  // It was acknowledged before, with this stamp: applied only if it was lost.
  std::optional<AcknowledgedStamp> acknowledged = {};
};

// Of the groups that a commit was asked for. Those in neither list: nothing is known, ask again.
struct CommitOutcome {
  Incarnation incarnation;       // of the target; not set if it was not asked
  std::vector<GroupId> covered;  // what this incarnation acknowledged is on stable storage of all in-sync members
  std::vector<GroupId> moved;    // another target is primary: what this one acknowledged must be sent to it again
};

struct StoredChunk {
  uint32_t index = 0;
  uint64_t bytes = 0;
};

class ChunkClient {
 public:
  struct Counters {
    std::atomic<uint64_t> requests{0};  // repeats included
    std::atomic<uint64_t> bytes_read{0};
    std::atomic<uint64_t> bytes_written{0};
    std::atomic<uint64_t> checksum_failures{0};
    std::atomic<uint64_t> relayed_requests{0};  // answered through another server
    std::atomic<uint64_t> second_reads{0};  // asked for at another member while one was slow
    std::atomic<uint64_t> elastic_reads{0};
    std::atomic<uint64_t> elastic_fallbacks{0};
  };

  // `loops` outlive Close; there is at least one.
  ChunkClient(const ChunkClientOptions& options, std::vector<rpc::EventLoop*> loops,
              std::shared_ptr<MetadataGate> metadata, std::shared_ptr<const Clock> clock);
  ~ChunkClient();
  ChunkClient(const ChunkClient&) = delete;
  ChunkClient& operator=(const ChunkClient&) = delete;

  // Fills all of `destination`: what the chunk does not have is zeros. `offset` and the length are multiples of 4096,
  // at most 4 MiB. `destination` stays alive until the callback. kCorruption if no member has bytes whose sums hold,
  // even read again at the source.
  void Read(const ChunkReference& chunk, uint64_t offset, std::span<uint8_t> destination, StatusCallback done);
  // `bytes` (at most 4 MiB) stay alive and unchanged until the callback.
  void Write(const ChunkReference& chunk, uint64_t offset, std::span<const uint8_t> bytes, const WriteOptions& options,
             Callback<WriteAck> done);
  // Cuts the chunk as the reference says.
  void Truncate(const ChunkReference& chunk, Callback<WriteAck> done);
  // Everything this target acknowledged before as the primary of these groups is brought to stable storage.
  void CommitTarget(TargetId target, std::vector<GroupId> groups, Callback<CommitOutcome> done);
  // Everything acknowledged before, by whichever client it was written, of the first `columns` columns of the layout is
  // brought to stable storage.
  void CommitColumns(const FileLayout& layout, uint32_t columns, StatusCallback done);
  // The chunks of a data id on the primary of a column.
  void ListChunks(const FileLayout& layout, uint32_t column, DataId data, Callback<std::vector<StoredChunk>> done);

  // Fails everything, in flight or later, with kCancelled, and returns when the last callback has. Not on a loop's
  // thread.
  void Close();
  const Counters& counters() const;
  // By the newest map that a request has seen; true before the first one.
  bool HasElasticTargets() const;

  class Core;

 private:
  const std::shared_ptr<Core> core_;
};

}  // namespace tarn::client
