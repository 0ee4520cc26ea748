#include "bench/thread_crew.h"

#include <chrono>
#include <latch>
#include <thread>
#include <vector>

namespace tarn::bench {

double RunCrew(int thread_count, const std::function<void(int)>& work) {
  std::latch ready(thread_count);
  std::latch start(1);
  std::vector<std::jthread> crew;
  crew.reserve(static_cast<size_t>(thread_count));
  for (int i = 0; i < thread_count; ++i) {
    crew.emplace_back([&ready, &start, &work, i] {
      ready.count_down();
      start.wait();
      work(i);
    });
  }
  ready.wait();
  // Taken before the start: once let go, the crew may be done before this thread runs again.
  const auto started = std::chrono::steady_clock::now();
  start.count_down();
  crew.clear();  // joins
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

}  // namespace tarn::bench
