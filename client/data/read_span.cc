#include "client/data/read_span.h"

#include "common/base/check.h"

namespace tarn::client {
namespace {

constexpr uint64_t kBlockBytes = 4096;

}  // namespace

ReadSpan::ReadSpan(std::shared_ptr<SpanMemory> memory, ByteRange span_range)
    : range(span_range),
      memory_(std::move(memory)),
      buffer_(memory_->Take((span_range.length + kBlockBytes - 1) / kBlockBytes * kBlockBytes)) {
  CHECK(range.offset % kBlockBytes == 0, "a span begins at a block");
}

ReadSpan::~ReadSpan() { memory_->Give(std::move(buffer_)); }

bool ReadSpan::Wait(std::shared_ptr<SpanWaiter> waiter) {
  MutexLock lock(mutex_);
  if (complete_) return false;
  waiters_.push_back(std::move(waiter));
  return true;
}

void ReadSpan::Complete(const Status& status) {
  std::vector<std::shared_ptr<SpanWaiter>> waiters;
  {
    MutexLock lock(mutex_);
    CHECK(!complete_, "a span is completed once");
    complete_ = true;
    status_ = status;
    waiters.swap(waiters_);
  }
  for (const auto& waiter : waiters) waiter->OnSpan();
}

bool ReadSpan::complete() const {
  MutexLock lock(mutex_);
  return complete_;
}

Status ReadSpan::status() const {
  MutexLock lock(mutex_);
  return status_;
}

}  // namespace tarn::client
