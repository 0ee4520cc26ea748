// For tests: directories of targets that go with the test, and a metadata server whose answers the test chooses.
#pragma once

#include "common/base/mutex.h"  // before gRPC, whose headers define macros of the same names

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chunkserver/service/target_set.h"
#include "chunkserver/store/chunk_store.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/fault/fault_points.h"
#include "common/rpc/frame_server.h"
#include "common/rpc/grpc_status.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/hello.pb.h"

namespace tarn::chunk {

// Answers registrations and heartbeats as a leader would; remembers what it was asked. Thread-safe.
class FakeMetadataServer final : public proto::ClusterService::Service {
 public:
  FakeMetadataServer() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    grpc_ = builder.BuildAndStart();
    auto frames = rpc::FrameServer::Start(
        {},
        [this, port](const proto::HelloRequest&, proto::HelloReply* reply) {
          reply->set_role(proto::PEER_ROLE_METASERVER);
          reply->set_cluster_id(cluster_id);
          reply->set_grpc_address("127.0.0.1:" + std::to_string(port));
          return Status::Ok();
        },
        [](rpc::Request, std::unique_ptr<rpc::Responder> responder) { responder->Fail(Status(StatusCode::kNotSupported, "not here")); });
    CHECK(frames.ok(), frames.status().ToString());
    frames_ = *std::move(frames);
  }
  ~FakeMetadataServer() override {
    frames_.reset();
    grpc_->Shutdown();
  }

  const std::string& address() const { return frames_->address(); }

  // Shown to every server from the next answer on.
  void SetMap(const proto::ClusterMap& map) {
    MutexLock lock(mutex_);
    map_ = map;
  }
  // Instead of a reply to heartbeats and reports, once.
  void FailOnce(const Status& status) {
    MutexLock lock(mutex_);
    failure_ = status;
  }
  // From now on registrations with a server id fail: the server was forgotten.
  void RefuseKnownServers() {
    MutexLock lock(mutex_);
    refuses_known_ = true;
  }
  void SetDeadData(const proto::DeadData& dead) {
    MutexLock lock(mutex_);
    dead_ = dead;
  }
  // What a report makes of the map; none: nothing.
  void OnReport(std::function<void(const proto::GroupReport&, proto::ClusterMap*)> decide) {
    MutexLock lock(mutex_);
    decide_ = std::move(decide);
  }

  // Wait for requests of which one satisfies the condition, and return it; ends the test after some seconds.
  proto::RegisterServerRequest WaitForRegistration(const std::function<bool(const proto::RegisterServerRequest&)>& fits) { return WaitFor(registrations_, fits); }
  proto::HeartbeatRequest WaitForHeartbeat(const std::function<bool(const proto::HeartbeatRequest&)>& fits) { return WaitFor(heartbeats_, fits); }
  proto::ReportGroupsRequest WaitForReports(const std::function<bool(const proto::ReportGroupsRequest&)>& fits) { return WaitFor(reports_, fits); }
  size_t report_count() {
    MutexLock lock(mutex_);
    return reports_.size();
  }

  std::string cluster_id = "0123456789abcdef";  // set before the first request
  uint32_t lease_ms = 4'000;

 private:
  static constexpr int kWaitSeconds = 10;

  template <typename Message>
  Message WaitFor(std::vector<Message>& seen, const std::function<bool(const Message&)>& fits) {
    MutexLock lock(mutex_);
    for (size_t next = 0; true;) {
      for (; next < seen.size(); ++next) {
        if (fits(seen[next])) return seen[next];
      }
      CHECK(changed_.WaitFor(lock, std::chrono::seconds(kWaitSeconds)), "the request that the test waits for did not come");
    }
  }
  bool TakeFailure(grpc::Status* status) REQUIRES(mutex_) {
    if (failure_.ok()) return false;
    *status = rpc::ToGrpcStatus(std::exchange(failure_, Status::Ok()));
    return true;
  }

  grpc::Status RegisterServer(grpc::ServerContext*, const proto::RegisterServerRequest* request, proto::RegisterServerReply* reply) override {
    MutexLock lock(mutex_);
    registrations_.push_back(*request);
    changed_.NotifyAll();
    if (refuses_known_ && request->server_id() != 0) return rpc::ToGrpcStatus(Status(StatusCode::kInvalidArgument, "that server is unknown"));
    reply->set_cluster_id(cluster_id);
    reply->set_server_id(request->server_id() != 0 ? request->server_id() : 1);
    for (const proto::TargetReport& report : request->targets()) reply->add_target_ids(report.id() != 0 ? report.id() : next_target_++);
    *reply->mutable_map() = map_;
    reply->set_heartbeat_interval_ms(50);
    reply->set_lease_ms(lease_ms);
    return grpc::Status::OK;
  }
  grpc::Status Heartbeat(grpc::ServerContext*, const proto::HeartbeatRequest* request, proto::HeartbeatReply* reply) override {
    MutexLock lock(mutex_);
    grpc::Status failed;
    if (TakeFailure(&failed)) return failed;
    heartbeats_.push_back(*request);
    changed_.NotifyAll();
    if (map_.version() > request->map_version()) *reply->mutable_map() = map_;
    if (dead_.target() != 0) *reply->add_dead_data() = dead_;
    reply->set_lease_ms(lease_ms);
    return grpc::Status::OK;
  }
  grpc::Status ReportGroups(grpc::ServerContext*, const proto::ReportGroupsRequest* request, proto::ReportGroupsReply* reply) override {
    MutexLock lock(mutex_);
    grpc::Status failed;
    if (TakeFailure(&failed)) return failed;
    reports_.push_back(*request);
    changed_.NotifyAll();
    for (const proto::GroupReport& report : request->reports()) {
      if (decide_) decide_(report, &map_);
    }
    *reply->mutable_map() = map_;
    return grpc::Status::OK;
  }

  Mutex mutex_;
  CondVar changed_;
  proto::ClusterMap map_ GUARDED_BY(mutex_);
  proto::DeadData dead_ GUARDED_BY(mutex_);
  Status failure_ GUARDED_BY(mutex_);
  std::function<void(const proto::GroupReport&, proto::ClusterMap*)> decide_ GUARDED_BY(mutex_);
  uint64_t next_target_ GUARDED_BY(mutex_) = 10;
  bool refuses_known_ GUARDED_BY(mutex_) = false;
  std::vector<proto::RegisterServerRequest> registrations_ GUARDED_BY(mutex_);
  std::vector<proto::HeartbeatRequest> heartbeats_ GUARDED_BY(mutex_);
  std::vector<proto::ReportGroupsRequest> reports_ GUARDED_BY(mutex_);

  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<rpc::FrameServer> frames_;
};

class TargetDirectories : public testing::Test {
 protected:
  TargetDirectories() {
    std::string pattern = testing::TempDir() + "chunk_service_XXXXXX";
    root_ = mkdtemp(pattern.data());
    options_.store.background_maintenance = false;
    options_.store.segment_bytes = 2 << 20;
    options_.store.reserve_bytes = 1;
    options_.store.cache_bytes = 16 << 20;
    options_.worker_threads = 1;
  }
  ~TargetDirectories() override { std::filesystem::remove_all(root_); }

  std::string Directory(const std::string& name) const { return root_ + "/" + name; }

  store::StoreEnvironment Environment() { return {.random = &random_, .clock = &clock_, .faults = &faults_, .open_segments = open_segments_}; }
  Result<std::unique_ptr<TargetSet>> TryOpen(const std::vector<std::string>& names) {
    options_.directories.clear();
    for (const std::string& name : names) options_.directories.push_back(Directory(name));
    return TargetSet::Open(options_, Environment());
  }
  std::unique_ptr<TargetSet> Open(const std::vector<std::string>& names) {
    auto opened = TryOpen(names);
    CHECK(opened.ok(), opened.status().ToString());
    return *std::move(opened);
  }
  static void Close(std::unique_ptr<TargetSet> set) {
    set->StopWorkers();
    const Status closed = set->Close();
    ASSERT_TRUE(closed.ok()) << closed.ToString();
  }
  // The stores of these directories cannot be opened: their disk fails.
  void FailDisk(const std::string& name) {
    open_segments_ = [bad = Directory(name)](const std::string& path) -> Result<std::unique_ptr<store::SegmentDirectory>> {
      if (path.starts_with(bad)) return Status(StatusCode::kIoError, "open " + path + ": Input/output error");
      return store::OpenPosixSegmentDirectory(path);
    };
  }

  std::string root_;
  TargetSetOptions options_;
  SystemRandom random_;
  SystemClock clock_;
  fault::FaultPoints faults_;
  std::function<Result<std::unique_ptr<store::SegmentDirectory>>(const std::string&)> open_segments_;
};

}  // namespace tarn::chunk
