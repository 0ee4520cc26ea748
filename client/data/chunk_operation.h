// One request to chunk servers, from its start to its single end, with its retries. Internal to the chunk client.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "client/data/chunk_client.h"
#include "client/data/chunk_client_core.h"
#include "common/rpc/frame_client.h"
#include "proto/data.pb.h"

namespace tarn::client {

// Its steps follow one another, on whatever thread: no two run at once.
class ChunkOperation : public std::enable_shared_from_this<ChunkOperation> {
 public:
  explicit ChunkOperation(std::shared_ptr<ChunkClient::Core> core);
  virtual ~ChunkOperation() = default;
  ChunkOperation(const ChunkOperation&) = delete;
  ChunkOperation& operator=(const ChunkOperation&) = delete;

  // Tries; ends, or tries again, by itself.
  virtual void Attempt() = 0;
  // There is room for it at its server now: goes on.
  virtual void Admitted() {}
  // Ends it.
  void Fail(const Status& status);
  // If it is parked it goes on now, on its own loop. Any thread.
  void WakeSoon() { AttemptAfter(0); }

 protected:
  virtual void Finish(const Status& status) = 0;
  // "write chunk 17:3".
  virtual std::string Describe() const = 0;
  // Where it goes on after a pause.
  virtual rpc::EventLoop* loop() const { return core_->loops.front(); }

  void End(const Status& status);
  void FailClosed();
  // Goes on when the map has this version (0: has been fetched anew), or fails for `reason` when it is too late.
  void AwaitMap(uint64_t version, const Status& reason);
  void RetryAfter(int64_t delay_ms, const Status& reason);
  // Pauses grow from attempt to attempt.
  int64_t NextDelayMs();
  // "write chunk 17:3 at target 4 (127.0.0.1:7410)".
  std::string Where() const;
  void NoteAttempt(int64_t now_ns);

  const std::shared_ptr<ChunkClient::Core> core_;
  Route route_;                       // of the last attempt
  std::shared_ptr<ServerLink> link_;  // likewise
  Status last_error_;

 private:
  bool Expired(int64_t now_ns) const;
  void AttemptAfter(int64_t delay_ms);

  const int64_t started_ns_;
  int64_t first_attempt_ns_ = 0;
  int64_t delay_ms_ = 0;
  uint32_t attempts_ = 0;
};

// An operation that asks one server at a time.
class UnaryOperation : public ChunkOperation {
 public:
  using ChunkOperation::ChunkOperation;
  void Attempt() override;

 protected:
  virtual Result<Route> FindRoute(const PlacementRoutes& routes) = 0;
  // Before an attempt: false if it has to wait (until Admitted).
  virtual bool Admit() { return true; }
  // Builds the message for route_ and calls; the answer goes to OnReply.
  virtual void Send(rpc::FrameClient& client, rpc::CallOptions options) = 0;
  // An answer that the server calls good: ok if the operation is finished, otherwise why it is not. kUnavailable tries
  // again.
  virtual Status OnGood(const rpc::Reply& reply) = 0;
  // An answer other than good that is no reason to try again in general: true if this operation wants another attempt
  // all the same.
  virtual bool RetryAfterRefusal(const Status&) { return false; }

  rpc::ReplyCallback MakeReplyCallback();
  // An attempt ended without an answer: a copy of the request may reach the server yet.
  bool may_be_under_way() const { return may_be_under_way_; }

 private:
  void OnReply(const rpc::Reply& reply);

  std::shared_ptr<ChunkServer> server_;
  std::shared_ptr<rpc::FrameClient> client_;
  int64_t sent_ns_ = 0;
  bool may_be_under_way_ = false;
};

// Worth another attempt whatever was asked.
bool IsTransient(StatusCode code);
// "17:3".
std::string ChunkText(const ChunkReference& chunk);
void FillAddress(const ChunkReference& chunk, const Route& route, proto::ChunkAddress* address);
void FillTruncate(const ChunkReference& chunk, proto::TruncateView* view);

}  // namespace tarn::client
