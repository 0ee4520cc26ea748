#include "client/data/extent_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace tarn::client {
namespace {

constexpr ExtentMap::Stamp kNow{1, 1};

class ExtentMapTest : public testing::Test {
 protected:
  void Create(uint64_t buffer_bytes) {
    buffer_ = *WriteBuffer::Create("test", buffer_bytes);
    map_ = std::make_unique<ExtentMap>(buffer_.get(), SlabIdentity{InodeId(1), DataId(2), 0});
  }
  bool Write(uint64_t offset, const std::string& text) {
    return map_->Write(offset, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}, kNow);
  }
  // '.' where nothing is held.
  std::string Content(uint64_t offset, uint64_t length) {
    std::string text(length, '.');
    map_->CopyTo({offset, length}, reinterpret_cast<uint8_t*>(text.data()));
    return text;
  }
  ExtentPtr SendNext() {
    map_->WantSend(map_->last_age());
    return map_->NextToSend();
  }

  std::shared_ptr<WriteBuffer> buffer_;
  std::unique_ptr<ExtentMap> map_;
};

TEST_F(ExtentMapTest, AdjacentWritesBecomeOneExtent) {
  Create(4 << 20);
  ASSERT_TRUE(Write(100, "bbb"));
  ASSERT_TRUE(Write(97, "aaa"));
  ASSERT_TRUE(Write(103, "ccc"));
  ASSERT_TRUE(Write(99, "XX"));
  EXPECT_EQ(Content(96, 11), ".aaXXbbccc.");
  const ExtentPtr extent = SendNext();
  ASSERT_NE(extent, nullptr);
  EXPECT_EQ(extent->range, (ByteRange{97, 9}));
  EXPECT_EQ(map_->NextToSend(), nullptr);
}

TEST_F(ExtentMapTest, WhatIsUnderWayKeepsItsBytes) {
  Create(4 << 20);
  ASSERT_TRUE(Write(0, "aaaaaa"));
  const ExtentPtr first = SendNext();
  ASSERT_TRUE(Write(2, "bb"));
  EXPECT_EQ(std::string(first->bytes().begin(), first->bytes().end()), "aaaaaa");
  EXPECT_EQ(Content(0, 6), "aabbaa");
  EXPECT_EQ(SendNext(), nullptr);  // waits for the first
  map_->Acknowledge(first);
  const ExtentPtr second = map_->NextToSend();
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->range, (ByteRange{2, 2}));
}

TEST_F(ExtentMapTest, AcknowledgedBytesThatAreOverwrittenAreNotSentAgain) {
  Create(4 << 20);
  ASSERT_TRUE(Write(0, "aaaaaa"));
  map_->Acknowledge(SendNext());
  ASSERT_TRUE(Write(2, "bb"));
  EXPECT_EQ(Content(0, 6), "aabbaa");
  map_->Remove(SendNext());  // stable
  // The server forgets the first write: only what it still has to give is sent.
  for (const ExtentPtr& extent : map_->Unstable()) map_->SendAgain(extent);
  std::vector<ByteRange> ranges;
  while (const ExtentPtr extent = map_->NextToSend()) ranges.push_back(extent->range);
  std::sort(ranges.begin(), ranges.end());
  EXPECT_EQ(ranges, (std::vector<ByteRange>{{0, 2}, {4, 2}}));
}

TEST_F(ExtentMapTest, OverwrittenWhollyTheyStayForAWaitingSync) {
  Create(4 << 20);
  ASSERT_TRUE(Write(0, "aaaa"));
  map_->Acknowledge(SendNext());
  const uint64_t age = map_->last_age();
  map_->set_sync_waiting(true);
  ASSERT_TRUE(Write(0, "bbbb"));
  EXPECT_TRUE(map_->HasUnstable(age));
  map_->set_sync_waiting(false);
  map_->Acknowledge(SendNext());
  ASSERT_TRUE(Write(0, "cccc"));
  EXPECT_EQ(map_->Unstable().size(), 1u);  // the one of no bytes
  map_->Remove(map_->Unstable().front());
  EXPECT_FALSE(map_->HasUnstable(map_->last_age()));
  EXPECT_EQ(Content(0, 4), "cccc");
}

TEST_F(ExtentMapTest, TruncationCutsAndTellsWhatIsUnderWay) {
  Create(4 << 20);
  ASSERT_TRUE(Write(0, "aaaaaa"));
  const ExtentPtr sending = SendNext();
  ASSERT_TRUE(Write(1'500'000, "bbb"));
  EXPECT_EQ(map_->TruncateTo(4), std::vector<ExtentPtr>{sending});
  EXPECT_EQ(Content(0, 6), "aaaa..");
  EXPECT_EQ(Content(1'500'000, 3), "...");
  map_->Acknowledge(sending);
  EXPECT_EQ(map_->unstable_bytes(), 4u);
}

TEST_F(ExtentMapTest, AFullBufferChangesNothing) {
  Create(1 << 20);
  const std::string text(100'000, 'x');
  uint64_t written = 0;
  while (Write(written * 131'072, text)) ++written;
  EXPECT_EQ(written, 8u);
  EXPECT_EQ(Content(written * 131'072, 2), "..");
  EXPECT_EQ(map_->unacknowledged_bytes(), 800'000u);
}

// In a full buffer a write into the middle of what was acknowledged cannot part it.
TEST_F(ExtentMapTest, WhatWasAcknowledgedKeepsItsStampWhenThereIsNoRoomToPartIt) {
  Create(1 << 20);
  ASSERT_TRUE(Write(0, std::string(12'000, 'a')));
  const ExtentPtr extent = SendNext();
  ASSERT_NE(extent, nullptr);
  const AcknowledgedStamp first{Epoch(3), 7}, second{Epoch(3), 8};
  extent->stamps = std::vector<PieceStamp>{{{0, 5'000}, first}, {{5'000, 7'000}, second}};
  map_->Acknowledge(extent);
  uint64_t segments = 1;
  while (Write(segments * buffer_->slab_bytes_max(), "x")) ++segments;
  ExtentPtr other = SendNext();
  ASSERT_NE(other, nullptr);
  map_->Remove(other);
  other.reset();  // room for one
  ASSERT_TRUE(Write(4'900, std::string(200, 'b')));
  EXPECT_EQ(extent->state, SlabState::kDirty) << "all of it is sent again";
  ASSERT_TRUE(extent->stamps.has_value());
  struct Row {
    ByteRange range;
    AcknowledgedStamp stamp;
    bool fresh;
  };
  const Row rows[] = {{{0, 4'900}, first, false}, {{5'100, 6'900}, second, false}, {{4'900, 200}, {}, true}};
  ASSERT_EQ(extent->stamps->size(), std::size(rows));
  for (size_t i = 0; i < std::size(rows); ++i) {
    const PieceStamp& piece = (*extent->stamps)[i];
    EXPECT_EQ(piece.range, rows[i].range) << i;
    EXPECT_EQ(piece.fresh, rows[i].fresh) << i;
    EXPECT_EQ(piece.stamp.epoch, rows[i].stamp.epoch) << i;
    EXPECT_EQ(piece.stamp.version, rows[i].stamp.version) << i;
  }
  EXPECT_EQ(Content(4'899, 3), "abb");
}

// Random writes, sends, acknowledgements, restarts and truncates, against a byte array; and a server that must end up
// with the same bytes.
class ExtentMapModelTest : public ExtentMapTest, public testing::WithParamInterface<int> {
 protected:
  static constexpr uint64_t kSize = 500'000;

  void Step() {
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return WriteSomething();
      case 5:
      case 6:
        map_->WantSend(random_() % 2 == 0 ? map_->last_age() : map_->last_age() / 2);
        while (const ExtentPtr extent = map_->NextToSend()) sending_.push_back(extent);
        return;
      case 7:
      case 8:
      case 9:
        return EndSend();
      case 10:
        return CommitOrForget();
      default:
        map_->set_sync_waiting(random_() % 2 == 0);
    }
  }

  void WriteSomething() {
    const uint64_t offset = random_() % kSize;
    uint64_t length = random_() % 3 == 0 ? random_() % 100'000 + 1 : random_() % 5'000 + 1;
    length = map_->LengthInSegment(offset, std::min(length, kSize - offset));
    std::vector<uint8_t> bytes(length, static_cast<uint8_t>(random_() % 255 + 1));
    if (!map_->Write(offset, bytes, kNow)) return;
    std::copy(bytes.begin(), bytes.end(), model_.begin() + static_cast<std::ptrdiff_t>(offset));
  }

  void EndSend() {
    if (sending_.empty()) return;
    std::swap(sending_[random_() % sending_.size()], sending_.back());
    const ExtentPtr extent = sending_.back();
    sending_.pop_back();
    std::copy(extent->bytes().begin(), extent->bytes().end(),
              server_.begin() + static_cast<std::ptrdiff_t>(extent->range.offset));
    if (random_() % 4 == 0) {  // durable at once
      std::copy(extent->bytes().begin(), extent->bytes().end(),
                stable_.begin() + static_cast<std::ptrdiff_t>(extent->range.offset));
      map_->Remove(extent);
    } else {
      map_->Acknowledge(extent);
    }
  }

  void CommitOrForget() {
    if (random_() % 2 == 0) {
      stable_ = server_;
      for (const ExtentPtr& extent : map_->Unstable()) map_->Remove(extent);
    } else {
      server_ = stable_;
      for (const ExtentPtr& extent : map_->Unstable()) map_->SendAgain(extent);
    }
  }

  void CheckContent() {
    std::vector<uint8_t> content = server_;
    map_->CopyTo({0, kSize}, content.data());
    ASSERT_EQ(content, model_);
  }

  std::mt19937 random_;
  std::vector<uint8_t> model_ = std::vector<uint8_t>(kSize);
  std::vector<uint8_t> server_ = std::vector<uint8_t>(kSize);
  std::vector<uint8_t> stable_ = std::vector<uint8_t>(kSize);
  std::vector<ExtentPtr> sending_;
};

TEST_P(ExtentMapModelTest, NothingIsLostOrReordered) {
  random_.seed(static_cast<uint32_t>(GetParam()));
  Create(GetParam() % 2 == 0 ? 1 << 20 : 8 << 20);
  for (int step = 0; step < 600; ++step) {
    Step();
    if (step % 10 == 0) CheckContent();
    ASSERT_FALSE(HasFatalFailure()) << "step " << step;
  }
  while (!map_->empty()) {
    map_->WantSend(map_->last_age());
    while (const ExtentPtr extent = map_->NextToSend()) sending_.push_back(extent);
    while (!sending_.empty()) EndSend();
    stable_ = server_;
    for (const ExtentPtr& extent : map_->Unstable()) map_->Remove(extent);
  }
  EXPECT_EQ(stable_, model_);
  EXPECT_EQ(map_->unacknowledged_bytes() + map_->unstable_bytes(), 0u);
  sending_.clear();
  EXPECT_EQ(buffer_->used_bytes(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ExtentMapModelTest, testing::Range(0, 30));

}  // namespace
}  // namespace tarn::client
