// Stops at the worst moments: processes killed in the middle of their work, and power cuts under concurrent load.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "chunkserver/store/store_fixture.h"
#include "chunkserver/store/store_model.h"

namespace tarn::store {
namespace {

// What the writing process tells its parent, in shared memory, so that it outlives that process.
struct Progress {
  static constexpr uint64_t kChunks = 8;
  std::atomic<uint64_t> begun[kChunks] = {};    // the last write that was begun
  std::atomic<uint64_t> durable[kChunks] = {};  // the last write that was committed
};

constexpr size_t kObjectBytes = 30'000;

// Write number n of a chunk replaces everything by a pattern that only n and the chunk have.
std::string Generation(uint64_t chunk, uint64_t number) {
  std::mt19937_64 engine(chunk * 1'000'000 + number);
  std::string bytes;
  while (bytes.size() < kObjectBytes) {
    const uint64_t word = engine();
    bytes.append(reinterpret_cast<const char*>(&word), sizeof(word));
  }
  return bytes;
}

Progress* MapProgress(int memory_fd) {
  void* memory = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
  CHECK(memory != MAP_FAILED, "map the shared memory");
  return static_cast<Progress*>(memory);
}

// The writing process: writes, commits and checkpoints until the armed fault point kills it. Returns only on a failure.
int WriteUntilKilled(const std::string& directory, const std::string& faults, int memory_fd) {
  Progress* const progress = MapProgress(memory_fd);
  const fault::FaultPointName known[] = {kFaultCrashAfterData};
  SystemRandom random;
  SystemClock clock;
  const auto armed = fault::FaultPoints::Parse(faults, known);
  if (!armed.ok()) return 2;
  const Result<std::unique_ptr<ChunkStore>> store = ChunkStore::Open(
      {.directory = directory, .reserve_bytes = 1, .segment_bytes = 2 << 20, .background_maintenance = false},
      {.random = &random, .clock = &clock, .faults = armed->get(), .open_segments = {}});
  if (!store.ok()) return 3;
  for (uint64_t number = progress->begun[0] + 1;; ++number) {
    for (uint64_t chunk = 0; chunk < Progress::kChunks; ++chunk) {
      progress->begun[chunk] = number;
      const std::string bytes = Generation(chunk, number);
      const std::span<const uint8_t> payload(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
      const std::string sums = ComputePieceSums(0, payload);
      const WriteRequest request{.chunk = {DataId(chunk + 1), 0}, .writer = {}, .offset = 0, .payload = payload, .piece_sums = sums, .view = {}};
      if (!(*store)->Write(request).ok()) return 4;
    }
    if (number % 3 == 0) {
      if (!(*store)->Commit().ok()) return 5;
      for (auto& durable : progress->durable) durable = number;
    }
    if (number % 5 == 0 && !(*store)->Maintain().ok()) return 6;
  }
}

class StoreCrashTest : public StoreFixture {
 protected:
  StoreCrashTest() {
    memory_fd_.Reset(memfd_create("progress", 0));  // inherited on purpose
    CHECK(ftruncate(memory_fd_.get(), sizeof(Progress)) == 0, "size the shared memory");
    progress_ = MapProgress(memory_fd_.get());
  }
  ~StoreCrashTest() override { munmap(progress_, sizeof(Progress)); }

  void RunUntilKilled(const std::string& faults) {
    const std::string fd = std::to_string(memory_fd_.get());
    // A program of its own: RocksDB does not survive a fork.
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      execl("/proc/self/exe", "crash_writer", "--write-until-killed", options_.directory.c_str(), faults.c_str(), fd.c_str(), nullptr);
      _exit(1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "exit status " << WEXITSTATUS(status);
  }

  void ExpectWholeObjectsNoOlderThanDurable() {
    for (uint64_t chunk = 0; chunk < Progress::kChunks; ++chunk) {
      std::string problem;
      const std::string found = ReadWholeChunk(store_.get(), Id(chunk + 1), &problem);
      ASSERT_EQ(problem, "");
      uint64_t number = progress_->begun[chunk];
      while (number > 0 && found != Generation(chunk, number)) --number;
      ASSERT_TRUE(number > 0 || found.empty()) << "chunk " << chunk << " is no whole object";
      ASSERT_GE(number, progress_->durable[chunk].load()) << "chunk " << chunk;
    }
  }

  UniqueFd memory_fd_;
  Progress* progress_ = nullptr;
};

TEST_F(StoreCrashTest, AKilledProcessLosesNothingItCommitted) {
  // Each process goes on from the directory that the one before left.
  for (const int records : {1, 2, 9, 40, 41, 77, 150}) {
    SCOPED_TRACE(records);
    ASSERT_NO_FATAL_FAILURE(RunUntilKilled("store.crash_after_data=nth:" + std::to_string(records)));
    ASSERT_NO_FATAL_FAILURE(Open());
    EXPECT_FALSE(store_->was_clean());
    ASSERT_NO_FATAL_FAILURE(ExpectWholeObjectsNoOlderThanDurable());
    if (records % 2 == 1) {
      ASSERT_NO_FATAL_FAILURE(Reopen());
      EXPECT_TRUE(store_->was_clean());
      ASSERT_NO_FATAL_FAILURE(ExpectWholeObjectsNoOlderThanDurable());
    }
    store_.reset();
  }
}

// Threads write objects and remember which were acknowledged as durable; then the power goes.
class PowerCutTest : public StoreFixture {
 protected:
  static constexpr int kThreads = 4;
  static constexpr int kObjectsPerThread = 120;

  PowerCutTest() {
    is_lossy_ = true;
    options_.background_maintenance = true;
    options_.checkpoint_interval_ms = 20;
    options_.commit_interval_ms = 5;
  }

  static std::string Object(uint64_t data) { return Pattern(5'000 + data * 37 % 60'000, data); }

  void WriteObjects(int thread, std::vector<uint64_t>* durable) {
    for (int i = 0; i < kObjectsPerThread; ++i) {
      const uint64_t data = static_cast<uint64_t>(thread * kObjectsPerThread + i + 1);
      ASSERT_TRUE(TryWrite(Id(data), 0, Object(data)).ok());
      if (i % 4 != 0) continue;
      ASSERT_TRUE(store_->Commit().ok());
      for (uint64_t committed = durable->empty() ? static_cast<uint64_t>(thread * kObjectsPerThread + 1) : durable->back() + 1; committed <= data; ++committed) {
        durable->push_back(committed);
      }
    }
  }

  // How many objects that were acknowledged as durable are not there. A store that cannot be opened has lost all.
  size_t LostAfterPowerCut(uint64_t seed) {
    std::vector<std::vector<uint64_t>> durable(kThreads);
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) threads.emplace_back([this, i, &durable] { WriteObjects(i, &durable[static_cast<size_t>(i)]); });
    for (std::thread& thread : threads) thread.join();
    Kill();
    SeededRandom random(seed);
    disk_.PowerCut(&random);
    ArmFaults("");
    const bool is_open = TryOpen().ok();
    size_t lost = 0;
    for (const auto& of_thread : durable) {
      for (const uint64_t data : of_thread) {
        std::string problem;
        if (!is_open || ReadWholeChunk(store_.get(), Id(data), &problem) != Object(data)) ++lost;
      }
    }
    return lost;
  }
};

TEST_F(PowerCutTest, EverythingDurableIsThere) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    std::filesystem::remove_all(options_.directory);
    ASSERT_NO_FATAL_FAILURE(Open());
    ASSERT_EQ(LostAfterPowerCut(seed), 0u) << "seed " << seed;
    // Nothing torn either: whatever is there is whole.
    for (uint64_t data = 1; data <= kThreads * kObjectsPerThread; ++data) {
      std::string problem;
      const std::string found = ReadWholeChunk(store_.get(), Id(data), &problem);
      ASSERT_EQ(problem, "");
      ASSERT_TRUE(found.empty() || found == Object(data)) << data;
    }
    store_.reset();
  }
}

// The test above must be able to see a missing sync.
TEST_F(PowerCutTest, WithoutSyncsThingsAreLost) {
  ArmFaults("store.skip_sync=always");
  ASSERT_NO_FATAL_FAILURE(Open());
  EXPECT_GT(LostAfterPowerCut(1), 0u);
}

// Everything at once, for the thread sanitizer: writers, overwriters, readers, deletions, checkpoints.
TEST_F(PowerCutTest, AllOperationsMayRunAtOnce) {
  is_lossy_ = false;
  options_.scrub_interval_ms = 1;
  options_.scrub_bytes_per_second = uint64_t{1} << 40;
  Open();
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < 3; ++thread) {
    threads.emplace_back([this, thread] {
      for (uint64_t i = 0; i < 150; ++i) {
        // All threads meet on chunk 1000; the others are each thread's own.
        ASSERT_TRUE(TryWrite(Id(1000), thread * 8'192, Pattern(9'000, i)).ok());
        ASSERT_TRUE(TryWrite(Id(thread * 1'000'000 + i + 1), 0, Object(i)).ok());
        if (i % 3 == 0) {
          const DataId data(thread * 1'000'000 + i + 1);
          ASSERT_TRUE(store_->DeleteData({&data, 1}).ok());
        }
        ASSERT_TRUE(i % 10 != 0 || store_->Commit().ok());
      }
    });
  }
  threads.emplace_back([this] {
    for (int i = 0; i < 300; ++i) {
      std::string problem;
      const ReadRequest request{.chunk = Id(1000), .offset = 0, .length = 32'768, .view = {}};
      ReadRange(store_.get(), request, &problem);
      ASSERT_EQ(problem, "");
      ASSERT_TRUE(store_->Space().ok());
    }
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->scrub_progress().errors_found, 0u);
  Close();
  Open();
  for (uint64_t i = 0; i < 150; ++i) {
    std::string problem;
    const std::string found = ReadWholeChunk(store_.get(), Id(1'000'000 + i + 1), &problem);
    ASSERT_EQ(problem, "");
    ASSERT_EQ(found, i % 3 == 0 ? "" : Object(i));
  }
}

}  // namespace

// For main, which lies outside.
int RunCrashWriter(char** argv) { return WriteUntilKilled(argv[2], argv[3], std::stoi(argv[4])); }

}  // namespace tarn::store

// The test program is also the program that it kills.
int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "--write-until-killed") return tarn::store::RunCrashWriter(argv);
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
