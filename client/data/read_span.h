// A run of a file's bytes that was or is being fetched, and the memory of such runs.
//
// One fetch fills a span; any number of reads wait for it and then share its bytes, which never change afterwards.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/buffer_pool.h"
#include "common/base/byte_range.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::client {

// Where the bytes of spans come from, and how many there are. Thread-safe.
class SpanMemory {
 public:
  SpanMemory() : pool_(BufferPool::Create(kKeptBytesMax)) {}
  SpanMemory(const SpanMemory&) = delete;
  SpanMemory& operator=(const SpanMemory&) = delete;

  Buffer Take(uint64_t bytes) {
    bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return pool_->Allocate(bytes);
  }
  void Give(Buffer buffer) { bytes_.fetch_sub(buffer.size(), std::memory_order_relaxed); }
  // Of spans that live, and of buffers kept for the next ones.
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed) + pool_->kept_bytes(); }

 private:
  static constexpr uint64_t kKeptBytesMax = 8 << 20;

  const std::shared_ptr<BufferPool> pool_;
  std::atomic<uint64_t> bytes_{0};
};

class SpanWaiter {
 public:
  virtual ~SpanWaiter() = default;
  // Once for each span it waited for. On the thread that completes it; no lock is held.
  virtual void OnSpan() = 0;
};

// Thread-safe; the bytes are the fetcher's until Complete.
class ReadSpan {
 public:
  // `offset` is a multiple of 4096. The buffer has room for whole blocks.
  ReadSpan(std::shared_ptr<SpanMemory> memory, ByteRange range);
  ~ReadSpan();
  ReadSpan(const ReadSpan&) = delete;
  ReadSpan& operator=(const ReadSpan&) = delete;

  const ByteRange range;  // of the file

  uint8_t* data() { return buffer_.data(); }
  uint64_t buffer_bytes() const { return buffer_.size(); }

  // False if it is complete already: then the waiter is not called.
  bool Wait(std::shared_ptr<SpanWaiter> waiter);
  void Complete(const Status& status);
  bool complete() const;
  // Once it is complete.
  Status status() const;

 private:
  const std::shared_ptr<SpanMemory> memory_;
  Buffer buffer_;

  mutable Mutex mutex_;
  bool complete_ GUARDED_BY(mutex_) = false;
  Status status_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<SpanWaiter>> waiters_ GUARDED_BY(mutex_);
};
using ReadSpanPtr = std::shared_ptr<ReadSpan>;

}  // namespace tarn::client
