// Replies of committed mutations that get lost, come late or come twice, for tests (fault_names.h).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/fault/fault_points.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_server.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// Thread-safe. Costs a branch while nothing is armed.
class ReplyFaults {
 public:
  // What has to be known of a mutation when its reply is there.
  struct Subject {
    std::string operation;  // as proto::Mutation names it
    uint64_t session = 0;
    uint64_t number = 0;  // its sequence; of one without a session its nonce, else 0: each is one of its own
  };

  // `faults` outlives it.
  ReplyFaults(fault::FaultPoints* faults, int64_t delay_ms) : faults_(faults), delay_ms_(delay_ms) {}
  ReplyFaults(const ReplyFaults&) = delete;
  ReplyFaults& operator=(const ReplyFaults&) = delete;

  // Of all points: those of fault_names.h, and each of them for each operation alone.
  static std::vector<std::string> Names();

  // Empty while nothing is armed.
  std::vector<Subject> Note(std::span<const proto::Mutation> mutations) const;
  // They were committed: returns through whom they are answered, `answer` itself if no point fires. `loop` outlives the answer.
  std::shared_ptr<rpc::Responder> Meddle(std::span<const Subject> subjects, std::shared_ptr<rpc::Responder> answer, rpc::EventLoop* loop);
  // Over gRPC, on a thread that may block: kUnavailable if the answer is to be lost.
  Status MeddleBlocking(std::span<const Subject> subjects);

 private:
  enum class Fate { kNone, kLose, kDrop, kDelay, kRepeat };
  class MeddledResponder;

  static constexpr size_t kRemembered = 4096;  // mutations that were meddled with, and answers that are withheld

  Fate Decide(std::span<const Subject> subjects);
  // Never answered: an answer that is only let go says so.
  void Withhold(std::shared_ptr<rpc::Responder> answer);

  fault::FaultPoints* const faults_;
  const int64_t delay_ms_;

  Mutex mutex_;
  std::set<std::tuple<std::string, uint64_t, uint64_t>> meddled_ GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<rpc::Responder>> withheld_ GUARDED_BY(mutex_);
};

}  // namespace tarn::meta
