// Who may buffer writes, and how others get it to stop (docs/coherence.md, "Write grants").
#include "metaserver/service/write_grants.h"

#include "metaserver/service/coherence_fixture.h"

namespace tarn::meta {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WriteGrantsTest : public CoherenceTest {
 protected:
  struct Outcome {
    std::optional<Result<bool>> result;
    bool exclusive() const { return result && result->ok() && **result; }
    bool shared() const { return result && result->ok() && !**result; }
    StatusCode code() const { return result ? result->status().code() : StatusCode::kOk; }
  };
  std::shared_ptr<Outcome> Acquire(const Client& client, uint64_t inode, bool append = false) {
    auto outcome = std::make_shared<Outcome>();
    coherence_.AcquireWrite({client.id, InodeId(inode), InodeId(driver_.Attr(inode).parent()), append},
                            [outcome](Result<bool> exclusive) {
                              EXPECT_FALSE(outcome->result.has_value()) << "called back twice";
                              outcome->result = std::move(exclusive);
                            });
    return outcome;
  }
  std::shared_ptr<std::optional<Status>> Recall(const Client& client, uint64_t inode) {
    auto recalled = std::make_shared<std::optional<Status>>();
    coherence_.Recall(client.id, InodeId(inode), [recalled](const Status& status) { *recalled = status; });
    return recalled;
  }
};

TEST_F(WriteGrantsTest, OnlyUserIsExclusiveAtOnce) {
  const uint64_t file = File(root_, "f");
  EXPECT_TRUE(Acquire(a_, file)->exclusive());
  EXPECT_TRUE(Acquire(a_, file)->exclusive()) << "again";
  EXPECT_FALSE(coherence_.MustRecall(a_.id, InodeId(file), coherence_.grant_ends()));
  EXPECT_TRUE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
  EXPECT_TRUE(coherence_.MustRecall(SessionId(), InodeId(file), coherence_.grant_ends())) << "tools, too";
}

TEST_F(WriteGrantsTest, ThoseWhoCacheItAreToldFirst) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  GetAttr(c_, file, true);
  const auto outcome = Acquire(a_, file);
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file, "report")));
  EXPECT_FALSE(outcome->result.has_value());
  EXPECT_THAT(AckAll(c_), ElementsAre(I(file, "report")));
  EXPECT_TRUE(outcome->exclusive());
}

TEST_F(WriteGrantsTest, FileThatAnotherHasOpenIsShared) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  const auto outcome = Acquire(a_, file);
  AckAll(b_, {file});
  EXPECT_TRUE(outcome->shared());
  EXPECT_FALSE(coherence_.MustRecall(c_.id, InodeId(file), coherence_.grant_ends()));
}

TEST_F(WriteGrantsTest, ReadWhileItIsAcquiredMakesItShared) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  const auto outcome = Acquire(a_, file);
  EXPECT_FALSE(coherence_.MustRecall(c_.id, InodeId(file), coherence_.grant_ends())) << "c reads the state as it is";
  AckAll(b_);
  EXPECT_TRUE(outcome->shared());
}

TEST_F(WriteGrantsTest, TwoWhoAcquireAtOnceShare) {
  const uint64_t file = File(root_, "f");
  Lookup(c_, root_, "f");
  const auto first = Acquire(a_, file);
  EXPECT_TRUE(Acquire(b_, file)->shared());
  AckAll(c_);
  EXPECT_TRUE(first->shared());
}

TEST_F(WriteGrantsTest, AppenderIsAloneAlsoIfOthersHaveItOpen) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  const auto first = Acquire(a_, file, true);
  EXPECT_THAT(AckAll(b_, {file}), ElementsAre(I(file, "report recall")));
  EXPECT_TRUE(first->exclusive());
}

TEST_F(WriteGrantsTest, WhoReadsWhileAnAppenderAcquiresIsToldLikeTheRest) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  const auto first = Acquire(a_, file, true);
  GetAttr(c_, file);
  EXPECT_FALSE(coherence_.MustRecall(c_.id, InodeId(file), coherence_.grant_ends())) << "nobody has buffered anything yet";
  EXPECT_FALSE(coherence_.MustRecall(c_.id, InodeId(file), coherence_.grant_ends()));
  AckAll(b_);
  EXPECT_FALSE(first->result.has_value());
  EXPECT_THAT(AckAll(c_), ElementsAre(I(file, "report recall"))) << "once";
  EXPECT_TRUE(first->exclusive());
}

TEST_F(WriteGrantsTest, WhoWritesWhileAnAppenderAcquiresComesAfterIt) {
  const uint64_t file = File(root_, "f");
  Lookup(c_, root_, "f");
  const auto first = Acquire(a_, file, true);
  const auto second = Acquire(b_, file, true);
  const auto third = Acquire(b_, file);
  EXPECT_FALSE(second->result.has_value());
  EXPECT_FALSE(coherence_.HeldByOther(b_.id, InodeId(file))) << "what b has under way may be committed";
  AckAll(c_);
  EXPECT_TRUE(first->exclusive());
  EXPECT_EQ(second->code(), StatusCode::kBusy);
  EXPECT_EQ(third->code(), StatusCode::kBusy);
}

TEST_F(WriteGrantsTest, HolderWhoAcquiresWhileItIsRecalledComesAfterThoseWhoWait) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  const auto recalled = Recall(b_, file);
  const auto again = Acquire(a_, file);
  EXPECT_FALSE(again->result.has_value());
  AckAll(a_);
  EXPECT_TRUE(recalled->has_value());
  EXPECT_EQ(again->code(), StatusCode::kBusy);
  EXPECT_FALSE(coherence_.HoldsWrite(a_.id, InodeId(file)));
}

TEST_F(WriteGrantsTest, AppenderMakesAnAcquisitionUnderWayShared) {
  const uint64_t file = File(root_, "f");
  Lookup(c_, root_, "f");
  const auto first = Acquire(a_, file);
  const auto appender = Acquire(b_, file, true);
  AckAll(c_);
  EXPECT_TRUE(first->shared());
  EXPECT_EQ(appender->code(), StatusCode::kBusy) << "to ask again";
  const auto again = Acquire(b_, file, true);
  AckAll(c_);
  EXPECT_FALSE(again->result.has_value()) << "a knows that it shares the file";
}

TEST_F(WriteGrantsTest, RecallEndsWithTheHoldersAcknowledgement) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  EXPECT_EQ(Acquire(b_, file)->code(), StatusCode::kBusy) << "recall first";
  const auto first = Recall(b_, file);
  const auto second = Recall(c_, file);
  EXPECT_FALSE(first->has_value());
  const auto pushes = a_.peer->Take();
  ASSERT_EQ(pushes.size(), 1u) << "one recall is enough for both";
  EXPECT_TRUE(pushes[0].items(0).recall_write());
  proto::AckPushRequest ack;
  ack.set_session(a_.id.value());
  ack.set_term(7);
  ack.add_pushes(pushes[0].push());
  coherence_.Acknowledge(ack);
  EXPECT_TRUE(first->has_value() && first->value().ok());
  EXPECT_TRUE(second->has_value() && second->value().ok());
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
}

TEST_F(WriteGrantsTest, HolderNeedsNoRecallForItself) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  EXPECT_TRUE(Recall(a_, file)->has_value());
  EXPECT_THAT(a_.peer->Take(), IsEmpty());
}

TEST_F(WriteGrantsTest, ReleasedGrantIsNotRecalled) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  coherence_.ReleaseWrite(b_.id, InodeId(file));
  EXPECT_TRUE(coherence_.MustRecall(c_.id, InodeId(file), coherence_.grant_ends())) << "only its holder releases it";
  const auto waiting = Recall(b_, file);
  coherence_.ReleaseWrite(a_.id, InodeId(file));
  EXPECT_TRUE(waiting->has_value());
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
}

TEST_F(WriteGrantsTest, CommitCanReleaseTheGrant) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 10);
  Acquire(a_, file.inode());
  proto::Mutation commit;
  commit.mutable_commit_write()->set_inode(file.inode());
  commit.mutable_commit_write()->set_data_id(file.data_id());
  commit.mutable_commit_write()->set_min_size_bytes(20);
  ASSERT_EQ(As(a_, commit)->reply.status(), 0u);
  EXPECT_TRUE(coherence_.MustRecall(b_.id, InodeId(file.inode()), coherence_.grant_ends()));
  commit.mutable_commit_write()->set_release_write(true);
  ASSERT_EQ(As(a_, commit)->reply.status(), 0u);
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(file.inode()), coherence_.grant_ends()));
}

TEST_F(WriteGrantsTest, CreatedFileBelongsToAWriterThatUsesGrants) {
  const uint64_t first = As(a_, Create(root_, "f"))->reply.attributes().inode();
  EXPECT_FALSE(coherence_.HoldsWrite(a_.id, InodeId(first))) << "it may not know what that is";
  Acquire(a_, first);
  const uint64_t second = As(a_, Create(root_, "g"))->reply.attributes().inode();
  EXPECT_TRUE(coherence_.HoldsWrite(a_.id, InodeId(second)));
  As(b_, Create(root_, "g"));
  EXPECT_TRUE(coherence_.HoldsWrite(a_.id, InodeId(second))) << "b only opened it, and recalls";
}

TEST_F(WriteGrantsTest, RepeatedCreateGrantsNothing) {
  const uint64_t first = As(a_, Create(root_, "f"))->reply.attributes().inode();
  Acquire(a_, first);
  const proto::Mutation create = Sign(a_, Create(root_, "g"));
  const uint64_t second = Apply(create)->reply.attributes().inode();
  coherence_.ReleaseWrite(a_.id, InodeId(second));
  Lookup(b_, root_, "g");
  Apply(create);
  EXPECT_FALSE(coherence_.HoldsWrite(a_.id, InodeId(second))) << "b has cached what it is, and is told nothing";
}

TEST_F(WriteGrantsTest, ReaderThatHasAnsweredAnAppenderReadsBehindIt) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  Lookup(c_, root_, "f");
  const auto outcome = Acquire(a_, file, true);
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends())) << "its answer may wait for its commit";
  AckAll(b_);
  EXPECT_FALSE(outcome->result.has_value()) << "c has not answered";
  EXPECT_TRUE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends())) << "it would cache what nobody tells it of";
  const auto recalled = Recall(b_, file);
  EXPECT_FALSE(recalled->has_value());
  AckAll(c_);
  EXPECT_TRUE(outcome->exclusive());
  EXPECT_FALSE(recalled->has_value()) << "the appender may have buffered something by now";
  EXPECT_THAT(AckAll(a_), ElementsAre(I(file, "recall")));
  ASSERT_TRUE(recalled->has_value());
  EXPECT_TRUE(recalled->value().ok());
}

TEST_F(WriteGrantsTest, HolderThatDoesNotAnswerIsClosedBeforeAnybodyReads) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  const auto recalled = Recall(b_, file);
  clock_.AdvanceMs(kLapseMs);
  coherence_.Tick();
  EXPECT_FALSE(recalled->has_value()) << "a might still commit";
  EXPECT_THAT(keeper_.TakeExpired(10), ElementsAre(a_.id));
  proto::Mutation close;
  close.mutable_close_session()->set_session(a_.id.value());
  close.mutable_close_session()->set_expired(true);
  Apply(close);
  EXPECT_TRUE(recalled->has_value());
}

TEST_F(WriteGrantsTest, RecallOfALapsedHolderClosesItsSession) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  clock_.AdvanceMs(kLapseMs);
  coherence_.Tick();
  EXPECT_THAT(keeper_.TakeExpired(10), IsEmpty()) << "nobody wants the file";
  Recall(b_, file);
  EXPECT_THAT(keeper_.TakeExpired(10), ElementsAre(a_.id));
}

TEST_F(WriteGrantsTest, LapseVoidsTheGrantsOfWhoComesBack) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  clock_.AdvanceMs(kLapseMs);
  coherence_.Tick();
  EXPECT_EQ(Acquire(a_, file)->code(), StatusCode::kResourceExhausted) << "it has not registered";
  KeepAlive(a_, 7, 1);
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
}

TEST_F(WriteGrantsTest, EndOfTheLeadershipFailsWhatWaits) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  const auto recalled = Recall(b_, file);
  Lookup(b_, root_, "g");
  const uint64_t other = File(root_, "g");
  const auto acquiring = Acquire(c_, other);
  coherence_.EndLeading();
  ASSERT_TRUE(recalled->has_value());
  EXPECT_EQ(recalled->value().code(), StatusCode::kNotLeader);
  EXPECT_EQ(acquiring->code(), StatusCode::kNotLeader);
  EXPECT_FALSE(coherence_.AnyWriter());
  Lead(8);
  const auto unclaimed = Recall(b_, file);
  coherence_.EndLeading();
  ASSERT_TRUE(unclaimed->has_value());
  EXPECT_EQ(unclaimed->value().code(), StatusCode::kNotLeader);
}

TEST_F(WriteGrantsTest, NewLeaderAnswersWhenEverybodyHasSaidWhatItHolds) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  coherence_.EndLeading();
  Lead(8);
  KeepAlive(b_, 8);
  EXPECT_TRUE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
  EXPECT_TRUE(coherence_.HeldByOther(b_.id, InodeId(file))) << "for its changes, too";
  EXPECT_EQ(coherence_.HeldByOthers(b_.id, {{InodeId(file)}}, coherence_.grant_ends()).size(), 1u);
  const auto known = Recall(b_, file);
  EXPECT_EQ(Acquire(b_, file)->code(), StatusCode::kBusy);
  AckAll(a_, {file}, 8);
  KeepAlive(c_, 8);
  EXPECT_FALSE(known->has_value()) << "an acknowledgement does not say what a holds";
  coherence_.Attach(a_.id, a_.peer);
  a_.peer->Take();
  KeepAlive(a_, 8, 0, {file}, {file});
  EXPECT_TRUE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends())) << "a does hold it";
  EXPECT_FALSE(coherence_.MustRecall(a_.id, InodeId(file), coherence_.grant_ends()));
  EXPECT_FALSE(known->has_value()) << "and has not published what it holds it for";
  EXPECT_THAT(AckAll(a_, {}, 8), ElementsAre(I(file, "recall")));
  ASSERT_TRUE(known->has_value());
  EXPECT_TRUE(known->value().ok());
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
}

TEST_F(WriteGrantsTest, WhatWasReadBeforeAGrantEndedIsBehindIt) {
  const uint64_t file = File(root_, "f");
  const uint64_t other = File(root_, "g");
  ASSERT_TRUE(Acquire(a_, file)->exclusive());
  const uint64_t before = coherence_.grant_ends();
  // Here b reads; then a publishes what it has buffered.
  coherence_.ReleaseWrite(a_.id, InodeId(file));
  EXPECT_TRUE(coherence_.MustRecall(b_.id, InodeId(file), before));
  EXPECT_EQ(coherence_.HeldByOthers(b_.id, {{InodeId(file), InodeId(other)}}, before), std::set<InodeId>{InodeId(file)});
  EXPECT_FALSE(coherence_.MustRecall(a_.id, InodeId(file), before)) << "its own";
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(other), before));
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
  EXPECT_TRUE(coherence_.HeldByOthers(b_.id, {{InodeId(file)}}, coherence_.grant_ends()).empty());
}

TEST(WriteGrantEnds, AreRememberedForAWhile) {
  WriteGrants grants(10);
  const auto end = [&](uint64_t inode) {
    ASSERT_TRUE(grants.Give(SessionId(1), InodeId(inode)));
    grants.End(SessionId(1), InodeId(inode));
  };
  const uint64_t before = grants.ends();
  for (int i = 0; i < 4096; ++i) end(7);
  EXPECT_TRUE(grants.OthersEndedSince(before, SessionId(2), InodeId(7)));
  EXPECT_FALSE(grants.OthersEndedSince(before, SessionId(2), InodeId(8)));
  end(7);
  EXPECT_TRUE(grants.OthersEndedSince(before, SessionId(2), InodeId(8))) << "it may have been the first";
  const uint64_t later = grants.ends();
  grants.NoteUnknownEnd(SessionId(3));
  EXPECT_TRUE(grants.OthersEndedSince(later, SessionId(2), InodeId(8))) << "or the one that nobody has named";
  EXPECT_FALSE(grants.OthersEndedSince(later, SessionId(3), InodeId(8)));
}

TEST_F(WriteGrantsTest, WhoHoldsAFileNeedNotWaitForWhatOthersHold) {
  const uint64_t file = File(root_, "f");
  const uint64_t other = File(root_, "g");
  Acquire(a_, file);
  coherence_.EndLeading();
  Lead(8);
  KeepAlive(a_, 8, 0, {file}, {file});
  EXPECT_FALSE(coherence_.HeldByOther(a_.id, InodeId(file))) << "nobody else can hold it";
  EXPECT_TRUE(coherence_.HeldByOther(a_.id, InodeId(other)));
  EXPECT_TRUE(Acquire(a_, file)->exclusive());
  KeepAlive(b_, 8);
  KeepAlive(c_, 8);
  EXPECT_FALSE(coherence_.HeldByOther(a_.id, InodeId(other)));
}

TEST_F(WriteGrantsTest, SessionThatDoesNotComeToTheNewLeaderIsClosedWhenSomebodyWaits) {
  const uint64_t file = File(root_, "f");
  coherence_.EndLeading();
  Lead(8);
  KeepAlive(b_, 8);
  KeepAlive(c_, 8);
  const auto known = Recall(b_, file);
  clock_.AdvanceMs(kLapseMs);
  keeper_.Touch(b_.id);
  keeper_.Touch(c_.id);
  coherence_.Tick();
  EXPECT_FALSE(known->has_value()) << "a may hold it, and come back";
  EXPECT_FALSE(coherence_.HoldsAnyWrite(a_.id)) << "a fence could wait for a chunk server, and all files for the fence";
  EXPECT_THAT(keeper_.TakeExpired(10), ElementsAre(a_.id));
  proto::Mutation close;
  close.mutable_close_session()->set_session(a_.id.value());
  Apply(close);
  ASSERT_TRUE(known->has_value());
  EXPECT_TRUE(known->value().ok());
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
}

TEST_F(WriteGrantsTest, LapsedSessionThatNobodyWaitsForComesBackWithWhatItHolds) {
  const uint64_t file = File(root_, "f");
  coherence_.EndLeading();
  Lead(8);
  KeepAlive(b_, 8);
  KeepAlive(c_, 8);
  clock_.AdvanceMs(kLapseMs);
  keeper_.Touch(b_.id);
  keeper_.Touch(c_.id);
  coherence_.Tick();
  EXPECT_THAT(keeper_.TakeExpired(10), IsEmpty());
  KeepAlive(a_, 8, 1, {file}, {file});
  EXPECT_TRUE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
  EXPECT_FALSE(coherence_.MustRecall(a_.id, InodeId(file), coherence_.grant_ends()));
}

TEST_F(WriteGrantsTest, NewFileIsGrantedAlsoIfItComesWithADataId) {
  const proto::Layout layout = driver_.CreateWithData(root_, "model", 10).layout();
  Acquire(a_, File(root_, "f"));
  proto::Mutation reserve;
  reserve.mutable_reserve_data_ids()->set_volume(driver_.volume());
  reserve.mutable_reserve_data_ids()->set_count(2);
  const uint64_t data_id = As(a_, reserve)->reply.first_data_id();
  proto::Mutation empty = Create(root_, "empty");
  empty.mutable_create()->set_data_id(data_id);
  *empty.mutable_create()->mutable_layout() = layout;
  const auto made = As(a_, empty);
  ASSERT_EQ(made->reply.status(), 0u) << made->reply.message();
  EXPECT_TRUE(coherence_.HoldsWrite(a_.id, InodeId(made->reply.attributes().inode())));
  proto::Mutation whole = Create(root_, "whole");
  whole.mutable_create()->set_data_id(data_id + 1);
  whole.mutable_create()->set_size_bytes(10);
  *whole.mutable_create()->mutable_layout() = layout;
  const auto ingested = As(a_, whole);
  ASSERT_EQ(ingested->reply.status(), 0u) << ingested->reply.message();
  EXPECT_FALSE(coherence_.HoldsWrite(a_.id, InodeId(ingested->reply.attributes().inode()))) << "nobody has it open";
}

// Whatever a lapsed holder may still do comes before others are answered, or not at all.
TEST_F(WriteGrantsTest, LapsedHolderThatComesBackPublishesBeforeOthersAreAnswered) {
  const uint64_t file = File(root_, "f");
  const uint64_t other = File(root_, "g");
  Acquire(a_, file);
  Acquire(a_, other);
  clock_.AdvanceMs(kLapseMs);
  keeper_.Touch(b_.id);
  keeper_.Touch(c_.id);
  coherence_.Tick();
  EXPECT_TRUE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends())) << "as long as it may come back";
  KeepAlive(a_, 7, 1, {file, other}, {file});
  EXPECT_FALSE(coherence_.MustRecall(b_.id, InodeId(other), coherence_.grant_ends())) << "nothing of that is buffered";
  EXPECT_TRUE(coherence_.MustRecall(b_.id, InodeId(file), coherence_.grant_ends()));
  a_.peer->Take();
  const auto recalled = Recall(b_, file);
  EXPECT_FALSE(recalled->has_value());
  EXPECT_THAT(AckAll(a_), ElementsAre(I(file, "recall")));
  EXPECT_TRUE(recalled->has_value());
}

TEST_F(WriteGrantsTest, LapsedHolderThatSomebodyWaitsForIsClosedWhateverItSays) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  clock_.AdvanceMs(kLapseMs);
  keeper_.Touch(b_.id);
  keeper_.Touch(c_.id);
  coherence_.Tick();
  const auto read = Recall(b_, file);
  EXPECT_EQ(Acquire(c_, file)->code(), StatusCode::kBusy);
  EXPECT_TRUE(coherence_.HeldByOther(c_.id, InodeId(file))) << "so a truncate of c's waits, too";
  KeepAlive(a_, 7, 1, {file}, {file});
  EXPECT_FALSE(read->has_value()) << "what a sends now may come after its fence, or before";
  EXPECT_THAT(keeper_.TakeExpired(10), ElementsAre(a_.id));
  proto::Mutation close;
  close.mutable_close_session()->set_session(a_.id.value());
  Apply(close);
  ASSERT_TRUE(read->has_value());
  EXPECT_TRUE(read->value().ok());
  proto::Mutation late;
  late.mutable_commit_write()->set_inode(file);
  late.mutable_commit_write()->set_min_size_bytes(100);
  EXPECT_EQ(As(a_, late)->reply.status(), static_cast<uint32_t>(StatusCode::kUnknownSession));
}

TEST_F(WriteGrantsTest, ListingLeavesOutWhatOthersWrite) {
  const uint64_t file = File(root_, "f");
  Acquire(a_, file);
  proto::ReadDirRequest request;
  request.set_directory(root_);
  request.set_with_attributes(true);
  request.set_session(b_.id.value());
  proto::ReadDirReply reply;
  ASSERT_TRUE(ReadDirGranted(driver_.machine(), &coherence_, request, &reply).ok());
  ASSERT_EQ(reply.entries_size(), 1);
  EXPECT_EQ(reply.entries(0).attributes().inode(), file);
  EXPECT_EQ(reply.entries(0).attributes().nlink(), 0u);
  request.set_session(a_.id.value());
  ASSERT_TRUE(ReadDirGranted(driver_.machine(), &coherence_, request, &reply).ok());
  EXPECT_EQ(reply.entries(0).attributes().nlink(), 1u);
}

TEST_F(WriteGrantsTest, GrantsAreBounded) {
  WriteGrants grants(1);
  EXPECT_TRUE(grants.Give(SessionId(1), InodeId(1)));
  EXPECT_FALSE(grants.Give(SessionId(1), InodeId(2)));
  EXPECT_TRUE(grants.Give(SessionId(1), InodeId(1)));
  grants.EndAll(SessionId(1));
  EXPECT_TRUE(grants.Give(SessionId(2), InodeId(2)));
}

}  // namespace
}  // namespace tarn::meta
