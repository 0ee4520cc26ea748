// The engine over a fake store, network and clock: what each message does in each state.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "chunkserver/replication/replication_fixture.h"

namespace tarn::replication {
namespace {

TEST_F(TargetReplicationTest, ASingleCopyIsWrittenAndReadWithoutALeaseAndWithoutTheNetwork) {
  Target(1).Kill(0);
  Target(1).Start();  // no lease
  MakeMap(1, {1}, {}, 1);
  Adopt();
  RunMs(1);
  const auto plain = Write(1, "hello");
  const auto durable = Write(1, "world", true);
  RunMs(5);
  EXPECT_ANSWER(plain, kOk);
  EXPECT_FALSE(plain->answer->durable);
  EXPECT_ANSWER(durable, kOk);
  EXPECT_TRUE(durable->answer->durable);
  EXPECT_EQ(Target(1).store.not_durable(), 0u);
  EXPECT_EQ(ReadAt(1), StatusCode::kOk);
  EXPECT_EQ(network_.calls, 0u);
}

TEST_F(TargetReplicationTest, AWriteIsAnsweredWhenAllInSyncMembersHaveIt) {
  MakeMap(1, {1, 2, 3}, {}, 3);
  Adopt();
  RunMs(1'000);
  const auto write = Write(1, "hello");
  RunMs(20);
  EXPECT_ANSWER(write, kOk);
  for (const uint64_t id : {1, 2, 3}) EXPECT_EQ(BytesAt(id), "hello") << id;
  EXPECT_EQ(Target(1).store.chunks().at(kChunk).stamp, Target(3).store.chunks().at(kChunk).stamp);
}

TEST_F(TargetReplicationTest, ADurableWriteIsDurableOnAllMembers) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  const auto write = Write(1, "hello", true);
  RunMs(20);
  EXPECT_ANSWER(write, kOk);
  EXPECT_TRUE(write->answer->durable);
  Target(1).Kill(0);
  Target(2).Kill(0);
  EXPECT_EQ(BytesAt(1), "hello");
  EXPECT_EQ(BytesAt(2), "hello");
}

TEST_F(TargetReplicationTest, CommitMakesDurableOnAllMembersAndNamesWhatItIsNotPrimaryOf) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  const auto write = Write(1, "hello");
  RunMs(20);
  EXPECT_ANSWER(write, kOk);
  std::optional<std::vector<GroupId>> at_member, at_primary;
  Target(2).engine()->Commit({kGroup}, [&](const Status&, const std::vector<GroupId>& not_primary) { at_member = not_primary; });
  Target(1).engine()->Commit({kGroup, GroupId(99)}, [&](const Status& status, const std::vector<GroupId>& not_primary) {
    EXPECT_TRUE(status.ok());
    at_primary = not_primary;
  });
  RunMs(20);
  EXPECT_EQ(at_member, std::vector<GroupId>{kGroup});
  EXPECT_EQ(at_primary, std::vector<GroupId>{GroupId(99)});
  Target(2).Kill(0);
  EXPECT_EQ(BytesAt(2), "hello");
}

TEST_F(TargetReplicationTest, AMemberReadsUnderAGrantAndSendsReadersOfUnconfirmedChangesAway) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  EXPECT_EQ(ReadAt(1), StatusCode::kOk);
  EXPECT_EQ(ReadAt(2), StatusCode::kAskPrimary);
  RunMs(5);
  EXPECT_EQ(ReadAt(2), StatusCode::kOk);
  // The member has the change, and its acknowledgement does not come through.
  network_.fate = [](TargetId, TargetId, rpc::Method method) {
    CallFate fate;
    fate.reply_lost = method == rpc::Method::kReplicate;
    return fate;
  };
  const auto write = Write(1, "hello");
  RunMs(20);
  EXPECT_FALSE(write->answer.has_value());
  EXPECT_EQ(BytesAt(2), "hello");
  EXPECT_EQ(ReadAt(2), StatusCode::kAskPrimary);
  network_.fate = [](TargetId, TargetId, rpc::Method) { return CallFate(); };
  RunMs(1'200);
  EXPECT_ANSWER(write, kOk);
  (void)ReadAt(2);
  RunMs(200);
  EXPECT_EQ(ReadAt(2), StatusCode::kOk);
}

TEST_F(TargetReplicationTest, MembersSoonHearThatTheLastChangeIsConfirmed) {
  MakeMap(1, {1, 2, 3}, {}, 3);
  Adopt();
  RunMs(1'000);
  const auto write = Write(1, "hello");
  RunMs(5);
  EXPECT_ANSWER(write, kOk);
  // Three members: one that is not sure asks.
  const auto confirmed = [this](uint64_t id) { return Target(id).engine()->AdmitConfirmedRead(kGroup, Epoch(epoch_), kChunk).code; };
  EXPECT_EQ(confirmed(2), StatusCode::kAskPrimary);
  RunMs(100);
  Target(1).Kill(0);
  EXPECT_EQ(confirmed(2), StatusCode::kOk);
  EXPECT_EQ(confirmed(3), StatusCode::kOk);
}

TEST_F(TargetReplicationTest, ChangesThatFollowEachOtherNeedNoMessagesOfTheirOwn) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  const uint64_t before = network_.calls;
  for (int i = 0; i < 100; ++i) {
    (void)Write(1, "again");
    RunMs(2);
  }
  EXPECT_EQ(network_.calls - before, 100u);
  RunMs(1'000);
  EXPECT_EQ(network_.calls - before, 101u);
}

TEST_F(TargetReplicationTest, WithoutALeaseNobodyReadsOrWritesAGroupOfSeveral) {
  Target(1).Kill(0);
  Target(1).Start();
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  EXPECT_EQ(ReadAt(1), StatusCode::kUnavailable);
  const auto write = Write(1, "hello");
  RunMs(5);
  EXPECT_ANSWER(write, kUnavailable);
}

TEST_F(TargetReplicationTest, ASilentMemberIsReportedAndTheWriteGoesOnWithoutItAfterItsGrant) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  EXPECT_EQ(ReadAtWithGrant(2), StatusCode::kOk);
  network_.fate = [](TargetId, TargetId to, rpc::Method) {
    CallFate fate;
    fate.request_lost = to == TargetId(2);
    return fate;
  };
  RunMs(400);
  (void)ReadAt(2);
  const auto write = Write(1, "hello");
  RunMs(1'100);
  EXPECT_FALSE(write->answer.has_value());
  EXPECT_TRUE(Reported(2, proto::GroupReport::KIND_FAILED));
  MakeMap(2, {1}, {2});
  Adopt({1});
  RunMs(600);
  EXPECT_ANSWER(write, kOk);
}

TEST_F(TargetReplicationTest, NothingIsAcknowledgedBeforeTheGrantOfARemovedMemberIsOver) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  EXPECT_EQ(ReadAtWithGrant(2), StatusCode::kOk);
  MakeMap(2, {1});
  Adopt({1});
  const auto write = Write(1, "hello");
  RunMs(300);
  EXPECT_FALSE(write->answer.has_value());
  RunMs(300);
  EXPECT_ANSWER(write, kOk);
}

TEST_F(TargetReplicationTest, ARepeatIsAnsweredAndNotAppliedAgain) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  const auto first = Write(1, "first", false, 11);
  const auto second = Write(1, "later", false, 12);
  RunMs(20);
  const auto repeat = Write(1, "first", true, 11);
  RunMs(20);
  EXPECT_ANSWER(repeat, kOk);
  EXPECT_TRUE(repeat->answer->durable);
  EXPECT_EQ(BytesAt(1), "later");
  EXPECT_EQ(BytesAt(2), "later");
}

TEST_F(TargetReplicationTest, ARepeatWaitsForItsFirstCopy) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  network_.fate = [](TargetId, TargetId, rpc::Method) {
    CallFate fate;
    fate.request_delay_ns = 200 * kMs;
    return fate;
  };
  const auto first = Write(1, "first", false, 11);
  RunMs(10);
  const auto repeat = Write(1, "first", false, 11);
  RunMs(10);
  EXPECT_FALSE(repeat->answer.has_value());
  RunMs(500);
  EXPECT_ANSWER(first, kOk);
  EXPECT_ANSWER(repeat, kOk);
}

TEST_F(TargetReplicationTest, ChangesThatOvertakeEachOtherAreAppliedInOrder) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  int64_t delay_ns = 50 * kMs;
  network_.fate = [&delay_ns](TargetId, TargetId, rpc::Method) {
    CallFate fate;
    fate.request_delay_ns = delay_ns;
    delay_ns /= 2;
    return fate;
  };
  std::vector<std::shared_ptr<Pending>> writes;
  for (const char* bytes : {"one", "two", "six", "ten"}) writes.push_back(Write(1, bytes));
  RunMs(200);
  for (const auto& write : writes) EXPECT_ANSWER(write, kOk);
  EXPECT_EQ(BytesAt(2), "ten");
}

TEST_F(TargetReplicationTest, AFencedSessionAndAnOldEpochAreRefused) {
  MakeMap(3, {1, 2});
  Adopt();
  RunMs(1'000);
  epoch_ = 2;
  const auto old = Write(1, "old");
  epoch_ = 3;
  const auto elsewhere = Write(2, "member");
  fenced_ = {5};
  MakeMap(3, {1, 2});
  Adopt();
  const auto fenced = Write(1, "fenced");
  RunMs(20);
  EXPECT_ANSWER(old, kStaleEpoch);
  EXPECT_EQ(old->answer->map_version, 1u);
  EXPECT_ANSWER(elsewhere, kStaleEpoch);
  EXPECT_ANSWER(fenced, kFenced);
  EXPECT_EQ(BytesAt(1), "");
}

TEST_F(TargetReplicationTest, AFullMemberMeansThatNothingIsApplied) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  Target(2).store.available_bytes = 1'000;
  const auto first = Write(1, "first");  // tells
  RunMs(20);
  EXPECT_ANSWER(first, kOk);
  const auto second = Write(1, "second");
  RunMs(20);
  EXPECT_ANSWER(second, kNoSpace);
  EXPECT_EQ(BytesAt(1), "first");
  // It stays so, however seldom somebody tries, and without a write that takes from what the member has left.
  RunMs(10'000);
  const auto third = Write(1, "third");
  RunMs(20);
  EXPECT_ANSWER(third, kNoSpace);
  // Room that was made is soon known.
  Target(2).store.available_bytes = 1 << 30;
  RunMs(1'000);
  const auto fourth = Write(1, "fourth");
  RunMs(20);
  EXPECT_ANSWER(fourth, kOk);
  EXPECT_EQ(BytesAt(2), "fourth");
}

TEST_F(TargetReplicationTest, AMemberThatWasFullBeforeItWasInSyncIsAskedAgain) {
  MakeMap(1, {1});
  Adopt();
  RunMs(1'000);
  Target(2).store.available_bytes = 1'000;
  MakeMap(2, {1}, {2});
  Adopt();
  RunMs(1'000);
  const auto first = Write(1, "first");
  RunMs(1'000);
  EXPECT_ANSWER(first, kOk);
  MakeMap(3, {1, 2});
  Adopt();
  const auto second = Write(1, "second");
  RunMs(20);
  EXPECT_ANSWER(second, kNoSpace);
  Target(2).store.available_bytes = 1 << 30;
  RunMs(1'000);
  const auto third = Write(1, "third");
  RunMs(20);
  EXPECT_ANSWER(third, kOk);
}

TEST_F(TargetReplicationTest, AMemberWhoseDiskFailsIsReportedAtOnce) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  Target(2).store.fail_changes = Status(StatusCode::kIoError, "disk");
  const auto write = Write(1, "hello");
  RunMs(50);
  EXPECT_TRUE(Reported(2, proto::GroupReport::KIND_FAILED));
  EXPECT_FALSE(write->answer.has_value());
}

TEST_F(TargetReplicationTest, BelowMinInSyncNothingIsAcknowledged) {
  MakeMap(1, {1}, {}, 3);
  Adopt();
  RunMs(1'000);
  const auto write = Write(1, "hello");
  RunMs(20);
  EXPECT_ANSWER(write, kUnavailable);
  EXPECT_EQ(ReadAt(1), StatusCode::kOk);
}

TEST_F(TargetReplicationTest, ANewPrimaryMakesMembersAsItIsAndKeepsTheWindows) {
  MakeMap(1, {1, 2, 3}, {}, 3);
  Adopt();
  RunMs(1'000);
  const auto everywhere = Write(1, "everywhere", false, 21);
  RunMs(20);
  // Target 3 alone gets this one, then the primary dies.
  network_.fate = [](TargetId, TargetId to, rpc::Method) {
    CallFate fate;
    fate.request_lost = to == TargetId(2);
    return fate;
  };
  const auto partial = Write(1, "partial", false, 22);
  RunMs(20);
  EXPECT_EQ(BytesAt(3).substr(0, 7), "partial");
  Target(1).Kill(0);
  network_.fate = [](TargetId, TargetId, rpc::Method) { return CallFate(); };
  MakeMap(2, {2, 3}, {}, 3);
  Adopt({2, 3});
  EXPECT_EQ(ReadAt(2), StatusCode::kOk);  // it has everything that was acknowledged
  RunMs(100);
  EXPECT_EQ(ReadAt(2), StatusCode::kOk);
  EXPECT_EQ(BytesAt(2), "everywhere");
  EXPECT_EQ(BytesAt(3), "everywhere");
  // What was rolled back is new again, also should target 3 become the primary; what was applied is not.
  MakeMap(3, {3, 2}, {}, 3);
  Adopt({2, 3});
  RunMs(700);
  const auto again = Write(3, "partial", false, 22);
  RunMs(20);
  const auto old = Write(3, "everywhere", false, 21);
  RunMs(20);
  EXPECT_ANSWER(again, kOk);
  EXPECT_ANSWER(old, kOk);
  EXPECT_EQ(BytesAt(2), "partialere");
  EXPECT_EQ(BytesAt(3), "partialere");
}

TEST_F(TargetReplicationTest, WritesWaitForTheEndOfAReconciliation) {
  MakeMap(1, {1, 2});
  Adopt({1});
  maps_on_demand_ = false;
  const auto write = Write(1, "hello");
  RunMs(100);
  EXPECT_FALSE(write->answer.has_value());
  Adopt({2});
  RunMs(1'000);
  EXPECT_ANSWER(write, kOk);
}

TEST_F(TargetReplicationTest, AMemberFetchesTheMapOfANewerEpoch) {
  MakeMap(1, {1, 2});
  Adopt({1});
  RunMs(1'000);
  const auto write = Write(1, "hello");
  RunMs(20);
  EXPECT_ANSWER(write, kOk);
  EXPECT_EQ(Target(2).engine()->map_version(), 1u);
}

TEST_F(TargetReplicationTest, ASyncingMemberGetsEverythingBesideTheWritesAndIsReportedAsEqual) {
  MakeMap(1, {1});
  Adopt();
  RunMs(1'000);
  for (int i = 0; i < 40; ++i) (void)Write(1, std::string(10'000, static_cast<char>('a' + i % 20)), false, 0, static_cast<uint32_t>(i) * 5'000);
  RunMs(100);
  MakeMap(2, {1}, {2});
  Adopt();
  std::vector<std::shared_ptr<Pending>> writes;
  for (int i = 0; i < 40; ++i) {
    writes.push_back(Write(1, std::string(3'000, static_cast<char>('A' + i % 20)), false, 0, static_cast<uint32_t>(i) * 5'000));
    RunMs(1);
  }
  RunMs(1'000);
  for (const auto& write : writes) EXPECT_ANSWER(write, kOk);
  EXPECT_TRUE(Reported(2, proto::GroupReport::KIND_EQUAL));
  EXPECT_TRUE(BytesAt(1) == BytesAt(2));
}

TEST_F(TargetReplicationTest, AMemberIsDurableBeforeItIsReportedAsEqual) {
  MakeMap(1, {1});
  Adopt();
  RunMs(1'000);
  (void)Write(1, "hello");
  RunMs(20);
  MakeMap(2, {1}, {2});
  Adopt();
  while (!Reported(2, proto::GroupReport::KIND_EQUAL)) RunMs(1);
  Target(2).Kill(0);
  EXPECT_EQ(BytesAt(2), "hello");
}

TEST_F(TargetReplicationTest, ASyncingMemberLosesChunksThatThePrimaryDoesNotHave) {
  MakeMap(1, {2});
  Adopt();
  RunMs(1'000);
  (void)Write(2, "stale");
  RunMs(20);
  MakeMap(2, {1}, {2});
  Adopt();
  RunMs(1'000);
  EXPECT_TRUE(Reported(2, proto::GroupReport::KIND_EQUAL));
  EXPECT_EQ(BytesAt(2), "");
}

TEST_F(TargetReplicationTest, ADamagedChunkComesBackFromAnotherCopy) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  (void)Write(1, std::string(20'000, 'x'));
  RunMs(20);
  Target(1).store.Damage(kChunk, 2);
  const store::ChunkStamp stamp = Target(1).store.chunks().at(kChunk).stamp;
  // Nobody reads at target 2, so it has no grant.
  std::optional<Status> repaired;
  Target(1).engine()->RepairChunk(kGroup, kChunk, [&](const Status& status) { repaired = status; });
  RunMs(3'000);
  ASSERT_TRUE(repaired.has_value());
  EXPECT_TRUE(repaired->ok()) << repaired->ToString();
  EXPECT_TRUE(Target(1).store.ReadForCopy(kChunk, 0, 20'000).ok());
  EXPECT_EQ(Target(1).store.chunks().at(kChunk).stamp, stamp);
}

TEST_F(TargetReplicationTest, BlocksThatTheDiskDoesNotGiveComeBackFromAnotherCopy) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  (void)Write(1, std::string(20'000, 'x'));
  RunMs(100);
  // At the member; the primary is asked.
  Target(2).store.Damage(kChunk, 3, StatusCode::kIoError);
  std::optional<Status> repaired;
  Target(2).engine()->RepairChunk(kGroup, kChunk, [&](const Status& status) { repaired = status; });
  RunMs(3'000);
  ASSERT_TRUE(repaired.has_value());
  EXPECT_TRUE(repaired->ok()) << repaired->ToString();
  EXPECT_EQ(Target(2).store.damaged_blocks(), 0u);
}

TEST_F(TargetReplicationTest, AWriteIntoADamagedBlockOfThePrimaryIsServed) {
  for (const StatusCode how : {StatusCode::kCorruption, StatusCode::kIoError}) {
    MakeMap(epoch_ + 1, {1, 2});
    Adopt();
    RunMs(1'000);
    const auto whole = Write(1, std::string(20'000, 'x'));
    RunMs(20);
    EXPECT_ANSWER(whole, kOk);
    Target(1).store.Damage(kChunk, 1, how);
    const auto part = Write(1, "part", false, 0, 5'000);
    RunMs(100);
    EXPECT_ANSWER(part, kOk);
    EXPECT_EQ(BytesAt(1).substr(4'999, 6), "xpartx");
    EXPECT_EQ(BytesAt(2), BytesAt(1));
    EXPECT_EQ(Target(1).store.damaged_blocks(), 0u);
    EXPECT_TRUE(reports_.empty()) << "no member is at fault";
  }
}

TEST_F(TargetReplicationTest, DamageOfThePrimaryIsNoFaultOfItsMembers) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  (void)Write(1, std::string(20'000, 'x'));
  RunMs(20);
  // No copy is whole.
  Target(1).store.Damage(kChunk, 1);
  Target(2).store.Damage(kChunk, 1);
  const auto part = Write(1, "part", false, 0, 5'000);
  RunMs(2'000);
  EXPECT_ANSWER(part, kCorruption);
  EXPECT_TRUE(reports_.empty());
  // What keeps nothing of the block is taken.
  const auto over = Write(1, std::string(4'096, 'y'), false, 0, 4'096);
  RunMs(20);
  EXPECT_ANSWER(over, kOk);
}

TEST_F(TargetReplicationTest, AMemberThatCannotReadWhatAChangeKeepsIsMendedByBeingBroughtUpToDate) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  (void)Write(1, std::string(20'000, 'x'));
  RunMs(20);
  Target(2).store.Damage(kChunk, 1, StatusCode::kIoError);
  const auto part = Write(1, "part", false, 0, 5'000);
  RunMs(50);
  EXPECT_TRUE(Reported(2, proto::GroupReport::KIND_FAILED));
  MakeMap(2, {1}, {2});
  Adopt();
  RunMs(2'000);
  EXPECT_ANSWER(part, kOk);
  EXPECT_TRUE(Reported(2, proto::GroupReport::KIND_EQUAL));
  EXPECT_EQ(Target(2).store.damaged_blocks(), 0u);
  EXPECT_EQ(BytesAt(2), BytesAt(1));
}

TEST_F(TargetReplicationTest, ADamagedChunkOfTheOnlyCopyDoesNotKeepOthersFromBeingCopied) {
  MakeMap(1, {1});
  Adopt();
  RunMs(1'000);
  (void)Write(1, std::string(20'000, 'x'));
  for (uint32_t index = 4; index < 10; ++index) (void)WriteTo(1, {kChunk.data, index}, "other");
  RunMs(20);
  Target(1).store.Damage(kChunk, 1);
  MakeMap(2, {1}, {2});
  Adopt();
  RunMs(2'000);
  EXPECT_FALSE(Reported(2, proto::GroupReport::KIND_EQUAL));
  for (uint32_t index = 4; index < 10; ++index) EXPECT_TRUE(Target(2).store.chunks().contains({kChunk.data, index})) << index;
  // Written anew it is whole.
  const auto over = Write(1, std::string(20'480, 'y'));
  RunMs(60'000);
  EXPECT_ANSWER(over, kOk);
  EXPECT_TRUE(Reported(2, proto::GroupReport::KIND_EQUAL));
  EXPECT_EQ(BytesAt(2), BytesAt(1));
}

TEST_F(TargetReplicationTest, ALostAcknowledgementIsNoReasonToRemoveAMember) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  int lost = 1;
  network_.fate = [&lost](TargetId, TargetId, rpc::Method method) {
    CallFate fate;
    fate.reply_lost = method == rpc::Method::kReplicate && lost-- > 0;
    return fate;
  };
  const auto first = Write(1, "first");
  const auto second = Write(1, "later");
  RunMs(900);
  EXPECT_ANSWER(first, kOk);
  EXPECT_ANSWER(second, kOk);
  EXPECT_TRUE(reports_.empty());
  EXPECT_EQ(BytesAt(2), "later");
  EXPECT_EQ(Target(2).store.chunks().at(kChunk).stamp, Target(1).store.chunks().at(kChunk).stamp) << "applied once";
}

TEST_F(TargetReplicationTest, StopAnswersEverythingThatWaits) {
  MakeMap(1, {1, 2});
  Adopt();
  RunMs(1'000);
  network_.fate = [](TargetId, TargetId, rpc::Method) {
    CallFate fate;
    fate.request_lost = true;
    return fate;
  };
  const auto write = Write(1, "hello");
  RunMs(20);
  EXPECT_FALSE(write->answer.has_value());
  Target(1).engine()->Stop();
  EXPECT_ANSWER(write, kCancelled);
}

TEST_F(TargetReplicationTest, ACutThatWasRolledBackHalfwayIsMadeWhenItIsSentAgain) {
  MakeMap(1, {2, 1});
  Adopt();
  RunMs(700);
  const auto written = Write(2, std::string(20'000, 'x'));
  RunMs(50);
  EXPECT_ANSWER(written, kOk);
  const auto cut = [this] {
    auto request = std::make_shared<proto::TruncateChunkRequest>();
    request->mutable_chunk()->set_target(2);
    request->mutable_chunk()->set_group(kGroup.value());
    request->mutable_chunk()->set_epoch(epoch_);
    request->mutable_chunk()->set_data_id(kChunk.data.value());
    request->mutable_chunk()->set_chunk_index(kChunk.index);
    request->set_session(5);
    request->set_sequence(2);
    request->mutable_truncate()->set_generation(1);
    request->mutable_truncate()->set_truncated_chunk_bytes(1'000);
    auto answer = std::make_shared<StatusCode>(StatusCode::kTimeout);
    Target(2).engine()->Truncate(request, [answer](const ChangeAnswer& got) { *answer = got.status.code(); });
    return answer;
  };
  // Nobody but the primary gets the cut.
  const auto lost = [](rpc::Method which) {
    return [which](TargetId, TargetId, rpc::Method method) {
      CallFate fate;
      fate.request_lost = method == which;
      return fate;
    };
  };
  network_.fate = lost(rpc::Method::kReplicate);
  const auto first = cut();
  RunMs(50);
  ASSERT_EQ(BytesAt(2).size(), 1'000u);
  // The next primary, which does not know of it, takes it back; but it is another one's turn before that is done.
  int pieces = 0;
  network_.fate = [&pieces](TargetId, TargetId, rpc::Method method) {
    CallFate fate;
    fate.request_lost = method == rpc::Method::kInstallChunk && ++pieces > 1;
    return fate;
  };
  MakeMap(2, {1, 2});
  Adopt();
  RunMs(300);
  ASSERT_GT(pieces, 1);
  ASSERT_GT(BytesAt(2).size(), 1'000u) << "a piece has come";
  network_.fate = [](TargetId, TargetId, rpc::Method) { return CallFate(); };
  MakeMap(3, {2, 1});
  Adopt();
  RunMs(2'000);
  const auto again = cut();
  RunMs(200);
  EXPECT_EQ(*again, StatusCode::kOk);
  EXPECT_EQ(BytesAt(2).size(), 1'000u);
  EXPECT_EQ(BytesAt(1), BytesAt(2));
  EXPECT_NE(*first, StatusCode::kOk);
}

}  // namespace
}  // namespace tarn::replication
