// For tests: simulated time. What happens, happens as an event at a moment; events of one moment run in the order in which they were scheduled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

namespace tarn::replication::testing {

// One thread.
class EventQueue {
 public:
  int64_t now_ns() const { return now_ns_; }
  void After(int64_t delay_ns, std::function<void()> event) {
    if (closed_) return;
    events_.emplace(std::pair(now_ns_ + std::max<int64_t>(0, delay_ns), next_++), std::move(event));
  }
  void RunFor(int64_t ns) {
    const int64_t end_ns = now_ns_ + ns;
    while (!stopped_ && !events_.empty() && events_.begin()->first.first <= end_ns) {
      auto node = events_.extract(events_.begin());
      now_ns_ = node.key().first;
      ++events_run_;
      node.mapped()();
    }
    now_ns_ = std::max(now_ns_, end_ns);
  }
  void Stop() { stopped_ = true; }
  // Before what the events refer to goes: drops them, and whatever is scheduled from now on.
  void Close() {
    closed_ = true;
    std::exchange(events_, {}).clear();
  }
  bool stopped() const { return stopped_; }
  uint64_t events_run() const { return events_run_; }

 private:
  std::map<std::pair<int64_t, uint64_t>, std::function<void()>> events_;
  int64_t now_ns_ = 1'000'000'000;
  uint64_t next_ = 0;
  uint64_t events_run_ = 0;
  bool stopped_ = false;
  bool closed_ = false;
};

}  // namespace tarn::replication::testing
