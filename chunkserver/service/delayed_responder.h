// For tests: a server that is slow with every answer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/fault/fault_points.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_server.h"

namespace tarn::chunk {

inline constexpr fault::FaultPointName kFaultDelayAnswer{"service.delay_answer"};

// Answers as it is told to, `delay_ms` later.
class DelayedResponder final : public rpc::Responder {
 public:
  // `loop` outlives its use.
  DelayedResponder(std::unique_ptr<rpc::Responder> responder, rpc::EventLoop* loop, int64_t delay_ms);

  void Reply(const google::protobuf::MessageLite& message) override;
  void Reply(const google::protobuf::MessageLite& message, Buffer payload) override;
  void ReplyFile(const google::protobuf::MessageLite& message, std::vector<rpc::FilePayload> parts) override;
  void Fail(const Status& status) override;
  void Fail(const Status& status, proto::ErrorDetail detail) override;

 private:
  template <typename Answer>
  void Later(Answer answer);

  std::shared_ptr<rpc::Responder> responder_;
  rpc::EventLoop* const loop_;
  const int64_t delay_ms_;
};

}  // namespace tarn::chunk
