// Cuts the power under a replicator: its log lies on a loop-mounted image, which is shut down without a flush while
// entries are proposed. Everything that was acknowledged before must be there afterwards; with syncing taken out
// (no_sync_preload.c) the same test must lose something, else it proves nothing.
//
// Needs root, loop devices and xfs_io; skipped without them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/posix_io.h"
#include "metaserver/replication/raft_replicator.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;

constexpr int kAcknowledgedMin = 500;
constexpr char kLogVariable[] = "TARN_POWER_CUT_LOG";
constexpr char kAnswersVariable[] = "TARN_POWER_CUT_ANSWERS";

// Only what the test needs of a state: which entries came, all of them applied again from the log.
class Entries final : public LogConsumer {
 public:
  Status Apply(std::string_view entry, uint64_t /*number*/) override {
    MutexLock lock(mutex_);
    entries_.push_back(std::stoi(std::string(entry)));
    return Status::Ok();
  }
  void LeadershipGained(uint64_t /*term*/) override { leads_.set_value(); }
  void LeadershipLost() override {}
  Status MakeDurable() override { return Status::Ok(); }
  void Failed(const Status& /*status*/) override {}

  void WaitForLeadership() { leads_.get_future().wait(); }
  std::vector<int> entries() {
    MutexLock lock(mutex_);
    return entries_;
  }

 private:
  Mutex mutex_;
  std::vector<int> entries_ GUARDED_BY(mutex_);
  std::promise<void> leads_;
};

RaftReplicatorOptions OptionsFor(const std::string& log) {
  RaftReplicatorOptions options;
  options.directory = log;
  options.disk_reserve_bytes = 1 << 20;
  return options;
}

// Run in a process of its own by the tests below: proposes until it is killed, writes the number of each acknowledged
// entry to a descriptor.
TEST(PowerCutVictim, DISABLED_Run) {
  const char* log = std::getenv(kLogVariable);
  const char* answers = std::getenv(kAnswersVariable);
  if (log == nullptr || answers == nullptr) GTEST_SKIP() << "only for the tests of this program";
  const int out = std::atoi(answers);
  SystemRandom random;
  Entries consumer;
  if (!RaftReplicator::Bootstrap(log, 1, "").ok()) _exit(2);
  auto opened = RaftReplicator::Open(OptionsFor(log), &consumer, &random);
  if (!opened.ok()) _exit(3);
  (*opened)->Start();
  consumer.WaitForLeadership();
  // Bounded: it ends by itself if nobody kills it.
  for (int i = 1; i <= 200'000; ++i) {
    std::promise<void> done;
    (*opened)->Propose(std::to_string(i), [&, i](const Status& status) {
      if (status.ok() && write(out, &i, sizeof i) != sizeof i) _exit(4);
      done.set_value();
    });
    done.get_future().wait();
  }
}

int Shell(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()); }

class PowerCut : public ::testing::TestWithParam<const char*> {
 protected:
  PowerCut() {
    std::string pattern = (fs::temp_directory_path() / "raft_power_cut_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    fs::create_directory(mount_point());
  }
  ~PowerCut() override {
    if (child_ > 0) Kill();
    Unmount();
    fs::remove_all(directory_);
  }

  std::string image() const { return directory_ + "/image"; }
  std::string mount_point() const { return directory_ + "/mnt"; }
  std::string log() const { return mount_point() + "/log"; }

  bool MakeImage(const std::string& type) {
    return geteuid() == 0 && Shell("truncate -s 400M " + image()) == 0 &&
           Shell("mkfs." + type + " -q " + image()) == 0 && Shell("command -v xfs_io") == 0 && Mount();
  }
  bool Mount() {
    mounted_ = Shell("mount -o loop " + image() + " " + mount_point()) == 0;
    return mounted_;
  }
  void Unmount() {
    if (mounted_) {
      EXPECT_EQ(Shell("umount " + mount_point()), 0);
    }
    mounted_ = false;
  }

  // Starts the victim; returns the end of a pipe that its answers come from.
  int StartVictim(const std::string& preload) {
    EXPECT_TRUE(fs::create_directory(log()));
    EXPECT_EQ(Shell("sync -f " + mount_point()), 0);
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe(ends.data()), 0);
    const std::string program = fs::read_symlink("/proc/self/exe").string();
    child_ = fork();
    if (child_ == 0) {
      setenv(kLogVariable, log().c_str(), 1);
      setenv(kAnswersVariable, std::to_string(ends[1]).c_str(), 1);
      if (!preload.empty()) setenv("LD_PRELOAD", preload.c_str(), 1);
      close(ends[0]);
      execl(program.c_str(), program.c_str(), "--gtest_filter=PowerCutVictim.DISABLED_Run",
            "--gtest_also_run_disabled_tests", "--gtest_brief=1", nullptr);
      _exit(9);
    }
    close(ends[1]);
    return ends[0];
  }
  void Kill() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    child_ = -1;
  }

  // How many acknowledged entries are missing after a power cut.
  int CountLost(const std::string& preload) {
    const int answers = StartVictim(preload);
    int last = 0;
    int number = 0;
    while (last < kAcknowledgedMin && read(answers, &number, sizeof number) == sizeof number)
      last = std::max(last, number);
    EXPECT_EQ(last, kAcknowledgedMin) << "the victim ended early";
    EXPECT_EQ(Shell("xfs_io -x -c shutdown " + mount_point()), 0);
    Kill();
    close(answers);
    Unmount();
    EXPECT_TRUE(Mount());
    Entries consumer;
    SystemRandom random;
    auto opened = RaftReplicator::Open(OptionsFor(log()), &consumer, &random);
    if (!opened.ok()) return last;
    (*opened)->Start();
    consumer.WaitForLeadership();
    const std::vector<int> entries = consumer.entries();
    opened->reset();
    for (size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(entries[i], static_cast<int>(i) + 1);
    return std::max(0, last - static_cast<int>(entries.size()));
  }

  std::string directory_;
  bool mounted_ = false;
  pid_t child_ = -1;
};

TEST_P(PowerCut, KeepsWhatWasAcknowledged) {
  if (!MakeImage(GetParam())) GTEST_SKIP() << "no loop-mounted " << GetParam() << " here";
  EXPECT_EQ(CountLost(""), 0);
}

TEST_P(PowerCut, WithoutSyncingSomethingIsLost) {
  if (!MakeImage(GetParam())) GTEST_SKIP() << "no loop-mounted " << GetParam() << " here";
  EXPECT_GT(CountLost(NO_SYNC_PRELOAD), 0) << "this test would not notice a missing sync";
}

INSTANTIATE_TEST_SUITE_P(FileSystems, PowerCut, ::testing::Values("ext4", "xfs"),
                         [](const auto& parameter) { return std::string(parameter.param); });

}  // namespace
}  // namespace tarn::meta
