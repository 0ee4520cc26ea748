#include "metaserver/service/server_registry.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

namespace tarn::meta {
namespace {

const proto::Target* FindTarget(const proto::ClusterMap& map, uint64_t id) {
  for (const proto::Target& target : map.targets()) {
    if (target.id() == id) return &target;
  }
  return nullptr;
}

constexpr int64_t kReclaimWindowNs = 5'000'000'000;
constexpr int64_t kLeaseMarginDivisor = 50;  // far more than clocks drift apart

// Those that go on serving when their lease is over. One that fails or is retired takes no writes, or is gone.
std::set<uint64_t> AloneInSync(const proto::ClusterMap& map) {
  std::set<uint64_t> alone;
  for (const proto::PlacementGroup& group : map.groups()) {
    if (group.targets_size() == 1) alone.insert(group.targets(0));
  }
  for (const proto::Target& target : map.targets()) {
    if (target.state() == proto::TARGET_STATE_FAILED || target.state() == proto::TARGET_STATE_RETIRED) alone.erase(target.id());
  }
  return alone;
}

int64_t WithMargin(int64_t lease_ns) { return lease_ns + lease_ns / kLeaseMarginDivisor; }

}  // namespace

LapsedTargets::~LapsedTargets() { registry_->Release(leadership_, targets_); }

int64_t ServerRegistry::LeaseEndNs(const Entry& entry) const {
  return std::max(entry.heard_ns + WithMargin(lease_ns_), reset_ns_ + WithMargin(former_lease_ns_));
}

bool ServerRegistry::HasLease(const Entry& entry, int64_t now_ns) const { return entry.claims == 0 && now_ns <= LeaseEndNs(entry); }

void ServerRegistry::Release(uint64_t leadership, const std::vector<TargetId>& targets) {
  MutexLock lock(mutex_);
  if (leadership != leadership_) return;
  for (const TargetId target : targets) {
    const auto found = targets_.find(target);
    if (found != targets_.end() && found->second.claims > 0) --found->second.claims;
  }
}

void ServerRegistry::Reset(const proto::ClusterMap& map) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  targets_.clear();
  ++leadership_;
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

uint32_t ServerRegistry::RecordRegistration(const std::vector<TargetId>& targets,
                                            const proto::RegisterServerRequest& request) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  last_registration_ns_ = now_ns;
  bool claimed = false;
  for (size_t i = 0; i < targets.size() && static_cast<int>(i) < request.targets_size(); ++i) {
    Entry& entry = targets_[targets[i]];
    claimed = claimed || entry.claims != 0;
    if (entry.claims == 0) entry.heard_ns = now_ns;
    entry.heard_in_person = true;
    entry.map_version = 0;
    entry.usage = request.targets(static_cast<int>(i));
  }
  return claimed ? 0 : static_cast<uint32_t>(lease_ms());
}

Result<uint32_t> ServerRegistry::RecordHeartbeat(const proto::ClusterMap& map, const proto::HeartbeatRequest& request) {
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
  bool claimed = false;
  for (const proto::TargetReport& report : request.targets())
    claimed = claimed || targets_[TargetId(report.id())].claims != 0;
  for (const proto::TargetReport& report : request.targets()) {
    Entry& entry = targets_[TargetId(report.id())];
    if (!claimed) entry.heard_ns = now_ns;
    entry.heard_in_person = true;
    entry.map_version = request.map_version();
    MeasureReclaim(&entry, report, now_ns);
    entry.usage = report;
    entry.usage.clear_reclaimed_data_ids();
  }
  return claimed ? 0u : static_cast<uint32_t>(lease_ms());
}

TargetFacts ServerRegistry::FactsOf(const Entry& entry, int64_t now_ns) const {
  TargetFacts known;
  known.lease_over = !HasLease(entry, now_ns);
  known.silent_ms = (now_ns - entry.heard_ns) / 1'000'000;
  known.map_version = entry.map_version;
  known.capacity_bytes = entry.usage.capacity_bytes();
  known.used_bytes = entry.usage.used_bytes();
  known.available_bytes = entry.usage.available_bytes();
  return known;
}

std::unordered_map<uint64_t, TargetFacts> ServerRegistry::Facts() const {
  const int64_t now_ns = clock_->MonotonicNs();
  std::unordered_map<uint64_t, TargetFacts> facts;
  MutexLock lock(mutex_);
  for (const auto& [target, entry] : targets_) facts[target.value()] = FactsOf(entry, now_ns);
  return facts;
}

std::unordered_map<uint64_t, TargetFacts> ServerRegistry::Facts(std::shared_ptr<LapsedTargets>* claim) {
  const int64_t now_ns = clock_->MonotonicNs();
  std::unordered_map<uint64_t, TargetFacts> facts;
  std::vector<TargetId> lapsed;
  uint64_t leadership = 0;
  {
    MutexLock lock(mutex_);
    leadership = leadership_;
    for (auto& [target, entry] : targets_) {
      const TargetFacts known = FactsOf(entry, now_ns);
      facts[target.value()] = known;
      if (!known.lease_over) continue;
      ++entry.claims;
      lapsed.push_back(target);
    }
  }
  *claim = std::make_shared<LapsedTargets>(this, leadership, std::move(lapsed));
  return facts;
}

bool ServerRegistry::AllKnow(const proto::ClusterMap& map, uint64_t version) const {
  const std::set<uint64_t> alone = AloneInSync(map);
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  for (const proto::Target& target : map.targets()) {
    if (target.target_class() == proto::TARGET_CLASS_ELASTIC) continue;  // takes no writes
    const auto found = targets_.find(TargetId(target.id()));
    const bool has_lease = found != targets_.end() && HasLease(found->second, now_ns);
    if (!has_lease && !alone.contains(target.id())) continue;
    if (found == targets_.end() || found->second.map_version < version) return false;
  }
  return true;
}

std::vector<proto::SyncProgress> ServerRegistry::Syncs() const {
  const int64_t now_ns = clock_->MonotonicNs();
  std::vector<proto::SyncProgress> syncs;
  MutexLock lock(mutex_);
  for (const auto& [target, entry] : targets_) {
    if (HasLease(entry, now_ns)) syncs.insert(syncs.end(), entry.usage.syncs().begin(), entry.usage.syncs().end());
  }
  return syncs;
}

void ServerRegistry::MeasureReclaim(Entry* entry, const proto::TargetReport& report, int64_t now_ns) {
  const bool is_first = entry->reclaimed_since_ns == 0 || report.reclaimed_bytes() < entry->reclaimed_before_bytes;
  if (!is_first && now_ns - entry->reclaimed_since_ns < kReclaimWindowNs) return;
  const double seconds = static_cast<double>(now_ns - entry->reclaimed_since_ns) / 1e9;
  entry->reclaimed_bytes_per_second =
      is_first ? 0 : static_cast<double>(report.reclaimed_bytes() - entry->reclaimed_before_bytes) / seconds;
  entry->reclaimed_since_ns = now_ns;
  entry->reclaimed_before_bytes = report.reclaimed_bytes();
}

void ServerRegistry::FillSpace(const proto::ClusterMap& map, proto::SpaceProgress* space) const {
  const int64_t now_ns = clock_->MonotonicNs();
  double rate = 0;
  uint64_t used_bytes = 0;
  uint64_t available_bytes = 0;
  uint64_t leftover_bytes = 0;
  MutexLock lock(mutex_);
  for (const proto::Target& target : map.targets()) {
    const auto found = targets_.find(TargetId(target.id()));
    const bool counts = target.target_class() == proto::TARGET_CLASS_DURABLE && target.state() != proto::TARGET_STATE_RETIRED;
    if (found == targets_.end() || !counts) continue;
    used_bytes += found->second.usage.used_bytes();
    if (!HasLease(found->second, now_ns)) continue;
    available_bytes += found->second.usage.available_bytes();
    leftover_bytes += found->second.usage.leftover_bytes();
    rate += found->second.reclaimed_bytes_per_second;
  }
  space->set_used_bytes(used_bytes);
  space->set_available_bytes(available_bytes);
  space->set_usable_bytes(used_bytes + available_bytes);
  space->set_leftover_bytes(leftover_bytes);
  space->set_reclaimed_bytes_per_second(static_cast<uint64_t>(rate));
}

std::unordered_map<uint32_t, uint64_t> ServerRegistry::GroupBytes() const {
  std::unordered_map<uint32_t, uint64_t> bytes;
  MutexLock lock(mutex_);
  for (const auto& [target, entry] : targets_) {
    for (const proto::GroupUsage& usage : entry.usage.groups()) {
      uint64_t& known = bytes[usage.group()];
      known = std::max<uint64_t>(known, usage.bytes());
    }
  }
  return bytes;
}

void ServerRegistry::WantScrub(TargetId target) {
  MutexLock lock(mutex_);
  if (const auto found = targets_.find(target); found != targets_.end()) found->second.wants_scrub = true;
}

bool ServerRegistry::TakeWantedScrub(const proto::HeartbeatRequest& request) {
  bool wanted = false;
  MutexLock lock(mutex_);
  for (const proto::TargetReport& report : request.targets()) {
    const auto found = targets_.find(TargetId(report.id()));
    if (found != targets_.end()) wanted = std::exchange(found->second.wants_scrub, false) || wanted;
  }
  return wanted;
}

proto::TargetReport ServerRegistry::LastReport(TargetId target) const {
  MutexLock lock(mutex_);
  const auto found = targets_.find(target);
  return found != targets_.end() ? found->second.usage : proto::TargetReport();
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
    target.set_bytes_read(usage.bytes_read());
    if (usage.has_elastic()) *target.mutable_elastic() = usage.elastic();
  }
}

std::vector<proto::Target> ServerRegistry::StateChanges(const proto::ClusterMap& map) const {
  const int64_t now_ns = clock_->MonotonicNs();
  std::vector<proto::Target> changes;
  MutexLock lock(mutex_);
  for (const proto::Target& target : map.targets()) {
    const auto found = targets_.find(TargetId(target.id()));
    const int64_t heard_ns = found != targets_.end() ? found->second.heard_ns : reset_ns_;
    const bool alive = found != targets_.end() ? HasLease(found->second, now_ns) : now_ns - heard_ns <= std::max(lease_ns_, former_lease_ns_);
    const bool came_back = alive && found != targets_.end() && found->second.heard_in_person;
    proto::TargetState state = target.state();
    if (state == proto::TARGET_STATE_ONLINE && !alive) state = proto::TARGET_STATE_OFFLINE;
    if (state == proto::TARGET_STATE_OFFLINE && came_back) state = proto::TARGET_STATE_ONLINE;
    const bool fails = found != targets_.end() && !found->second.usage.failure().empty();
    if (fails && state != proto::TARGET_STATE_RETIRED) state = proto::TARGET_STATE_FAILED;
    if (state == target.state()) continue;
    proto::Target& change = changes.emplace_back();
    change.set_id(target.id());
    change.set_incarnation(target.incarnation());
    change.set_state(state);
  }
  return changes;
}

int64_t ServerRegistry::NextLeaseEndNs() const {
  const int64_t now_ns = clock_->MonotonicNs();
  int64_t next_ns = INT64_MAX;
  MutexLock lock(mutex_);
  for (const auto& [target, entry] : targets_) {
    if (HasLease(entry, now_ns)) next_ns = std::min(next_ns, LeaseEndNs(entry) + 1);
  }
  return next_ns;
}

int64_t ServerRegistry::last_registration_ns() const {
  MutexLock lock(mutex_);
  return last_registration_ns_;
}

int64_t ServerRegistry::quiet_since_ns() const {
  MutexLock lock(mutex_);
  return std::max(last_registration_ns_, reset_ns_);
}

}  // namespace tarn::meta
