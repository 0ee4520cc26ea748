// What the leader remembers of sessions and chunk servers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/service/server_registry.h"
#include "metaserver/service/session_keeper.h"

namespace tarn::meta {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

TEST(SessionKeeper, SilentSessionExpires) {
  FakeClock clock;
  SessionKeeper keeper(&clock, 1000);
  keeper.Add(SessionId(1));
  clock.AdvanceMs(6000);
  EXPECT_THAT(keeper.TakeExpired(10), IsEmpty());
  clock.AdvanceMs(1);
  EXPECT_THAT(keeper.TakeExpired(10), ElementsAre(SessionId(1)));
}

TEST(SessionKeeper, SilentSessionLapsesLongBeforeItExpires) {
  FakeClock clock;
  SessionKeeper keeper(&clock, 1000);
  keeper.Add(SessionId(1));
  clock.AdvanceMs(1125);
  EXPECT_THAT(keeper.TakeLapsed(), IsEmpty());
  clock.AdvanceMs(1);
  EXPECT_THAT(keeper.TakeLapsed(), ElementsAre(SessionId(1)));
  EXPECT_THAT(keeper.TakeLapsed(), IsEmpty());
  EXPECT_THAT(keeper.TakeExpired(10), IsEmpty());
  EXPECT_EQ(keeper.TouchAndCount(SessionId(1)), 1u);
  clock.AdvanceMs(1126);
  EXPECT_THAT(keeper.TakeLapsed(), ElementsAre(SessionId(1)));
  EXPECT_EQ(keeper.TouchAndCount(SessionId(1)), 2u);
}

TEST(SessionKeeper, AFencedSessionIsClosedThoughItIsHeardOf) {
  FakeClock clock;
  SessionKeeper keeper(&clock, 1000);
  keeper.Add(SessionId(1));
  EXPECT_TRUE(keeper.BeginClosing(SessionId(1)));
  EXPECT_FALSE(keeper.BeginClosing(SessionId(1))) << "it is being closed";
  keeper.Retry(SessionId(1));
  EXPECT_TRUE(keeper.BeginClosing(SessionId(1)));
  EXPECT_FALSE(keeper.BeginClosing(SessionId(2))) << "it is not open";
}

TEST(SessionKeeper, RequestsKeepASessionAlive) {
  FakeClock clock;
  SessionKeeper keeper(&clock, 1000);
  keeper.Add(SessionId(1));
  for (int i = 0; i < 5; ++i) {
    clock.AdvanceMs(5900);
    EXPECT_TRUE(keeper.Touch(SessionId(1)));
  }
  EXPECT_THAT(keeper.TakeExpired(10), IsEmpty());
}

TEST(SessionKeeper, ExpiredSessionIsTakenOnceUnlessItIsRetried) {
  FakeClock clock;
  SessionKeeper keeper(&clock, 1000);
  keeper.Add(SessionId(1));
  clock.AdvanceMs(6001);
  EXPECT_THAT(keeper.TakeExpired(10), SizeIs(1));
  EXPECT_THAT(keeper.TakeExpired(10), IsEmpty());
  keeper.Retry(SessionId(1));
  EXPECT_THAT(keeper.TakeExpired(10), SizeIs(1));
}

TEST(SessionKeeper, NewLeaderStartsAllAfresh) {
  FakeClock clock;
  SessionKeeper keeper(&clock, 1000);
  keeper.Add(SessionId(1));
  clock.AdvanceMs(6000);
  keeper.Reset({SessionId(2), SessionId(3)});
  EXPECT_THAT(keeper.TakeExpired(10), IsEmpty());
  EXPECT_FALSE(keeper.Touch(SessionId(1)));
  clock.AdvanceMs(6001);
  EXPECT_THAT(keeper.TakeExpired(10), UnorderedElementsAre(SessionId(2), SessionId(3)));
}

TEST(SessionKeeper, AtMostSoManyAreTakenAtOnce) {
  FakeClock clock;
  SessionKeeper keeper(&clock, 1000);
  for (uint64_t i = 1; i <= 10; ++i) keeper.Add(SessionId(i));
  clock.AdvanceMs(6001);
  EXPECT_THAT(keeper.TakeExpired(4), SizeIs(4));
  EXPECT_THAT(keeper.TakeExpired(40), SizeIs(6));
}

TEST(SessionKeeper, RemovedSessionIsUnknown) {
  FakeClock clock;
  SessionKeeper keeper(&clock, 1000);
  keeper.Add(SessionId(1));
  keeper.Remove(SessionId(1));
  EXPECT_FALSE(keeper.Touch(SessionId(1)));
  EXPECT_EQ(keeper.size(), 0u);
}

class ServerRegistryTest : public ::testing::Test {
 protected:
  ServerRegistryTest() {
    proto::Target* target = map_.add_targets();
    target->set_id(1);
    target->set_server_id(9);
    target->set_incarnation(77);
    target->set_state(proto::TARGET_STATE_ONLINE);
    target->set_capacity_bytes(10);
    request_.set_server_id(9);
    request_.set_incarnation(77);
    request_.add_targets()->set_id(1);
    request_.mutable_targets(0)->set_capacity_bytes(1000);
    request_.mutable_targets(0)->set_available_bytes(600);
    registry_.Reset(map_);
  }

  FakeClock clock_;
  ServerRegistry registry_{&clock_, 5000};
  proto::ClusterMap map_;
  proto::HeartbeatRequest request_;
};

TEST_F(ServerRegistryTest, SilentTargetGoesOfflineAfterItsLeaseAndAMargin) {
  clock_.AdvanceMs(5100);
  EXPECT_THAT(registry_.StateChanges(map_), IsEmpty());
  clock_.AdvanceMs(1);
  const auto changes = registry_.StateChanges(map_);
  ASSERT_THAT(changes, SizeIs(1));
  EXPECT_EQ(changes[0].id(), 1u);
  EXPECT_EQ(changes[0].incarnation(), 77u);
  EXPECT_EQ(changes[0].state(), proto::TARGET_STATE_OFFLINE);
}

// Members of the metadata group may be of different versions, or have been started with different options.
TEST_F(ServerRegistryTest, WhatAnEarlierLeaderToldIsWaitedFor) {
  ServerRegistry shorter(&clock_, 1000);
  shorter.Reset(map_);
  clock_.AdvanceMs(100);
  ASSERT_TRUE(shorter.RecordHeartbeat(map_, request_).ok());
  clock_.AdvanceMs(4'999);
  EXPECT_FALSE(shorter.Facts().at(1).lease_over) << "it may still have five seconds of the one before";
  clock_.AdvanceMs(2);
  EXPECT_TRUE(shorter.Facts().at(1).lease_over);
  ASSERT_TRUE(shorter.RecordHeartbeat(map_, request_).ok());
  clock_.AdvanceMs(1'021);
  EXPECT_TRUE(shorter.Facts().at(1).lease_over);
}

TEST_F(ServerRegistryTest, TellsWhenTheNextLeaseEnds) {
  clock_.AdvanceMs(6'000);
  EXPECT_EQ(registry_.NextLeaseEndNs(), INT64_MAX) << "over already";
  ASSERT_TRUE(registry_.RecordHeartbeat(map_, request_).ok());
  const int64_t end_ns = registry_.NextLeaseEndNs();
  EXPECT_EQ(end_ns, clock_.MonotonicNs() + 5'100'000'000 + 1);
  clock_.AdvanceMs(5'100);
  EXPECT_FALSE(registry_.Facts().at(1).lease_over);
  clock_.AdvanceMs(1);
  EXPECT_GE(clock_.MonotonicNs(), end_ns);
  EXPECT_TRUE(registry_.Facts().at(1).lease_over);
}

TEST_F(ServerRegistryTest, HeartbeatsKeepATargetOnline) {
  for (int i = 0; i < 5; ++i) {
    clock_.AdvanceMs(4000);
    EXPECT_TRUE(registry_.RecordHeartbeat(map_, request_).ok());
  }
  EXPECT_THAT(registry_.StateChanges(map_), IsEmpty());
}

TEST_F(ServerRegistryTest, OfflineTargetComesBackWithAHeartbeatOnly) {
  map_.mutable_targets(0)->set_state(proto::TARGET_STATE_OFFLINE);
  registry_.Reset(map_);
  EXPECT_THAT(registry_.StateChanges(map_), IsEmpty()) << "a new leader has not heard of it";
  EXPECT_TRUE(registry_.RecordHeartbeat(map_, request_).ok());
  const auto changes = registry_.StateChanges(map_);
  ASSERT_THAT(changes, SizeIs(1));
  EXPECT_EQ(changes[0].state(), proto::TARGET_STATE_ONLINE);
}

TEST_F(ServerRegistryTest, DrainingAndRetiredTargetsKeepTheirState) {
  for (const auto state : {proto::TARGET_STATE_DRAINING, proto::TARGET_STATE_RETIRED}) {
    map_.mutable_targets(0)->set_state(state);
    clock_.AdvanceMs(6000);
    EXPECT_THAT(registry_.StateChanges(map_), IsEmpty());
  }
}

TEST_F(ServerRegistryTest, FailingTargetIsFailed) {
  request_.mutable_targets(0)->set_failure("read error");
  ASSERT_TRUE(registry_.RecordHeartbeat(map_, request_).ok());
  const auto changes = registry_.StateChanges(map_);
  ASSERT_THAT(changes, SizeIs(1));
  EXPECT_EQ(changes[0].state(), proto::TARGET_STATE_FAILED);
  map_.mutable_targets(0)->set_state(proto::TARGET_STATE_FAILED);
  EXPECT_THAT(registry_.StateChanges(map_), IsEmpty());
}

TEST_F(ServerRegistryTest, HeartbeatTellsTheLease) {
  const auto lease_ms = registry_.RecordHeartbeat(map_, request_);
  ASSERT_TRUE(lease_ms.ok());
  EXPECT_EQ(*lease_ms, 5000u);
}

TEST_F(ServerRegistryTest, LapsedTargetGetsNoLeaseWhileSomebodyDecidesAboutIt) {
  clock_.AdvanceMs(5101);
  std::shared_ptr<LapsedTargets> claim;
  EXPECT_TRUE(registry_.Facts(&claim).at(1).lease_over);
  EXPECT_EQ(*registry_.RecordHeartbeat(map_, request_), 0u);
  proto::RegisterServerRequest registration;
  registration.add_targets();
  EXPECT_EQ(registry_.RecordRegistration({TargetId(1)}, registration), 0u);
  EXPECT_TRUE(registry_.Facts().at(1).lease_over);
  claim.reset();
  EXPECT_EQ(*registry_.RecordHeartbeat(map_, request_), 5000u);
  EXPECT_FALSE(registry_.Facts().at(1).lease_over);
}

TEST_F(ServerRegistryTest, TargetWithALeaseIsNotClaimed) {
  std::shared_ptr<LapsedTargets> claim;
  EXPECT_FALSE(registry_.Facts(&claim).at(1).lease_over);
  EXPECT_EQ(*registry_.RecordHeartbeat(map_, request_), 5000u);
}

TEST_F(ServerRegistryTest, ClaimOfAnEarlierLeadershipReleasesNothing) {
  clock_.AdvanceMs(5101);
  std::shared_ptr<LapsedTargets> earlier;
  registry_.Facts(&earlier);
  registry_.Reset(map_);
  EXPECT_FALSE(registry_.Facts().at(1).lease_over) << "as if it had just been heard of";
  clock_.AdvanceMs(5101);
  std::shared_ptr<LapsedTargets> claim;
  registry_.Facts(&claim);
  earlier.reset();
  EXPECT_EQ(*registry_.RecordHeartbeat(map_, request_), 0u);
}

TEST_F(ServerRegistryTest, AllKnowAMapWhenThoseWithALeaseDo) {
  EXPECT_FALSE(registry_.AllKnow(map_, 3));
  request_.set_map_version(2);
  ASSERT_TRUE(registry_.RecordHeartbeat(map_, request_).ok());
  EXPECT_FALSE(registry_.AllKnow(map_, 3));
  request_.set_map_version(3);
  ASSERT_TRUE(registry_.RecordHeartbeat(map_, request_).ok());
  EXPECT_TRUE(registry_.AllKnow(map_, 3));
  EXPECT_FALSE(registry_.AllKnow(map_, 4));
  clock_.AdvanceMs(5101);
  EXPECT_TRUE(registry_.AllKnow(map_, 4)) << "nobody has a lease";
}

TEST_F(ServerRegistryTest, WhoIsAloneInSyncHasToKnowAMapWithoutALeaseToo) {
  proto::PlacementGroup* group = map_.add_groups();
  group->set_id(1);
  group->add_targets(1);
  request_.set_map_version(3);
  ASSERT_TRUE(registry_.RecordHeartbeat(map_, request_).ok());
  clock_.AdvanceMs(5101);
  EXPECT_FALSE(registry_.AllKnow(map_, 4)) << "it serves without a lease";
  EXPECT_TRUE(registry_.AllKnow(map_, 3));
  group->add_targets(7);
  EXPECT_TRUE(registry_.AllKnow(map_, 4)) << "one of two does not";
  group->mutable_targets()->RemoveLast();
  map_.mutable_targets(0)->set_state(proto::TARGET_STATE_RETIRED);
  EXPECT_TRUE(registry_.AllKnow(map_, 4)) << "gone for good";
}

TEST_F(ServerRegistryTest, ScrubIsAskedForOnce) {
  EXPECT_FALSE(registry_.TakeWantedScrub(request_));
  registry_.WantScrub(TargetId(1));
  EXPECT_TRUE(registry_.TakeWantedScrub(request_));
  EXPECT_FALSE(registry_.TakeWantedScrub(request_));
}

TEST_F(ServerRegistryTest, UsageComesFromTheLastHeartbeat) {
  registry_.FillUsage(&map_);
  EXPECT_EQ(map_.targets(0).capacity_bytes(), 10u);
  ASSERT_TRUE(registry_.RecordHeartbeat(map_, request_).ok());
  registry_.FillUsage(&map_);
  EXPECT_EQ(map_.targets(0).capacity_bytes(), 1000u);
  EXPECT_EQ(map_.targets(0).available_bytes(), 600u);
}

TEST_F(ServerRegistryTest, StrangersAndOldLivesAreRefused) {
  request_.set_incarnation(76);
  EXPECT_EQ(registry_.RecordHeartbeat(map_, request_).status().code(), StatusCode::kWrongIncarnation);
  request_.set_incarnation(77);
  request_.set_server_id(8);
  EXPECT_EQ(registry_.RecordHeartbeat(map_, request_).status().code(), StatusCode::kUnknownSession);
  request_.set_server_id(9);
  request_.mutable_targets(0)->set_id(2);
  EXPECT_EQ(registry_.RecordHeartbeat(map_, request_).status().code(), StatusCode::kUnknownSession);
}

}  // namespace
}  // namespace tarn::meta
