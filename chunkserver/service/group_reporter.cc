#include "chunkserver/service/group_reporter.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <unordered_map>
#include <utility>

#include "common/base/named_thread.h"

namespace tarn::chunk {
namespace {

// After a failure.
constexpr int64_t kRetryPauseMs = 100;
// The leader has answered and left the group as it is: it may decide otherwise later.
constexpr int64_t kRepeatPauseMs = 500;

}  // namespace

GroupReporter::GroupReporter(GroupReporterOptions options, const TargetSet* targets, ClusterView* view, rpc::EventLoop* loop, const Clock* clock)
    : options_(std::move(options)), targets_(targets), view_(view), clock_(clock), leader_(options_.leader, loop) {
  thread_ = StartNamedThread("group-reports", [this] { Run(); });
}

GroupReporter::~GroupReporter() { Stop(); }

void GroupReporter::Stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    pending_.clear();
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void GroupReporter::Report(const proto::GroupReport& report) {
  MutexLock lock(mutex_);
  if (stop_) return;
  proto::GroupReport& pending = pending_[Key(report.group(), report.target(), report.kind())];
  if (report.epoch() < pending.epoch()) return;
  const bool is_new = report.epoch() != pending.epoch();
  pending = report;
  if (!is_new) return;
  has_new_ = true;
  changed_.NotifyAll();
}

void GroupReporter::Run() {
  while (WaitForReports()) {
    if (!leader_.Connect().ok()) {
      Pause(kRetryPauseMs);
      continue;
    }
    const Status sent = Send();
    if (sent.ok()) {
      Pause(kRepeatPauseMs);
    } else if (!leader_.Redirect(sent)) {
      Pause(kRetryPauseMs);
    }
  }
}

Status GroupReporter::Send() {
  const proto::ReportGroupsRequest request = MakeRequest();
  if (request.reports().empty()) return Status::Ok();
  proto::ReportGroupsReply reply;
  RETURN_IF_ERROR(leader_.ReportGroups(request, &reply));
  leader_.Learn(reply.map());
  view_->Adopt(reply.map());
  ForgetDecided(reply.map());
  return Status::Ok();
}

proto::ReportGroupsRequest GroupReporter::MakeRequest() {
  const ServerIdentity identity = targets_->identity();
  proto::ReportGroupsRequest request;
  request.set_cluster_id(identity.cluster_id);
  request.set_server_id(identity.server.value());
  request.set_incarnation(options_.incarnation);
  // A heartbeat may have brought the decision.
  ForgetDecided(*view_->map());
  MutexLock lock(mutex_);
  has_new_ = false;
  for (const auto& [key, report] : pending_) *request.add_reports() = report;
  return request;
}

void GroupReporter::ForgetDecided(const proto::ClusterMap& map) {
  std::unordered_map<uint32_t, uint64_t> epochs;
  for (const proto::PlacementGroup& group : map.groups()) epochs.emplace(group.id(), group.epoch());
  MutexLock lock(mutex_);
  std::erase_if(pending_, [&](const auto& each) {
    const auto found = epochs.find(each.second.group());
    return found != epochs.end() && found->second > each.second.epoch();
  });
}

bool GroupReporter::WaitForReports() {
  MutexLock lock(mutex_);
  while (!stop_ && pending_.empty()) changed_.Wait(lock);
  return !stop_;
}

void GroupReporter::Pause(int64_t pause_ms) {
  MutexLock lock(mutex_);
  const int64_t until_ms = clock_->MonotonicMs() + pause_ms;
  while (!stop_) {
    // A new report waits for no repeat; but it does wait after a failure, which it would only meet again.
    if (has_new_ && pause_ms == kRepeatPauseMs) return;
    const int64_t left_ms = until_ms - clock_->MonotonicMs();
    if (left_ms <= 0) return;
    changed_.WaitFor(lock, std::chrono::milliseconds(left_ms));
  }
}

}  // namespace tarn::chunk
