#include "metaserver/service/server_registry.h"

#include <string>

namespace tarn::meta {
namespace {

const proto::Target* FindTarget(const proto::ClusterMap& map, uint64_t id) {
  for (const proto::Target& target : map.targets()) {
    if (target.id() == id) return &target;
  }
  return nullptr;
}

}  // namespace

void ServerRegistry::Reset(const proto::ClusterMap& map) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  targets_.clear();
  reset_ns_ = now_ns;
  last_registration_ns_ = 0;
  for (const proto::Target& target : map.targets()) {
    Entry& entry = targets_[TargetId(target.id())];
    entry.heard_ns = now_ns;
    entry.usage.set_capacity_bytes(target.capacity_bytes());
    entry.usage.set_used_bytes(target.used_bytes());
    entry.usage.set_available_bytes(target.available_bytes());
    entry.usage.set_chunk_count(target.chunk_count());
  }
}

void ServerRegistry::RecordRegistration(const std::vector<TargetId>& targets,
                                        const proto::RegisterServerRequest& request) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  last_registration_ns_ = now_ns;
  for (size_t i = 0; i < targets.size() && static_cast<int>(i) < request.targets_size(); ++i) {
    targets_[targets[i]] = Entry{now_ns, true, request.targets(static_cast<int>(i))};
  }
}

Status ServerRegistry::RecordHeartbeat(const proto::ClusterMap& map, const proto::HeartbeatRequest& request) {
  for (const proto::TargetReport& report : request.targets()) {
    const proto::Target* target = FindTarget(map, report.id());
    if (target == nullptr || target->server_id() != request.server_id()) {
      return Status(StatusCode::kUnknownSession, "target " + std::to_string(report.id()) + " of chunk server " +
                                                     std::to_string(request.server_id()) + " is not registered");
    }
    if (target->incarnation() != request.incarnation()) {
      return Status(StatusCode::kWrongIncarnation,
                    "target " + std::to_string(report.id()) + " is registered with another incarnation of its server");
    }
  }
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  for (const proto::TargetReport& report : request.targets()) {
    Entry& entry = targets_[TargetId(report.id())];
    entry.heard_ns = now_ns;
    entry.heard_in_person = true;
    entry.usage = report;
    entry.usage.clear_reclaimed_data_ids();
  }
  return Status::Ok();
}

void ServerRegistry::FillUsage(proto::ClusterMap* map) const {
  MutexLock lock(mutex_);
  for (proto::Target& target : *map->mutable_targets()) {
    const auto found = targets_.find(TargetId(target.id()));
    if (found == targets_.end()) continue;
    const proto::TargetReport& usage = found->second.usage;
    target.set_capacity_bytes(usage.capacity_bytes());
    target.set_used_bytes(usage.used_bytes());
    target.set_available_bytes(usage.available_bytes());
    target.set_chunk_count(usage.chunk_count());
  }
}

std::vector<proto::Target> ServerRegistry::StateChanges(const proto::ClusterMap& map) const {
  const int64_t now_ns = clock_->MonotonicNs();
  std::vector<proto::Target> changes;
  MutexLock lock(mutex_);
  for (const proto::Target& target : map.targets()) {
    const auto found = targets_.find(TargetId(target.id()));
    const int64_t heard_ns = found != targets_.end() ? found->second.heard_ns : reset_ns_;
    const bool alive = now_ns - heard_ns <= lease_ns_;
    const bool came_back = alive && found != targets_.end() && found->second.heard_in_person;
    proto::TargetState state = target.state();
    if (state == proto::TARGET_STATE_ONLINE && !alive) state = proto::TARGET_STATE_OFFLINE;
    if (state == proto::TARGET_STATE_OFFLINE && came_back) state = proto::TARGET_STATE_ONLINE;
    if (state == target.state()) continue;
    proto::Target& change = changes.emplace_back();
    change.set_id(target.id());
    change.set_incarnation(target.incarnation());
    change.set_state(state);
  }
  return changes;
}

int64_t ServerRegistry::last_registration_ns() const {
  MutexLock lock(mutex_);
  return last_registration_ns_;
}

}  // namespace tarn::meta
