#include "common/base/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>
#include <memory>

namespace tarn {
namespace {

TEST(WorkerPool, RunsEverythingBeforeItEnds) {
  std::atomic<int> done = 0;
  {
    auto pool = WorkerPool::Start("workers", 3, 1000);
    for (int i = 0; i < 1000; ++i) EXPECT_TRUE(pool->Submit([&done] { ++done; }));
  }
  EXPECT_EQ(done, 1000);
}

TEST(WorkerPool, RefusesWhenTheQueueIsFull) {
  std::promise<void> started;
  std::promise<void> release;
  auto pool = WorkerPool::Start("workers", 1, 2);
  EXPECT_TRUE(pool->Submit([&] {
    started.set_value();
    release.get_future().wait();
  }));
  started.get_future().wait();
  EXPECT_TRUE(pool->Submit([] {}));
  EXPECT_TRUE(pool->Submit([] {}));
  EXPECT_FALSE(pool->Submit([] {}));
  release.set_value();
}

// Each waits for all the others: were one thread left asleep, none would go on.
TEST(WorkerPool, TasksThatBlockAreRunByAllThreads) {
  constexpr int kThreads = 8;
  auto pool = WorkerPool::Start("workers", kThreads, 1000);
  for (int round = 0; round < 200; ++round) {
    const auto all = std::make_shared<std::latch>(kThreads);
    const auto over = std::make_shared<std::latch>(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      EXPECT_TRUE(pool->Submit([all, over] {
        all->arrive_and_wait();
        over->count_down();
      }));
    }
    over->wait();
  }
}

}  // namespace
}  // namespace tarn
