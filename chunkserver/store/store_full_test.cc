// A full disk: a small ext4 image, loop-mounted. Needs root and a loop device; skipped, with the reason, where there are none.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "chunkserver/store/store_fixture.h"
#include "chunkserver/store/store_model.h"

namespace tarn::store {
namespace {

class StoreFullTest : public StoreFixture {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting an image needs root";
    mount_ = directory_ + "/mnt";
    const std::string image = directory_ + "/image";
    const std::string make = "truncate -s 96M " + image + " && mkfs.ext4 -q -m 0 " + image + " && mkdir " + mount_ + " && mount -o loop " + image + " " + mount_;
    if (std::system((make + " >/dev/null 2>&1").c_str()) != 0) GTEST_SKIP() << "cannot loop-mount an ext4 image here";
    is_mounted_ = true;
    options_.directory = mount_ + "/target";
    options_.segment_bytes = 0;
    options_.reserve_bytes = 0;
  }
  void TearDown() override {
    store_.reset();
    if (is_mounted_) umount2(mount_.c_str(), MNT_DETACH);
  }

  std::string mount_;
  bool is_mounted_ = false;
};

TEST_F(StoreFullTest, AFullTargetRefusesWritesAndCanBeEmptied) {
  Open();
  uint64_t written = 0;
  Status refused;
  uint64_t room = store_->AvailableBytes();
  uint64_t largest_step = 0;  // down, at one write
  while (refused.ok() && written < 2'000) {
    refused = TryWrite(Id(written + 1), 0, Pattern(200'000, written)).status();
    const uint64_t room_left = store_->AvailableBytes();
    largest_step = std::max(largest_step, room - std::min(room, room_left));
    room = room_left;
    if (refused.ok()) ++written;
    const Status maintained = written % 50 == 0 ? store_->Maintain() : Status::Ok();
    ASSERT_TRUE(maintained.ok()) << maintained.ToString();
  }
  EXPECT_EQ(refused.code(), StatusCode::kNoSpace) << refused.ToString();
  EXPECT_GT(written, 200u) << "most of 96 MiB";
  // Beginning a segment takes its 8 MiB from the file system, and no room.
  EXPECT_LT(largest_step, 6u << 20);
  const Result<SpaceReport> full = store_->Space();
  ASSERT_TRUE(full.ok());
  EXPECT_LT(full->available_bytes, 9u << 20);

  // What a primary has admitted is taken a little longer.
  const std::string bytes = Pattern(200'000, 1);
  const std::string sums = ComputePieceSums(0, {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  const WriteRequest replicated{.chunk = Id(50'000), .writer = {}, .offset = 0,
                                .payload = {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, .piece_sums = sums, .view = {}};
  EXPECT_EQ(store_->ApplyWrite(replicated, {.group = GroupId(1), .epoch = Epoch(1), .base = {}}).status().code(), StatusCode::kNoSpace);
  EXPECT_LT(store_->AvailableBytes(), 9u << 20);
  uint64_t replicas = 0;
  Status taken;
  for (; taken.ok() && replicas < 200; ++replicas) {
    WriteRequest next = replicated;
    next.chunk = Id(60'000 + replicas);
    taken = store_->ApplyWrite(next, {.group = GroupId(1), .epoch = Epoch(1), .base = ChunkStamp()}).status();
  }
  EXPECT_EQ(taken.code(), StatusCode::kNoSpace) << taken.ToString();
  EXPECT_GT(replicas, 4u);

  // Nothing that was taken is torn, nothing that was refused is there; after a restart, too.
  for (int round = 0; round < 2; ++round) {
    for (uint64_t data = 1; data <= written; ++data) {
      std::string problem;
      ASSERT_EQ(ReadWholeChunk(store_.get(), Id(data), &problem), Pattern(200'000, data - 1)) << problem;
    }
    EXPECT_TRUE(store_->StatData(DataId(written + 1))->empty());
    ASSERT_TRUE(store_->Maintain().ok()) << "checkpoints live from the reserve";
    Kill();
    Open();
  }

  std::vector<DataId> dead;
  for (uint64_t data = 1; data <= written; data += 2) dead.emplace_back(data);
  const Status deleted = store_->DeleteData(dead);
  ASSERT_TRUE(deleted.ok()) << deleted.ToString();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_GT(store_->Space()->available_bytes, 20u << 20);
  Write(Id(100'000), 0, Pattern(200'000, 1));
}

}  // namespace
}  // namespace tarn::store
