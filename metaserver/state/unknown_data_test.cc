// Data that nobody knows: what is noted, what becomes dead, and above all what never does.
#include "metaserver/state/unknown_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/state/memory_kv.h"
#include "metaserver/state/records.h"
#include "metaserver/state/restored_state.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kHourMs = 3'600'000;

class UnknownDataTest : public testing::Test {
 protected:
  UnknownDataTest() { driver_.SetUpCluster(); }

  proto::MutationReply Reserve(uint32_t count) {
    proto::Mutation mutation;
    mutation.mutable_reserve_data_ids()->set_volume(driver_.volume());
    mutation.mutable_reserve_data_ids()->set_count(count);
    return driver_.Run(mutation);
  }
  proto::MutationReply Ingest(const std::string& name, uint64_t data, const proto::Layout& layout) {
    proto::Mutation mutation;
    auto* op = mutation.mutable_create();
    op->set_parent(driver_.root());
    op->set_name(name);
    op->set_type(proto::FILE_TYPE_REGULAR);
    op->set_data_id(data);
    *op->mutable_layout() = layout;
    return driver_.Run(mutation);
  }
  void CloseSession() {
    proto::Mutation close;
    close.mutable_close_session()->set_session(driver_.session());
    close.mutable_close_session()->set_expired(true);
    ASSERT_EQ(CodeOf(driver_.RunAsLeader(close)), StatusCode::kOk);
  }
  StatusCode CloseReservation(uint64_t first, uint64_t kept_ms = 0) {
    proto::Mutation mutation;
    mutation.mutable_close_reservations()->add_first_data_ids(first);
    mutation.mutable_close_reservations()->set_kept_ms(kept_ms);
    return CodeOf(driver_.RunAsLeader(mutation));
  }
  StatusCode Note(uint64_t data, uint64_t target = 1, uint64_t bytes = 100) {
    proto::Mutation mutation;
    auto* found = mutation.mutable_note_unknown_data()->add_found();
    found->set_data_id(data);
    found->set_target(target);
    found->set_bytes(bytes);
    return CodeOf(driver_.RunAsLeader(mutation));
  }
  StatusCode Reclaim(uint64_t data, uint64_t quarantine_ms = 0) {
    proto::Mutation mutation;
    mutation.mutable_reclaim_unknown_data()->add_data_ids(data);
    mutation.mutable_reclaim_unknown_data()->set_quarantine_ms(quarantine_ms);
    return CodeOf(driver_.RunAsLeader(mutation));
  }
  std::vector<DataId> DeadOn(uint64_t target) {
    std::vector<DataId> dead;
    EXPECT_TRUE(driver_.machine().ListDeadData(TargetId(target), INT64_MAX, 100, &dead).ok());
    return dead;
  }
  bool IsKnown(uint64_t data) {
    DataIdSet known(DataId(1), 1 << 20);
    EXPECT_TRUE(CollectKnownData(*store_.View(), &known, [] { return true; }).ok());
    return known.Contains(DataId(data));
  }
  uint64_t InQuarantine() { return driver_.machine().header().unknown_data_ids(); }
  // One that was given to a session, never used, and is given up.
  uint64_t LostDataId() {
    const uint64_t data = Reserve(1).first_data_id();
    CloseSession();
    EXPECT_EQ(CloseReservation(data), StatusCode::kOk);
    return data;
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
};

TEST_F(UnknownDataTest, WhatFilesReservationsAndDeletionsHaveIsKnown) {
  const proto::Attributes file = driver_.CreateWithData(driver_.root(), "f", 100);
  EXPECT_TRUE(IsKnown(file.data_id()));
  const proto::MutationReply reserved = Reserve(3);
  EXPECT_TRUE(IsKnown(reserved.first_data_id()));
  EXPECT_TRUE(IsKnown(reserved.first_data_id() + 2));
  EXPECT_FALSE(IsKnown(reserved.first_data_id() + 3));
  driver_.Unlink(driver_.root(), "f");
  EXPECT_TRUE(IsKnown(file.data_id())) << "it is being deleted";
}

TEST_F(UnknownDataTest, KnownDataIsNeverNotedNorReclaimed) {
  const uint64_t reserved = Reserve(2).first_data_id();
  const proto::Attributes file = driver_.CreateWithData(driver_.root(), "f", 100);
  driver_.Unlink(driver_.root(), "f");
  for (const uint64_t data : {reserved, reserved + 1, file.data_id()}) {
    EXPECT_EQ(Note(data), StatusCode::kOk);
    EXPECT_EQ(Reclaim(data), StatusCode::kOk);
  }
  EXPECT_EQ(InQuarantine(), 0u);
  EXPECT_THAT(DeadOn(1), testing::Not(testing::Contains(DataId(reserved))));
}

TEST_F(UnknownDataTest, IdsThatWereNotGivenAreNeverTouched) {
  const uint64_t next = driver_.machine().header().next_data_id();
  for (const uint64_t data : {ComposeId(0, 0, next), ComposeId(0, 0, next + 1000), ComposeId(0, 1, 1), ComposeId(1, 0, 1)}) {
    EXPECT_FALSE(WasGiven(driver_.machine().header(), DataId(data)));
    EXPECT_EQ(Note(data), StatusCode::kOk);
  }
  EXPECT_EQ(InQuarantine(), 0u);
}

TEST_F(UnknownDataTest, OnlyAfterItsQuarantineDoesItBecomeDeadData) {
  const uint64_t data = LostDataId();
  EXPECT_FALSE(IsKnown(data));
  ASSERT_EQ(Note(data, 1), StatusCode::kOk);
  ASSERT_EQ(Note(data, 2, 50), StatusCode::kOk);
  EXPECT_EQ(InQuarantine(), 1u);
  EXPECT_EQ(driver_.machine().header().unknown_bytes(), 150u);
  driver_.set_now_ns(driver_.now_ns() + 23 * static_cast<int64_t>(kHourMs) * 1'000'000);
  EXPECT_EQ(Reclaim(data, 24 * kHourMs), StatusCode::kOk);
  EXPECT_THAT(DeadOn(1), IsEmpty());
  driver_.set_now_ns(driver_.now_ns() + 2 * static_cast<int64_t>(kHourMs) * 1'000'000);
  EXPECT_EQ(Reclaim(data, 24 * kHourMs), StatusCode::kOk);
  EXPECT_THAT(DeadOn(1), ElementsAre(DataId(data)));
  EXPECT_THAT(DeadOn(2), ElementsAre(DataId(data)));
  EXPECT_THAT(DeadOn(3), IsEmpty());
  EXPECT_EQ(InQuarantine(), 0u);
  EXPECT_EQ(driver_.machine().header().unknown_bytes(), 0u);
  EXPECT_EQ(driver_.machine().header().unknown_reclaimed_bytes(), 150u);
  for (const uint64_t target : {1, 2}) {
    proto::Mutation gone;
    gone.mutable_data_reclaimed()->set_target(target);
    gone.mutable_data_reclaimed()->add_data_ids(data);
    EXPECT_EQ(CodeOf(driver_.RunAsLeader(gone)), StatusCode::kOk);
  }
  EXPECT_EQ(*driver_.machine().CountDeadData(), 0u);
}

TEST_F(UnknownDataTest, WithoutBeingNotedNothingIsReclaimed) {
  const uint64_t data = LostDataId();
  EXPECT_EQ(Reclaim(data), StatusCode::kOk);
  EXPECT_THAT(DeadOn(1), IsEmpty());
}

TEST_F(UnknownDataTest, WhatIsGoneByItselfIsForgotten) {
  const uint64_t data = LostDataId();
  ASSERT_EQ(Note(data), StatusCode::kOk);
  proto::Mutation gone;
  gone.mutable_note_unknown_data()->add_gone(data);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(gone)), StatusCode::kOk);
  EXPECT_EQ(InQuarantine(), 0u);
  EXPECT_EQ(driver_.machine().header().unknown_bytes(), 0u);
}

// What makes a snapshot of any age good enough: an id that was given and that nobody knows stays unknown.
TEST_F(UnknownDataTest, NoCommandBringsAnUnknownIdBack) {
  const proto::MutationReply reserved = Reserve(1);
  const proto::Layout layout = reserved.layout_template();
  const uint64_t data = reserved.first_data_id();
  CloseSession();
  ASSERT_EQ(CloseReservation(data), StatusCode::kOk);
  proto::Mutation open;
  open.mutable_open_session()->set_nonce(99);
  open.mutable_open_session()->set_volume(driver_.volume());
  driver_.set_session(driver_.RunAsLeader(open).session());
  EXPECT_EQ(CodeOf(Ingest("late", data, layout)), StatusCode::kInvalidArgument);
  driver_.CreateWithData(driver_.root(), "other", 10);
  proto::Mutation replace;
  replace.mutable_create()->set_parent(driver_.root());
  replace.mutable_create()->set_name("other");
  replace.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
  replace.mutable_create()->set_data_id(data);
  replace.mutable_create()->set_replace(true);
  *replace.mutable_create()->mutable_layout() = layout;
  EXPECT_EQ(CodeOf(driver_.Run(replace)), StatusCode::kInvalidArgument);
  EXPECT_FALSE(IsKnown(data));
}

TEST_F(UnknownDataTest, ReservationOutlivesItsSessionForAWhile) {
  const proto::MutationReply reserved = Reserve(2);
  const uint64_t data = reserved.first_data_id();
  EXPECT_EQ(CloseReservation(data), StatusCode::kOk);
  EXPECT_TRUE(IsKnown(data)) << "its session lives";
  CloseSession();
  EXPECT_EQ(CloseReservation(data, kHourMs), StatusCode::kOk);
  EXPECT_TRUE(IsKnown(data)) << "it is not old enough";
  proto::Mutation open;
  open.mutable_open_session()->set_nonce(99);
  open.mutable_open_session()->set_volume(driver_.volume());
  driver_.set_session(driver_.RunAsLeader(open).session());
  EXPECT_EQ(CodeOf(Ingest("f", data, reserved.layout_template())), StatusCode::kOk) << "a client that lost its session goes on";
  EXPECT_EQ(CloseReservation(data), StatusCode::kOk);
  EXPECT_TRUE(IsKnown(data)) << "the file has it";
  EXPECT_FALSE(IsKnown(data + 1));
}

TEST_F(UnknownDataTest, AfterARestoreNothingGoesUntilTheOperatorSaysSo) {
  const uint64_t old_garbage = LostDataId();
  const uint64_t given_after_backup = ComposeId(0, 0, driver_.machine().header().next_data_id() + 5);
  ASSERT_TRUE(MakeRestored(&store_, driver_.machine().header().cluster_id(), 0, driver_.now_ns()).ok());
  driver_.Reopen();
  EXPECT_EQ(Note(given_after_backup), StatusCode::kOk);
  EXPECT_EQ(InQuarantine(), 0u) << "the backup cannot know of it: it stays for ever";
  EXPECT_EQ(Note(old_garbage), StatusCode::kOk);
  EXPECT_EQ(InQuarantine(), 1u);
  EXPECT_EQ(Reclaim(old_garbage), StatusCode::kBusy);
  EXPECT_THAT(DeadOn(1), IsEmpty());
  proto::Mutation on;
  on.mutable_set_reclaim()->set_enabled(true);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(on)), StatusCode::kOk);
  EXPECT_EQ(Reclaim(old_garbage), StatusCode::kOk);
  EXPECT_THAT(DeadOn(1), ElementsAre(DataId(old_garbage)));
}

TEST(DataIdSet, WindowEndsWhereMemoryDoes) {
  DataIdSet set(DataId(100), 2 * 8192);
  for (uint64_t block = 0; block < 8; ++block) set.Insert(DataId(200 + (block << 16)));
  ASSERT_TRUE(set.to().valid());
  EXPECT_TRUE(set.Contains(DataId(200)));
  EXPECT_TRUE(set.Covers(DataId(200)));
  EXPECT_FALSE(set.Covers(DataId(99)));
  EXPECT_FALSE(set.Covers(DataId(200 + (7 << 16))));
  set.Insert(DataId(200 + (7 << 16)));
  EXPECT_FALSE(set.Covers(set.to()));
  EXPECT_TRUE(set.Covers(DataId(set.to().value() - 1)));
  // An id that came later and lies before the end is not lost.
  set.Insert(DataId(150));
  EXPECT_TRUE(set.Contains(DataId(150)));
}

TEST_F(UnknownDataTest, PromotedMemberGoesOnAlone) {
  const uint32_t group = driver_.machine().cluster_map()->groups(0).id();
  proto::Mutation change;
  auto* lists = change.mutable_change_groups()->add_changes();
  lists->set_group(group);
  lists->set_expected_epoch(driver_.machine().cluster_map()->groups(0).epoch());
  const uint64_t primary = driver_.machine().cluster_map()->groups(0).targets(0);
  const uint64_t other = primary == 1 ? 2 : 1;
  lists->add_targets(primary);
  lists->add_syncing_targets(other);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(change)), StatusCode::kOk);
  proto::Mutation promote;
  promote.mutable_promote_member()->set_group(group);
  promote.mutable_promote_member()->set_target(other);
  promote.mutable_promote_member()->set_expected_epoch(1);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(promote)), StatusCode::kInvalidArgument) << "an earlier epoch";
  const uint64_t epoch = driver_.machine().cluster_map()->groups(0).epoch();
  promote.mutable_promote_member()->set_expected_epoch(epoch);
  promote.mutable_promote_member()->set_target(3);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(promote)), StatusCode::kInvalidArgument) << "no member";
  promote.mutable_promote_member()->set_target(other);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(promote)), StatusCode::kOk);
  const proto::PlacementGroup& after = driver_.machine().cluster_map()->groups(0);
  EXPECT_THAT(after.targets(), ElementsAre(other));
  EXPECT_THAT(after.syncing_targets(), ElementsAre(primary)) << "it comes back as a copy of that";
  EXPECT_EQ(after.epoch(), epoch + 1);
  ASSERT_EQ(driver_.machine().header().forced_promotions_size(), 1);
  EXPECT_EQ(driver_.machine().header().forced_promotions(0).target(), other);
}

}  // namespace
}  // namespace tarn::meta
