// What a segment file's Sync has acknowledged is on the disk, also when the file system is shut down in the middle of that Sync.
//
// ext4 and XFS may answer 0 to an fdatasync that overlaps their shutdown although the data is lost, about every second time here. A power cut
// never shows that, since nobody is left to believe the answer; a disk that dies does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "chunkserver/store/segment_file.h"
#include "common/base/posix_io.h"

namespace tarn::store {
namespace {

constexpr uint64_t kImageBytes = 512 << 20;
constexpr uint64_t kSegmentBytes = 32 << 20;
constexpr uint64_t kRecordBytes = 304 << 10;
constexpr uint64_t kRecords = kSegmentBytes / kRecordBytes;
constexpr int kRounds = 12;
// EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one call; 2: without writing the journal.
constexpr unsigned long kShutdownCall = _IOR('X', 125, uint32_t);
constexpr uint32_t kWithoutJournal = 2;

bool Succeeds(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

// An image with a file system of its own, mounted while the object lives.
class LoopImage {
 public:
  LoopImage(std::string kind, std::string directory) : kind_(std::move(kind)), directory_(std::move(directory)) {}
  ~LoopImage() {
    Unmount();
    std::filesystem::remove_all(directory_);
  }
  LoopImage(const LoopImage&) = delete;
  LoopImage& operator=(const LoopImage&) = delete;

  bool Make() {
    std::filesystem::create_directories(mount_point());
    return Succeeds("truncate -s " + std::to_string(kImageBytes) + " " + image()) && Succeeds("mkfs." + kind_ + " -q " + image()) && Mount();
  }
  bool Mount() {
    // ext4 commits its journal every few seconds by itself, which would save what nobody synced.
    is_mounted_ = Succeeds("mount -o loop" + std::string(kind_ == "ext4" ? ",commit=300 " : " ") + image() + " " + mount_point());
    return is_mounted_;
  }
  void Unmount() {
    if (std::exchange(is_mounted_, false)) Succeeds("umount " + mount_point());
  }
  std::string mount_point() const { return directory_ + "/mnt"; }

 private:
  std::string image() const { return directory_ + "/image"; }

  const std::string kind_;
  const std::string directory_;
  bool is_mounted_ = false;
};

std::vector<uint8_t> RecordOf(uint64_t number) { return std::vector<uint8_t>(kRecordBytes, static_cast<uint8_t>(number + 1)); }

class SegmentSyncTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!Succeeds("losetup -f")) GTEST_SKIP() << "needs loop devices";
    if (!Succeeds("command -v mkfs." + GetParam())) GTEST_SKIP() << "needs mkfs." << GetParam();
  }

  // Writes and syncs record after record until that fails; returns how many syncs succeeded. Says in `syncing` which one is being synced.
  static uint64_t WriteUntilFailure(SegmentFile* file, std::atomic<uint64_t>* syncing) {
    for (uint64_t number = 0; number < kRecords; ++number) {
      std::vector<uint8_t> record = RecordOf(number);
      const iovec part{record.data(), record.size()};
      if (!file->Write({&part, 1}, number * kRecordBytes).ok()) return number;
      syncing->store(number);
      if (!file->Sync().ok()) return number;
    }
    return kRecords;
  }

  void CheckRound(uint64_t cut_at) {
    std::string pattern = testing::TempDir() + "segment_sync_XXXXXX";
    LoopImage image(GetParam(), mkdtemp(pattern.data()));
    ASSERT_TRUE(image.Make());
    uint64_t acknowledged = 0;
    {
      const auto directory = OpenPosixSegmentDirectory(image.mount_point() + "/segments");
      ASSERT_TRUE(directory.ok()) << directory.status().ToString();
      const auto file = (*directory)->Create(SegmentNumber(1), kSegmentBytes);
      ASSERT_TRUE(file.ok() && (*file)->Sync().ok() && (*directory)->SyncDirectory().ok());
      const Result<UniqueFd> top = OpenFile(image.mount_point(), O_RDONLY);
      ASSERT_TRUE(top.ok() && syncfs(top->get()) == 0);
      std::atomic<uint64_t> syncing = 0;
      std::thread writer([&] { acknowledged = WriteUntilFailure(file->get(), &syncing); });
      while (syncing < cut_at) std::this_thread::yield();
      EXPECT_EQ(ioctl(top->get(), kShutdownCall, &kWithoutJournal), 0);
      writer.join();
      ASSERT_LT(acknowledged, kRecords) << "the file system went on";
      EXPECT_FALSE((*file)->Sync().ok()) << "a failure lasts";
    }
    image.Unmount();
    ASSERT_TRUE(image.Mount());
    const auto directory = OpenPosixSegmentDirectory(image.mount_point() + "/segments");
    const auto file = (*directory)->Open(SegmentNumber(1));
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    std::vector<uint8_t> found(kRecordBytes);
    for (uint64_t number = 0; number < acknowledged; ++number) {
      ASSERT_TRUE(PreadFull(*(*file)->Descriptor(), found, number * kRecordBytes, (*file)->path()).ok());
      ASSERT_TRUE(found == RecordOf(number)) << "record " << number << " was acknowledged as durable, one of " << acknowledged;
    }
  }
};

TEST_P(SegmentSyncTest, AcknowledgesNothingThatAShutdownTookAway) {
  for (uint64_t round = 0; round < kRounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    ASSERT_NO_FATAL_FAILURE(CheckRound(1 + round % 4));
  }
}

INSTANTIATE_TEST_SUITE_P(FileSystems, SegmentSyncTest, testing::Values("ext4", "xfs"),
                         [](const testing::TestParamInfo<std::string>& file_system) { return file_system.param; });

}  // namespace
}  // namespace tarn::store
