// The survey over real stores: what is measured, and what of copies that were left goes when.
#include "chunkserver/service/group_survey.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "chunkserver/replication/target_replication.h"
#include "chunkserver/service/service_fixture.h"
#include "chunkserver/service/target_executor.h"
#include "common/checksum/block_sums.h"

namespace tarn::chunk {
namespace {

constexpr uint64_t kTarget = 7;

class NoReplication final : public replication::TargetReplication {
 public:
  void AdoptMap(std::shared_ptr<const proto::ClusterMap>) override {}
  void ExtendLease(int64_t, int64_t) override {}
  void SetIncarnation(Incarnation) override {}
  replication::ReadVerdict AdmitRead(GroupId, Epoch, ChunkId) override { return {}; }
  replication::ReadVerdict AdmitConfirmedRead(GroupId, Epoch, ChunkId) override { return {}; }
  void Write(replication::ClientWrite, replication::ChangeCallback) override {}
  void Truncate(std::shared_ptr<const proto::TruncateChunkRequest>, replication::ChangeCallback) override {}
  void Commit(const std::vector<GroupId>&, std::function<void(Status, std::vector<GroupId>)>) override {}
  void HandlePeer(rpc::Method, std::span<const uint8_t>, std::span<const uint8_t>, std::shared_ptr<void>,
                  std::shared_ptr<replication::PeerResponder>) override {}
  void RepairChunk(GroupId, ChunkId, std::function<void(Status)>) override {}
  std::vector<proto::SyncProgress> Progress() override { return {}; }
  uint64_t map_version() const override { return 1; }
  void Stop() override {}
};

class GroupSurveyTest : public TargetDirectories {
 protected:
  GroupSurveyTest() {
    options_.worker_threads = 1;
    targets_ = Open({"a"});
    const std::vector<TargetId> ids = {TargetId(kTarget)};
    CHECK(targets_->Adopt({.cluster_id = "cluster", .server = ServerId(1)}, ids).ok(), "adopt");
    auto loop = rpc::EventLoop::Start("test");
    CHECK(loop.ok(), "loop");
    loop_ = *std::move(loop);
    target().StartReplication(std::make_unique<TargetExecutor>(1, loop_.get(), &clock_), std::make_unique<NoReplication>());
  }
  ~GroupSurveyTest() override {
    targets_->StopReplication();
    targets_->StopWorkers();
    loop_.reset();
    targets_->EndReplication();
  }

  HostedTarget& target() { return *targets_->targets()[0]; }
  void Write(uint64_t data, uint32_t group, const std::string& text) {
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    const std::string sums = ComputePieceSums(0, bytes);
    const auto written = target().store()->ApplyWrite(
        {.chunk = {DataId(data), 0}, .writer = {}, .offset = 0, .payload = bytes, .piece_sums = sums, .view = {}},
        {.group = GroupId(group), .epoch = Epoch(1), .base = {}});
    ASSERT_TRUE(written.ok()) << written.status().ToString();
  }
  // A map of two groups of two copies; the second one is not this target's unless it says so.
  static GroupSurvey::MapPtr Map(uint64_t version, const std::vector<uint64_t>& in_sync, const std::vector<uint64_t>& syncing = {}) {
    auto map = std::make_shared<proto::ClusterMap>();
    map->set_version(version);
    map->add_targets()->set_id(kTarget);
    for (const uint32_t id : {1, 2}) {
      proto::PlacementGroup* group = map->add_groups();
      group->set_id(id);
      group->set_replicas(2);
    }
    map->mutable_groups(0)->add_targets(kTarget);
    map->mutable_groups(0)->add_targets(8);
    for (const uint64_t each : in_sync) map->mutable_groups(1)->add_targets(each);
    for (const uint64_t each : syncing) map->mutable_groups(1)->add_syncing_targets(each);
    return map;
  }
  // Several rounds, until all groups were looked at more than once.
  void Rounds(GroupSurvey* survey, bool may_remove = true) {
    for (int i = 0; i < 6; ++i) {
      survey->Step(may_remove);
      // There is one worker: what it was given before this is over when this is run.
      std::atomic<bool> passed = false;
      ASSERT_TRUE(target().workers()->Submit([&] { passed = true; }));
      while (!passed) std::this_thread::yield();
    }
  }
  bool Exists(uint64_t data) { return target().store()->StateOf({DataId(data), 0})->stamp.version != 0; }
  proto::TargetReport Report(const GroupSurvey& survey) {
    proto::TargetReport report;
    report.set_id(kTarget);
    survey.FillReport(&report);
    return report;
  }

  std::unique_ptr<TargetSet> targets_;
  std::unique_ptr<rpc::EventLoop> loop_;
  const GroupSurveyOptions at_once_{.leftover_delay_ms = 0};
};

TEST_F(GroupSurveyTest, MeasuresItsOwnGroups) {
  Write(10, 1, std::string(5'000, 'x'));
  Write(11, 1, std::string(100, 'x'));
  GroupSurvey survey(targets_.get(), &clock_, at_once_);
  survey.SetMap(Map(1, {8, 9}));
  Rounds(&survey);
  const proto::TargetReport report = Report(survey);
  ASSERT_EQ(report.groups_size(), 1);
  EXPECT_EQ(report.groups(0).group(), 1u);
  EXPECT_EQ(report.groups(0).bytes(), 5'100u);
  EXPECT_EQ(report.groups(0).chunks(), 2u);
}

TEST_F(GroupSurveyTest, WhatWasLeftGoesWhenItIsCompleteElsewhere) {
  Write(10, 1, "stays");
  Write(20, 2, "left behind");
  GroupSurvey survey(targets_.get(), &clock_, at_once_);
  survey.SetMap(Map(1, {8}));
  Rounds(&survey);
  EXPECT_TRUE(Exists(20)) << "the group lacks a copy";
  EXPECT_EQ(Report(survey).leftover_bytes(), 11u);
  survey.SetMap(Map(2, {8, 9}));
  Rounds(&survey, /*may_remove=*/false);
  EXPECT_TRUE(Exists(20)) << "nothing may be removed now";
  Rounds(&survey);
  EXPECT_FALSE(Exists(20));
  EXPECT_TRUE(Exists(10));
  Rounds(&survey);
  EXPECT_EQ(Report(survey).leftover_bytes(), 0u);
}

TEST_F(GroupSurveyTest, WhatIsAMemberOrComesBackStays) {
  Write(20, 2, "a member's");
  GroupSurvey survey(targets_.get(), &clock_, at_once_);
  for (const auto& map : {Map(1, {8, 9, kTarget}), Map(2, {8, 9}, {kTarget})}) {
    survey.SetMap(map);
    Rounds(&survey);
    EXPECT_TRUE(Exists(20));
  }
  EXPECT_EQ(Report(survey).leftover_bytes(), 0u);
}

TEST_F(GroupSurveyTest, NothingGoesBeforeTheDelayIsOverNorOfAGroupThatTheMapDoesNotKnow) {
  Write(20, 2, "just left");
  Write(30, 3, "of a group from after a backup");
  GroupSurvey patient(targets_.get(), &clock_, {.leftover_delay_ms = 3'600'000});
  patient.SetMap(Map(1, {8, 9}));
  Rounds(&patient);
  EXPECT_TRUE(Exists(20));
  GroupSurvey survey(targets_.get(), &clock_, at_once_);
  survey.SetMap(Map(1, {8, 9}));
  Rounds(&survey);
  EXPECT_FALSE(Exists(20));
  EXPECT_TRUE(Exists(30));
}

TEST_F(GroupSurveyTest, ElasticTargetsKeepWhatTheyHave) {
  Write(20, 2, "cached");
  auto map = std::make_shared<proto::ClusterMap>(*Map(1, {8, 9}));
  map->mutable_targets(0)->set_target_class(proto::TARGET_CLASS_ELASTIC);
  GroupSurvey survey(targets_.get(), &clock_, at_once_);
  survey.SetMap(map);
  Rounds(&survey);
  EXPECT_TRUE(Exists(20));
}

TEST_F(GroupSurveyTest, AnOlderMapIsPassedOver) {
  Write(20, 2, "a member's");
  GroupSurvey survey(targets_.get(), &clock_, at_once_);
  survey.SetMap(Map(5, {8, kTarget}));
  survey.SetMap(Map(4, {8, 9}));
  Rounds(&survey);
  EXPECT_TRUE(Exists(20));
}

}  // namespace
}  // namespace tarn::chunk
