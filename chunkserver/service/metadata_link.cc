#include "chunkserver/service/metadata_link.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/named_thread.h"

namespace tarn::chunk {
namespace {

constexpr int64_t kRetryPauseMs = 100;
// Rounds of kRetryPauseMs in which a map that somebody has heard of did not come.
constexpr int kWantedRoundsMax = 30;

// What no retry mends: the directory is not this cluster's, or the cluster does not know it.
bool IsFinal(const Status& status) {
  switch (status.code()) {
    case StatusCode::kPermission:
    case StatusCode::kNotPermitted:
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kExists:
    case StatusCode::kNotSupported:
    case StatusCode::kUnknownSession: return true;
    default: return false;
  }
}

}  // namespace

MetadataLink::MetadataLink(MetadataLinkOptions options, TargetSet* targets, ClusterView* view, rpc::EventLoop* loop, const Clock* clock)
    : options_(std::move(options)),
      targets_(targets),
      view_(view),
      clock_(clock),
      leader_({.metaservers = options_.metaservers,
               .peer_name = "tarn-chunkserver " + options_.advertise,
               .check_cluster = [this](const std::string& cluster_id, const std::string& address) { return CheckCluster(cluster_id, address); }},
              loop),
      dead_data_(targets) {}

void MetadataLink::Start() {
  thread_ = StartNamedThread("metadata-link", [this] { Run(); });
}

MetadataLink::~MetadataLink() { Stop(); }

void MetadataLink::Stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  const Status stopped(StatusCode::kCancelled, "the chunk server stops");
  for (const auto& done : TakeRefreshCallbacks()) done(stopped);
}

void MetadataLink::Refresh(std::function<void(const Status&)> done) {
  MutexLock lock(mutex_);
  if (stop_) return;
  refresh_callbacks_.push_back(std::move(done));
  changed_.NotifyAll();
}

void MetadataLink::WantMap(uint64_t version) {
  if (view_->groups()->version() >= version) return;
  MutexLock lock(mutex_);
  if (version <= wanted_version_) return;
  wanted_version_ = version;
  wanted_rounds_ = 0;
  changed_.NotifyAll();
}

void MetadataLink::Run() {
  int64_t pause_ms = 0;
  bool may_end_early = true;
  while (WaitForNextRound(pause_ms, may_end_early)) {
    pause_ms = kRetryPauseMs;
    may_end_early = false;
    // Those that come later want an answer to a question that is asked later.
    const auto waiting = TakeRefreshCallbacks();
    if (const Status connected = leader_.Connect(); !connected.ok()) {
      for (const auto& done : waiting) done(connected);
      if (connected.code() != StatusCode::kUnavailable) options_.on_failure(connected);
      continue;
    }
    const Status status = registered_ ? Heartbeat() : Register();
    for (const auto& done : waiting) done(status);
    if (status.ok()) {
      if (StillWantsMap()) continue;
      pause_ms = heartbeat_interval_ms_;
      may_end_early = true;
    } else if (registered_ && IsFinal(status)) {
      // A metadata server that restarted may have forgotten what registrations tell it.
      spdlog::info("registers again reason=\"{}\"", status.message());
      registered_ = false;
      pause_ms = 0;
    } else if (IsFinal(status) && targets_->ForgetElasticIdentity()) {
      spdlog::info("registers as a new elastic server reason=\"{}\"", status.message());
      pause_ms = 0;
    } else if (IsFinal(status)) {
      options_.on_failure(status);
      return;
    } else if (leader_.Redirect(status)) {
      pause_ms = 0;
    }
  }
}

bool MetadataLink::WaitForNextRound(int64_t pause_ms, bool may_end_early) {
  MutexLock lock(mutex_);
  const int64_t until_ms = clock_->MonotonicMs() + pause_ms;
  while (!stop_) {
    const bool is_awaited = !refresh_callbacks_.empty() || wanted_version_ != 0;
    if (may_end_early && is_awaited) break;
    const int64_t left_ms = until_ms - clock_->MonotonicMs();
    if (left_ms <= 0) break;
    changed_.WaitFor(lock, std::chrono::milliseconds(left_ms));
  }
  return !stop_;
}

bool MetadataLink::StillWantsMap() {
  const uint64_t version = view_->groups()->version();
  MutexLock lock(mutex_);
  if (wanted_version_ == 0) return false;
  if (version < wanted_version_ && ++wanted_rounds_ < kWantedRoundsMax) return true;
  wanted_version_ = 0;
  return false;
}

std::vector<std::function<void(const Status&)>> MetadataLink::TakeRefreshCallbacks() {
  MutexLock lock(mutex_);
  return std::exchange(refresh_callbacks_, {});
}

Status MetadataLink::CheckCluster(const std::string& cluster_id, const std::string& address) const {
  const ServerIdentity identity = targets_->identity();
  if (identity.cluster_id.empty() || cluster_id.empty() || identity.cluster_id == cluster_id) return Status::Ok();
  std::string directory;
  for (const auto& target : targets_->targets()) {
    if (directory.empty() && target->id().valid()) directory = target->directory();
  }
  return Status(StatusCode::kPermission, directory + "/TARGET belongs to another cluster than the metadata server at " + address);
}

void MetadataLink::FillReports(google::protobuf::RepeatedPtrField<proto::TargetReport>* reports) {
  for (const HostedTarget* const target : targets_->Reported()) target->FillReport(reports->Add());
}

Status MetadataLink::Register() {
  const ServerIdentity identity = targets_->identity();
  proto::RegisterServerRequest request;
  request.set_cluster_id(identity.cluster_id);
  request.set_server_id(identity.server.value());
  request.set_incarnation(options_.incarnation);
  request.set_address(options_.advertise);
  request.set_node(options_.node);
  request.set_zone(options_.zone);
  request.set_software_version(options_.software_version);
  request.set_pid(options_.pid);
  FillReports(request.mutable_targets());
  const int64_t sent_ns = clock_->MonotonicNs();
  proto::RegisterServerReply reply;
  RETURN_IF_ERROR(leader_.RegisterServer(request, &reply));
  std::vector<TargetId> ids;
  std::string id_list;
  for (const uint64_t id : reply.target_ids()) {
    ids.emplace_back(id);
    id_list += (id_list.empty() ? "" : ",") + std::to_string(id);
  }
  RETURN_IF_ERROR(targets_->Adopt({.cluster_id = reply.cluster_id(), .server = ServerId(reply.server_id())}, ids));
  if (reply.heartbeat_interval_ms() > 0) heartbeat_interval_ms_ = reply.heartbeat_interval_ms();
  registered_ = true;
  options_.on_registered();
  Adopt(reply.map());
  options_.on_lease(sent_ns, reply.lease_ms());
  spdlog::info("registered server={} targets={} map_version={}", reply.server_id(), id_list, reply.map().version());
  return Status::Ok();
}

Status MetadataLink::Heartbeat() {
  const ServerIdentity identity = targets_->identity();
  proto::HeartbeatRequest request;
  request.set_cluster_id(identity.cluster_id);
  request.set_server_id(identity.server.value());
  request.set_incarnation(options_.incarnation);
  request.set_map_version(targets_->SettledMapVersion(view_->groups()->version()));
  FillReports(request.mutable_targets());
  for (proto::TargetReport& report : *request.mutable_targets()) {
    dead_data_.FillReport(&report);
    if (options_.add_to_report) options_.add_to_report(&report);
  }
  const int64_t sent_ns = clock_->MonotonicNs();
  proto::HeartbeatReply reply;
  RETURN_IF_ERROR(leader_.Heartbeat(request, &reply));
  dead_data_.Reported(request);
  if (reply.has_map()) Adopt(reply.map());
  options_.on_lease(sent_ns, reply.lease_ms());
  dead_data_.Delete(reply);
  if (options_.on_heartbeat) options_.on_heartbeat(reply);
  if (reply.start_scrub() && options_.on_start_scrub) options_.on_start_scrub();
  return Status::Ok();
}

void MetadataLink::Adopt(const proto::ClusterMap& map) {
  leader_.Learn(map);
  view_->Adopt(map);
}

}  // namespace tarn::chunk
