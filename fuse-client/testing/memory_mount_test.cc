// The real process on a real mount, with a file system in memory behind it: starting, refusing, serving, ending.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/unique_fd.h"
#include "fuse-client/mount/mount_socket.h"
#include "fuse-client/mount/mount_table.h"

namespace tarn::fuse {
namespace {

using ::testing::HasSubstr;

const std::string kProgram = TARN_TEST_PROGRAMS "/tarn-fuse-memory";
const std::string kChecks = TARN_TEST_PROGRAMS "/tarn-posix-checks";

struct Outcome {
  int exit_status = -1;
  std::string output;  // stdout and stderr, to their end: whoever inherited them has let go
};

Outcome RunProgram(std::vector<std::string> arguments) {
  std::array<int, 2> ends{};
  EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  EXPECT_EQ(posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ), 0) << argv[0];
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  Outcome outcome;
  std::array<char, 4096> bytes{};
  ssize_t got = 0;
  while ((got = read(ends[0], bytes.data(), bytes.size())) > 0)
    outcome.output.append(bytes.data(), static_cast<size_t>(got));
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  outcome.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

class MemoryMount : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    if (access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/fuse";
    // Daemons become our children, so that their end can be waited for.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    std::string pattern = "/tmp/memory_mount_test.XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    ASSERT_EQ(chmod(pattern.c_str(), 0755), 0);
    scratch_ = pattern;
    mount_ = scratch_ + "/mnt";
    ASSERT_EQ(mkdir(mount_.c_str(), 0755), 0);
  }

  void TearDown() override {
    if (scratch_.empty()) return;
    umount2(mount_.c_str(), MNT_FORCE | MNT_DETACH);
    ReapDaemon();
    std::filesystem::remove_all(scratch_);
  }

  Outcome Mount(const std::vector<std::string>& options = {}, const std::string& volume = "data") {
    std::vector<std::string> arguments = {kProgram,          volume,      mount_,           "--log-file",
                                          scratch_ + "/log", "--run-dir", scratch_ + "/run"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Outcome outcome = RunProgram(arguments);
    if (outcome.exit_status == 0) {
      const auto watch = MountProcessWatch::Connect(scratch_ + "/run", Entry()->device);
      EXPECT_TRUE(watch.has_value());
      daemon_ = watch ? watch->pid() : 0;
    }
    return outcome;
  }
  Outcome Unmount(const std::vector<std::string>& options = {}) {
    std::vector<std::string> arguments = {kProgram, "--unmount", mount_, "--run-dir", scratch_ + "/run"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return RunProgram(arguments);
  }
  std::optional<MountEntry> Entry() { return FindMount(ReadMountTable().value(), mount_); }

  // The daemon's exit status, once it has ended.
  int ReapDaemon() {
    if (daemon_ == 0) return -1;
    int status = 0;
    while (waitpid(std::exchange(daemon_, 0), &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  std::string scratch_;
  std::string mount_;
  pid_t daemon_ = 0;
};

TEST_F(MemoryMount, PassesThePosixChecks) {
  if (access(kChecks.c_str(), X_OK) != 0) GTEST_SKIP() << kChecks << " is not built";
  ASSERT_EQ(Mount().exit_status, 0);
  const Outcome checks = RunProgram({kChecks, mount_, "--gtest_brief=1"});
  EXPECT_EQ(checks.exit_status, 0) << checks.output;
  EXPECT_EQ(Unmount().exit_status, 0);
}

TEST_F(MemoryMount, AnswersMayComeBeforeTheCallReturns) {
  if (access(kChecks.c_str(), X_OK) != 0) GTEST_SKIP() << kChecks << " is not built";
  setenv("TARN_MEMORY_ANSWERS", "inline", 1);
  ASSERT_EQ(Mount({"-o", "entry_timeout=0,attr_timeout=0,negative_timeout=1"}).exit_status, 0);
  unsetenv("TARN_MEMORY_ANSWERS");
  const Outcome checks =
      RunProgram({kChecks, mount_, "--gtest_brief=1", "--gtest_filter=Files.*:Append.*:Mmap.*:Rename.*:Permissions.*"});
  EXPECT_EQ(checks.exit_status, 0) << checks.output;
  EXPECT_EQ(Unmount().exit_status, 0);
}

// ---- With grants ----

class GrantedMount : public MemoryMount {
 protected:
  void SetUp() override {
    MemoryMount::SetUp();
    if (IsSkipped()) return;
    setenv("TARN_MEMORY_GRANTS", "1", 1);
    ASSERT_EQ(Mount().exit_status, 0);
    unsetenv("TARN_MEMORY_GRANTS");
  }
  std::string Path(const std::string& name) const { return mount_ + "/" + name; }
  void Write(const std::string& name, const std::string& text) { std::ofstream(Path(name)) << text; }
  std::string Read(const std::string& name) {
    std::ifstream file(Path(name));
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  // Another client does it; 0 or the error.
  int AsOther(const std::string& what) {
    return setxattr(mount_.c_str(), "user.foreign", what.data(), what.size(), 0) == 0 ? 0 : errno;
  }
  // How often the kernel has asked for a name or for attributes.
  int Questions() {
    std::array<char, 32> text{};
    EXPECT_GT(getxattr(mount_.c_str(), "user.questions", text.data(), text.size() - 1), 0);
    return std::stoi(text.data());
  }
  // 0: there is no such file.
  unsigned ModeOf(const std::string& name) {
    struct stat status {};
    return stat(Path(name).c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
  }
};

TEST_F(GrantedMount, TheKernelBelievesWhatItWasTold) {
  Write("file", "text");
  EXPECT_EQ(ModeOf("file"), 0644u);
  EXPECT_EQ(ModeOf("none"), 0u);
  const int before = Questions();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(ModeOf("file"), 0644u);
    EXPECT_EQ(ModeOf("none"), 0u);
  }
  EXPECT_LE(Questions() - before, 2);
}

TEST_F(GrantedMount, ForeignChangesOfAttributesAreSeenAtOnce) {
  Write("file", "text");
  const UniqueFd held(open(Path("file").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(ModeOf("file"), 0644u);
  ASSERT_EQ(AsOther("chmod file"), 0);
  struct stat status {};
  ASSERT_EQ(fstat(held.get(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_EQ(ModeOf("file"), 0600u);
}

TEST_F(GrantedMount, ForeignChangesOfNamesAreSeenAtOnce) {
  Write("file", "text");
  EXPECT_EQ(ModeOf("file"), 0644u);
  EXPECT_EQ(ModeOf("new"), 0u);
  ASSERT_EQ(AsOther("make new"), 0);
  EXPECT_EQ(ModeOf("new"), 0644u);
  ASSERT_EQ(AsOther("unlink file"), 0);
  EXPECT_EQ(ModeOf("file"), 0u);
  ASSERT_EQ(AsOther("make file"), 0);
  EXPECT_EQ(ModeOf("file"), 0644u);
  ASSERT_EQ(AsOther("unlink new"), 0);
  EXPECT_EQ(ModeOf("new"), 0u);
}

TEST_F(GrantedMount, ForeignWritesAreReadByThoseWhoKeepTheFileOpen) {
  Write("file", "text");
  const UniqueFd held(open(Path("file").c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 8> bytes{};
  ASSERT_EQ(pread(held.get(), bytes.data(), bytes.size(), 0), 4);
  ASSERT_EQ(AsOther("write file"), 0);
  ASSERT_EQ(pread(held.get(), bytes.data(), bytes.size(), 0), 4);
  EXPECT_EQ(std::string(bytes.data(), 4), "!ext");
  EXPECT_EQ(Read("file"), "!ext");
}

TEST_F(GrantedMount, ForeignChangesWaitForNobodyWhoUsesTheDirectory) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> users;
  for (int user = 0; user < 8; ++user) {
    users.emplace_back([&, user] {
      const std::string own = "own" + std::to_string(user);
      for (int i = 0; !stop.load(); ++i) {
        Write(own, "text");
        (void)rename(Path(own).c_str(), Path("moved").c_str());
        (void)ModeOf("common" + std::to_string(i % 10));
        for (const auto& entry : std::filesystem::directory_iterator(mount_)) (void)entry;
        (void)unlink(Path("moved").c_str());
      }
    });
  }
  for (int i = 0; i < 300; ++i) {
    const std::string name = "common" + std::to_string(i % 10);
    ASSERT_EQ(AsOther("make " + name), 0);
    EXPECT_EQ(ModeOf(name), 0644u);
    ASSERT_EQ(AsOther("chmod " + name), 0);
    EXPECT_EQ(ModeOf(name), 0600u);
    ASSERT_EQ(AsOther("unlink " + name), 0);
    EXPECT_EQ(ModeOf(name), 0u);
  }
  stop = true;
  for (std::thread& user : users) user.join();
}

TEST_F(MemoryMount, IsShownWithItsTypeAndVolume) {
  ASSERT_EQ(Mount({}, "data:/a/b").exit_status, 0);
  EXPECT_EQ(Entry()->type, "fuse.tarn");
  EXPECT_EQ(Entry()->source, "data:/a/b");
}

TEST_F(MemoryMount, UnmountWaitsForTheProcess) {
  ASSERT_EQ(Mount().exit_status, 0);
  std::ofstream(mount_ + "/file") << "contents";
  const Outcome outcome = Unmount();
  EXPECT_EQ(outcome.exit_status, 0) << outcome.output;
  EXPECT_FALSE(Entry().has_value());
  siginfo_t info{};
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(daemon_), &info, WEXITED | WNOHANG | WNOWAIT), 0);
  EXPECT_EQ(info.si_pid, daemon_) << "still runs";
  EXPECT_EQ(ReapDaemon(), 0);
  EXPECT_TRUE(std::filesystem::is_empty(scratch_ + "/run"));
}

TEST_F(MemoryMount, PlainUmountEndsTheProcessToo) {
  ASSERT_EQ(Mount().exit_status, 0);
  ASSERT_EQ(umount2(mount_.c_str(), 0), 0);
  EXPECT_EQ(ReapDaemon(), 0);
}

TEST_F(MemoryMount, BusyUnmountNamesTheUser) {
  ASSERT_EQ(Mount().exit_status, 0);
  const UniqueFd file(open((mount_ + "/file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  ASSERT_TRUE(file.valid());
  const Outcome outcome = Unmount();
  EXPECT_EQ(outcome.exit_status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("in use"));
  EXPECT_THAT(outcome.output, HasSubstr(std::to_string(getpid())));
  EXPECT_TRUE(Entry().has_value());
}

TEST_F(MemoryMount, LazyUnmountLetsTheLastUserFinish) {
  ASSERT_EQ(Mount().exit_status, 0);
  UniqueFd file(open((mount_ + "/file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  EXPECT_EQ(Unmount({"--lazy"}).exit_status, 0);
  EXPECT_FALSE(Entry().has_value());
  EXPECT_EQ(pwrite(file.get(), "x", 1, 0), 1);
  file.Reset();
  EXPECT_EQ(ReapDaemon(), 0);
}

TEST_F(MemoryMount, SignalUnmountsCleanly) {
  ASSERT_EQ(Mount().exit_status, 0);
  ASSERT_EQ(kill(daemon_, SIGTERM), 0);
  EXPECT_EQ(ReapDaemon(), 0);
  EXPECT_FALSE(Entry().has_value());
}

TEST_F(MemoryMount, SignalEndsABusyMountInBoundedTime) {
  ASSERT_EQ(Mount().exit_status, 0);
  const UniqueFd file(open((mount_ + "/file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  ASSERT_EQ(kill(daemon_, SIGTERM), 0);
  EXPECT_EQ(ReapDaemon(), 0);
  EXPECT_EQ(pwrite(file.get(), "x", 1, 0), -1);
  EXPECT_FALSE(Entry().has_value());
}

TEST_F(MemoryMount, HangUpOfTheTerminalIsIgnored) {
  ASSERT_EQ(Mount().exit_status, 0);
  ASSERT_EQ(kill(daemon_, SIGHUP), 0);
  std::ofstream(mount_ + "/file") << "contents";
  EXPECT_EQ(std::filesystem::file_size(mount_ + "/file"), 8u);
  EXPECT_EQ(Unmount().exit_status, 0);
}

TEST_F(MemoryMount, ReadOnly) {
  ASSERT_EQ(Mount({"-o", "ro"}).exit_status, 0);
  EXPECT_EQ(open((mount_ + "/file").c_str(), O_CREAT | O_RDWR, 0644), -1);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(MemoryMount, MissingMountPoint) {
  ASSERT_EQ(rmdir(mount_.c_str()), 0);
  const Outcome outcome = Mount();
  EXPECT_EQ(outcome.exit_status, 1);
  EXPECT_EQ(outcome.output, "tarn-fuse: mount point " + mount_ + " does not exist\n");
}

TEST_F(MemoryMount, MountPointThatIsAFile) {
  ASSERT_EQ(rmdir(mount_.c_str()), 0);
  std::ofstream(mount_) << "x";
  const Outcome outcome = Mount();
  EXPECT_EQ(outcome.exit_status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("is not a directory"));
}

TEST_F(MemoryMount, NonEmptyMountPoint) {
  std::ofstream(mount_ + "/file") << "x";
  const Outcome refused = Mount();
  EXPECT_EQ(refused.exit_status, 1);
  EXPECT_THAT(refused.output, HasSubstr("is not empty"));
  EXPECT_EQ(Mount({"-o", "nonempty"}).exit_status, 0);
  EXPECT_FALSE(std::filesystem::exists(mount_ + "/file"));
}

TEST_F(MemoryMount, MountedAlready) {
  ASSERT_EQ(Mount().exit_status, 0);
  const pid_t first = daemon_;
  const Outcome outcome = Mount();
  EXPECT_EQ(outcome.exit_status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("is in use: data (fuse.tarn) is mounted there"));
  daemon_ = first;
}

TEST_F(MemoryMount, WhatTheDaemonFindsWrongIsPrinted) {
  const Outcome outcome = Mount({}, "no-such-volume");
  EXPECT_EQ(outcome.exit_status, 1);
  EXPECT_EQ(outcome.output, "tarn-fuse: volume no-such-volume does not exist\n");
  EXPECT_FALSE(Entry().has_value());
  int status = 0;
  EXPECT_GT(waitpid(-1, &status, 0), 0) << "the daemon has ended";
}

TEST_F(MemoryMount, UnknownOptionIsAUsageError) {
  const Outcome outcome = Mount({"-o", "frobnicate"});
  EXPECT_EQ(outcome.exit_status, 2);
  EXPECT_THAT(outcome.output, HasSubstr("unknown mount option 'frobnicate'"));
}

TEST_F(MemoryMount, ADeadMountIsNamedAndForceCleansIt) {
  ASSERT_EQ(Mount().exit_status, 0);
  ASSERT_EQ(kill(daemon_, SIGKILL), 0);
  EXPECT_EQ(ReapDaemon(), 128 + SIGKILL);
  struct stat status {};
  EXPECT_EQ(stat(mount_.c_str(), &status), -1);
  EXPECT_EQ(errno, ENOTCONN);
  const Outcome refused = Mount();
  EXPECT_EQ(refused.exit_status, 1);
  EXPECT_THAT(refused.output, HasSubstr("holds a dead mount"));
  EXPECT_EQ(Unmount({"--force"}).exit_status, 0);
  EXPECT_EQ(Mount().exit_status, 0);
}

TEST_F(MemoryMount, ForceCutsOffUsers) {
  ASSERT_EQ(Mount().exit_status, 0);
  const UniqueFd file(open((mount_ + "/file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  EXPECT_EQ(Unmount({"--force"}).exit_status, 0);
  EXPECT_EQ(pwrite(file.get(), "x", 1, 0), -1);
  EXPECT_EQ(ReapDaemon(), 0);
}

TEST_F(MemoryMount, UnmountOfWhatIsNotOurs) {
  const Outcome nothing = Unmount();
  EXPECT_EQ(nothing.exit_status, 1);
  EXPECT_THAT(nothing.output, HasSubstr("is not mounted"));
  ASSERT_EQ(::mount("tmpfs", mount_.c_str(), "tmpfs", 0, "size=1m"), 0);
  const Outcome other = Unmount();
  EXPECT_EQ(other.exit_status, 1);
  EXPECT_THAT(other.output, HasSubstr("not a TarnFS mount but tmpfs (tmpfs)"));
}

TEST_F(MemoryMount, WorksAsAMountHelper) {
  const std::string helper = scratch_ + "/mount.tarn";
  ASSERT_EQ(symlink(kProgram.c_str(), helper.c_str()), 0);
  const Outcome outcome =
      RunProgram({helper, "data@127.0.0.1:1", mount_, "-o", "rw,_netdev,log_file=" + scratch_ + "/log"});
  EXPECT_EQ(outcome.exit_status, 0) << outcome.output;
  const auto watch = MountProcessWatch::Connect(DefaultRunDirectory(), Entry()->device);
  ASSERT_TRUE(watch.has_value());
  daemon_ = watch->pid();
  EXPECT_EQ(RunProgram({kProgram, "--unmount", mount_}).exit_status, 0);
}

}  // namespace
}  // namespace tarn::fuse
