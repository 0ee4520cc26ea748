#include "chunkserver/service/group_reporter.h"

#include <gtest/gtest.h>

#include "chunkserver/service/service_fixture.h"

namespace tarn::chunk {
namespace {

class GroupReporterTest : public TargetDirectories {
 protected:
  GroupReporterTest() {
    auto loop = rpc::EventLoop::Start("reports-test");
    CHECK(loop.ok(), loop.status().ToString());
    loop_ = *std::move(loop);
    targets_ = Open({"a"});
    view_ = std::make_unique<ClusterView>(targets_.get(), [this](const ClusterView::MapPtr& map) {
      MutexLock lock(mutex_);
      adopted_ = map;
      changed_.NotifyAll();
    });
    map_.set_version(1);
    for (uint32_t id = 1; id <= 3; ++id) {
      proto::PlacementGroup* group = map_.add_groups();
      group->set_id(id);
      group->set_epoch(5);
    }
    view_->Adopt(map_);
    meta_.SetMap(map_);
    GroupReporterOptions options;
    options.leader = {.metaservers = {meta_.address()}, .peer_name = "test", .check_cluster = [](const auto&, const auto&) { return Status::Ok(); }};
    options.incarnation = 42;
    options.want_map = [](uint64_t) {};
    reporter_ = std::make_unique<GroupReporter>(std::move(options), targets_.get(), view_.get(), loop_.get(), &clock_);
  }
  ~GroupReporterTest() override {
    reporter_->Stop();
    targets_->StopWorkers();
  }

  static proto::GroupReport Failed(uint32_t group, uint64_t epoch, uint64_t target) {
    proto::GroupReport report;
    report.set_group(group);
    report.set_epoch(epoch);
    report.set_target(target);
    report.set_kind(proto::GroupReport::KIND_FAILED);
    return report;
  }
  // As a leader does: the next epoch, if the report is about the current one.
  static void Decide(const proto::GroupReport& report, proto::ClusterMap* map) {
    for (proto::PlacementGroup& group : *map->mutable_groups()) {
      if (group.id() != report.group() || group.epoch() != report.epoch()) continue;
      group.set_epoch(group.epoch() + 1);
      map->set_version(map->version() + 1);
    }
  }
  ClusterView::MapPtr WaitForMap(uint64_t version) {
    MutexLock lock(mutex_);
    while (adopted_ == nullptr || adopted_->version() < version) changed_.Wait(lock);
    return adopted_;
  }

  FakeMetadataServer meta_;
  proto::ClusterMap map_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<TargetSet> targets_;
  std::unique_ptr<ClusterView> view_;
  Mutex mutex_;
  CondVar changed_;
  ClusterView::MapPtr adopted_ GUARDED_BY(mutex_);
  std::unique_ptr<GroupReporter> reporter_;
};

TEST_F(GroupReporterTest, TheMapOfTheAnswerIsAdoptedAndTheReportIsOver) {
  meta_.OnReport(Decide);
  reporter_->Report(Failed(1, 5, 20));
  const proto::ReportGroupsRequest request = meta_.WaitForReports([](const auto&) { return true; });
  EXPECT_EQ(request.incarnation(), 42u);
  ASSERT_EQ(request.reports_size(), 1);
  EXPECT_EQ(request.reports(0).target(), 20u);
  WaitForMap(2);
  // Another one goes alone.
  reporter_->Report(Failed(2, 5, 20));
  const auto next = meta_.WaitForReports([](const auto& each) { return each.reports(0).group() == 2; });
  EXPECT_EQ(next.reports_size(), 1);
}

TEST_F(GroupReporterTest, IsRepeatedWhileItsEpochStands) {
  reporter_->Report(Failed(1, 5, 20));
  meta_.WaitForReports([seen = 0](const auto&) mutable { return ++seen == 2; });
  meta_.OnReport(Decide);
  EXPECT_EQ(WaitForMap(2)->groups(0).epoch(), 6u);
}

TEST_F(GroupReporterTest, SurvivesAFailedCall) {
  meta_.OnReport(Decide);
  meta_.FailOnce(Status(StatusCode::kUnavailable, "an election"));
  reporter_->Report(Failed(1, 5, 20));
  WaitForMap(2);
}

TEST_F(GroupReporterTest, AReportOfAnEarlierEpochIsNotSent) {
  proto::ClusterMap newer = map_;
  newer.set_version(2);
  newer.mutable_groups(0)->set_epoch(6);
  view_->Adopt(newer);
  reporter_->Report(Failed(1, 5, 20));
  reporter_->Report(Failed(2, 5, 20));
  const auto request = meta_.WaitForReports([](const auto& each) { return each.reports_size() > 0; });
  for (const proto::GroupReport& report : request.reports()) EXPECT_EQ(report.group(), 2u);
}

}  // namespace
}  // namespace tarn::chunk
