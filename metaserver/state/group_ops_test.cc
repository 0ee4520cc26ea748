// Placement groups of several copies: changes of their members, servers that come back, fences, dead data.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Ids = std::vector<uint64_t>;

class GroupOpsTest : public testing::Test {
 protected:
  // Four servers with one target each; a volume with two copies over one group of targets 1 and 2, and a session.
  void SetUp() override {
    proto::Mutation init;
    init.mutable_init_cluster()->set_cluster_id("c1");
    driver_.RunAsLeader(init);
    for (uint64_t server = 1; server <= 4; ++server) Register(server, 100 + server, false, 0);
    proto::Mutation groups;
    proto::PlacementGroup* group = groups.mutable_add_groups()->add_groups();
    group->add_targets(1);
    group->add_targets(2);
    groups.mutable_add_groups()->mutable_group_set()->add_groups(1);
    groups.mutable_add_groups()->mutable_group_set()->set_replicas(2);
    ASSERT_EQ(CodeOf(driver_.RunAsLeader(groups)), StatusCode::kOk);
    proto::Mutation volume;
    volume.mutable_create_volume()->mutable_volume()->set_name("v");
    volume.mutable_create_volume()->mutable_volume()->set_replicas(2);
    const proto::MutationReply made = driver_.RunAsLeader(volume);
    ASSERT_EQ(CodeOf(made), StatusCode::kOk) << made.message();
    root_ = made.volume().root();
    proto::Mutation open;
    open.mutable_open_session()->set_nonce(4711);
    open.mutable_open_session()->set_volume(made.volume().id());
    driver_.set_session(driver_.RunAsLeader(open).session());
  }

  proto::MutationReply Register(uint64_t server, uint64_t incarnation, bool clean, uint64_t id,
                                const std::string& failure = "") {
    proto::Mutation mutation;
    auto* request = mutation.mutable_register_server()->mutable_request();
    request->set_address("127.0.0.1:" + std::to_string(7000 + server));
    request->set_incarnation(incarnation);
    if (id != 0) request->set_cluster_id("c1");
    if (id != 0) request->set_server_id(server);
    proto::TargetReport* target = request->add_targets();
    target->set_id(id);
    target->set_clean_shutdown(clean);
    target->set_failure(failure);
    return driver_.RunAsLeader(mutation);
  }
  proto::MutationReply Change(uint64_t expected_epoch, const Ids& in_sync, const Ids& syncing = {}, uint32_t group = 1) {
    proto::Mutation mutation;
    auto* change = mutation.mutable_change_groups()->add_changes();
    change->set_group(group);
    change->set_expected_epoch(expected_epoch);
    for (const uint64_t target : in_sync) change->add_targets(target);
    for (const uint64_t target : syncing) change->add_syncing_targets(target);
    return driver_.RunAsLeader(mutation);
  }
  void SetState(uint64_t id, proto::TargetState state) {
    proto::Mutation mutation;
    auto* target = mutation.mutable_update_targets()->add_targets();
    target->set_id(id);
    target->set_state(state);
    ASSERT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  }
  std::shared_ptr<const proto::ClusterMap> Map() { return driver_.machine().cluster_map(); }
  const proto::PlacementGroup& Group() {
    held_ = Map();
    return held_->groups(0);
  }
  Ids InSync() { return {Group().targets().begin(), Group().targets().end()}; }
  Ids Syncing() { return {Group().syncing_targets().begin(), Group().syncing_targets().end()}; }

  Ids Dead(uint64_t target) {
    std::vector<DataId> dead;
    EXPECT_TRUE(driver_.machine().ListDeadData(TargetId(target), driver_.now_ns() + 1, 100, &dead).ok());
    Ids values;
    for (const DataId data : dead) values.push_back(data.value());
    return values;
  }
  void Reclaim(uint64_t target, uint64_t data) {
    proto::Mutation mutation;
    mutation.mutable_data_reclaimed()->set_target(target);
    mutation.mutable_data_reclaimed()->add_data_ids(data);
    EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  }
  // A file of two copies that is removed again.
  uint64_t MakeDeadData() {
    const proto::Attributes file = driver_.CreateWithData(root_, "f", 100);
    EXPECT_EQ(CodeOf(driver_.Unlink(root_, "f")), StatusCode::kOk);
    return file.data_id();
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t root_ = 0;
  std::shared_ptr<const proto::ClusterMap> held_;
};

TEST_F(GroupOpsTest, MembersChangeByEpochs) {
  const uint64_t version = Map()->version();
  EXPECT_EQ(CodeOf(Change(1, {1, 2}, {3})), StatusCode::kOk);
  EXPECT_EQ(Group().epoch(), 2u);
  EXPECT_THAT(Syncing(), ElementsAre(3));
  EXPECT_EQ(CodeOf(Change(2, {2, 1, 3})), StatusCode::kOk);
  EXPECT_THAT(InSync(), ElementsAre(2, 1, 3));
  EXPECT_THAT(Syncing(), IsEmpty());
  EXPECT_EQ(CodeOf(Change(3, {3}, {1})), StatusCode::kOk);
  EXPECT_EQ(Group().epoch(), 4u);
  EXPECT_EQ(Map()->version(), version + 3);
}

TEST_F(GroupOpsTest, ChangeForAnotherEpochIsPassedOverAlone) {
  proto::Mutation groups;
  groups.mutable_add_groups()->add_groups()->add_targets(4);
  driver_.RunAsLeader(groups);
  Change(1, {2}, {1});
  const uint64_t version = Map()->version();
  EXPECT_EQ(CodeOf(Change(1, {1}, {2})), StatusCode::kOk);
  EXPECT_THAT(InSync(), ElementsAre(2));
  EXPECT_EQ(Map()->version(), version) << "nothing changed";
  proto::Mutation both;
  for (const uint32_t group : {1u, 2u}) {
    auto* change = both.mutable_change_groups()->add_changes();
    change->set_group(group);
    change->set_expected_epoch(1);
    change->add_targets(group == 1 ? 1 : 4);
    change->add_syncing_targets(3);
  }
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(both)), StatusCode::kOk);
  EXPECT_THAT(Syncing(), ElementsAre(1));
  EXPECT_EQ(Map()->groups(1).epoch(), 2u);
}

TEST_F(GroupOpsTest, ListsThatBreakARuleAreRefused) {
  SetState(4, proto::TARGET_STATE_RETIRED);
  ASSERT_EQ(CodeOf(Change(1, {1, 2}, {3})), StatusCode::kOk);
  const uint64_t version = Map()->version();
  const struct {
    Ids in_sync;
    Ids syncing;
    const char* text;
  } rows[] = {
      {{}, {1, 2}, "last in-sync member never leaves"},
      {{1, 4}, {}, "target 4 becomes in-sync without having been syncing"},
      {{3, 1}, {}, "target 3 becomes its primary without having been in-sync"},
      {{1, 2, 2}, {}, "target 2 is listed twice"},
      {{1, 2}, {2}, "target 2 is listed twice"},
      {{1, 2}, {3, 3}, "target 3 is listed twice"},
      {{1, 2}, {77}, "target 77 does not exist"},
      {{1, 2}, {4}, "target 4 is retired"},
  };
  for (const auto& row : rows) {
    const proto::MutationReply reply = Change(2, row.in_sync, row.syncing);
    EXPECT_EQ(CodeOf(reply), StatusCode::kInvalidArgument) << row.text;
    EXPECT_THAT(reply.message(), HasSubstr(row.text));
  }
  EXPECT_THAT(Change(2, {1}, {}, 9).message(), HasSubstr("placement group 9 does not exist"));
  EXPECT_EQ(Map()->version(), version);
}

TEST_F(GroupOpsTest, TargetThatWasNotShutDownCleanlyIsSyncing) {
  ASSERT_EQ(CodeOf(Register(1, 201, false, 1)), StatusCode::kOk);
  EXPECT_EQ(Group().epoch(), 2u);
  EXPECT_THAT(InSync(), ElementsAre(2)) << "the next one is the primary";
  EXPECT_THAT(Syncing(), ElementsAre(1));
  ASSERT_EQ(CodeOf(Register(1, 201, false, 1)), StatusCode::kOk) << "a lost answer";
  EXPECT_EQ(Group().epoch(), 2u);
  // One that was being brought up to date may have lost some of it.
  ASSERT_EQ(CodeOf(Register(1, 202, false, 1)), StatusCode::kOk);
  EXPECT_EQ(Group().epoch(), 3u);
  EXPECT_THAT(Syncing(), ElementsAre(1));
  // The only one that is in-sync stays so, in an epoch of its own.
  ASSERT_EQ(CodeOf(Register(2, 203, false, 2)), StatusCode::kOk);
  EXPECT_EQ(Group().epoch(), 4u);
  EXPECT_THAT(InSync(), ElementsAre(2));
}

TEST_F(GroupOpsTest, CleanShutDownKeepsTheMembers) {
  ASSERT_EQ(CodeOf(Register(2, 201, true, 2)), StatusCode::kOk);
  EXPECT_EQ(Group().epoch(), 1u) << "it orders nothing";
  ASSERT_EQ(CodeOf(Register(1, 202, true, 1)), StatusCode::kOk);
  EXPECT_EQ(Group().epoch(), 2u) << "a primary orders anew";
  EXPECT_THAT(InSync(), ElementsAre(1, 2));
  Change(2, {1}, {2});
  ASSERT_EQ(CodeOf(Register(2, 203, true, 2)), StatusCode::kOk);
  EXPECT_EQ(Group().epoch(), 4u) << "what brings it up to date begins anew";
  EXPECT_THAT(InSync(), ElementsAre(1));
}

TEST_F(GroupOpsTest, ALossIsNotedWhereTheOnlyInSyncMemberWasNotShutDownCleanly) {
  const auto losses = [this] {
    const proto::PlacementGroup& group = Group();
    return Ids{group.intact_since(), group.intact_since_before(), group.intact_incarnation()};
  };
  Register(1, 201, false, 1);
  EXPECT_THAT(losses(), ElementsAre(0, 0, 0)) << "the other one has everything";
  Register(1, 202, false, 1);
  EXPECT_THAT(losses(), ElementsAre(0, 0, 0)) << "it was syncing";
  Register(2, 203, true, 2);
  EXPECT_THAT(losses(), ElementsAre(0, 0, 0)) << "shut down cleanly";
  Register(2, 204, false, 2);
  EXPECT_EQ(Group().epoch(), 5u);
  EXPECT_THAT(losses(), ElementsAre(5, 0, 204));
  Register(2, 204, false, 2);
  EXPECT_THAT(losses(), ElementsAre(5, 0, 204)) << "a lost answer";
  Change(5, {2, 1});
  EXPECT_THAT(losses(), ElementsAre(5, 0, 204)) << "stays with the group";
  Change(6, {2}, {1});
  Register(2, 205, false, 2);
  EXPECT_THAT(losses(), ElementsAre(8, 5, 205));
  driver_.Reopen();
  EXPECT_THAT(losses(), ElementsAre(8, 5, 205));
}

TEST_F(GroupOpsTest, APromotedCopyIsALoss) {
  Change(1, {1}, {2});
  proto::Mutation mutation;
  mutation.mutable_promote_member()->set_group(1);
  mutation.mutable_promote_member()->set_expected_epoch(2);
  mutation.mutable_promote_member()->set_target(2);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  EXPECT_EQ(Group().intact_since(), 3u);
  EXPECT_EQ(Group().intact_incarnation(), 102u);
}

TEST_F(GroupOpsTest, APromotionThatIsRepeatedUnderItsNonceIsDoneOnce) {
  Change(1, {1}, {2});
  proto::Mutation mutation;
  mutation.mutable_promote_member()->set_group(1);
  mutation.mutable_promote_member()->set_expected_epoch(2);
  mutation.mutable_promote_member()->set_target(2);
  mutation.mutable_promote_member()->set_nonce(77);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk) << "although the group has another epoch now";
  EXPECT_EQ(Group().epoch(), 3u);
  EXPECT_EQ(driver_.machine().header().forced_promotions_size(), 1);
  mutation.mutable_promote_member()->set_nonce(78);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kInvalidArgument) << "another wish";
}

TEST_F(GroupOpsTest, SingleCopyHasALossAndAnEpoch) {
  proto::Mutation groups;
  groups.mutable_add_groups()->add_groups()->add_targets(1);
  driver_.RunAsLeader(groups);
  Register(1, 201, true, 1);
  EXPECT_EQ(Map()->groups(1).epoch(), 2u) << "what was sent to the process before is refused";
  EXPECT_EQ(Map()->groups(1).intact_since(), 0u) << "nothing is lost";
  Register(1, 202, false, 1);
  EXPECT_EQ(Map()->groups(1).epoch(), 3u);
  EXPECT_EQ(Map()->groups(1).intact_since(), 3u);
  // While it is being moved there are two.
  Change(3, {1}, {3}, 2);
  Register(1, 203, false, 1);
  EXPECT_EQ(Map()->groups(1).epoch(), 5u);
}

TEST_F(GroupOpsTest, FailedTargetIsSoundWhenItsServerSaysSo) {
  Register(1, 201, true, 1, "read error");
  EXPECT_EQ(Map()->targets(0).state(), proto::TARGET_STATE_FAILED);
  Register(1, 202, true, 1);
  EXPECT_EQ(Map()->targets(0).state(), proto::TARGET_STATE_ONLINE);
  SetState(1, proto::TARGET_STATE_RETIRED);
  Register(1, 203, true, 1, "read error");
  EXPECT_EQ(Map()->targets(0).state(), proto::TARGET_STATE_RETIRED);
}

TEST_F(GroupOpsTest, SessionsAreFencedAndReleased) {
  proto::Mutation mutation;
  mutation.mutable_fence_sessions()->add_fenced(11);
  mutation.mutable_fence_sessions()->add_fenced(12);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  const uint64_t version = Map()->version();
  ASSERT_EQ(Map()->fenced_sessions_size(), 2);
  EXPECT_EQ(Map()->fenced_sessions(0).session(), 11u);
  EXPECT_EQ(Map()->fenced_sessions(0).fence_epoch(), version);
  driver_.RunAsLeader(mutation);
  EXPECT_EQ(Map()->version(), version) << "a repeat";
  mutation.mutable_fence_sessions()->clear_fenced();
  mutation.mutable_fence_sessions()->add_released(11);
  mutation.mutable_fence_sessions()->add_released(99);
  driver_.RunAsLeader(mutation);
  ASSERT_EQ(Map()->fenced_sessions_size(), 1);
  EXPECT_EQ(Map()->fenced_sessions(0).session(), 12u);
  driver_.Reopen();
  EXPECT_EQ(Map()->fenced_sessions_size(), 1);
}

TEST_F(GroupOpsTest, DeadDataOfUnchangedGroupsIsAskedForOnce) {
  const uint64_t data = MakeDeadData();
  EXPECT_THAT(Dead(1), ElementsAre(data));
  EXPECT_THAT(Dead(2), ElementsAre(data));
  EXPECT_THAT(Dead(3), IsEmpty());
  Reclaim(1, data);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
  Reclaim(2, data);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 0u);
}

TEST_F(GroupOpsTest, MemberThatJoinsLaterIsAskedToDeleteWhatIsDead) {
  const uint64_t data = MakeDeadData();
  Change(1, {1, 2}, {3});
  Reclaim(1, data);
  Reclaim(2, data);
  EXPECT_THAT(Dead(3), ElementsAre(data)) << "it may have been copied there before";
  for (const uint64_t target : {1u, 2u, 3u}) Reclaim(target, data);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 0u);
}

TEST_F(GroupOpsTest, DeadDataDoesNotWaitForThoseWhoLeft) {
  const uint64_t data = MakeDeadData();
  Change(1, {1, 2}, {3});
  Change(2, {1, 2, 3});
  Change(3, {1, 3});
  Reclaim(1, data);
  EXPECT_THAT(Dead(2), ElementsAre(data)) << "it may be there still";
  Reclaim(2, data);
  EXPECT_THAT(Dead(2), IsEmpty());
  EXPECT_THAT(Dead(1), ElementsAre(data));
  Reclaim(1, data);
  Reclaim(3, data);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 0u);
}

TEST_F(GroupOpsTest, RetiredTargetIsNotAsked) {
  SetState(2, proto::TARGET_STATE_RETIRED);
  const uint64_t data = MakeDeadData();
  EXPECT_THAT(Dead(2), IsEmpty());
  Reclaim(1, data);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 0u);
}

}  // namespace
}  // namespace tarn::meta
