#include "common/rpc/file_read_ring.h"

#include <liburing.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "common/rpc/event_loop.h"

namespace tarn::rpc {
namespace {

// When the kernel has no memory for more just now.
constexpr int64_t kSubmitPauseMs = 1;
constexpr size_t kReapedAtOnce = 64;
// Linux 6.1: completions are worked off when the loop asks for them, and never interrupt what it is doing.
constexpr unsigned kDeferredFlags = IORING_SETUP_CLAMP | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

}  // namespace

Result<std::unique_ptr<FileReadRing>> FileReadRing::Create(EventLoop* loop) {
  auto ring = std::make_unique<io_uring>();
  bool runs_deferred_work = true;
  int result = io_uring_queue_init(kReadsMax, ring.get(), kDeferredFlags);
  if (result == -EINVAL) {
    runs_deferred_work = false;
    result = io_uring_queue_init(kReadsMax, ring.get(), IORING_SETUP_CLAMP);
  }
  if (result < 0) {
    return Status(StatusCode::kNotSupported, "io_uring: " + Status::FromErrno(-result, "set up").message());
  }
  std::unique_ptr<FileReadRing> made(new FileReadRing(loop, std::move(ring), runs_deferred_work));
  // Linux 5.5: results are never lost; 5.6: plain reads.
  const bool has_all = (made->ring_->features & IORING_FEAT_NODROP) != 0 && (made->ring_->features & IORING_FEAT_RW_CUR_POS) != 0;
  if (!has_all) return Status(StatusCode::kNotSupported, "io_uring: the kernel is older than Linux 5.6");
  RETURN_IF_ERROR(made->WatchResults());
  return made;
}

// With deferred work the descriptor of the ring itself tells nothing (measured on Linux 6.18); an eventfd does.
Status FileReadRing::WatchResults() {
  UniqueFd results(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!results.valid()) return Status::FromErrno(errno, "eventfd");
  if (const int result = io_uring_register_eventfd(ring_.get(), results.get()); result < 0) {
    return Status(StatusCode::kNotSupported, "io_uring: " + Status::FromErrno(-result, "register an eventfd").message());
  }
  // Edge-triggered: nobody has to read the counter.
  RETURN_IF_ERROR(loop_->Watch(results.get(), EPOLLIN | EPOLLET, [this](uint32_t) { OnResults(); }));
  results_ = std::move(results);
  return Status::Ok();
}

FileReadRing::FileReadRing(EventLoop* loop, std::unique_ptr<io_uring> ring, bool runs_deferred_work)
    : loop_(loop), ring_(std::move(ring)), runs_deferred_work_(runs_deferred_work) {}

FileReadRing::~FileReadRing() {
  // The kernel still writes into the memory of reads under way.
  while (under_way_ > 0) {
    const int result = io_uring_submit_and_wait(ring_.get(), 1);
    CHECK(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY, "io_uring_enter failed");
    Reap(/*drop=*/true);
  }
  if (results_.valid()) loop_->Unwatch(results_.get());
  io_uring_queue_exit(ring_.get());
}

bool FileReadRing::Read(int fd, uint64_t offset, std::span<uint8_t> bytes, Done done) {
  if (under_way_ == kReadsMax) return false;
  io_uring_sqe* const entry = io_uring_get_sqe(ring_.get());
  // Full of entries that the kernel would not take yet.
  if (entry == nullptr) return false;
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t slot = free_.back();
  free_.pop_back();
  slots_[slot] = std::move(done);
  ++under_way_;
  io_uring_prep_read(entry, fd, bytes.data(), static_cast<unsigned>(bytes.size()), offset);
  io_uring_sqe_set_data64(entry, slot);
  SubmitSoon();
  return true;
}

void FileReadRing::SubmitSoon() {
  if (std::exchange(submit_deferred_, true)) return;
  loop_->DeferToEndOfTurn([this] { Submit(); });
}

void FileReadRing::Submit() {
  submit_deferred_ = false;
  int result = 0;
  do {
    result = io_uring_submit(ring_.get());
  } while (result == -EINTR);
  CHECK(result >= 0 || result == -EAGAIN || result == -EBUSY, "io_uring_enter failed");
  if (io_uring_sq_ready(ring_.get()) > 0) {
    submit_deferred_ = true;
    loop_->PostAfter(kSubmitPauseMs, [this] { Submit(); });
  }
  // What was in memory after all is there already.
  Reap(/*drop=*/false);
}

void FileReadRing::OnResults() {
  while (runs_deferred_work_ && io_uring_get_events(ring_.get()) == -EINTR) {
  }
  Reap(/*drop=*/false);
}

void FileReadRing::Reap(bool drop) {
  std::array<io_uring_cqe*, kReapedAtOnce> found{};
  while (const unsigned count = io_uring_peek_batch_cqe(ring_.get(), found.data(), found.size())) {
    std::array<std::pair<Done, int>, kReapedAtOnce> results;
    for (unsigned i = 0; i < count; ++i) {
      const auto slot = static_cast<uint32_t>(io_uring_cqe_get_data64(found[i]));
      results[i] = {std::exchange(slots_[slot], nullptr), found[i]->res};
      free_.push_back(slot);
    }
    under_way_ -= count;
    io_uring_cq_advance(ring_.get(), count);
    // They may begin new reads.
    for (unsigned i = 0; i < count && !drop; ++i) results[i].first(results[i].second);
  }
}

}  // namespace tarn::rpc
