// How holes are punched: joined, in portions, and without delay where space is short. That nothing is punched too early
// is tested with the whole store (chunk_store_test, store_crash_test, store_model_test).
#include "chunkserver/store/reclaimer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace tarn::store {
namespace {

using ::testing::ElementsAre;
using Hole = std::pair<uint64_t, uint64_t>;  // blocks: first, count

class RecordingFile final : public SegmentFile {
 public:
  explicit RecordingFile(std::vector<Hole>* holes) : holes_(holes), file_(memfd_create("segment", MFD_CLOEXEC)) {
    // It never becomes empty.
    EXPECT_EQ(pwrite(file_.get(), "x", 1, kBlockBytes), 1);
  }
  Status Write(std::span<const iovec>, uint64_t) override { return Status::Ok(); }
  Status Sync() override { return Status::Ok(); }
  void StartWriteback(uint64_t, uint64_t) override {}
  Status PunchHole(uint64_t offset, uint64_t length) override {
    holes_->emplace_back(offset / kBlockBytes, length / kBlockBytes);
    return Status::Ok();
  }
  Status Truncate(uint64_t) override { return Status::Ok(); }
  Result<int> Descriptor() const override { return file_.get(); }
  int OpenDescriptor() const override { return file_.get(); }
  bool WasUsed() override { return true; }
  UniqueFd Detach() override { return UniqueFd(); }
  const std::string& path() const override { return path_; }

 private:
  std::vector<Hole>* const holes_;
  const UniqueFd file_;
  const std::string path_ = "recording";
};

class SpaceOnly final : public SegmentDirectory {
 public:
  Result<std::vector<SegmentNumber>> List() override { return std::vector<SegmentNumber>(); }
  Result<std::unique_ptr<SegmentFile>> Create(SegmentNumber, uint64_t) override { return None(); }
  Result<std::unique_ptr<SegmentFile>> Open(SegmentNumber) override { return None(); }
  Status Remove(SegmentNumber) override { return None(); }
  Status SyncDirectory() override { return Status::Ok(); }
  Result<FileSystemSpace> Space() override { return space; }

  FileSystemSpace space{.capacity_bytes = 1000, .available_bytes = 500};

 private:
  static Status None() { return Status(StatusCode::kNotSupported, "there are no files"); }
};

class ReclaimerTest : public ::testing::Test {
 protected:
  ReclaimerTest() {
    for (const uint32_t number : {1u, 2u}) {
      auto segment = std::make_shared<Segment>();
      segment->number = SegmentNumber(number);
      segment->blocks = 10'000;
      segment->file = std::make_unique<RecordingFile>(&holes_[number]);
      segments_.Insert(std::move(segment));
    }
  }
  // Dead space under a key of its own each.
  void Name(const std::vector<DeadRange>& ranges) {
    std::vector<NamedDeadSpace> dead;
    for (const DeadRange& range : ranges) dead.push_back({.key = ++key_, .space = {.ranges = {range}, .killed_by = RecordSequence(1)}});
    reclaimer_.CheckpointIsDurable(RecordSequence(1), dead, {});
  }
  // Every second block, so that none can be joined.
  void NameScattered(uint32_t count) {
    std::vector<DeadRange> ranges;
    for (uint32_t i = 0; i < count; ++i) ranges.push_back({SegmentNumber(1), 1 + 2 * i, 1});
    Name(ranges);
  }
  // The index need not name them any more.
  size_t Forgotten() const { return reclaimer_.owed().forgotten_keys.size(); }

  std::map<uint32_t, std::vector<Hole>> holes_;
  SeededRandom random_{1};
  fault::FaultPoints faults_;
  SpaceOnly directory_;
  SegmentTable segments_;
  SegmentLog log_{SegmentLogOptions(), &directory_, &segments_, &random_, &faults_};
  Committer committer_{&log_, CommitterOptions()};
  ReadLeases leases_;
  StoreMetrics metrics_;
  Reclaimer reclaimer_{&directory_, &segments_, &log_, &committer_, &leases_, &metrics_};
  uint64_t key_ = 0;
};

TEST_F(ReclaimerTest, NeighboursBecomeOneHole) {
  Name({{SegmentNumber(1), 12, 3}, {SegmentNumber(2), 1, 1}, {SegmentNumber(1), 10, 2}, {SegmentNumber(1), 20, 1}});
  ASSERT_TRUE(reclaimer_.Run().ok());
  EXPECT_THAT(holes_[1], ElementsAre(Hole(10, 5), Hole(20, 1)));
  EXPECT_THAT(holes_[2], ElementsAre(Hole(1, 1)));
  EXPECT_EQ(metrics_.blocks_punched, 7u);
  EXPECT_EQ(Forgotten(), 4u);
}

TEST_F(ReclaimerTest, PunchesInPortionsAndForgetsOnlyWhatIsPunched) {
  NameScattered(10);
  NameScattered(1);
  ASSERT_TRUE(reclaimer_.Run(4).ok());
  EXPECT_EQ(holes_[1].size(), 4u);
  EXPECT_EQ(Forgotten(), 0u);
  ASSERT_TRUE(reclaimer_.Run(4).ok());
  ASSERT_TRUE(reclaimer_.Run(0).ok());
  EXPECT_EQ(holes_[1].size(), 8u);
  EXPECT_EQ(Forgotten(), 0u);
  ASSERT_TRUE(reclaimer_.Run(2).ok());
  EXPECT_EQ(Forgotten(), 10u);
  EXPECT_FALSE(reclaimer_.idle());
  ASSERT_TRUE(reclaimer_.Run(4).ok());
  EXPECT_EQ(holes_[1].size(), 11u);
  EXPECT_EQ(Forgotten(), 11u);
  EXPECT_TRUE(reclaimer_.idle());
}

TEST_F(ReclaimerTest, WhereSpaceIsShortAllIsPunchedAtOnce) {
  NameScattered(10);
  directory_.space.available_bytes = 99;
  ASSERT_TRUE(reclaimer_.Run(4).ok());
  EXPECT_EQ(holes_[1].size(), 10u);
  EXPECT_EQ(Forgotten(), 10u);
}

}  // namespace
}  // namespace tarn::store
