// One connection of a FrameClient: connecting, the hello, the calls in flight. FrameClient is the handle, this is what the loop owns.
//
// Calls come from any thread and are written there at once if the socket takes them, so that a request does not wait for the loop to wake
// up; from the loop's own thread they are collected until the end of its turn. Replies are read and called back on the loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/unique_fd.h"
#include "common/rpc/call_table.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "common/rpc/frame_reader.h"
#include "common/rpc/frame_writer.h"
#include "common/rpc/socket_address.h"
#include "proto/hello.pb.h"

namespace tarn::rpc {

class ClientConnection final : public FrameSink, public std::enable_shared_from_this<ClientConnection> {
 public:
  ClientConnection(EventLoop* loop, const FrameClientOptions& options, const proto::HelloRequest& hello);
  ~ClientConnection() override;
  ClientConnection(const ClientConnection&) = delete;
  ClientConnection& operator=(const ClientConnection&) = delete;

  // Thread-safe; see FrameClient.
  void Call(Method method, const google::protobuf::MessageLite& request, const CallOptions& options, ReplyCallback callback);
  void Withdraw(std::span<uint8_t> payload_destination);
  void Close();
  bool usable() const;
  proto::HelloReply hello_reply() const;
  const std::string& address() const { return options_.address; }

 private:
  enum class Phase { kIdle, kResolving, kConnecting, kOpen, kClosed };

  // FrameSink, on the loop thread.
  bool AcceptsFrames() override { return true; }
  PayloadPlace PlacePayload(const FrameHeader& header, std::span<const uint8_t> message) override;
  Status OnFrame(const FrameHeader& header, std::span<const uint8_t> message, std::span<const uint8_t> payload) override;

  // Connecting; loop thread.
  void Connect();
  void OnResolved(Result<std::vector<SocketAddress>> addresses);
  void TryNextAddress();
  Status StartConnecting(const SocketAddress& address);
  void OnConnectable();
  void SayHello();
  Status OnHelloReply(const FrameHeader& header, std::span<const uint8_t> message);
  void OnConnectTimeout();

  // Traffic; loop thread.
  void OnEvents(uint32_t events);
  void Read();
  void OnWriteBlocked();
  void UpdateInterest();
  Status Answer(const FrameHeader& header, PendingCall call, std::span<const uint8_t> message, std::span<const uint8_t> payload);
  // Ends the connection and fails its calls.
  void Break(const Status& why);
  void FailAllCalls();

  // Time-outs; loop thread.
  void OnDeadline(int64_t deadline_ns);
  // Ends a call before its reply, with kTimeout or kCancelled. False if its borrowed payload is just being written by another thread: try
  // again.
  bool GiveUp(uint64_t id, StatusCode code, const std::string& why);

  // Any thread.
  void Flush();
  void FlushSoon(size_t queued_bytes);
  void AfterFlush(FrameWriter::State state);
  void FailLater(ReplyCallback callback, Status status);
  // True if a timer is needed that fires earlier than those there are; it then counts as started.
  bool NeedsTimer(int64_t deadline_ns) REQUIRES(mutex_);
  void StartTimer(int64_t deadline_ns);

  // Immutable after construction.
  EventLoop* const loop_;
  const FrameClientOptions options_;
  const proto::HelloRequest hello_;
  const SystemClock clock_;

  // Thread-safe.
  FrameWriter writer_;

  mutable Mutex mutex_;
  CallTable calls_ GUARDED_BY(mutex_);
  bool connect_asked_ GUARDED_BY(mutex_) = false;
  bool closed_ GUARDED_BY(mutex_) = false;
  Status why_closed_ GUARDED_BY(mutex_);
  proto::HelloReply hello_reply_ GUARDED_BY(mutex_);
  int64_t timer_deadline_ns_ GUARDED_BY(mutex_) = INT64_MAX;  // of the earliest timer that counts

  // Loop thread only.
  Phase phase_ = Phase::kIdle;
  bool hello_answered_ = false;
  std::optional<Status> refusal_;  // the server's answer to the hello
  std::vector<SocketAddress> addresses_;
  size_t next_address_ = 0;
  Status connect_error_;
  UniqueFd connecting_;
  int fd_ = -1;  // owned by writer_
  uint32_t interest_ = 0;
  bool write_blocked_ = false;
  bool flush_deferred_ = false;
  FrameReader reader_;
  uint64_t receiving_id_ = kNoCall;  // the call whose destination is being received into

  static constexpr uint64_t kNoCall = 0;
};

}  // namespace tarn::rpc
