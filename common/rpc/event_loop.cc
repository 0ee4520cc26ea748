#include "common/rpc/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <span>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/named_thread.h"
#include "common/base/unique_fd.h"
#include "common/base/worker_pool.h"
#include "common/rpc/file_read_ring.h"

namespace tarn::rpc {
namespace {

using Task = std::function<void()>;

constexpr int kEventsPerTurn = 256;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int kSleepMsMax = 3'600'000;

class EpollLoop final : public EventLoop {
 public:
  EpollLoop(std::string name, UniqueFd epoll, UniqueFd wake_up)
      : name_(std::move(name)), epoll_(std::move(epoll)), wake_up_(std::move(wake_up)) {}

  ~EpollLoop() override;

  Status StartThread();

  void Post(Task task) override;
  void PostAfter(int64_t delay_ms, Task task) override;
  Status PostBlocking(Task task) override;
  bool InLoopThread() const override {
    return std::this_thread::get_id() == thread_id_.load(std::memory_order_relaxed);
  }
  void DeferToEndOfTurn(Task task) override { deferred_.push_back(std::move(task)); }

  Status Watch(int fd, uint32_t events, std::function<void(uint32_t)> handler) override;
  Status Modify(int fd, uint32_t events) override;
  void Unwatch(int fd) override;

  Result<FileReadRing*> FileReads() override;

 private:
  struct Watched {
    std::function<void(uint32_t)> handler;
    bool live = true;
  };

  void Run();
  // How long epoll_wait(2) may sleep. Announces the sleep, so that a Post from now on wakes it.
  int SleepMs();
  void Wake();
  void Dispatch(std::span<const epoll_event> events);
  void RunDueTimers();
  void RunPosted();
  void RunDeferred();

  // Immutable after construction.
  const std::string name_;
  const UniqueFd epoll_;
  const UniqueFd wake_up_;
  const SystemClock clock_;

  // Any thread.
  std::atomic<std::thread::id> thread_id_{};
  std::atomic<bool> sleeping_ = false;
  std::atomic<bool> stop_asked_ = false;
  Mutex mutex_;
  std::vector<Task> posted_ GUARDED_BY(mutex_);
  bool stopped_ GUARDED_BY(mutex_) = false;
  std::unique_ptr<WorkerPool> blocking_ GUARDED_BY(mutex_);

  // Loop thread only (and the destructor, after the thread has ended).
  std::unordered_map<int, std::unique_ptr<Watched>> watched_;
  std::vector<std::unique_ptr<Watched>> unwatched_;  // not freed while events of this turn may point at them
  std::multimap<int64_t, Task> timers_;              // by deadline, ns
  std::vector<Task> deferred_;
  std::vector<Task> running_;  // keeps its capacity between turns
  std::unique_ptr<FileReadRing> file_reads_;
  Status file_reads_status_;  // why there are none

  std::thread thread_;
};

EpollLoop::~EpollLoop() {
  CHECK(!InLoopThread(), "an event loop cannot be destroyed on its own thread");
  std::unique_ptr<WorkerPool> blocking;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    blocking = std::move(blocking_);
  }
  stop_asked_ = true;
  Wake();
  if (thread_.joinable()) thread_.join();
  blocking.reset();
  // What is left may own objects whose destructors post or unwatch: empty each container before its contents go.
  std::vector<Task> posted;
  {
    MutexLock lock(mutex_);
    posted.swap(posted_);
  }
  posted.clear();
  std::exchange(deferred_, {}).clear();
  std::exchange(timers_, {}).clear();
  std::exchange(watched_, {}).clear();
  std::exchange(unwatched_, {}).clear();
}

Status EpollLoop::StartThread() {
  epoll_event event{};
  // Edge-triggered: each write is one event, and nobody has to read the counter.
  event.events = EPOLLIN | EPOLLET;
  event.data.ptr = nullptr;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_up_.get(), &event) != 0) return Status::FromErrno(errno, "epoll_ctl");
  thread_ = StartNamedThread(name_, [this] { Run(); });
  return Status::Ok();
}

void EpollLoop::Post(Task task) {
  {
    MutexLock lock(mutex_);
    if (stopped_) return;
    posted_.push_back(std::move(task));
  }
  // Either the loop sees the task before it sleeps, or this sees that it sleeps: SleepMs() does the two in the opposite
  // order.
  if (sleeping_.exchange(false)) Wake();
}

void EpollLoop::PostAfter(int64_t delay_ms, Task task) {
  const int64_t deadline = clock_.MonotonicNs() + std::max<int64_t>(delay_ms, 0) * kNsPerMs;
  if (InLoopThread()) {
    timers_.emplace(deadline, std::move(task));
    return;
  }
  Post([this, deadline, task = std::move(task)]() mutable { timers_.emplace(deadline, std::move(task)); });
}

Status EpollLoop::PostBlocking(Task task) {
  MutexLock lock(mutex_);
  if (stopped_) return Status(StatusCode::kCancelled, "the event loop is stopping");
  if (blocking_ == nullptr) blocking_ = WorkerPool::Start(name_ + "-wait", 1, kBlockingTasksMax);
  if (!blocking_->Submit(std::move(task)))
    return Status(StatusCode::kResourceExhausted, "too many blocking tasks wait");
  return Status::Ok();
}

Status EpollLoop::Watch(int fd, uint32_t events, std::function<void(uint32_t)> handler) {
  CHECK(!watched_.contains(fd), "a descriptor is watched once");
  auto watched = std::make_unique<Watched>();
  watched->handler = std::move(handler);
  epoll_event event{};
  event.events = events;
  event.data.ptr = watched.get();
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return Status::FromErrno(errno, "epoll_ctl");
  watched_.emplace(fd, std::move(watched));
  return Status::Ok();
}

Status EpollLoop::Modify(int fd, uint32_t events) {
  const auto found = watched_.find(fd);
  CHECK(found != watched_.end(), "only a watched descriptor can be modified");
  epoll_event event{};
  event.events = events;
  event.data.ptr = found->second.get();
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) return Status::FromErrno(errno, "epoll_ctl");
  return Status::Ok();
}

void EpollLoop::Unwatch(int fd) {
  auto node = watched_.extract(fd);
  if (node.empty()) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  node.mapped()->live = false;
  unwatched_.push_back(std::move(node.mapped()));
}

Result<FileReadRing*> EpollLoop::FileReads() {
  if (file_reads_ != nullptr) return file_reads_.get();
  RETURN_IF_ERROR(file_reads_status_);
  Result<std::unique_ptr<FileReadRing>> made = FileReadRing::Create(this);
  if (!made.ok()) {
    file_reads_status_ = made.status();
    return file_reads_status_;
  }
  file_reads_ = *std::move(made);
  return file_reads_.get();
}

void EpollLoop::Run() {
  thread_id_ = std::this_thread::get_id();
  std::array<epoll_event, kEventsPerTurn> events{};
  while (!stop_asked_) {
    const int count = epoll_wait(epoll_.get(), events.data(), kEventsPerTurn, SleepMs());
    sleeping_ = false;
    CHECK(count >= 0 || errno == EINTR, "epoll_wait failed");
    if (count > 0) Dispatch({events.data(), static_cast<size_t>(count)});
    RunDueTimers();
    RunPosted();
    RunDeferred();
    std::exchange(unwatched_, {}).clear();
  }
  file_reads_.reset();
}

int EpollLoop::SleepMs() {
  if (!deferred_.empty()) return 0;
  sleeping_ = true;
  {
    MutexLock lock(mutex_);
    if (!posted_.empty()) return 0;
  }
  if (stop_asked_) return 0;
  if (timers_.empty()) return -1;
  const int64_t left_ns = timers_.begin()->first - clock_.MonotonicNs();
  // Rounded up: waking a little early would only spin.
  return static_cast<int>(std::clamp<int64_t>((left_ns + kNsPerMs - 1) / kNsPerMs, 0, kSleepMsMax));
}

void EpollLoop::Wake() {
  const uint64_t one = 1;
  // Cannot fail but by overflow of the counter, which would take centuries.
  [[maybe_unused]] const ssize_t put = write(wake_up_.get(), &one, sizeof(one));
}

void EpollLoop::Dispatch(std::span<const epoll_event> events) {
  for (const epoll_event& event : events) {
    auto* watched = static_cast<Watched*>(event.data.ptr);
    if (watched != nullptr && watched->live) watched->handler(event.events);
  }
}

void EpollLoop::RunDueTimers() {
  if (timers_.empty()) return;
  const int64_t now = clock_.MonotonicNs();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const Task task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }
}

void EpollLoop::RunPosted() {
  {
    MutexLock lock(mutex_);
    running_.swap(posted_);
  }
  for (Task& task : running_) {
    std::exchange(task, nullptr)();
  }
  running_.clear();
}

void EpollLoop::RunDeferred() {
  // What these defer in turn runs in the next turn, which then does not sleep.
  running_.swap(deferred_);
  for (Task& task : running_) {
    std::exchange(task, nullptr)();
  }
  running_.clear();
}

}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::Start(const std::string& name) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Status::FromErrno(errno, "epoll_create");
  UniqueFd wake_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_up.valid()) return Status::FromErrno(errno, "eventfd");
  auto loop = std::make_unique<EpollLoop>(name, std::move(epoll), std::move(wake_up));
  RETURN_IF_ERROR(loop->StartThread());
  return std::unique_ptr<EventLoop>(std::move(loop));
}

}  // namespace tarn::rpc
