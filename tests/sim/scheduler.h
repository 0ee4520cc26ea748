// Simulated time: what happens, happens as an event at a moment, and between events no time passes.
//
// Everything that a run decides comes from one seeded generator and from the order of events, so a seed replays
// exactly. Events of one moment run in the order in which they were scheduled. RunUntil may be called from within an
// event: then the caller stands still while the rest of the world goes on (that is how a stopped process is simulated
// in the middle of a function). One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string_view>
#include <utility>

namespace tarn::sim {

inline constexpr int64_t kMicrosecond = 1'000;
inline constexpr int64_t kMillisecond = 1'000'000;
inline constexpr int64_t kSecond = 1'000'000'000;

// Repeatable random decisions.
class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  uint64_t Next() { return engine_(); }
  // [0, bound); bound > 0.
  uint64_t Below(uint64_t bound) { return engine_() % bound; }
  // [low, high].
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
  }
  bool Chance(double probability) {
    return static_cast<double>(engine_() >> 11) < probability * static_cast<double>(uint64_t{1} << 53);
  }
  // Mostly short, seldom long: from `typical` / 2 up to `typical` * 32.
  int64_t LongTailed(int64_t typical) {
    int64_t value = Between(typical / 2, typical);
    for (int i = 0; i < 5 && Chance(0.1); ++i) value *= 2;
    return value;
  }

 private:
  std::mt19937_64 engine_;
};

class Scheduler {
 public:
  using Action = std::function<void()>;

  explicit Scheduler(uint64_t seed) : dice_(seed) {}
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  int64_t now_ns() const { return now_ns_; }
  Dice& dice() { return dice_; }

  void At(int64_t time_ns, Action action) {
    events_.emplace(std::pair(time_ns < now_ns_ ? now_ns_ : time_ns, next_event_++), std::move(action));
  }
  void After(int64_t delay_ns, Action action) { At(now_ns_ + delay_ns, std::move(action)); }

  // Runs what is due up to then, and lets the time be then.
  void RunUntil(int64_t time_ns) {
    while (!stopped_ && !events_.empty() && events_.begin()->first.first <= time_ns) {
      auto node = events_.extract(events_.begin());
      now_ns_ = node.key().first;
      ++events_run_;
      node.mapped()();
    }
    if (!stopped_ && now_ns_ < time_ns) now_ns_ = time_ns;
  }
  // No further event runs.
  void Stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

  // What happened, as a hash: two runs of one seed have the same.
  void Trace(std::string_view what, uint64_t a = 0, uint64_t b = 0) {
    uint64_t hash = trace_;
    const auto mix = [&hash](uint64_t value) {
      hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
      hash ^= hash >> 29;
    };
    mix(static_cast<uint64_t>(now_ns_));
    for (const char c : what) mix(static_cast<uint8_t>(c));
    mix(a);
    mix(b);
    trace_ = hash;
    if (listener_) listener_(what, a, b);
  }
  uint64_t trace() const { return trace_; }
  uint64_t events_run() const { return events_run_; }
  // Hears what is traced, to be printed.
  void SetTraceListener(std::function<void(std::string_view, uint64_t, uint64_t)> listener) {
    listener_ = std::move(listener);
  }

 private:
  Dice dice_;
  std::map<std::pair<int64_t, uint64_t>, Action> events_;
  int64_t now_ns_ = 0;
  uint64_t next_event_ = 0;
  uint64_t events_run_ = 0;
  uint64_t trace_ = 0;
  bool stopped_ = false;
  std::function<void(std::string_view, uint64_t, uint64_t)> listener_;
};

}  // namespace tarn::sim
