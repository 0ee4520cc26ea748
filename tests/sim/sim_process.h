// A process other than a member: its clock, and for the client library the event loop that it runs on.
//
// Fault model: it can be stopped and go on later without having noticed (SIGSTOP: its clock, which is CLOCK_BOOTTIME,
// goes on), and it can die: then nothing of it runs any more. Shared by whatever is scheduled for it. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "common/rpc/event_loop.h"
#include "tests/sim/scheduler.h"
#include "tests/sim/sim_clock.h"

namespace tarn::sim {

class SimProcess final : public rpc::EventLoop, public std::enable_shared_from_this<SimProcess> {
 public:
  SimProcess(Scheduler* scheduler, double clock_rate) : scheduler_(scheduler), clock_(scheduler, clock_rate, kSecond) {}
  SimProcess(const SimProcess&) = delete;
  SimProcess& operator=(const SimProcess&) = delete;

  const SimClock& clock() const { return clock_; }
  bool dead() const { return dead_; }
  bool closing() const { return closing_; }
  bool stopped() const { return stopped_until_ns_ > scheduler_->now_ns(); }

  void StopFor(int64_t length_ns) { stopped_until_ns_ = std::max(stopped_until_ns_, scheduler_->now_ns() + length_ns); }
  void Continue() { stopped_until_ns_ = 0; }
  void Kill() { dead_ = true; }
  // The library is about to be destroyed: what it waits for is answered at once.
  void Close() {
    dead_ = true;
    closing_ = true;
  }

  // Now, or when it goes on; never if it is dead.
  void Run(std::function<void()> action) {
    if (dead_) return;
    if (!stopped()) return action();
    scheduler_->At(stopped_until_ns_, [self = shared_from_this(), action = std::move(action)] { self->Run(action); });
  }
  void RunAfter(int64_t delay_ns, std::function<void()> action) {
    scheduler_->After(clock_.WorldTime(delay_ns),
                      [self = shared_from_this(), action = std::move(action)] { self->Run(action); });
  }

  // ---- EventLoop ----
  void Post(std::function<void()> task) override {
    if (closing_) return task();
    RunAfter(0, std::move(task));
  }
  void PostAfter(int64_t delay_ms, std::function<void()> task) override {
    RunAfter(delay_ms * kMillisecond, std::move(task));
  }
  Status PostBlocking(std::function<void()> task) override {
    Post(std::move(task));
    return Status::Ok();
  }
  bool InLoopThread() const override { return false; }
  void DeferToEndOfTurn(std::function<void()> task) override { Post(std::move(task)); }
  Status Watch(int /*fd*/, uint32_t /*events*/, std::function<void(uint32_t)> /*handler*/) override { return None(); }
  Status Modify(int /*fd*/, uint32_t /*events*/) override { return None(); }
  void Unwatch(int /*fd*/) override {}
  Result<rpc::FileReadRing*> FileReads() override { return None(); }

 private:
  static Status None() { return Status(StatusCode::kNotSupported, "a simulated loop has no files"); }

  Scheduler* const scheduler_;
  const SimClock clock_;
  int64_t stopped_until_ns_ = 0;
  bool dead_ = false;
  bool closing_ = false;
};

}  // namespace tarn::sim
