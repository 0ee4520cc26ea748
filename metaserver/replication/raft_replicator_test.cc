#include "metaserver/replication/raft_replicator.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <thread>

#include "common/base/posix_io.h"
#include "metaserver/replication/log_format.h"
#include "metaserver/replication/log_frame.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TempDirectory {
 public:
  TempDirectory() {
    std::string pattern = (fs::temp_directory_path() / "raft_replicator_test.XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempDirectory() { fs::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string log() const { return path_ + "/log"; }

 private:
  std::string path_;
};

// A list of entries; what MakeDurable covered lies in a file and is all that a new object knows.
class ListConsumer final : public LogConsumer {
 public:
  explicit ListConsumer(std::string file) : file_(std::move(file)) {
    std::ifstream in(file_);
    for (std::string line; std::getline(in, line);) entries_.push_back(line);
  }

  Status Apply(std::string_view entry, uint64_t number) override {
    MutexLock lock(mutex_);
    EXPECT_EQ(number, entries_.size() + 1);
    if (fail_apply_) return Status(StatusCode::kIoError, "planted");
    entries_.emplace_back(entry);
    std::array<char, 16> name{};
    pthread_getname_np(pthread_self(), name.data(), name.size());
    ++applied_by_[name.data()];
    return Status::Ok();
  }
  void LeadershipGained(uint64_t term) override {
    MutexLock lock(mutex_);
    led_term_ = term;
    changed_.NotifyAll();
  }
  void LeadershipLost() override {}
  Status MakeDurable() override {
    std::string contents;
    {
      MutexLock lock(mutex_);
      ++flushes_;
      for (const std::string& entry : entries_) contents += entry + "\n";
    }
    return WriteSmallFileDurably(file_, contents);
  }
  void Failed(const Status& status) override {
    MutexLock lock(mutex_);
    failure_ = status;
    changed_.NotifyAll();
  }

  uint64_t WaitForLeadership() {
    MutexLock lock(mutex_);
    while (led_term_ == 0) changed_.Wait(lock);
    return led_term_;
  }
  Status WaitForFailure() {
    MutexLock lock(mutex_);
    while (failure_.ok()) changed_.Wait(lock);
    return failure_;
  }
  uint64_t flushes() {
    MutexLock lock(mutex_);
    return flushes_;
  }
  void set_fail_apply() {
    MutexLock lock(mutex_);
    fail_apply_ = true;
  }
  std::vector<std::string> entries() {
    MutexLock lock(mutex_);
    return entries_;
  }
  // How many entries the thread of this name has applied.
  size_t applied_by(const std::string& thread) {
    MutexLock lock(mutex_);
    return applied_by_[thread];
  }

 private:
  const std::string file_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> entries_ GUARDED_BY(mutex_);
  std::map<std::string, size_t> applied_by_ GUARDED_BY(mutex_);
  uint64_t led_term_ GUARDED_BY(mutex_) = 0;
  uint64_t flushes_ GUARDED_BY(mutex_) = 0;
  bool fail_apply_ GUARDED_BY(mutex_) = false;
  Status failure_ GUARDED_BY(mutex_);
};

// A member with its consumer, on a directory that outlives it.
struct Member {
  explicit Member(const TempDirectory& directory, RaftReplicatorOptions options = {})
      : consumer(directory.path() + "/state") {
    if (!fs::exists(directory.log())) {
      EXPECT_TRUE(MakeDirectories(directory.log()).ok());
      EXPECT_EQ(RaftReplicator::Bootstrap(directory.log(), 1, "").ToString(), "kOk");
    }
    options.directory = directory.log();
    options.applied_entries = consumer.entries().size();
    auto opened = RaftReplicator::Open(options, &consumer, &random);
    status = opened.status();
    if (!opened.ok()) return;
    replicator = std::move(*opened);
    replicator->Start();
  }
  ~Member() { replicator.reset(); }

  Status Propose(std::string entry) {
    auto done = std::make_shared<std::promise<Status>>();
    replicator->Propose(std::move(entry), [done](const Status& result) { done->set_value(result); });
    return done->get_future().get();
  }

  SystemRandom random;
  ListConsumer consumer;
  Status status;
  std::unique_ptr<RaftReplicator> replicator;
};

std::vector<std::string> Numbered(int from, int to) {
  std::vector<std::string> entries;
  for (int i = from; i <= to; ++i) entries.push_back("entry " + std::to_string(i));
  return entries;
}

TEST(RaftReplicator, LeadsAndAppliesInOrder) {
  TempDirectory directory;
  Member member(directory);
  ASSERT_EQ(member.status.ToString(), "kOk");
  EXPECT_GT(member.consumer.WaitForLeadership(), 0u);
  for (const std::string& entry : Numbered(1, 100)) ASSERT_EQ(member.Propose(entry).ToString(), "kOk");
  EXPECT_TRUE(member.replicator->HoldsLease());
  EXPECT_EQ(member.replicator->leader_member(), 1u);
  EXPECT_EQ(member.consumer.entries(), Numbered(1, 100));
}

TEST(RaftReplicator, LoneSmallEntriesAreAppliedByTheWriterAndLargeOnesAreNot) {
  TempDirectory directory;
  Member member(directory);
  member.consumer.WaitForLeadership();
  for (const std::string& entry : Numbered(1, 100)) ASSERT_TRUE(member.Propose(entry).ok());
  // Not all: the raft thread may be driving just then.
  EXPECT_GE(member.consumer.applied_by("log write"), 50u);
  const size_t small = member.consumer.applied_by("log write");
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(member.Propose(std::string(100'000, 'x')).ok());
  EXPECT_EQ(member.consumer.applied_by("log write"), small);
}

TEST(RaftReplicator, ProposalsOfManyThreadsKeepTheOrderOfEach) {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  TempDirectory directory;
  Member member(directory);
  member.consumer.WaitForLeadership();
  std::atomic<int> answered{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&member, &answered, thread] {
      for (int i = 0; i < kEach; ++i) {
        member.replicator->Propose(std::to_string(thread) + ":" + std::to_string(i), [&answered](const Status& status) {
          if (status.ok()) ++answered;
        });
        if (i % 10 != 0) continue;
        EXPECT_TRUE(member.Propose("lone").ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(member.Propose("last").ok());
  EXPECT_EQ(answered, kThreads * kEach);
  std::array<int, kThreads> next{};
  for (const std::string& entry : member.consumer.entries()) {
    const size_t colon = entry.find(':');
    if (colon == std::string::npos) continue;
    EXPECT_EQ(std::stoi(entry.substr(colon + 1)), next[static_cast<size_t>(std::stoi(entry))]++);
  }
  EXPECT_THAT(next, ::testing::Each(kEach));
}

TEST(RaftReplicator, OpenedButNeverStartedClosesCleanly) {
  TempDirectory directory;
  ASSERT_TRUE(MakeDirectories(directory.log()).ok());
  ASSERT_TRUE(RaftReplicator::Bootstrap(directory.log(), 1, "").ok());
  ListConsumer consumer(directory.path() + "/state");
  SystemRandom random;
  RaftReplicatorOptions options;
  options.directory = directory.log();
  EXPECT_TRUE(RaftReplicator::Open(options, &consumer, &random).ok());
  EXPECT_TRUE(RaftReplicator::Open(options, &consumer, &random).ok());
}

TEST(RaftReplicator, CallbackComesAfterApply) {
  TempDirectory directory;
  Member member(directory);
  member.consumer.WaitForLeadership();
  std::promise<size_t> applied;
  member.replicator->Propose("entry 1", [&](const Status&) { applied.set_value(member.consumer.entries().size()); });
  EXPECT_EQ(applied.get_future().get(), 1u);
}

// Else it could give other entries the numbers and the term of some that it has lost and a learner has got.
TEST(RaftReplicator, EachStartOfALoneVoterIsATermOfItsOwn) {
  TempDirectory directory;
  uint64_t last_term = 0;
  for (int start = 0; start < 3; ++start) {
    Member member(directory);
    const uint64_t term = member.consumer.WaitForLeadership();
    EXPECT_GT(term, last_term);
    last_term = term;
    ASSERT_TRUE(member.Propose("entry").ok());
  }
}

TEST(RaftReplicator, RestartAppliesNothingTwice) {
  TempDirectory directory;
  for (int round = 0; round < 3; ++round) {
    Member member(directory);
    ASSERT_EQ(member.status.ToString(), "kOk");
    member.consumer.WaitForLeadership();
    EXPECT_EQ(member.consumer.entries(), Numbered(1, round * 10));
    for (const std::string& entry : Numbered(round * 10 + 1, round * 10 + 10)) ASSERT_TRUE(member.Propose(entry).ok());
  }
}

TEST(RaftReplicator, RestartWithoutDurableStateAppliesTheLogAgain) {
  TempDirectory directory;
  {
    Member member(directory);
    member.consumer.WaitForLeadership();
    for (const std::string& entry : Numbered(1, 50)) ASSERT_TRUE(member.Propose(entry).ok());
  }
  fs::remove(directory.path() + "/state");
  Member member(directory);
  ASSERT_EQ(member.status.ToString(), "kOk");
  member.consumer.WaitForLeadership();
  EXPECT_EQ(member.consumer.entries(), Numbered(1, 50));
}

// Proposes numbered entries and writes the number of each acknowledged one to `out`, until it is killed.
[[noreturn]] void RunVictim(const TempDirectory& directory, const RaftReplicatorOptions& options, int first, int out) {
  Member member(directory, options);
  if (!member.status.ok()) _exit(2);
  member.consumer.WaitForLeadership();
  for (int i = first;; ++i) {
    member.replicator->Propose("entry " + std::to_string(i), [i, out](const Status& status) {
      if (status.ok() && write(out, &i, sizeof i) != sizeof i) _exit(3);
    });
    // A few in flight.
    if (i % 8 == 0 && !member.Propose("entry " + std::to_string(++i)).ok()) _exit(4);
  }
}

// Kills a member under load; returns the highest entry that it had acknowledged.
int KillUnderLoad(const TempDirectory& directory, const RaftReplicatorOptions& options, int first,
                  int acknowledged_min) {
  std::array<int, 2> ends{};
  EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) RunVictim(directory, options, first, ends[1]);
  close(ends[1]);
  int last = 0;
  int count = 0;
  int number = 0;
  while (read(ends[0], &number, sizeof number) == sizeof number) {
    last = std::max(last, number);
    if (++count == acknowledged_min) kill(child, SIGKILL);
  }
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  return last;
}

void ExpectNumbered(const std::vector<std::string>& entries, int at_least) {
  EXPECT_GE(entries.size(), static_cast<size_t>(at_least));
  EXPECT_EQ(entries, Numbered(1, static_cast<int>(entries.size())));
}

TEST(RaftReplicator, KilledUnderLoadKeepsEveryAcknowledgedEntryOnce) {
  TempDirectory directory;
  int next = 1;
  for (int round = 0; round < 4; ++round) {
    const int acknowledged = KillUnderLoad(directory, {}, next, 300 + 100 * round);
    Member member(directory);
    ASSERT_EQ(member.status.ToString(), "kOk");
    member.consumer.WaitForLeadership();
    ExpectNumbered(member.consumer.entries(), acknowledged);
    next = static_cast<int>(member.consumer.entries().size()) + 1;
  }
}

TEST(RaftReplicator, KilledWhileSnapshotsAreTakenKeepsEveryAcknowledgedEntryOnce) {
  TempDirectory directory;
  RaftReplicatorOptions options;
  options.snapshot_entries_max = 20;
  options.snapshot_trailing = 4;
  int next = 1;
  for (int round = 0; round < 4; ++round) {
    const int acknowledged = KillUnderLoad(directory, options, next, 400 + 70 * round);
    Member member(directory, options);
    ASSERT_EQ(member.status.ToString(), "kOk");
    member.consumer.WaitForLeadership();
    ExpectNumbered(member.consumer.entries(), acknowledged);
    next = static_cast<int>(member.consumer.entries().size()) + 1;
  }
}

// A snapshot takes its time, and none begins meanwhile: proposes as many entries as it takes. Returns the last one's
// number.
int ProposeUntilFlushes(Member& member, int first, uint64_t flushes) {
  int next = first;
  while (member.consumer.flushes() < flushes) EXPECT_TRUE(member.Propose("entry " + std::to_string(next++)).ok());
  return next - 1;
}

TEST(RaftReplicator, RestartGoesOnBehindASnapshot) {
  TempDirectory directory;
  RaftReplicatorOptions options;
  options.snapshot_entries_max = 10;
  options.snapshot_trailing = 1;
  int last = 0;
  {
    Member member(directory, options);
    member.consumer.WaitForLeadership();
    last = ProposeUntilFlushes(member, 1, 5);
  }
  EXPECT_TRUE(fs::exists(directory.log() + "/snapshot"));
  Member member(directory, options);
  ASSERT_EQ(member.status.ToString(), "kOk");
  member.consumer.WaitForLeadership();
  ASSERT_TRUE(member.Propose("entry " + std::to_string(last + 1)).ok());
  EXPECT_EQ(member.consumer.entries(), Numbered(1, last + 1));
}

TEST(RaftReplicator, SnapshotIsTakenAfterManyBytes) {
  TempDirectory directory;
  RaftReplicatorOptions options;
  options.snapshot_bytes_max = 1 << 20;
  Member member(directory, options);
  member.consumer.WaitForLeadership();
  int proposed = 0;
  for (; member.consumer.flushes() < 2; ++proposed) ASSERT_TRUE(member.Propose(std::string(100'000, 'x')).ok());
  EXPECT_GE(proposed, 10);
}

TEST(RaftReplicator, StateOlderThanTheLogIsRefused) {
  TempDirectory directory;
  RaftReplicatorOptions options;
  options.snapshot_entries_max = 10;
  options.snapshot_trailing = 1;
  {
    Member member(directory, options);
    member.consumer.WaitForLeadership();
    ProposeUntilFlushes(member, 1, 3);
  }
  fs::remove(directory.path() + "/state");
  Member member(directory, options);
  EXPECT_EQ(member.status.code(), StatusCode::kCorruption);
  EXPECT_THAT(member.status.message(), HasSubstr(directory.log() + ": the log begins behind entry"));
}

TEST(RaftReplicator, StateNewerThanTheLogIsRefused) {
  TempDirectory directory;
  {
    Member member(directory);
    member.consumer.WaitForLeadership();
    for (const std::string& entry : Numbered(1, 10)) ASSERT_TRUE(member.Propose(entry).ok());
  }
  std::ofstream(directory.path() + "/state", std::ios::app) << "entry 11\n";
  Member member(directory);
  ASSERT_EQ(member.status.ToString(), "kOk");
  EXPECT_THAT(member.consumer.WaitForFailure().message(), HasSubstr("the log ends at entry 10 but the state holds 11"));
  EXPECT_FALSE(member.replicator->HoldsLease());
}

void FlipByte(const std::string& path, size_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(static_cast<char>(byte ^ 0x40));
  ASSERT_TRUE(file.good());
}

std::string FirstSegment(const TempDirectory& directory) { return directory.log() + "/" + SegmentName(1); }

TEST(RaftReplicator, DamageOfDurableEntriesIsRefusedAndNamed) {
  TempDirectory directory;
  KillUnderLoad(directory, {}, 1, 200);
  FlipByte(FirstSegment(directory), 2 * kLogBlockBytes + 60);
  Member member(directory);
  EXPECT_EQ(member.status.code(), StatusCode::kCorruption);
  EXPECT_THAT(member.status.message(), HasSubstr(FirstSegment(directory) + ": damaged at byte 8192"));
}

TEST(RaftReplicator, DamageOfTheLastEntryIsSeenAfterACleanStop) {
  TempDirectory directory;
  {
    Member member(directory);
    member.consumer.WaitForLeadership();
    ASSERT_TRUE(member.Propose("the last one").ok());
  }
  auto contents = ReadSmallFile(FirstSegment(directory));
  ASSERT_TRUE(contents.ok());
  FlipByte(FirstSegment(directory), contents->rfind("the last one"));
  Member member(directory);
  EXPECT_EQ(member.status.code(), StatusCode::kCorruption);
}

TEST(RaftReplicator, TornEndIsAccepted) {
  TempDirectory directory;
  KillUnderLoad(directory, {}, 1, 200);
  // Behind the last group the beginning of another one, as a write that the power cut short leaves it.
  auto contents = ReadSmallFile(FirstSegment(directory));
  ASSERT_TRUE(contents.ok());
  const size_t last = contents->rfind("TRLG");
  std::string torn = contents->substr(last, 48);
  torn[16] ^= 1;
  std::fstream file(FirstSegment(directory), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(last / kLogBlockBytes * kLogBlockBytes + kLogBlockBytes));
  file << torn;
  file.close();
  Member member(directory);
  ASSERT_EQ(member.status.ToString(), "kOk");
  member.consumer.WaitForLeadership();
  ExpectNumbered(member.consumer.entries(), 200);
}

TEST(RaftReplicator, DirectoryThatIsNoLogIsRefused) {
  TempDirectory directory;
  ListConsumer consumer(directory.path() + "/state");
  SystemRandom random;
  RaftReplicatorOptions options;
  options.directory = directory.path();
  EXPECT_EQ(RaftReplicator::Open(options, &consumer, &random).status().code(), StatusCode::kCorruption);
  std::ofstream(directory.path() + "/metadata1") << "of an earlier version";
  EXPECT_EQ(RaftReplicator::Open(options, &consumer, &random).status().code(), StatusCode::kNotSupported);
  options.directory = directory.path() + "/absent";
  EXPECT_EQ(RaftReplicator::Open(options, &consumer, &random).status().code(), StatusCode::kNotFound);
}

TEST(RaftReplicator, FailedApplyIsReportedAndNothingIsAnswered) {
  TempDirectory directory;
  Member member(directory);
  member.consumer.WaitForLeadership();
  member.consumer.set_fail_apply();
  member.replicator->Propose("entry 1", [](const Status&) { ADD_FAILURE() << "answered"; });
  EXPECT_THAT(member.consumer.WaitForFailure().message(), HasSubstr("apply log entry 1: planted"));
  EXPECT_FALSE(member.replicator->HoldsLease());
}

// A limit on file sizes makes writes into preallocated segments fail, as a broken disk would.
TEST(RaftReplicator, FailedWriteIsReported) {
  TempDirectory directory;
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    int exit_status = 2;
    {  // the member's threads are joined before _exit
      Member member(directory);
      if (!member.status.ok()) _exit(exit_status);
      member.consumer.WaitForLeadership();
      const rlimit limit{64 << 10, 64 << 10};
      setrlimit(RLIMIT_FSIZE, &limit);
      for (int i = 0; i < 40; ++i) member.replicator->Propose(std::string(10'000, 'x'), [](const Status&) {});
      exit_status = member.consumer.WaitForFailure().code() == StatusCode::kFileTooLarge ? 0 : 3;
    }
    _exit(exit_status);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(RaftReplicator, FullDiskIsRefused) {
  TempDirectory directory;
  RaftReplicatorOptions options;
  options.disk_reserve_bytes = uint64_t{1} << 62;
  Member member(directory, options);
  EXPECT_EQ(member.status.code(), StatusCode::kNoSpace);
}

TEST(RaftReplicator, AMemberWithoutOthersGoesOnOnANearlyFullDisk) {
  TempDirectory directory;
  struct statvfs disk {};
  ASSERT_EQ(statvfs(directory.path().c_str(), &disk), 0);
  RaftReplicatorOptions options;
  options.disk_reserve_bytes = uint64_t{disk.f_bavail} * disk.f_frsize * 2;
  Member member(directory, options);
  ASSERT_TRUE(member.status.ok()) << member.status.ToString();
  member.consumer.WaitForLeadership();
  EXPECT_FALSE(member.replicator->HasRoom());
  std::promise<Status> committed;
  member.replicator->Propose("entry", [&](const Status& status) { committed.set_value(status); });
  EXPECT_TRUE(committed.get_future().get().ok());
}

TEST(DiskLimits, AreOfTheDiskOrAsGiven) {
  constexpr uint64_t kMiB = 1 << 20;
  EXPECT_EQ(DiskLimitsFor(100'000 * kMiB, 0).growth, 256 * kMiB);
  EXPECT_EQ(DiskLimitsFor(100'000 * kMiB, 0).member, 64 * kMiB);
  EXPECT_EQ(DiskLimitsFor(100'000 * kMiB, 0).alone, 16 * kMiB);
  EXPECT_EQ(DiskLimitsFor(1'024 * kMiB, 0).member, 32 * kMiB);
  EXPECT_EQ(DiskLimitsFor(1'024 * kMiB, 8 * kMiB).member, 8 * kMiB);
  EXPECT_EQ(DiskLimitsFor(1'024 * kMiB, uint64_t{1} << 63).growth, UINT64_MAX);
}

TEST(RaftReplicator, TooManyBytesInFlightAreRefused) {
  TempDirectory directory;
  RaftReplicatorOptions options;
  options.in_flight_bytes_max = 100'000;
  Member member(directory, options);
  member.consumer.WaitForLeadership();
  std::promise<void> all;
  std::map<StatusCode, int> results;
  for (int i = 0; i < 100; ++i) {
    member.replicator->Propose(std::string(50'000, 'x'), [&](const Status& status) {
      if (++results[status.code()] > 0 && results[StatusCode::kOk] + results[StatusCode::kResourceExhausted] == 100)
        all.set_value();
    });
  }
  all.get_future().wait();
  EXPECT_GT(results[StatusCode::kOk], 0);
  EXPECT_GT(results[StatusCode::kResourceExhausted], 0);
}

TEST(LogFrame, GoldenBytes) {
  const LogFrame frame{.durable_index = 0x0102, .proposer = 0x0304, .proposal = 0x0506, .entry = "abc"};
  std::string bytes(LogFrameBytes(3), 'z');
  EncodeLogFrame(frame, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
  const std::string golden("TLE1\x03\0\0\0\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0\x06\x05\0\0\0\0\0\0abc\0\0\0\0\0",
                           40);
  EXPECT_EQ(bytes, golden);
  const auto decoded = DecodeLogFrame({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->durable_index, 0x0102u);
  EXPECT_EQ(decoded->proposer, 0x0304u);
  EXPECT_EQ(decoded->proposal, 0x0506u);
  EXPECT_EQ(decoded->entry, "abc");
}

TEST(LogFrame, DamagedMarkerIsCorruption) {
  proto::SnapshotMarker marker;
  marker.set_version(1);
  marker.set_applied_entries(7);
  std::string bytes = EncodeSnapshotMarker(marker);
  const auto decode = [&] {
    return DecodeSnapshotMarker({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  };
  ASSERT_TRUE(decode().ok());
  EXPECT_EQ(decode()->applied_entries(), 7u);
  bytes.back() ^= 1;
  EXPECT_EQ(decode().status().code(), StatusCode::kCorruption);
}

}  // namespace
}  // namespace tarn::meta
