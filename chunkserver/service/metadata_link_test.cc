#include "chunkserver/service/metadata_link.h"

#include <gtest/gtest.h>

#include <atomic>

#include "chunkserver/service/service_fixture.h"

namespace tarn::chunk {
namespace {

class MetadataLinkTest : public TargetDirectories {
 protected:
  MetadataLinkTest() {
    auto loop = rpc::EventLoop::Start("link-test");
    CHECK(loop.ok(), loop.status().ToString());
    loop_ = *std::move(loop);
    proto::ClusterMap map;
    map.set_version(1);
    meta_.SetMap(map);
  }
  ~MetadataLinkTest() override {
    link_.reset();
    if (targets_ != nullptr) targets_->StopWorkers();
  }

  void StartLink(const std::vector<std::string>& names) {
    targets_ = Open(names);
    view_ = std::make_unique<ClusterView>(targets_.get(), [](const ClusterView::MapPtr&) {});
    MetadataLinkOptions options;
    options.metaservers = {meta_.address()};
    options.advertise = "127.0.0.1:1";
    options.incarnation = 42;
    options.on_registered = [this] { ++registrations_; };
    options.on_lease = [this](int64_t sent_ns, int64_t lease_ms) {
      MutexLock lock(mutex_);
      leases_.emplace_back(sent_ns, lease_ms);
    };
    options.on_failure = [this](const Status& status) {
      MutexLock lock(mutex_);
      failure_ = status;
      changed_.NotifyAll();
    };
    link_ = std::make_unique<MetadataLink>(std::move(options), targets_.get(), view_.get(), loop_.get(), &clock_);
    link_->Start();
  }
  static bool Any(const proto::HeartbeatRequest&) { return true; }

  FakeMetadataServer meta_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<TargetSet> targets_;
  std::unique_ptr<ClusterView> view_;
  std::unique_ptr<MetadataLink> link_;
  std::atomic<int> registrations_ = 0;
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::pair<int64_t, int64_t>> leases_ GUARDED_BY(mutex_);
  Status failure_ GUARDED_BY(mutex_);
};

TEST_F(MetadataLinkTest, RegistersAllTargetsAndReportsEach) {
  StartLink({"a", "b"});
  EXPECT_EQ(meta_.WaitForRegistration([](const auto&) { return true; }).targets_size(), 2);
  const proto::HeartbeatRequest beat = meta_.WaitForHeartbeat(Any);
  ASSERT_EQ(beat.targets_size(), 2);
  EXPECT_EQ(beat.targets(0).id(), 10u);
  EXPECT_EQ(beat.targets(1).id(), 11u);
  EXPECT_GT(beat.targets(1).capacity_bytes(), 0u);
  EXPECT_EQ(beat.incarnation(), 42u);
}

TEST_F(MetadataLinkTest, LeasesCountFromBeforeTheRequestWasSent) {
  const int64_t before_ns = clock_.MonotonicNs();
  StartLink({"a"});
  meta_.WaitForHeartbeat(Any);
  meta_.WaitForHeartbeat([seen = 0](const auto&) mutable { return ++seen == 3; });
  const int64_t after_ns = clock_.MonotonicNs();
  MutexLock lock(mutex_);
  ASSERT_GE(leases_.size(), 2u) << "the registration and the first heartbeats";
  int64_t last_ns = before_ns;
  for (const auto& [sent_ns, lease_ms] : leases_) {
    EXPECT_EQ(lease_ms, 4'000);
    EXPECT_GE(sent_ns, last_ns);
    EXPECT_LE(sent_ns, after_ns);
    last_ns = sent_ns;
  }
}

TEST_F(MetadataLinkTest, AWantedMapIsAskedForUntilItComes) {
  StartLink({"a"});
  meta_.WaitForHeartbeat(Any);
  link_->WantMap(2);
  // The metadata server has it only later.
  meta_.WaitForHeartbeat([seen = 0](const auto&) mutable { return ++seen == 3; });
  proto::ClusterMap map;
  map.set_version(2);
  meta_.SetMap(map);
  meta_.WaitForHeartbeat([](const auto& beat) { return beat.map_version() == 2; });
  EXPECT_EQ(view_->groups()->version(), 2u);
}

TEST_F(MetadataLinkTest, AServerThatWasForgottenRegistersAgain) {
  StartLink({"a"});
  meta_.WaitForHeartbeat(Any);
  meta_.FailOnce(Status(StatusCode::kNotFound, "who are you"));
  const auto again = meta_.WaitForRegistration([seen = 0](const auto&) mutable { return ++seen == 2; });
  EXPECT_EQ(again.server_id(), 1u);
  EXPECT_EQ(again.targets(0).id(), 10u);
  EXPECT_TRUE(again.targets(0).clean_shutdown());
}

TEST_F(MetadataLinkTest, DeadDataIsReportedAsGoneOnceItIs) {
  StartLink({"a", "b"});
  meta_.WaitForHeartbeat(Any);
  proto::DeadData dead;
  dead.set_target(11);
  dead.add_data_ids(500);
  meta_.SetDeadData(dead);
  const auto beat = meta_.WaitForHeartbeat([](const auto& each) { return each.targets(1).reclaimed_data_ids_size() > 0; });
  EXPECT_EQ(beat.targets(1).reclaimed_data_ids(0), 500u);
  EXPECT_EQ(beat.targets(0).reclaimed_data_ids_size(), 0);
}

TEST_F(MetadataLinkTest, AMetadataServerOfAnotherClusterEndsIt) {
  {
    auto set = Open({"a"});
    const std::vector<TargetId> ids = {TargetId(7)};
    ASSERT_TRUE(set->Adopt({.cluster_id = "fedcba9876543210", .server = ServerId(3)}, ids).ok());
    Close(std::move(set));
  }
  StartLink({"a"});
  MutexLock lock(mutex_);
  while (failure_.ok()) changed_.Wait(lock);
  EXPECT_EQ(failure_.code(), StatusCode::kPermission);
  EXPECT_NE(failure_.message().find(Directory("a") + "/TARGET"), std::string::npos) << failure_.message();
}

}  // namespace
}  // namespace tarn::chunk
