// Writes that clients send again after a crash: they never replace what was acknowledged after them.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chunkserver/replication/replication_fixture.h"

namespace tarn::replication {
namespace {

// One target that crashes and loses the last two of three writes: of the bytes [0, 10) one, kept; of [10, 20) one of ours, and of [15, 25) one of
// another client's.
class ResendTest : public TargetReplicationTest {
 protected:
  void SetUp() override {
    MakeMap(1, {1}, {}, 1);
    Adopt({1});
    RunMs(1);
    (void)Write(1, std::string(10, 'k'), true);
    RunMs(10);
    kept_ = Answered(Write(1, std::string(10, 'K')));
    ours_ = Answered(Write(1, std::string(10, 'o'), false, 0, 10));
    others_ = Answered(Write(1, std::string(10, 'a'), false, 0, 15));
    Target(1).Kill(1);
    Restart(2);
  }
  // Registered, not shut down cleanly.
  void Restart(uint64_t epoch) {
    Target(1).Start();
    intact_since_before_ = std::exchange(intact_since_, epoch);
    ++intact_incarnation_;
    if (intact_incarnation_ == 1) intact_incarnation_ = 2;  // the first process registered without a loss
    MakeMap(epoch, {1}, {}, 1);
    Adopt({1});
    RunMs(1);
  }
  store::ChunkStamp Answered(const std::shared_ptr<Pending>& write) {
    RunMs(5);
    EXPECT_TRUE(write->answer.has_value() && write->answer->status.ok());
    return write->answer->outcome.stamp;
  }
  std::shared_ptr<Pending> Again(const store::ChunkStamp& named, const std::string& bytes, uint32_t offset, uint64_t sequence = 0) {
    named_ = named;
    auto write = Write(1, bytes, false, sequence, offset);
    named_.reset();
    RunMs(5);
    return write;
  }

  static void ExpectAnswer(const std::shared_ptr<Pending>& write, StatusCode expected) {
    ASSERT_TRUE(write->answer.has_value());
    EXPECT_EQ(write->answer->status.code(), expected) << write->answer->status.ToString();
  }

  store::ChunkStamp kept_, ours_, others_;
};

TEST_F(ResendTest, WhatWasKeptIsNotWrittenAgain) {
  EXPECT_EQ(BytesAt(1), std::string(10, 'K'));
  const store::ChunkStamp before = Target(1).store.chunks().at(kChunk).stamp;
  const auto again = Again(kept_, std::string(10, 'K'), 0);
  EXPECT_ANSWER(again, kOk);
  EXPECT_EQ(again->answer->outcome.stamp, kept_);
  EXPECT_EQ(Target(1).store.chunks().at(kChunk).stamp, before) << "nothing was applied";
}

TEST_F(ResendTest, WhatWasLostIsWrittenInTheOrderOfThenWhoeverComesFirst) {
  const auto others = Again(others_, std::string(10, 'a'), 15);
  EXPECT_ANSWER(others, kOk);
  EXPECT_GT(others->answer->outcome.stamp.epoch, others_.epoch) << "acknowledged anew";
  const auto ours = Again(ours_, std::string(10, 'o'), 10);
  EXPECT_ANSWER(ours, kOk);
  EXPECT_EQ(ours->answer->superseded, (std::vector<ByteRange>{{15, 5}}));
  const auto rest = Again(ours_, std::string(5, 'o'), 10);
  EXPECT_ANSWER(rest, kOk);
  EXPECT_TRUE(rest->answer->superseded.empty());
  EXPECT_EQ(BytesAt(1), std::string(10, 'K') + std::string(5, 'o') + std::string(10, 'a'));
}

TEST_F(ResendTest, WhatIsNewStays) {
  (void)Answered(Write(1, std::string(4, 'n'), false, 0, 12));
  const auto ours = Again(ours_, std::string(10, 'o'), 10);
  EXPECT_ANSWER(ours, kOk);
  EXPECT_EQ(ours->answer->superseded, (std::vector<ByteRange>{{12, 4}}));
  EXPECT_EQ(BytesAt(1).substr(12, 4), "nnnn");
}

TEST_F(ResendTest, ARepeatOfWhatWasSentAgainIsAnswered) {
  ExpectAnswer(Again(ours_, std::string(10, 'o'), 10, 77), StatusCode::kOk);
  const auto repeat = Again(ours_, std::string(10, 'o'), 10, 77);
  EXPECT_ANSWER(repeat, kOk);
  EXPECT_TRUE(repeat->answer->superseded.empty());
  EXPECT_EQ(repeat->answer->outcome.stamp, (store::ChunkStamp{Epoch(2), 0})) << "there in this epoch; as what is not known";
}

TEST_F(ResendTest, WhatIsIntactIsNotWrittenAgainWhoeverIsThePrimary) {
  const store::ChunkStamp now = Answered(Write(1, std::string(10, 'x'), false, 0, 10));
  (void)Answered(Write(1, std::string(10, 'y'), false, 0, 10));
  ExpectAnswer(Again(now, std::string(10, 'x'), 10), StatusCode::kOk);
  EXPECT_EQ(BytesAt(1).substr(10), std::string(10, 'y'));
}

TEST_F(ResendTest, ASecondCrashBeforeAnythingChangedLosesNothingMore) {
  Target(1).Kill(0);
  Restart(3);
  ExpectAnswer(Again(ours_, std::string(10, 'o'), 10), StatusCode::kOk);
  EXPECT_EQ(BytesAt(1).substr(10), std::string(10, 'o'));
}

TEST_F(ResendTest, WhatASecondCrashHidesIsNotGuessed) {
  (void)Answered(Write(1, "later", true, 0, 100));
  Target(1).Kill(0);
  Restart(3);
  ExpectAnswer(Again(ours_, std::string(10, 'o'), 10), StatusCode::kIoError);
}

TEST_F(ResendTest, NothingIsGuessedWhereNotAllIsKnown) {
  RunMs(kLostWritesKeptMs);
  ExpectAnswer(Again(ours_, std::string(10, 'o'), 10), StatusCode::kIoError);  // too long ago
}

TEST_F(ResendTest, AnotherProcessDoesNotKnow) {
  Target(1).ShutDown();
  Target(1).Start();
  MakeMap(3, {1}, {}, 1);
  Adopt({1});
  RunMs(1);
  ExpectAnswer(Again(ours_, std::string(10, 'o'), 10), StatusCode::kIoError);
}

TEST_F(ResendTest, WhatIsNotedOutlivesEpochsInWhichNobodyElseCanHaveOrdered) {
  Target(1).engine()->ExtendLease(queue_.now_ns(), 3'600'000);
  MakeMap(3, {1}, {2});
  Adopt({1});
  MakeMap(6, {1}, {2, 3});  // missed two
  Adopt({1});
  RunMs(1'000);
  ExpectAnswer(Again(ours_, std::string(10, 'o'), 10), StatusCode::kOk);
  MakeMap(8, {1, 2}, {3});  // and one in which the other one may have been the primary
  Adopt();
  RunMs(2'000);
  ExpectAnswer(Again(others_, std::string(10, 'a'), 15), StatusCode::kIoError);
}

}  // namespace
}  // namespace tarn::replication
