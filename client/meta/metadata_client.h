// The metadata half of the client: reads, mutations through the session, and the cluster map.
//
// Thread-safe. Callbacks run on the loop's thread, or on the caller's before the call returns. Every request is retried
// until the retry deadline; mutations take effect exactly once (client/meta/metadata_session.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "client/data/data_plane.h"
#include "client/meta/cluster_map_cache.h"
#include "client/meta/coherence.h"
#include "client/meta/metadata_channel.h"
#include "client/meta/metadata_session.h"
#include "client/types.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "proto/metadata.pb.h"

namespace tarn::client {

class MetadataClient final : public MetadataForData {
 public:
  // `loop`, `clock` and `random` outlive it. Connects with the first request.
  MetadataClient(rpc::EventLoop* loop, const Clock* clock, Random* random, const MetadataChannelOptions& options);
  ~MetadataClient() override;
  MetadataClient(const MetadataClient&) = delete;
  MetadataClient& operator=(const MetadataClient&) = delete;

  // Asks and parses: one of the read methods of common/rpc/frame.h.
  template <typename ReplyMessage, typename RequestMessage>
  void Read(rpc::Method method, RequestMessage request, Callback<ReplyMessage> done) {
    channel_->Call(method, std::make_shared<const RequestMessage>(std::move(request)),
                   [done = std::move(done)](const rpc::Reply& reply, bool) {
                     ReplyMessage parsed;
                     Status status = rpc::ParseReply(reply, &parsed);
                     if (status.ok()) {
                       done(std::move(parsed));
                     } else {
                       done(std::move(status));
                     }
                   });
  }
  void GetAttributes(InodeId inode, Callback<Attributes> done);

  // Before anything else is called: the session caches what it reads, as far as the server grants it.
  void EnableCaching(uint64_t cache_bytes_max);
  // Null without it.
  Coherence* coherence() { return coherence_.get(); }
  // Sent with reads that want a grant: invalid without caching.
  SessionId caching_session() const { return coherence_ != nullptr ? session_->id() : SessionId(); }

  // Of waits for locks that were granted, under which session; and of a new connection to a server, which may have told
  // of such before. On the loop's thread.
  struct LockListener {
    std::function<void(SessionId session, std::span<const uint64_t> waits)> granted;
    std::function<void()> connected;
  };
  void SetLockListener(LockListener listener);
  rpc::EventLoop* loop() const { return loop_; }

  // Before the first mutation. `volume` may be invalid (a tool).
  void OpenSession(VolumeId volume, StatusCallback done) { session_->Open(volume, std::move(done)); }
  void Mutate(proto::Mutation mutation, MetadataSession::MutationCallback done) {
    session_->Mutate(std::move(mutation), std::move(done));
  }
  void MutateBatched(proto::Mutation mutation, MetadataSession::MutationCallback done) {
    session_->MutateBatched(std::move(mutation), std::move(done));
  }
  // The attributes in the reply of a mutation that has some.
  void MutateForAttributes(proto::Mutation mutation, Callback<Attributes> done);
  // TruncateDone, with the attributes after it.
  void EndTruncate(InodeId inode, uint64_t truncate_generation, Callback<Attributes> done);

  // Not on the loop's thread: tells the server that the session is over (for at most `deadline_ms`), fails what is
  // still under way with kCancelled, and returns when no callback runs any more. Later calls fail with kCancelled.
  void Shutdown(int64_t deadline_ms);

  uint64_t requests() const { return channel_->requests(); }
  uint64_t sessions_lost() const { return session_->sessions_lost(); }
  std::vector<std::string> addresses() const { return channel_->addresses(); }

  // ---- MetadataForData ----
  void AllocateData(InodeId inode, Callback<Attributes> done) override;
  void CommitWrite(const WriteCommit& commit, Callback<Attributes> done) override;
  void FetchAttributes(InodeId inode, Callback<Attributes> done) override { GetAttributes(inode, std::move(done)); }
  void TruncateDone(InodeId inode, uint64_t truncate_generation, StatusCallback done) override;
  std::shared_ptr<const proto::ClusterMap> cluster_map() override { return map_->map(); }
  void RefreshClusterMap(uint64_t version, StatusCallback done) override { map_->Refresh(version, std::move(done)); }
  SessionId session() override { return session_->id(); }

 private:
  std::shared_ptr<const LockListener> lock_listener() const;
  void OnPush(rpc::Method method, std::span<const uint8_t> message);
  void FetchMap(uint64_t newer_than, Callback<ClusterMapCache::MapPtr> done);

  // Immutable after construction.
  rpc::EventLoop* const loop_;
  const Clock* const clock_;
  Random* const random_;
  const std::shared_ptr<MetadataChannel> channel_;
  std::unique_ptr<Coherence> coherence_;  // set before the first call, if at all
  const std::shared_ptr<ClusterMapCache> map_;
  const std::shared_ptr<MetadataSession> session_;
  mutable Mutex mutex_;
  std::shared_ptr<const LockListener> lock_listener_ GUARDED_BY(mutex_);
  bool shut_down_ = false;  // touched by the owner's thread only
};

}  // namespace tarn::client
