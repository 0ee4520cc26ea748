#include "client/write_grant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "client/write_releases.h"

namespace tarn::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WriteGrantTest : public ::testing::Test {
 protected:
  std::shared_ptr<WriteGrant> Make(bool granted = false) {
    return std::make_shared<WriteGrant>(
        &clock_, &terms_, [this](bool append, Callback<bool> done) { questions_.emplace_back(append, std::move(done)); },
        [this](std::function<void()> done) { given_back_.push_back(std::move(done)); }, granted);
  }
  // A write; what becomes of it is noted under its name.
  void Write(WriteGrant& grant, const std::string& name, bool append = false) {
    grant.Begin(append, [this, name](const Result<WriteGrant::Way>& way) {
      events_.push_back(name + (!way.ok()                                ? " fails"
                                : *way == WriteGrant::Way::kBuffered ? " buffered"
                                                                         : " through"));
    });
  }
  // To the oldest question.
  void Answer(Result<bool> exclusive) {
    ASSERT_FALSE(questions_.empty());
    const Callback<bool> done = std::move(questions_.front().second);
    questions_.erase(questions_.begin());
    done(std::move(exclusive));
  }
  void GivenBack() {
    ASSERT_EQ(given_back_.size(), 1u);
    const auto done = std::move(given_back_.front());
    given_back_.clear();
    done();
  }
  std::vector<std::string> Events() { return std::exchange(events_, {}); }

  FakeClock clock_;
  std::atomic<uint64_t> terms_{0};
  std::vector<std::pair<bool, Callback<bool>>> questions_;
  std::vector<std::function<void()>> given_back_;
  std::vector<std::string> events_;
};

TEST_F(WriteGrantTest, EachExclusiveGrantIsATermOfItsOwn) {
  const auto grant = Make();
  EXPECT_EQ(grant->exclusive_term(), 0u);
  Write(*grant, "a");
  Answer(true);
  const uint64_t first = grant->exclusive_term();
  EXPECT_NE(first, 0u);
  grant->End();
  Write(*grant, "b");
  EXPECT_EQ(grant->exclusive_term(), first) << "it is the same one";
  grant->End();
  grant->Recall(/*for_appender=*/false, [] {});
  EXPECT_EQ(grant->exclusive_term(), 0u);
  Write(*grant, "c");
  Answer(true);
  const uint64_t second = grant->exclusive_term();
  EXPECT_NE(second, 0u);
  EXPECT_NE(second, first);
  (void)grant->Void();
  EXPECT_EQ(grant->exclusive_term(), 0u);
  Write(*grant, "d");
  Answer(false);
  EXPECT_EQ(grant->exclusive_term(), 0u) << "shared";
  const auto other = Make(/*granted=*/true);
  EXPECT_NE(other->exclusive_term(), 0u);
  EXPECT_NE(other->exclusive_term(), second) << "of another open file, perhaps of the same inode";
  EXPECT_TRUE(other->Release());
  EXPECT_EQ(other->exclusive_term(), 0u);
}

TEST_F(WriteGrantTest, FirstWriteAsksAndTheRestDoesNot) {
  const auto grant = Make();
  EXPECT_FALSE(grant->TryBegin(false));
  Write(*grant, "a");
  Write(*grant, "b");
  ASSERT_EQ(questions_.size(), 1u);
  EXPECT_THAT(Events(), IsEmpty());
  Answer(true);
  EXPECT_THAT(Events(), ElementsAre("a buffered", "b buffered"));
  Write(*grant, "c");
  EXPECT_THAT(Events(), ElementsAre("c buffered"));
  EXPECT_TRUE(questions_.empty());
}

TEST_F(WriteGrantTest, NewFileNeedsNoQuestion) {
  const auto grant = Make(true);
  EXPECT_EQ(grant->TryBegin(true), WriteGrant::Way::kBuffered);
  EXPECT_TRUE(questions_.empty());
}

TEST_F(WriteGrantTest, SharedWritesGoThroughAndAreAskedForAgainLater) {
  const auto grant = Make();
  Write(*grant, "a");
  Answer(false);
  EXPECT_EQ(grant->TryBegin(false), WriteGrant::Way::kThrough);
  clock_.AdvanceMs(1'000);
  Write(*grant, "b");
  Answer(true);
  EXPECT_THAT(Events(), ElementsAre("a through", "b buffered"));
}

TEST_F(WriteGrantTest, AppenderAsksToBeAlone) {
  const auto grant = Make();
  Write(*grant, "a");
  Answer(false);
  Write(*grant, "b", true);
  Write(*grant, "c");
  ASSERT_EQ(questions_.size(), 1u);
  EXPECT_TRUE(questions_[0].first);
  Answer(true);
  EXPECT_THAT(Events(), ElementsAre("a through", "b buffered", "c buffered"));
  Write(*grant, "d", true);
  EXPECT_THAT(Events(), ElementsAre("d buffered"));
}

TEST_F(WriteGrantTest, AppenderWithoutRoomForItsGrantGoesThrough) {
  const auto grant = Make();
  Write(*grant, "a", true);
  Answer(false);
  EXPECT_THAT(Events(), ElementsAre("a through"));
}

TEST_F(WriteGrantTest, RecallWaitsForWhatHasBegun) {
  const auto grant = Make(true);
  ASSERT_TRUE(grant->TryBegin(false));
  ASSERT_TRUE(grant->TryBegin(false));
  grant->Recall(false, [this] { events_.push_back("idle"); });
  Write(*grant, "late");
  EXPECT_EQ(questions_.size(), 1u) << "it comes after the recall, whose end it does not wait for here";
  grant->End();
  EXPECT_THAT(Events(), IsEmpty());
  grant->End();
  EXPECT_THAT(Events(), ElementsAre("idle"));
  grant->Recall(false, [this] { events_.push_back("idle again"); });
  EXPECT_THAT(Events(), ElementsAre("idle again"));
}

TEST_F(WriteGrantTest, AnswerThatARecallMayHaveOvertakenDoesNotCount) {
  const auto grant = Make();
  Write(*grant, "a");
  grant->Recall(false, [] {});
  Answer(true);
  EXPECT_THAT(Events(), IsEmpty());
  EXPECT_THAT(questions_, IsEmpty()) << "a recall of what was granted may be on its way";
  GivenBack();
  ASSERT_EQ(questions_.size(), 1u) << "it asks again";
  grant->Recall(true, [] {});
  Answer(false);
  EXPECT_THAT(Events(), IsEmpty()) << "an appender is to be alone";
  grant->Recall(true, [] {});
  Answer(true);
  EXPECT_THAT(Events(), ElementsAre("a buffered")) << "it cannot have been while this one is";
}

TEST_F(WriteGrantTest, AnswerOfAnEarlierTermDoesNotCount) {
  const auto grant = Make();
  Write(*grant, "a");
  EXPECT_FALSE(grant->Void());
  Answer(true);
  EXPECT_THAT(Events(), IsEmpty());
  GivenBack();
  Answer(true);
  EXPECT_THAT(Events(), ElementsAre("a buffered"));
  EXPECT_TRUE(grant->Void());
}

TEST_F(WriteGrantTest, RefusalFailsTheWritesThatWait) {
  const auto grant = Make();
  Write(*grant, "a");
  Write(*grant, "b");
  Answer(Status(StatusCode::kStaleHandle, "gone"));
  EXPECT_THAT(Events(), ElementsAre("a fails", "b fails"));
  Write(*grant, "c");
  EXPECT_EQ(questions_.size(), 1u);
}

TEST_F(WriteGrantTest, OnlyTheCommitOfAClosingFileEndsTheGrant) {
  const auto grant = Make(true);
  EXPECT_FALSE(grant->BeginRelease()) << "nobody closes it";
  ASSERT_TRUE(grant->TryBegin(false));
  grant->NoteClosing();
  EXPECT_FALSE(grant->BeginRelease()) << "a write is under way";
  grant->End();
  EXPECT_TRUE(grant->BeginRelease());
  Write(*grant, "a");
  EXPECT_TRUE(questions_.empty()) << "only behind the commit";
  grant->EndRelease(true);
  Answer(true);
  EXPECT_THAT(Events(), ElementsAre("a buffered"));
  grant->End();
  EXPECT_TRUE(grant->Release());
  EXPECT_FALSE(grant->Release());
}

TEST_F(WriteGrantTest, NothingIsBufferedOnceAGrantMayEndUnheard) {
  const auto grant = Make(true);
  grant->NoteClosing();
  ASSERT_TRUE(grant->BeginRelease());
  grant->EndRelease(false);
  Write(*grant, "a");
  Answer(true);
  EXPECT_THAT(Events(), ElementsAre("a through"));
}

TEST(WriteReleases, AreSentTogetherAndBeforeTheNextAcquisition) {
  std::vector<std::pair<std::vector<InodeId>, std::function<void()>>> sent;
  WriteReleases releases([&](const std::vector<InodeId>& inodes, std::function<void()> done) {
    sent.emplace_back(inodes, std::move(done));
  });
  std::vector<std::string> events;
  const auto when_clear = [&](uint64_t inode) {
    releases.WhenClear(InodeId(inode), [&events, inode] { events.push_back(std::to_string(inode)); });
  };
  releases.Add(InodeId(1));
  releases.SendQueued();
  for (uint64_t inode = 2; inode <= 4; ++inode) releases.Add(InodeId(inode));
  releases.SendQueued();
  ASSERT_EQ(sent.size(), 1u);
  when_clear(1);
  when_clear(3);
  EXPECT_THAT(events, ElementsAre("3")) << "its release is not sent any more";
  sent[0].second();
  EXPECT_THAT(events, ElementsAre("3", "1"));
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_THAT(sent[1].first, ::testing::UnorderedElementsAre(InodeId(2), InodeId(4)));
}

}  // namespace
}  // namespace tarn::client
