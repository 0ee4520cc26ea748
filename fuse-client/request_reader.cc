#include "fuse-client/request_reader.h"

#include <sys/epoll.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <future>
#include <memory>
#include <utility>

namespace tarn::fuse {
namespace {

// Then the answers of servers get their turn.
constexpr int kRequestsPerTurn = 16;
// A request from this size on (a write) ends the turn as well.
constexpr int kLargeRequestBytes = 64 << 10;

// The beginning of struct fuse_in_header, and FUSE_INTERRUPT (linux/fuse.h, which does not go together with libfuse's).
struct RequestHead {
  uint32_t bytes;
  uint32_t opcode;
  uint64_t unique;
};
static_assert(sizeof(RequestHead) == 16, "as in linux/fuse.h");
constexpr size_t kInHeaderBytes = 40;
constexpr uint32_t kInterruptOpcode = 36;

}  // namespace

RequestReader::RequestReader(fuse_session* session, rpc::EventLoop* loop, BlockedLocks* locks,
                             std::function<void(const Status&)> on_end)
    : session_(session), loop_(loop), locks_(locks), fd_(fuse_session_fd(session)), on_end_(std::move(on_end)) {
  RunAndWait([this] { Start(); });
}

RequestReader::~RequestReader() {
  RunAndWait([this] {
    if (watching_) loop_->Unwatch(fd_);
  });
  std::free(buffer_.mem);
}

void RequestReader::RunAndWait(const std::function<void()>& task) {
  // Shared, so that it lives until set_value has returned there.
  const auto done = std::make_shared<std::promise<void>>();
  loop_->Post([&task, done] {
    task();
    done->set_value();
  });
  done->get_future().wait();
}

void RequestReader::Start() {
  // Exclusive: a request wakes one of the loops that sleep, not all.
  const Status watched = loop_->Watch(fd_, EPOLLIN | EPOLLEXCLUSIVE, [this](uint32_t) { OnReadable(); });
  watching_ = watched.ok();
  if (!watched.ok()) on_end_(watched);
}

void RequestReader::OnReadable() {
  for (int i = 0; i < kRequestsPerTurn; ++i) {
    const int got = fuse_session_receive_buf(session_, &buffer_);
    if (got == -EINTR) continue;
    if (got == -EAGAIN) return;
    if (got <= 0) return End(got == 0 ? Status::Ok() : Status::FromErrno(-got, "read requests of the kernel"));
    Handle();
    if (got >= kLargeRequestBytes) return;
  }
}

void RequestReader::Handle() {
  RequestHead head{};
  if (locks_ != nullptr && (buffer_.flags & FUSE_BUF_IS_FD) == 0 && buffer_.size >= sizeof(head)) {
    std::memcpy(&head, buffer_.mem, sizeof(head));
    if (head.opcode == kInterruptOpcode) {
      uint64_t interrupted = 0;
      if (buffer_.size < kInHeaderBytes + sizeof(interrupted)) return;
      std::memcpy(&interrupted, static_cast<const char*>(buffer_.mem) + kInHeaderBytes, sizeof(interrupted));
      locks_->Interrupt(interrupted);
      return;  // has no answer
    }
    BlockedLocks::SetCurrent(head.unique);
  }
  fuse_session_process_buf(session_, &buffer_);
}

void RequestReader::End(const Status& status) {
  loop_->Unwatch(fd_);
  watching_ = false;
  on_end_(status);
}

}  // namespace tarn::fuse
