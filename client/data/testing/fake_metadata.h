// The metadata half, in memory: files with sizes, data ids and generations, and a cluster map. Answers come on an event
// loop's thread, as they do in earnest. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "client/data/data_plane.h"
#include "common/base/mutex.h"
#include "common/rpc/event_loop.h"
#include "proto/cluster.pb.h"

namespace tarn::client {

class FakeMetadata final : public MetadataForData {
 public:
  struct Counts {
    uint64_t allocates = 0;
    uint64_t commits = 0;
    uint64_t fetches = 0;
    uint64_t truncates_done = 0;
    uint64_t refreshes = 0;
  };

  // `loop` outlives it. New files get this layout.
  FakeMetadata(rpc::EventLoop* loop, const FileLayout& layout) : loop_(loop), layout_(layout) {}

  // ---- MetadataForData ----
  void AllocateData(InodeId inode, Callback<Attributes> done) override;
  void CommitWrite(const WriteCommit& commit, Callback<Attributes> done) override;
  void FetchAttributes(InodeId inode, Callback<Attributes> done) override;
  void TruncateDone(InodeId inode, uint64_t truncate_generation, StatusCallback done) override;
  std::shared_ptr<const proto::ClusterMap> cluster_map() override;
  void RefreshClusterMap(uint64_t version, StatusCallback done) override;
  SessionId session() override { return SessionId(session_.load()); }
  bool KnowsContent(InodeId inode, const DataContent& content) override;
  uint64_t SoleWriterTerm(InodeId) override { return sole_term_; }

  // ---- For the test ----
  Attributes MakeFile();
  Attributes Get(InodeId inode) const;
  // What the metadata server does for a change of size, whoever asks for it.
  Attributes Truncate(InodeId inode, uint64_t size);
  void Remove(InodeId inode);
  // Whether the client holds grants. Then it may use what is kept under a generation.
  void SetHoldsGrants(bool holds) { holds_grants_ = holds; }
  void SetSoleWriterTerm(uint64_t term) { sole_term_ = term; }
  // A change of the data by another client, of which this one has heard nothing yet.
  void RaiseGeneration(InodeId inode);
  // Another client's.
  void SetSession(uint64_t session) { session_ = session; }
  // What the client sees at once; RefreshClusterMap brings what was set with SetNewerMap.
  void SetMap(const proto::ClusterMap& map);
  void SetNewerMap(const proto::ClusterMap& map);
  // The next commits fail with these, one after the other.
  void FailCommits(std::deque<Status> failures);
  Counts counts() const;

 private:
  template <typename T>
  void Answer(Callback<T> done, Result<T> result);

  rpc::EventLoop* const loop_;
  const FileLayout layout_;
  std::atomic<uint64_t> session_{77};
  std::atomic<bool> holds_grants_{false};
  std::atomic<uint64_t> sole_term_{0};

  mutable Mutex mutex_;
  std::map<InodeId, Attributes> files_ GUARDED_BY(mutex_);
  uint64_t next_inode_ GUARDED_BY(mutex_) = 100;
  uint64_t next_data_ GUARDED_BY(mutex_) = 5000;
  std::shared_ptr<const proto::ClusterMap> map_ GUARDED_BY(mutex_) = std::make_shared<proto::ClusterMap>();
  std::shared_ptr<const proto::ClusterMap> newer_map_ GUARDED_BY(mutex_);
  std::deque<Status> commit_failures_ GUARDED_BY(mutex_);
  Counts counts_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client
