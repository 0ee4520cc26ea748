#include "fuse-client/mount_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/named_thread.h"
#include "common/base/posix_io.h"
#include "common/obs/logging.h"
#include "common/rpc/event_loop.h"
#include "fuse-client/fuse_session.h"
#include "fuse-client/memory_limit.h"
#include "fuse-client/mount/mount_point.h"
#include "fuse-client/mount/mount_socket.h"
#include "fuse-client/operations/operations.h"
#include "fuse-client/startup_pipe.h"

namespace tarn::fuse {
namespace {

// Nothing on them blocks, so more than a few would only add connections to every chunk server.
unsigned LoopCount() { return std::clamp(std::thread::hardware_concurrency(), 1u, 4u); }

// Large enough to keep several of our largest requests in flight for one sequential reader.
constexpr uint32_t kReadAheadKb = 4096;
// After a signal: for the last users of the mount to finish, and for the write-back.
constexpr int kDrainMs = 1'000;
constexpr double kNoLimitS = 3600;
constexpr int64_t kSyncDeadlineMs = 45'000;

// Signals that end a mount arrive at `descriptor` instead of at a handler.
class EndSignals {
 public:
  EndSignals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, number);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    signal(SIGPIPE, SIG_IGN);
    descriptor_.Reset(signalfd(-1, &signals, SFD_CLOEXEC));
  }
  int descriptor() const { return descriptor_.get(); }
  int Take() {
    signalfd_siginfo info{};
    return read(descriptor_.get(), &info, sizeof(info)) == sizeof(info) ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  UniqueFd descriptor_;
};

// Serves the session on a thread; `ended` becomes readable when it is over.
class ServingThread {
 public:
  ServingThread(FuseSession& session, std::span<rpc::EventLoop* const> loops) : ended_(eventfd(0, EFD_CLOEXEC)) {
    thread_ = StartNamedThread("fuse-serve", [this, &session, loops] {
      const Status status = session.Serve(loops);
      if (!status.ok()) spdlog::error("serving ended error={}", status.message());
      eventfd_write(ended_.get(), 1);
    });
  }
  ~ServingThread() { thread_.join(); }
  int ended() const { return ended_.get(); }

 private:
  const UniqueFd ended_;
  std::thread thread_;
};

std::string LogFileOf(const Options& options, const std::string& mount_point) {
  if (!options.log_file.empty() || options.foreground) return options.log_file;
  const std::string directory = geteuid() == 0 ? "/var/log/tarn" : options.run_directory;
  // A place to log is no reason to refuse a mount.
  if (!MakeDirectories(directory).ok() || access(directory.c_str(), W_OK) != 0) return "/dev/null";
  std::string name = mount_point == "/" ? "/root" : mount_point;
  std::replace(name.begin(), name.end(), '/', '-');
  constexpr size_t kNameBytesMax = 200;
  return directory + "/" + name.substr(1, kNameBytesMax) + ".log";
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

KernelMount ToKernelMount(const Options& options, const std::string& mount_point) {
  KernelMount mount;
  mount.source = SourceName(options.spec);
  mount.path = mount_point;
  mount.max_read_bytes = kRequestBytesMax;
  mount.read_only = options.mount.read_only;
  mount.suid = options.mount.suid;
  mount.dev = options.mount.dev;
  mount.noexec = options.mount.noexec;
  mount.sync = options.mount.sync;
  mount.dirsync = options.mount.dirsync;
  mount.allow_other = options.mount.allow_other.value_or(geteuid() == 0);
  return mount;
}

// Waits until the kernel got an answer to FUSE_INIT and to a real request. 0 if a signal or the end of the session came
// first.
Status ProveServing(const std::string& mount_point) {
  struct statvfs statistics {};
  if (statvfs(mount_point.c_str(), &statistics) != 0)
    return Status::FromErrno(errno, "first request to the mount on " + mount_point);
  return Status::Ok();
}

// False if the time ran out. The callback may come later still.
bool SyncWithin(client::Filesystem& filesystem, int64_t deadline_ms, Status* result) {
  struct Answer {
    Mutex mutex;
    CondVar arrived;
    std::optional<Status> status GUARDED_BY(mutex);
  };
  auto answer = std::make_shared<Answer>();
  filesystem.SyncAll([answer](Status status) {
    MutexLock lock(answer->mutex);
    answer->status = std::move(status);
    answer->arrived.NotifyAll();
  });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(deadline_ms);
  MutexLock lock(answer->mutex);
  while (!answer->status) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left.count() <= 0 || (!answer->arrived.WaitFor(lock, left) && !answer->status)) return false;
  }
  *result = *answer->status;
  return true;
}

// Returns when the mount is gone. A signal detaches it: programs that still use it get kDrainMs to finish, none after a
// second signal.
void WaitForEnd(EndSignals& signals, const ServingThread& serving, FuseSession& session, const std::string& mount_point,
                bool foreground) {
  bool detached = false;
  while (true) {
    std::array<pollfd, 2> events = {pollfd{signals.descriptor(), POLLIN, 0}, pollfd{serving.ended(), POLLIN, 0}};
    const int ready = poll(events.data(), events.size(), detached ? kDrainMs : -1);
    if (ready < 0 && errno == EINTR) continue;
    if (events[1].revents != 0) return;
    const int number = ready > 0 ? signals.Take() : 0;
    if (number == SIGHUP && !foreground) continue;  // the terminal that started us is gone, as expected
    if (detached) {
      spdlog::warn("mount still in use, its open files are cut off path={}", mount_point);
      session.Stop();
      return;
    }
    spdlog::info("unmounting on signal={} path={}", number, mount_point);
    const Status status = DetachMount(mount_point, session.device());
    if (!status.ok()) spdlog::warn("detach error={}", status.message());
    detached = true;
  }
}

// Everything that programs wrote is at the servers, or a log line says what is not. True if nothing was lost.
bool WriteBack(std::unique_ptr<client::Filesystem> filesystem) {
  Status status;
  const bool answered = SyncWithin(*filesystem, kSyncDeadlineMs, &status);
  const uint64_t dirty_bytes = filesystem->counters().dirty_bytes;
  const bool clean = answered && status.ok();
  if (!clean) {
    spdlog::error("data may not be written back dirty_bytes={} error={}", dirty_bytes,
                  answered ? status.message() : "no answer in time");
  }
  filesystem.reset();
  return clean;
}

class MountProcess {
 public:
  MountProcess(const Options& options, std::string mount_point, StartupPipe startup)
      : options_(options), mount_point_(std::move(mount_point)), startup_(std::move(startup)) {}

  int Run(const FilesystemOpener& open) {
    EndSignals signals;
    Status status = SetUp(open);
    if (!status.ok()) return Fail(status);
    bool clean = true;
    {
      std::optional<ServingThread> serving(std::in_place, *session_, loops_);
      status = Announce();
      if (status.ok()) {
        WaitForEnd(signals, *serving, *session_, mount_point_, options_.foreground);
      } else {
        clean = false;
        session_->Stop();
      }
    }
    mount_->ReleaseAll();
    clean = WriteBack(std::move(filesystem_)) && clean;
    session_.reset();
    if (!status.ok()) return Fail(status);
    spdlog::info("unmounted path={}", mount_point_);
    return clean ? 0 : 1;
  }

 private:
  Status SetUp(const FilesystemOpener& open) {
    RETURN_IF_ERROR(obs::SetUpLogging({"tarn-fuse", options_.log_level, LogFileOf(options_, mount_point_)}));
    RaiseDescriptorLimit();
    RETURN_IF_ERROR(StartLoops());
    client::FilesystemOptions filesystem_options = ToFilesystemOptions(options_);
    filesystem_options.loops = loops_;
    ASSIGN_OR_RETURN(filesystem_, open(filesystem_options));
    const MountOptions& given = options_.mount;
    const Timeouts ungranted{given.entry_timeout_s.value_or(1.0), given.attr_timeout_s.value_or(1.0),
                             given.negative_timeout_s.value_or(0.0)};
    const Timeouts limits{given.entry_timeout_s.value_or(kNoLimitS), given.attr_timeout_s.value_or(kNoLimitS),
                          given.negative_timeout_s.value_or(kNoLimitS)};
    mount_ = std::make_unique<FuseMount>(*filesystem_, clock_, ungranted, limits);
    mount_->cluster_locks = filesystem_->supports_locks() && !given.local_locks;
    ASSIGN_OR_RETURN(session_, FuseSession::Mount(ToKernelMount(options_, mount_point_), *mount_));
    mount_->kernel.Attach(session_->session());
    filesystem_->SetKernelCache(&mount_->kernel);
    return Status::Ok();
  }

  // For the kernel's requests and for those that they cause.
  Status StartLoops() {
    for (unsigned i = 0; i < LoopCount(); ++i) {
      ASSIGN_OR_RETURN(std::unique_ptr<rpc::EventLoop> loop, rpc::EventLoop::Start("fuse-loop-" + std::to_string(i)));
      loops_.push_back(loop.get());
      own_loops_.push_back(std::move(loop));
    }
    return Status::Ok();
  }

  // The mount serves: tells whom it concerns.
  Status Announce() {
    RETURN_IF_ERROR(ProveServing(mount_point_));
    const uint32_t read_ahead_kb = options_.mount.read_ahead_kb.value_or(kReadAheadKb);
    if (const Status status = SetKernelReadAhead(session_->device(), read_ahead_kb); !status.ok()) {
      spdlog::debug("kernel read-ahead left as it is: {}", status.message());
    }
    Result<MountSocket> socket = MountSocket::Listen(options_.run_directory, session_->device());
    if (socket.ok()) {
      socket_.emplace(std::move(socket).value());
    } else {
      spdlog::warn("unmounting will not wait for this process: {}", socket.status().message());
    }
    spdlog::info("mounted source={} path={} device={} memory_limit_bytes={}", SourceName(options_.spec), mount_point_,
                 session_->device(), ToFilesystemOptions(options_).memory_limit_bytes);
    startup_.ReportReady();
    return Status::Ok();
  }

  int Fail(const Status& status) {
    if (!startup_.ReportError(status)) fprintf(stderr, "tarn-fuse: %s\n", status.message().c_str());
    return 1;
  }

  const Options& options_;
  const std::string mount_point_;
  StartupPipe startup_;
  const SystemClock clock_;
  // Destroyed from the last to the first: callbacks of the file system, which run on the loops, use the mount and the
  // session.
  std::vector<std::unique_ptr<rpc::EventLoop>> own_loops_;
  std::vector<rpc::EventLoop*> loops_;
  std::unique_ptr<FuseMount> mount_;
  std::unique_ptr<FuseSession> session_;
  std::unique_ptr<client::Filesystem> filesystem_;
  std::optional<MountSocket> socket_;
};

}  // namespace

client::FilesystemOptions ToFilesystemOptions(const Options& options) {
  client::FilesystemOptions filesystem;
  filesystem.metaservers = options.spec.metaservers;
  filesystem.volume = options.spec.volume;
  filesystem.subdirectory = options.spec.subdirectory;
  filesystem.node = options.node;
  filesystem.cache_metadata = true;
  filesystem.memory_limit_bytes = options.mount.memory_limit_bytes.value_or(ChooseMemoryLimit(AvailableMemoryBytes()));
  return filesystem;
}

int RunMount(const Options& options, const FilesystemOpener& open) {
  const Result<std::string> mount_point = CheckMountPoint(options.mount_point, options.mount.nonempty);
  Status status = mount_point.status();
  StartupPipe startup;
  if (status.ok() && !options.foreground) {
    Result<StartupPipe> forked = StartupPipe::ForkDaemon();
    status = forked.status();
    if (forked.ok()) startup = std::move(forked).value();
  }
  if (!status.ok()) {
    fprintf(stderr, "tarn-fuse: %s\n", status.message().c_str());
    return 1;
  }
  return MountProcess(options, mount_point.value(), std::move(startup)).Run(open);
}

}  // namespace tarn::fuse
