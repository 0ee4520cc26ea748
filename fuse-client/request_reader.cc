#include "fuse-client/request_reader.h"

#include <sys/epoll.h>

#include <cerrno>
#include <cstdlib>
#include <future>
#include <memory>
#include <utility>

namespace tarn::fuse {
namespace {

// Then the answers of servers get their turn.
constexpr int kRequestsPerTurn = 16;
// A request from this size on (a write) ends the turn as well.
constexpr int kLargeRequestBytes = 64 << 10;

}  // namespace

RequestReader::RequestReader(fuse_session* session, rpc::EventLoop* loop, std::function<void(const Status&)> on_end)
    : session_(session), loop_(loop), fd_(fuse_session_fd(session)), on_end_(std::move(on_end)) {
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
    fuse_session_process_buf(session_, &buffer_);
    if (got >= kLargeRequestBytes) return;
  }
}

void RequestReader::End(const Status& status) {
  loop_->Unwatch(fd_);
  watching_ = false;
  on_end_(status);
}

}  // namespace tarn::fuse
