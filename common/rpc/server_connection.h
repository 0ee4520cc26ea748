// One accepted connection of a FrameServer: the hello, requests to the handler, answers and pushes back.
//
// Lives on one loop. Requests are read and handled there; answers come from any thread. Answers given on the loop's thread are collected
// until the end of its turn, those from elsewhere are handed to the loop, or, if they are big, written at once by the thread that has them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/mutex.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_reader.h"
#include "common/rpc/frame_server.h"
#include "common/rpc/frame_writer.h"
#include "proto/hello.pb.h"

namespace tarn::rpc {

// What the connections of a server share. Outlives their loops; connections use it on the loop thread only. Immutable but for the count.
struct ServerContext {
  FrameServerOptions options;
  HelloHandler hello;
  RequestHandler handler;
  std::atomic<uint32_t> connection_count = 0;
};

class ServerConnection final : public Peer, public FrameSink, public std::enable_shared_from_this<ServerConnection> {
 public:
  using ClosedCallback = std::function<void(ServerConnection*)>;

  ServerConnection(ServerContext* context, EventLoop* loop, std::string address);
  ServerConnection(const ServerConnection&) = delete;
  ServerConnection& operator=(const ServerConnection&) = delete;

  // Loop thread: takes the socket and begins to read. `on_closed` runs on the loop thread when the connection has ended.
  void Open(UniqueFd fd, ClosedCallback on_closed);
  // Loop thread. Idempotent.
  void Close();

  // Peer; thread-safe.
  const proto::HelloRequest& hello() const override { return hello_; }
  const std::string& address() const override { return address_; }
  void Push(Method method, const google::protobuf::MessageLite& message) override;
  bool connected() const override { return !closed_; }

  // Thread-safe. Queues an answer; `frame.charge_bytes` is what its request was charged.
  void Answer(OutgoingFrame frame);
  // A request that is not yet answered will be once more than it was asked.
  void ExpectTwin() { unanswered_requests_.fetch_add(1); }

 private:
  enum class Phase { kNew, kHello, kOpen, kRefused, kClosed };

  // FrameSink, on the loop thread.
  bool AcceptsFrames() override;
  PayloadPlace PlacePayload(const FrameHeader& header, std::span<const uint8_t> message) override;
  Status OnFrame(const FrameHeader& header, std::span<const uint8_t> message, std::span<const uint8_t> payload) override;

  // Loop thread.
  void OnEvents(uint32_t events);
  void Read();
  void DrainRefused();
  void UpdateInterest();
  Status OnHello(const FrameHeader& header, std::span<const uint8_t> message);
  Status Negotiate(const proto::HelloRequest& request, proto::HelloReply* reply) const;
  // Answers with an error, after which nothing more is read.
  void Refuse(const FrameHeader& header, const Status& status);
  void Resume();
  void FlushOnLoop();
  void OnWriteBlocked();

  // Any thread.
  void Send(OutgoingFrame frame);
  void AfterFlush(const FrameWriter::FlushResult& result);
  // True if the bounds allow another request, with the hysteresis of a paused connection.
  bool HasRoom(bool paused) const;

  // Immutable after construction (hello_: after the hello, before any other request).
  ServerContext* const context_;
  const std::string address_;
  const uint32_t requests_max_;
  proto::HelloRequest hello_;

  // Thread-safe.
  FrameWriter writer_;
  std::atomic<bool> closed_ = false;
  std::atomic<uint32_t> unanswered_requests_ = 0;
  std::atomic<uint64_t> unanswered_bytes_ = 0;
  std::atomic<uint64_t> push_bytes_ = 0;
  std::atomic<bool> paused_ = false;  // the loop waits for HasRoom

  // Null from Close on: whoever finds it here may post to the loop while holding the lock, since the loop ends only after that.
  Mutex loop_mutex_;
  EventLoop* loop_ GUARDED_BY(loop_mutex_);
  bool flush_posted_ GUARDED_BY(loop_mutex_) = false;

  // Loop thread only.
  EventLoop* const own_loop_;
  Phase phase_ = Phase::kNew;
  int fd_ = -1;  // owned by writer_
  ClosedCallback on_closed_;
  uint32_t interest_ = 0;
  bool write_blocked_ = false;
  bool flush_deferred_ = false;
  FrameReader reader_;
  Buffer payload_;  // of the request being received
};

}  // namespace tarn::rpc
