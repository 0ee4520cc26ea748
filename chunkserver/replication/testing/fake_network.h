// For tests: the network between targets in simulated time.
//
// The fault model: a request or its answer may be lost, late, or, if it is a request, delivered twice; messages overtake each other. Who calls
// hears of a loss by the time-out only. A process that is gone hears nothing. What is lost, and how late the rest is, Fate decides.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chunkserver/replication/environment.h"
#include "chunkserver/replication/target_replication.h"
#include "chunkserver/replication/testing/event_queue.h"

namespace tarn::replication::testing {

// What happens to a call.
struct CallFate {
  bool request_lost = false;
  bool reply_lost = false;
  int64_t request_delay_ns = 100'000;
  int64_t reply_delay_ns = 100'000;
  int64_t second_copy_delay_ns = -1;  // not negative: the request comes once more
};

// What a target does with a request.
using PeerHandler = std::function<void(rpc::Method method, std::span<const uint8_t> message, std::span<const uint8_t> payload,
                                       std::shared_ptr<void> holder, std::shared_ptr<PeerResponder> responder)>;

// One thread.
class FakeNetwork {
 public:
  explicit FakeNetwork(EventQueue* queue) : queue_(queue) {}

  // No handler: the target's server is down.
  void SetHandler(TargetId target, PeerHandler handler) { handlers_[target] = std::move(handler); }
  // The way out of one process.
  std::unique_ptr<PeerNetwork> Open(TargetId from);
  // The process that opened it is gone.
  static void Kill(PeerNetwork* network);

  std::function<CallFate(TargetId from, TargetId to, rpc::Method method)> fate = [](TargetId, TargetId, rpc::Method) { return CallFate(); };
  // For planted bugs: what is changed on the way, and what is answered (a whole message) without asking anybody.
  std::function<void(TargetId from, TargetId to, rpc::Method method, std::string* message)> tamper_request;
  std::function<void(TargetId from, TargetId to, rpc::Method method, std::string* message)> tamper_reply;
  std::function<std::optional<std::string>(TargetId from, TargetId to, rpc::Method method, const std::string& message)> answer_instead;
  uint64_t calls = 0;

 private:
  class Port;
  struct Call;
  void Send(const std::shared_ptr<Call>& call, const CallFate& call_fate, int64_t delay_ns, bool may_answer);
  EventQueue* const queue_;
  std::map<TargetId, PeerHandler> handlers_;
};

}  // namespace tarn::replication::testing
