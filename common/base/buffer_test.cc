#include "common/base/buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/buffer_pool.h"

namespace tarn {
namespace {

bool Aligned(const Buffer& buffer) { return reinterpret_cast<uintptr_t>(buffer.data()) % Buffer::kAlignment == 0; }

TEST(Buffer, IsAlignedAndMoves) {
  Buffer buffer(5000);
  EXPECT_TRUE(Aligned(buffer));
  EXPECT_EQ(buffer.size(), 5000u);
  buffer.data()[4999] = 7;
  Buffer moved = std::move(buffer);
  moved.Shrink(10);
  EXPECT_EQ(moved.size(), 10u);
  EXPECT_TRUE(Buffer(0).empty());
  EXPECT_EQ(Buffer().data(), nullptr);
}

TEST(BufferPool, MemoryIsUsedAgain) {
  const auto pool = BufferPool::Create(64 << 20);
  const uint8_t* first = nullptr;
  {
    Buffer buffer = pool->Allocate(1 << 20);
    EXPECT_TRUE(Aligned(buffer));
    EXPECT_EQ(buffer.size(), size_t{1} << 20);
    first = buffer.data();
  }
  EXPECT_EQ(pool->kept_bytes(), size_t{1} << 20);
  // A smaller one of the same class, shrunk or not.
  Buffer again = pool->Allocate(600'000);
  EXPECT_EQ(again.data(), first);
  EXPECT_EQ(again.size(), 600'000u);
  again.Shrink(1);
  again = Buffer();
  EXPECT_EQ(pool->Allocate(1 << 20).data(), first);
}

TEST(BufferPool, KeepsNoMoreThanItsBound) {
  const auto pool = BufferPool::Create(3 << 20);
  {
    std::vector<Buffer> buffers;
    for (int i = 0; i < 8; ++i) buffers.push_back(pool->Allocate(1 << 20));
  }
  EXPECT_EQ(pool->kept_bytes(), size_t{3} << 20);
}

TEST(BufferPool, EverySizeHasRoom) {
  const auto pool = BufferPool::Create(1 << 30);
  for (int round = 0; round < 2; ++round) {
    for (size_t size : {0, 1, 4096, 16'383, 16'384, 16'385, 114'688, 1 << 20, (1 << 20) + 1, 4 << 20, (4 << 20) + 1}) {
      Buffer buffer = pool->Allocate(size);
      ASSERT_EQ(buffer.size(), size);
      if (size > 0) std::memset(buffer.data(), 1, size);
    }
  }
}

TEST(BufferPool, BuffersMayOutliveItsOwnerAndChangeThreads) {
  auto pool = BufferPool::Create(1 << 30);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([buffer = pool->Allocate(100'000), pool]() mutable {
      for (int i = 0; i < 1000; ++i) buffer = pool->Allocate(20'000 + static_cast<size_t>(i));
    });
  }
  Buffer last = pool->Allocate(1 << 20);
  pool.reset();
  for (std::thread& thread : threads) thread.join();
  last.data()[0] = 1;
}

}  // namespace
}  // namespace tarn
