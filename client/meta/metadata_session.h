// This client's session at the metadata server: opened once, kept alive, and the channel of every mutation.
//
// Exactly once: each mutation carries the session and a sequence number, and its repeats carry the same ones, so that a
// repeat gets the first answer. `acked_through` tells the server which answers it may forget.
//
// A session that the server does not know (any more) is replaced by a new one. Mutations that the server certainly
// refused go on under the new session; those that may have been carried out under the old one, answer lost, fail with
// kIoError.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/meta/metadata_channel.h"
#include "client/meta/mutation_window.h"
#include "client/types.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/rpc/event_loop.h"
#include "proto/metadata.pb.h"

namespace tarn::client {

// For sessions that cache (docs/coherence.md): their keep-alives say more, are sent at a fixed pace, and at once when
// there is reason to.
class SessionHooks {
 public:
  virtual ~SessionHooks() = default;
  using KeepAliveAnswered = std::function<void(const proto::KeepAliveReply&)>;
  // Just before a keep-alive is sent; what it returns gets the answer, if there is one.
  virtual KeepAliveAnswered PrepareKeepAlive(proto::KeepAliveRequest* request) = 0;
  virtual void OnSessionLost() = 0;
};

// Thread-safe. Callbacks run on the channel's loop thread, or on the caller's before the call returns.
class MetadataSession : public std::enable_shared_from_this<MetadataSession> {
 public:
  using MutationCallback = Callback<proto::MutationReply>;
  // Tells of cluster map versions that keep-alives mention. Runs on the loop's thread.
  using MapVersionListener = std::function<void(uint64_t version)>;

  // `loop` and `random` outlive it.
  static std::shared_ptr<MetadataSession> Create(rpc::EventLoop* loop, std::shared_ptr<MetadataChannel> channel,
                                                 Random* random, std::string client_name, MapVersionListener listener);

  // Makes it a session that caches. Before Open; `hooks` is used as long as callbacks run.
  void SetHooks(SessionHooks* hooks) { hooks_ = hooks; }

  // Opens the session; `volume` may be invalid (a tool). Call it once, first.
  void Open(VolumeId volume, StatusCallback done);
  // Fills in session, sequence and acked_through; the rest is the caller's.
  void Mutate(proto::Mutation mutation, MutationCallback done);
  // The same, for many at once: those that wait while others are under way share a frame.
  void MutateBatched(proto::Mutation mutation, MutationCallback done);
  // Ends the session at the server; later mutations fail with kCancelled. Gives up after `deadline_ms`: the server then
  // lets the session expire.
  void Close(int64_t deadline_ms, StatusCallback done);

  // Sends a keep-alive, if there is a session; the next one follows in the usual time.
  void KeepAliveNow();

  // Invalid while there is none.
  SessionId id() const;
  // How often a session was lost and replaced.
  uint64_t sessions_lost() const;

 private:
  struct Pending {
    proto::Mutation mutation;
    MutationCallback done;
    SessionId session;  // under which it was sent last
    uint32_t resubmissions = 0;
  };
  using PendingPtr = std::shared_ptr<Pending>;
  enum class State { kNone, kOpening, kOpen, kClosed };

  MetadataSession(rpc::EventLoop* loop, std::shared_ptr<MetadataChannel> channel, Random* random,
                  std::string client_name, MapVersionListener listener);

  void SendOpen();
  void OnOpened(const rpc::Reply& reply);
  void Lost(SessionId session);
  void KeepAliveLater(SessionId session, int64_t lease_ms);
  void SendKeepAlive(SessionId session);
  void OnKeepAlive(SessionId session, const SessionHooks::KeepAliveAnswered& answered, const rpc::Reply& reply);

  void Submit(PendingPtr pending);
  void Stamp(Pending& pending) REQUIRES(mutex_);
  void SendOne(PendingPtr pending);
  void SendBatches();
  std::vector<PendingPtr> TakeBatch() REQUIRES(mutex_);
  void SendBatch(std::vector<PendingPtr> batch);
  void OnBatchReply(const std::vector<PendingPtr>& batch, const rpc::Reply& reply, bool in_doubt);
  void Complete(const PendingPtr& pending, Result<proto::MutationReply> result, bool in_doubt);
  void CompleteUnknownSession(const PendingPtr& pending, bool in_doubt);

  // Immutable after construction.
  rpc::EventLoop* const loop_;
  const std::shared_ptr<MetadataChannel> channel_;
  Random* const random_;
  const std::string client_name_;
  const MapVersionListener listener_;
  SessionHooks* hooks_ = nullptr;  // set before Open

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_) = State::kNone;
  VolumeId volume_ GUARDED_BY(mutex_);
  SessionId id_ GUARDED_BY(mutex_);
  uint64_t sessions_lost_ GUARDED_BY(mutex_) = 0;
  int64_t lease_ms_ GUARDED_BY(mutex_) = 0;
  uint64_t keep_alive_timer_ GUARDED_BY(mutex_) = 0;  // the one that counts
  uint32_t keep_alives_in_flight_ GUARDED_BY(mutex_) = 0;
  MutationWindow window_ GUARDED_BY(mutex_);
  std::vector<StatusCallback> open_waiters_ GUARDED_BY(mutex_);
  std::vector<PendingPtr> waiting_ GUARDED_BY(mutex_);  // for the session
  std::deque<PendingPtr> batch_queue_ GUARDED_BY(mutex_);
  uint32_t batches_in_flight_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::client
