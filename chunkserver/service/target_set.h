// The targets of a chunk server: for each directory a store, the threads that wait for its disk, and its part in the placement groups; or, on
// an elastic server, a cache (docs/elastic.md).
//
// A disk that fails stops its own target only. What the server is called is agreed upon by all directories before any of them is opened
// (directory_identity.h).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "chunkserver/elastic/pull_through.h"
#include "chunkserver/elastic/unit_cache.h"
#include "chunkserver/replication/target_replication.h"
#include "chunkserver/service/directory_identity.h"
#include "chunkserver/service/disk_read_gate.h"
#include "chunkserver/service/target_executor.h"
#include "chunkserver/store/chunk_store.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/base/worker_pool.h"
#include "proto/cluster.pb.h"

namespace tarn::chunk {

// Thread-safe.
class HostedTarget {
 public:
  // `clock` outlives it.
  HostedTarget(DirectoryIdentity found, size_t worker_threads, const Clock* clock);
  HostedTarget(const HostedTarget&) = delete;
  HostedTarget& operator=(const HostedTarget&) = delete;

  const std::string& directory() const { return found_.directory; }
  // Not valid before the first registration of a new one.
  TargetId id() const { return TargetId(id_.load(std::memory_order_acquire)); }
  // Null: its disk failed when it was opened, or it is elastic.
  store::ChunkStore* store() const { return store_.get(); }
  // Null: it is durable, or its disk failed when it was opened, or it is not started yet.
  elastic::PullThrough* elastic() const { return pull_through_.get(); }
  // For reads that wait for this disk; a bounded queue. Not where there is neither store nor cache.
  WorkerPool* workers() const { return workers_.get(); }
  DiskReadGate& disk_gate() { return disk_gate_; }
  // Null before the first registration, and where the store is.
  replication::TargetReplication* replication() const { return serving_.load(std::memory_order_acquire); }
  // Why nothing is written to it any more; ok: it is.
  Status failure() const;

  // Once, when the target has its id. Both live until TargetSet::EndReplication.
  void StartReplication(std::unique_ptr<TargetExecutor> executor, std::unique_ptr<replication::TargetReplication> engine);

  // Of an elastic one: once, before the first request and the first map. All outlive the target.
  void StartElastic(replication::PeerNetwork* network, BufferPool* buffers, const Clock* clock, std::function<void(uint64_t)> want_map);
  // Payload of answers to readers.
  void NoteRead(uint64_t bytes) { bytes_read_.fetch_add(bytes, std::memory_order_relaxed); }

  // What the metadata server hears of it. Asks the file system for the space.
  void FillReport(proto::TargetReport* report) const;

 private:
  friend class TargetSet;

  void TellRoom(uint64_t available_bytes) const;
  void Open(store::StoreOptions options, const store::StoreEnvironment& environment);
  void OpenCache(uint64_t elastic_bytes);
  void FillElasticReport(proto::TargetReport* report) const;
  Status Adopt(const std::string& cluster_id, ServerId server, TargetId id);
  Status Close();

  // Immutable once opened.
  const DirectoryIdentity found_;
  const size_t worker_threads_;
  Status open_status_;
  std::unique_ptr<store::ChunkStore> store_;
  UniqueFd cache_lock_;  // of an elastic one's directory
  std::unique_ptr<elastic::UnitCache> cache_;
  std::unique_ptr<elastic::PullThrough> pull_through_;
  std::unique_ptr<WorkerPool> workers_;
  DiskReadGate disk_gate_;

  std::atomic<uint64_t> bytes_read_ = 0;
  std::atomic<uint64_t> id_;
  std::atomic<bool> registered_ = false;  // by this process
  mutable std::atomic<bool> full_is_told_ = false;

  // Made by StartReplication; `serving_` is the engine for everybody else.
  std::unique_ptr<TargetExecutor> executor_;
  std::unique_ptr<replication::TargetReplication> engine_;
  std::atomic<replication::TargetReplication*> serving_ = nullptr;
};

struct TargetSetOptions {
  std::vector<std::string> directories;
  store::StoreOptions store;  // for each of them, but for `directory`; its cache_bytes are shared out
  size_t worker_threads = 8;  // for each
  // They hold extra copies only; nothing in the directories outlives the process.
  bool elastic = false;
  uint64_t elastic_bytes = 0;  // for each; 0: nine tenths of what the file system has free
};

// Thread-safe.
class TargetSet {
 public:
  // Opens all at once. Refuses, naming the directory, what is a mistake; fails if no disk is left that works. `environment` outlives it.
  static Result<std::unique_ptr<TargetSet>> Open(const TargetSetOptions& options, const store::StoreEnvironment& environment);
  // Without Close: as after a crash.
  ~TargetSet() = default;
  TargetSet(const TargetSet&) = delete;
  TargetSet& operator=(const TargetSet&) = delete;

  // The end, in this order. What waits in replication fails; nothing new is begun.
  void StopReplication();
  // Runs what waits for the disks, and lets nothing more in.
  void StopWorkers();
  // When no callback of loops and connections can come any more.
  void EndReplication();
  // Closes the stores; the first error.
  Status Close();

  // A round of each store.
  void StartScrub() const;
  // For every target that takes part in replication.
  void AdoptMap(const std::shared_ptr<const proto::ClusterMap>& map) const;
  void ExtendLeases(int64_t sent_ns, int64_t lease_ms) const;
  // At most `version`: of the newest map of which no target still applies what it admitted before (docs/replication.md, "Fences").
  uint64_t SettledMapVersion(uint64_t version) const;

  // The metadata server does not know this server any more. True: it is elastic, and registers as a new one.
  bool ForgetElasticIdentity();
  ServerIdentity identity() const;
  std::span<const std::unique_ptr<HostedTarget>> targets() const { return targets_; }
  // Null if there is none.
  HostedTarget* Find(TargetId id) const;
  // Those that the metadata server hears of, in this order: a failed one only if it is known what it is.
  std::vector<HostedTarget*> Reported() const;
  // The answer to a registration: one id for each of Reported(). kPermission: not what the directories say. Durable.
  Status Adopt(const ServerIdentity& identity, std::span<const TargetId> ids);

 private:
  TargetSet() = default;

  // Immutable after construction.
  std::vector<std::unique_ptr<HostedTarget>> targets_;

  mutable Mutex mutex_;
  ServerIdentity identity_ GUARDED_BY(mutex_);
};

}  // namespace tarn::chunk
