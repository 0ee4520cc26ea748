#include "tests/sim/data/leader.h"

#include <algorithm>
#include <string>
#include <utility>

namespace tarn::sim_data {

using replication::GroupView;

namespace {

std::string Names(const std::vector<TargetId>& targets) {
  std::string names;
  for (const TargetId target : targets) names += " " + std::to_string(target.value());
  return names;
}

}  // namespace

Leader::Leader(Bench* bench) : bench_(bench) {
  for (uint32_t id = 1; id <= bench->plan.groups; ++id) {
    GroupView group{.id = GroupId(id), .epoch = Epoch(1), .in_sync = {}, .syncing = {}, .replicas = bench->plan.replicas};
    for (uint32_t i = 0; i < bench->plan.replicas; ++i) group.in_sync.emplace_back((id + i) % bench->plan.targets + 1);
    groups_.push_back(std::move(group));
  }
  for (uint32_t id = 1; id <= bench->plan.targets; ++id) targets_[TargetId(id)];
  Publish();
}

bool Leader::HasLease(TargetId target) const {
  const Target& known = targets_.at(target);
  return known.registered && known.lease_until_ns > bench_->queue.now_ns();
}

bool Leader::MayGo(const GroupView& group, TargetId member) const {
  const auto since = epoch_versions_.find(group.id);
  return !HasLease(member) || since == epoch_versions_.end() || targets_.at(member).map_version >= since->second;
}

void Leader::Publish() {
  auto map = std::make_shared<proto::ClusterMap>();
  map->set_version(++version_);
  for (const GroupView& group : groups_) {
    proto::PlacementGroup* row = map->add_groups();
    row->set_id(group.id.value());
    row->set_epoch(group.epoch.value());
    row->set_replicas(group.replicas);
    row->set_intact_since(group.losses.last.value());
    row->set_intact_since_before(group.losses.before.value());
    row->set_intact_incarnation(group.intact_incarnation);
    for (const TargetId target : group.in_sync) row->add_targets(target.value());
    for (const TargetId target : group.syncing) row->add_syncing_targets(target.value());
  }
  for (const uint64_t session : fenced_) map->add_fenced_sessions()->set_session(session);
  map_ = std::move(map);
}

void Leader::Change(GroupView* group, std::vector<TargetId> in_sync, std::vector<TargetId> syncing, const char* why) {
  group->epoch = Epoch(group->epoch.value() + 1);
  group->in_sync = std::move(in_sync);
  group->syncing = std::move(syncing);
  ++epochs_;
  bench_->Trace("group " + std::to_string(group->id.value()) + " epoch " + std::to_string(group->epoch.value()) + ":" + Names(group->in_sync) + " |" +
                Names(group->syncing) + " (" + why + ")");
  Publish();
  epoch_versions_[group->id] = version_;
  if (on_change) on_change(*group);
}

void Leader::RemoveFrom(GroupView* group, const std::set<TargetId>& members, const char* why) {
  std::vector<TargetId> in_sync, syncing = group->syncing;
  for (const TargetId member : group->in_sync) (members.contains(member) ? syncing : in_sync).push_back(member);
  if (in_sync.empty()) return;
  if (in_sync.front() != group->in_sync.front()) {
    // The one with the most recent contact goes first.
    const auto newest = std::max_element(in_sync.begin(), in_sync.end(),
                                         [this](TargetId a, TargetId b) { return targets_.at(a).contact_ns < targets_.at(b).contact_ns; });
    std::rotate(in_sync.begin(), newest, newest + 1);
  }
  Change(group, std::move(in_sync), std::move(syncing), why);
}

void Leader::SetSilent(bool silent) {
  bench_->Trace(silent ? "the leader is silent" : "a new leader");
  silent_ = silent;
  if (silent) return;
  for (auto& [id, target] : targets_) target.lease_until_ns = bench_->queue.now_ns() + (kLeaseMs + kLeaseMarginMs) * sim::kMillisecond;
}

void Leader::Register(TargetId id, uint64_t process, bool clean) {
  Target& target = targets_.at(id);
  if (target.process >= process && target.registered) return;  // a late copy
  target.process = process;
  target.registered = true;
  target.map_version = 0;
  target.contact_ns = bench_->queue.now_ns();
  target.lease_until_ns = bench_->queue.now_ns() + (kLeaseMs + kLeaseMarginMs) * sim::kMillisecond;
  for (GroupView& group : groups_) {
    if (!clean && group.IsInSync(id) && group.in_sync.size() > 1) {
      RemoveFrom(&group, {id}, "unclean");
    } else if (!clean && group.IsInSync(id)) {
      group.losses = {Epoch(group.epoch.value() + 1), group.losses.last};
      group.intact_incarnation = process;
      Change(&group, group.in_sync, group.syncing, "a loss");
    } else if (group.IsSyncing(id) || group.primary() == id) {
      Change(&group, group.in_sync, group.syncing, "registered");
    }
  }
}

bool Leader::Heartbeat(TargetId id, uint64_t process, uint64_t map_version) {
  Target& target = targets_.at(id);
  if (!target.registered || target.process != process) return false;
  target.contact_ns = bench_->queue.now_ns();
  target.lease_until_ns = bench_->queue.now_ns() + (kLeaseMs + kLeaseMarginMs) * sim::kMillisecond;
  target.map_version = std::max(target.map_version, map_version);
  CheckFences();
  return true;
}

void Leader::Report(const proto::GroupReport& report) {
  GroupView& group = groups_[report.group() - 1];
  const TargetId member(report.target());
  if (group.epoch != Epoch(report.epoch())) return;
  if (report.kind() == proto::GroupReport::KIND_FAILED) {
    if (group.IsInSync(member) && !MayGo(group, member)) return;  // it is reported again
    if (group.IsInSync(member)) return RemoveFrom(&group, {member}, "failed");
    if (group.IsSyncing(member)) Change(&group, group.in_sync, group.syncing, "an equal one failed");
  } else if (group.IsSyncing(member)) {
    std::vector<TargetId> in_sync = group.in_sync, syncing = group.syncing;
    in_sync.push_back(member);
    std::erase(syncing, member);
    Change(&group, std::move(in_sync), std::move(syncing), "equal");
  }
}

void Leader::Fence(uint64_t session, std::function<void()> fenced) {
  bench_->Trace("fence session " + std::to_string(session));
  fenced_.insert(session);
  Publish();
  fencings_.push_back({version_, std::move(fenced)});
}

void Leader::CheckFences() {
  for (auto it = fencings_.begin(); it != fencings_.end();) {
    bool known_everywhere = true;
    for (const auto& [id, target] : targets_) {
      if (target.registered && target.map_version >= it->map_version) continue;
      // A server without its lease serves nothing, but groups of which it is the only member.
      bool is_alone = false;
      for (const GroupView& group : groups_) is_alone = is_alone || (group.in_sync.size() == 1 && group.primary() == id);
      if (HasLease(id) || is_alone) known_everywhere = false;
    }
    if (!known_everywhere) {
      ++it;
      continue;
    }
    const auto fenced = std::move(it->fenced);
    it = fencings_.erase(it);
    fenced();
  }
}

void Leader::Tick() {
  if (silent_) return;
  for (GroupView& group : groups_) {
    std::set<TargetId> ended;
    for (const TargetId member : group.in_sync) {
      if (!HasLease(member)) ended.insert(member);
    }
    if (!ended.empty() && ended.size() < group.in_sync.size()) RemoveFrom(&group, ended, "lease");
    ProposeMembers(&group);
    if (bench_->plan.plant == Plant::kPromoteEarly && !group.syncing.empty() && bench_->dice.Chance(0.05)) {
      std::vector<TargetId> in_sync = group.in_sync, syncing(group.syncing.begin() + 1, group.syncing.end());
      in_sync.push_back(group.syncing.front());
      Change(&group, std::move(in_sync), std::move(syncing), "planted");
    }
  }
  CheckFences();
}

// A member that is syncing and gone makes room for another target; surplus members leave.
void Leader::ProposeMembers(GroupView* group) {
  if (group->in_sync.size() > group->replicas && HasLease(group->in_sync.front()) && MayGo(*group, group->in_sync[1])) {
    // Neither the primary nor the one that has just come.
    std::vector<TargetId> in_sync = group->in_sync;
    in_sync.erase(in_sync.begin() + 1);
    return Change(group, std::move(in_sync), group->syncing, "surplus");
  }
  if (group->in_sync.size() >= group->replicas && !group->syncing.empty() && !bench_->faulty) {
    return Change(group, group->in_sync, {}, "enough");
  }
}

void Leader::MoveSomething() {
  if (silent_) return;
  GroupView& group = groups_[bench_->dice.Below(groups_.size())];
  for (const TargetId member : group.in_sync) {
    if (!HasLease(member)) return;
  }
  if (bench_->dice.Chance(0.5) && group.in_sync.size() > 1) {
    std::vector<TargetId> in_sync = group.in_sync;
    std::rotate(in_sync.begin(), in_sync.begin() + 1, in_sync.end());
    return Change(&group, std::move(in_sync), group.syncing, "hand-over");
  }
  const TargetId newcomer(bench_->dice.Below(bench_->plan.targets) + 1);
  if (group.IsInSync(newcomer) || group.IsSyncing(newcomer) || group.syncing.size() > 1) return;
  std::vector<TargetId> syncing = group.syncing;
  syncing.push_back(newcomer);
  // As soon as it is in-sync there is one too many.
  Change(&group, group.in_sync, std::move(syncing), "move");
}

bool Leader::IsWhole() const {
  return std::all_of(groups_.begin(), groups_.end(), [](const GroupView& group) { return group.in_sync.size() == group.replicas && group.syncing.empty(); });
}

}  // namespace tarn::sim_data
