// The cluster map: identity, servers, targets and placement groups.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ClusterOpsTest : public testing::Test {
 protected:
  void Init() {
    proto::Mutation init;
    init.mutable_init_cluster()->set_cluster_id("c1");
    ASSERT_EQ(CodeOf(driver_.RunAsLeader(init)), StatusCode::kOk);
  }
  static proto::RegisterServerRequest Request(uint64_t incarnation, int targets) {
    proto::RegisterServerRequest request;
    request.set_address("127.0.0.1:" + std::to_string(7000 + incarnation));
    request.set_incarnation(incarnation);
    request.set_node("n" + std::to_string(incarnation));
    for (int i = 0; i < targets; ++i) {
      request.add_targets()->set_capacity_bytes(100);
      request.mutable_targets(i)->set_directory_id("directory " + std::to_string(incarnation) + "." + std::to_string(i));
    }
    return request;
  }
  proto::MutationReply Register(const proto::RegisterServerRequest& request) {
    proto::Mutation mutation;
    *mutation.mutable_register_server()->mutable_request() = request;
    return driver_.RunAsLeader(mutation);
  }
  std::shared_ptr<const proto::ClusterMap> Map() { return driver_.machine().cluster_map(); }
  // As a server that kept its identity would ask.
  static proto::RegisterServerRequest Returning(const proto::MutationReply& reply, uint64_t incarnation) {
    proto::RegisterServerRequest request = Request(incarnation, reply.registered().target_ids_size());
    request.set_cluster_id(reply.registered().cluster_id());
    request.set_server_id(reply.registered().server_id());
    for (int i = 0; i < reply.registered().target_ids_size(); ++i) {
      request.mutable_targets(i)->set_id(reply.registered().target_ids(i));
    }
    return request;
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
};

TEST_F(ClusterOpsTest, ClusterGetsItsIdOnce) {
  EXPECT_EQ(Map()->version(), 0u);
  EXPECT_EQ(CodeOf(Register(Request(1, 1))), StatusCode::kUnavailable);
  Init();
  EXPECT_EQ(Map()->version(), 1u);
  EXPECT_EQ(Map()->cluster_id(), "c1");
  Init();
  EXPECT_EQ(Map()->version(), 1u);
  proto::Mutation other;
  other.mutable_init_cluster()->set_cluster_id("c2");
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(other)), StatusCode::kExists);
  other.mutable_init_cluster()->clear_cluster_id();
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(other)), StatusCode::kInvalidArgument);
}

TEST_F(ClusterOpsTest, NewServersGetIds) {
  Init();
  const proto::MutationReply first = Register(Request(1, 2));
  const proto::MutationReply second = Register(Request(2, 1));
  ASSERT_EQ(CodeOf(first), StatusCode::kOk);
  EXPECT_EQ(first.registered().server_id(), 1u);
  EXPECT_THAT(first.registered().target_ids(), ElementsAre(1, 2));
  EXPECT_EQ(second.registered().server_id(), 2u);
  EXPECT_THAT(second.registered().target_ids(), ElementsAre(3));
  EXPECT_EQ(second.registered().cluster_id(), "c1");
  EXPECT_EQ(second.registered().map().targets_size(), 3);
  EXPECT_EQ(Map()->version(), 3u);
  EXPECT_EQ(Map()->targets(0).state(), proto::TARGET_STATE_ONLINE);
  EXPECT_EQ(Map()->targets(0).node(), "n1");
}

TEST_F(ClusterOpsTest, ReturningServerKeepsItsIdsAndMayBringNewTargets) {
  Init();
  const proto::MutationReply first = Register(Request(1, 2));
  Register(Request(2, 1));
  proto::RegisterServerRequest request = Returning(first, 9);
  request.add_targets();
  const proto::MutationReply back = Register(request);
  ASSERT_EQ(CodeOf(back), StatusCode::kOk) << back.message();
  EXPECT_EQ(back.registered().server_id(), 1u);
  EXPECT_THAT(back.registered().target_ids(), ElementsAre(1, 2, 4));
  EXPECT_EQ(Map()->targets(0).incarnation(), 9u);
  EXPECT_EQ(Map()->targets(0).address(), "127.0.0.1:7009");
  EXPECT_EQ(Map()->targets_size(), 4);
}

TEST_F(ClusterOpsTest, LostFirstAnswerIsGivenAgain) {
  Init();
  const proto::MutationReply first = Register(Request(1, 2));
  const proto::MutationReply again = Register(Request(1, 2));
  EXPECT_EQ(again.registered().server_id(), first.registered().server_id());
  EXPECT_THAT(again.registered().target_ids(), ElementsAre(1, 2));
  EXPECT_EQ(Map()->targets_size(), 2);
}

TEST_F(ClusterOpsTest, LostAnswerIsFoundByTheDirectoryAlsoFromAnotherProcess) {
  Init();
  const proto::MutationReply first = Register(Request(1, 1));
  proto::RegisterServerRequest wider = Returning(first, 1);
  wider.add_targets()->set_directory_id("added");
  EXPECT_THAT(Register(wider).registered().target_ids(), ElementsAre(1, 2));
  // The answer was lost, and the process as well.
  wider.set_incarnation(9);
  wider.set_address("127.0.0.1:9");
  EXPECT_THAT(Register(wider).registered().target_ids(), ElementsAre(1, 2));
  EXPECT_EQ(Map()->targets_size(), 2) << "no ghost";
  // All of it new to the server, in another order.
  proto::RegisterServerRequest anew;
  anew.set_incarnation(10);
  anew.set_address("127.0.0.1:10");
  anew.add_targets()->set_directory_id("added");
  anew.add_targets()->set_directory_id("directory 1.0");
  const proto::MutationReply found = Register(anew);
  EXPECT_EQ(found.registered().server_id(), first.registered().server_id());
  EXPECT_THAT(found.registered().target_ids(), ElementsAre(2, 1));
  // A directory cannot go over to another server.
  const proto::MutationReply second = Register(Request(5, 1));
  proto::RegisterServerRequest thief = Returning(second, 6);
  thief.add_targets()->set_directory_id("added");
  EXPECT_THAT(Register(thief).message(), HasSubstr("belongs to chunk server"));
}

TEST_F(ClusterOpsTest, ForeignAndUnknownServersAreRefused) {
  Init();
  const proto::MutationReply first = Register(Request(1, 1));
  const proto::MutationReply second = Register(Request(2, 1));
  proto::RegisterServerRequest request = Returning(first, 3);
  request.set_cluster_id("other");
  EXPECT_THAT(Register(request).message(), HasSubstr("another cluster"));
  request = Returning(first, 3);
  request.set_server_id(77);
  EXPECT_EQ(CodeOf(Register(request)), StatusCode::kInvalidArgument);
  request = Returning(first, 3);
  request.mutable_targets(0)->set_id(55);
  EXPECT_THAT(Register(request).message(), HasSubstr("target 55 is unknown"));
  request = Returning(first, 3);
  request.mutable_targets(0)->set_id(second.registered().target_ids(0));
  EXPECT_THAT(Register(request).message(), HasSubstr("belongs to chunk server 2"));
  request = Returning(first, 3);
  request.clear_cluster_id();
  EXPECT_EQ(CodeOf(Register(request)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Register(Request(3, 0))), StatusCode::kInvalidArgument);
  EXPECT_EQ(Map()->version(), 3u);
  EXPECT_EQ(driver_.machine().header().next_target(), 3u);
}

TEST_F(ClusterOpsTest, TargetsChangeStateUnlessTheServerLivesAnew) {
  Init();
  Register(Request(1, 1));
  proto::Mutation mutation;
  auto* target = mutation.mutable_update_targets()->add_targets();
  target->set_id(1);
  target->set_state(proto::TARGET_STATE_OFFLINE);
  target->set_incarnation(1);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  EXPECT_EQ(Map()->targets(0).state(), proto::TARGET_STATE_OFFLINE);
  EXPECT_EQ(Map()->version(), 3u);
  driver_.RunAsLeader(mutation);
  EXPECT_EQ(Map()->version(), 3u) << "nothing changed";
  target->set_state(proto::TARGET_STATE_RETIRED);
  target->set_incarnation(99);
  driver_.RunAsLeader(mutation);
  EXPECT_EQ(Map()->targets(0).state(), proto::TARGET_STATE_OFFLINE);
  target->set_id(9);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kNotFound);
}

TEST_F(ClusterOpsTest, WhetherATargetAnswersEndsNoDrainAndNoRetirement) {
  Init();
  Register(Request(1, 1));
  // The incarnation says that the leader has observed it, before it knew of the operator's word.
  const auto becomes = [this](proto::TargetState state, uint64_t incarnation) {
    proto::Mutation mutation;
    auto* target = mutation.mutable_update_targets()->add_targets();
    target->set_id(1);
    target->set_state(state);
    target->set_incarnation(incarnation);
    EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
    return Map()->targets(0).state();
  };
  EXPECT_EQ(becomes(proto::TARGET_STATE_DRAINING, 0), proto::TARGET_STATE_DRAINING);
  EXPECT_EQ(becomes(proto::TARGET_STATE_OFFLINE, 1), proto::TARGET_STATE_DRAINING);
  EXPECT_EQ(becomes(proto::TARGET_STATE_ONLINE, 1), proto::TARGET_STATE_DRAINING);
  EXPECT_EQ(becomes(proto::TARGET_STATE_ONLINE, 0), proto::TARGET_STATE_ONLINE) << "taken back";
  EXPECT_EQ(becomes(proto::TARGET_STATE_FAILED, 1), proto::TARGET_STATE_FAILED);
  EXPECT_EQ(becomes(proto::TARGET_STATE_OFFLINE, 1), proto::TARGET_STATE_FAILED);
  EXPECT_EQ(becomes(proto::TARGET_STATE_RETIRED, 0), proto::TARGET_STATE_RETIRED);
  EXPECT_EQ(becomes(proto::TARGET_STATE_OFFLINE, 1), proto::TARGET_STATE_RETIRED);
  EXPECT_EQ(becomes(proto::TARGET_STATE_ONLINE, 0), proto::TARGET_STATE_RETIRED) << "for good";
}

TEST_F(ClusterOpsTest, DrainingTargetStaysSoWhenItsServerReturns) {
  Init();
  const proto::MutationReply first = Register(Request(1, 1));
  proto::Mutation mutation;
  mutation.mutable_update_targets()->add_targets()->set_id(1);
  mutation.mutable_update_targets()->mutable_targets(0)->set_state(proto::TARGET_STATE_DRAINING);
  driver_.RunAsLeader(mutation);
  Register(Returning(first, 2));
  EXPECT_EQ(Map()->targets(0).state(), proto::TARGET_STATE_DRAINING);
}

TEST_F(ClusterOpsTest, GroupsAreNumberedInOrderAndBeginAtEpochOne) {
  Init();
  Register(Request(1, 2));
  proto::Mutation mutation;
  auto* op = mutation.mutable_add_groups();
  for (uint32_t id = 1; id <= 2; ++id) {
    auto* group = op->add_groups();
    group->set_id(id);
    group->set_epoch(7);
    group->add_targets(id);
    op->mutable_group_set()->add_groups(id);
  }
  op->mutable_group_set()->set_version(1);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  EXPECT_EQ(Map()->groups_size(), 2);
  EXPECT_EQ(Map()->groups(1).id(), 2u);
  EXPECT_EQ(Map()->groups(1).epoch(), 1u);
  EXPECT_EQ(Map()->groups(1).replicas(), 1u);
  EXPECT_EQ(Map()->group_sets(0).replicas(), 1u);
  const uint64_t version = Map()->version();
  EXPECT_THAT(driver_.RunAsLeader(mutation).message(), HasSubstr("the next placement group is 3"));
  op->clear_groups();
  EXPECT_THAT(driver_.RunAsLeader(mutation).message(), HasSubstr("the next group set is 2"));
  op->mutable_group_set()->set_version(2);
  op->mutable_group_set()->add_groups(3);
  EXPECT_THAT(driver_.RunAsLeader(mutation).message(), HasSubstr("group 3 does not exist"));
  op->add_groups()->add_targets(77);
  EXPECT_THAT(driver_.RunAsLeader(mutation).message(), HasSubstr("target 77 does not exist"));
  op->mutable_groups(0)->clear_targets();
  EXPECT_THAT(driver_.RunAsLeader(mutation).message(), HasSubstr("has no target"));
  EXPECT_EQ(Map()->version(), version);
  EXPECT_EQ(driver_.machine().header().next_group(), 3u);
}

proto::MetaserverMember Metaserver(uint64_t id, const std::string& address, uint64_t nonce = 0) {
  proto::MetaserverMember member;
  member.set_id(id);
  member.set_address(address);
  member.set_grpc_address(address + "0");
  member.set_nonce(nonce);
  return member;
}

TEST_F(ClusterOpsTest, MetaserversGetIdsThatAreNeverGivenAgain) {
  Init();
  const auto add = [&](const proto::MetaserverMember& member) {
    proto::Mutation mutation;
    *mutation.mutable_set_metaservers()->add_members() = member;
    return driver_.RunAsLeader(mutation);
  };
  EXPECT_EQ(CodeOf(add(Metaserver(1, "a:1"))), StatusCode::kOk);
  EXPECT_EQ(add(Metaserver(0, "b:1", 77)).member(), 2u);
  const uint64_t version = Map()->version();
  EXPECT_EQ(add(Metaserver(0, "b:1", 77)).member(), 2u) << "a repeat finds its id";
  EXPECT_EQ(Map()->version(), version);
  EXPECT_EQ(add(Metaserver(0, "b:2", 77)).member(), 2u);
  EXPECT_EQ(Map()->metaservers(1).address(), "b:2");

  proto::Mutation remove;
  remove.mutable_set_metaservers()->add_removed(2);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(remove)), StatusCode::kOk);
  EXPECT_EQ(Map()->metaservers_size(), 1);
  EXPECT_EQ(add(Metaserver(0, "b:1", 78)).member(), 3u);
  EXPECT_EQ(CodeOf(add(Metaserver(2, "b:1"))), StatusCode::kNotFound) << "a removed member does not come back";
}

TEST_F(ClusterOpsTest, MetaserverListRefusesWhatMakesNoSense) {
  Init();
  proto::Mutation mutation;
  proto::SetMetaserversOp* op = mutation.mutable_set_metaservers();
  *op->add_members() = Metaserver(1, "a:1");
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  const uint64_t version = Map()->version();
  op->add_removed(1);
  EXPECT_THAT(driver_.RunAsLeader(mutation).message(), HasSubstr("last metadata server"));
  op->clear_removed();
  *op->mutable_members(0) = Metaserver(0, "b:1");
  EXPECT_THAT(driver_.RunAsLeader(mutation).message(), HasSubstr("nonce"));
  *op->mutable_members(0) = Metaserver(0, "b:1", 5);
  op->mutable_members(0)->set_replaces(9);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kNotFound);
  *op->mutable_members(0) = Metaserver(0, "", 5);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kInvalidArgument);
  EXPECT_EQ(Map()->version(), version);
}

TEST_F(ClusterOpsTest, MapSurvivesReopening) {
  driver_.SetUpCluster();
  const std::string before = Map()->SerializeAsString();
  driver_.Reopen();
  EXPECT_EQ(Map()->SerializeAsString(), before);
}

// ---- Elastic targets ----

proto::RegisterServerRequest Elastic(proto::RegisterServerRequest request) {
  for (proto::TargetReport& report : *request.mutable_targets()) report.set_target_class(proto::TARGET_CLASS_ELASTIC);
  return request;
}

TEST_F(ClusterOpsTest, ANewElasticServerReplacesTheOneAtItsAddress) {
  Init();
  Register(Request(1, 1));
  Register(Elastic(Request(2, 2)));
  ASSERT_EQ(Map()->targets_size(), 3);
  proto::RegisterServerRequest again = Elastic(Request(3, 2));
  again.set_address(Request(2, 2).address());
  const proto::MutationReply registered = Register(again);
  ASSERT_EQ(Map()->targets_size(), 3);
  EXPECT_EQ(Map()->targets(0).target_class(), proto::TARGET_CLASS_DURABLE);
  EXPECT_EQ(Map()->targets(1).id(), registered.registered().target_ids(0));
  EXPECT_EQ(Map()->targets(2).id(), registered.registered().target_ids(1));
}

TEST_F(ClusterOpsTest, ADurableTargetAtAnElasticServersAddressStays) {
  Init();
  Register(Request(1, 1));
  Register(Elastic(Request(1, 1)));  // a lost answer, by address and incarnation: but of another class
  EXPECT_EQ(Map()->targets(0).target_class(), proto::TARGET_CLASS_DURABLE);
  proto::RegisterServerRequest other = Elastic(Request(5, 1));
  other.set_address(Request(1, 1).address());
  Register(other);
  EXPECT_EQ(Map()->targets(0).target_class(), proto::TARGET_CLASS_DURABLE);
}

TEST_F(ClusterOpsTest, ATargetKeepsItsClass) {
  Init();
  const proto::MutationReply durable = Register(Request(1, 1));
  EXPECT_EQ(CodeOf(Register(Elastic(Returning(durable, 2)))), StatusCode::kInvalidArgument);
  proto::RegisterServerRequest mixed = Request(3, 2);
  mixed.mutable_targets(1)->set_target_class(proto::TARGET_CLASS_ELASTIC);
  EXPECT_EQ(CodeOf(Register(mixed)), StatusCode::kInvalidArgument);
}

TEST_F(ClusterOpsTest, OnlyElasticTargetsThatAreOfflineAreForgotten) {
  Init();
  Register(Request(1, 1));
  Register(Elastic(Request(2, 2)));
  const auto set_offline = [&](uint64_t target) {
    proto::Mutation update;
    proto::Target* change = update.mutable_update_targets()->add_targets();
    change->set_id(target);
    change->set_state(proto::TARGET_STATE_OFFLINE);
    ASSERT_EQ(CodeOf(driver_.RunAsLeader(update)), StatusCode::kOk);
  };
  set_offline(1);
  set_offline(2);
  const uint64_t version = Map()->version();
  proto::Mutation forget;
  for (const uint64_t target : {1, 2, 3}) forget.mutable_update_targets()->add_forgotten(target);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(forget)), StatusCode::kOk);
  ASSERT_EQ(Map()->targets_size(), 2);
  EXPECT_EQ(Map()->targets(0).id(), 1u);
  EXPECT_EQ(Map()->targets(1).id(), 3u);
  EXPECT_EQ(Map()->version(), version + 1);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(forget)), StatusCode::kOk);
  EXPECT_EQ(Map()->version(), version + 1) << "nothing is left to forget";
}

TEST_F(ClusterOpsTest, ElasticTargetsComeAndGoWithoutAnEpoch) {
  driver_.SetUpCluster();
  const auto epochs = [&] {
    const auto map = Map();
    std::vector<uint64_t> all;
    for (const proto::PlacementGroup& group : map->groups()) all.push_back(group.epoch());
    return all;
  };
  const std::vector<uint64_t> before = epochs();
  ASSERT_FALSE(before.empty());
  for (uint64_t i = 10; i < 20; ++i) ASSERT_EQ(CodeOf(Register(Elastic(Request(i, 1)))), StatusCode::kOk);
  const proto::ClusterMap joined = *Map();
  for (const proto::Target& target : joined.targets()) {
    if (target.target_class() != proto::TARGET_CLASS_ELASTIC) continue;
    proto::Mutation update;
    proto::Target* change = update.mutable_update_targets()->add_targets();
    change->set_id(target.id());
    change->set_state(proto::TARGET_STATE_OFFLINE);
    ASSERT_EQ(CodeOf(driver_.RunAsLeader(update)), StatusCode::kOk);
  }
  EXPECT_EQ(epochs(), before);
}

}  // namespace
}  // namespace tarn::meta
