#include "metaserver/placement/rebalance.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "metaserver/placement/group_rules.h"

namespace tarn::meta {
namespace {

// How much more than just enough the gap must be, so that nothing moves because of what was measured a moment too late.
constexpr double kGapFactor = 1.5;
// Of the average load: less is even enough.
constexpr double kGapShareMin = 0.02;
constexpr uint64_t kRoomDivisor = 20;  // nothing is moved to a target of which less than a twentieth is left

// The groups of one number of copies. One thread; plans once.
class Balancer {
 public:
  Balancer(const ClusterView& view, const GroupLoads& loads, uint32_t partners_max, uint32_t replicas);

  const std::vector<GroupMove>& under_way() const { return under_way_; }
  // Done at once, for what comes next.
  std::optional<GroupMove> Next();

 private:
  struct Group {
    const proto::PlacementGroup* group = nullptr;
    std::vector<uint64_t> members;
    double weight = 0;
    bool settled = false;  // at its goal, nobody missing, nobody on the way
  };
  struct Candidate {
    Group* group = nullptr;
    size_t strangers = 0;
    double gain = 0;
  };

  void Add(const proto::PlacementGroup& group, const GroupLoads& loads);
  double LoadOf(uint64_t target) { return weights_[target] / sizes_[target]; }
  std::optional<Candidate> BestGroup(uint64_t from, uint64_t to, double gap);
  bool HasRoomFor(uint64_t target, const Group& group);
  bool Spreads(const Group& group, uint64_t from, uint64_t to) const;
  size_t Strangers(const Group& group, uint64_t from, uint64_t to);

  const ClusterView& view_;
  const GroupLoads& loads_;
  const uint32_t partners_max_;
  std::vector<uint64_t> targets_;  // that take part
  std::unordered_map<uint64_t, double> sizes_;
  std::unordered_map<uint64_t, double> weights_;  // of what they have
  std::unordered_map<uint64_t, uint64_t> planned_bytes_;
  std::unordered_map<uint64_t, std::set<uint64_t>> partners_;
  std::vector<Group> groups_;
  std::vector<GroupMove> under_way_;
  double gap_min_ = 0;
};

Balancer::Balancer(const ClusterView& view, const GroupLoads& loads, uint32_t partners_max, uint32_t replicas)
    : view_(view), loads_(loads), partners_max_(partners_max) {
  double size = 0;
  for (const proto::Target& target : view.map().targets()) {
    sizes_[target.id()] = loads.SizeOf(target.id());
    if (!view.Counts(target.id())) continue;
    targets_.push_back(target.id());
    size += sizes_[target.id()];
  }
  for (const proto::PlacementGroup& group : view.map().groups()) {
    if (group.replicas() == replicas && !group.targets().empty()) Add(group, loads);
  }
  double weight = 0;
  for (const uint64_t target : targets_) weight += weights_[target];
  gap_min_ = size > 0 ? kGapShareMin * weight / size : 0;
}

void Balancer::Add(const proto::PlacementGroup& group, const GroupLoads& loads) {
  Group& added = groups_.emplace_back();
  added.group = &group;
  added.weight = loads.WeightOf(group);
  const Members members = MembersOf(group);
  added.members = members.in_sync;
  added.members.insert(added.members.end(), members.syncing.begin(), members.syncing.end());
  const size_t goal = std::max<size_t>(group.replicas(), 1);
  const bool is_well = members.in_sync.size() >= goal &&
                       std::ranges::all_of(added.members, [&](uint64_t each) { return view_.Counts(each); });
  added.settled = is_well && added.members.size() == goal;
  const uint64_t newest = added.members.back();
  while (is_well && added.members.size() > goal) {
    const uint64_t leaving = WorstPlaced(view_, loads, group, added.members);
    std::erase(added.members, leaving);
    under_way_.push_back({group.id(), leaving, newest, loads.BytesOf(group.id())});
    if (!members.syncing.empty()) planned_bytes_[newest] += loads.BytesOf(group.id());
  }
  for (const uint64_t target : added.members) {
    weights_[target] += added.weight;
    for (const uint64_t other : added.members) {
      if (other != target) partners_[target].insert(other);
    }
  }
}

bool Balancer::HasRoomFor(uint64_t target, const Group& group) {
  const TargetFacts& facts = view_.Facts(target);
  if (facts.capacity_bytes == 0) return true;
  const uint64_t needed = loads_.BytesOf(group.group->id()) + planned_bytes_[target] + facts.capacity_bytes / kRoomDivisor;
  return facts.available_bytes > needed;
}

bool Balancer::Spreads(const Group& group, uint64_t from, uint64_t to) const {
  return std::ranges::none_of(group.members, [&](uint64_t each) {
    return each == to || (each != from && (view_.Node(each) == view_.Node(to) ||
                                           (view_.Zone(each) == view_.Zone(to) && view_.Zone(from) != view_.Zone(to))));
  });
}

// Members that would share groups with more others than they should.
size_t Balancer::Strangers(const Group& group, uint64_t from, uint64_t to) {
  size_t strangers = 0;
  for (const uint64_t each : group.members) {
    if (each == from || partners_[each].contains(to)) continue;
    if (partners_[each].size() >= partners_max_ || partners_[to].size() >= partners_max_) ++strangers;
  }
  return strangers;
}

std::optional<Balancer::Candidate> Balancer::BestGroup(uint64_t from, uint64_t to, double gap) {
  const double cost = 1 / sizes_[from] + 1 / sizes_[to];
  std::optional<Candidate> best;
  for (Group& group : groups_) {
    if (!group.settled || std::ranges::find(group.members, from) == group.members.end()) continue;
    if (gap < kGapFactor * group.weight * cost / 2) continue;
    if (!Spreads(group, from, to) || !HasRoomFor(to, group)) continue;
    // What the sum of the squares of the loads, each times the size, shrinks by.
    const Candidate candidate{&group, Strangers(group, from, to), 2 * group.weight * gap - group.weight * group.weight * cost};
    const bool is_better = !best || candidate.strangers < best->strangers ||
                           (candidate.strangers == best->strangers && candidate.gain > best->gain);
    if (is_better) best = candidate;
  }
  return best;
}

std::optional<GroupMove> Balancer::Next() {
  std::vector<uint64_t> order = targets_;
  std::ranges::stable_sort(order, {}, [&](uint64_t target) { return LoadOf(target); });
  for (size_t last = order.size(); last-- > 1;) {
    const uint64_t from = order[last];
    for (size_t first = 0; first < last; ++first) {
      const uint64_t to = order[first];
      const double gap = LoadOf(from) - LoadOf(to);
      if (gap <= gap_min_) break;
      const std::optional<Candidate> best = BestGroup(from, to, gap);
      if (!best) continue;
      Group& group = *best->group;
      group.settled = false;
      *std::ranges::find(group.members, from) = to;
      weights_[from] -= group.weight;
      weights_[to] += group.weight;
      const uint64_t bytes = loads_.BytesOf(group.group->id());
      planned_bytes_[to] += bytes;
      for (const uint64_t each : group.members) {
        if (each == to) continue;
        partners_[each].insert(to);
        partners_[to].insert(each);
      }
      return GroupMove{group.group->id(), from, to, bytes};
    }
  }
  return std::nullopt;
}

}  // namespace

RebalancePlan PlanRebalance(const ClusterView& view, const GroupLoads& loads, uint32_t partners_max, size_t moves_max) {
  std::set<uint32_t> factors;
  for (const proto::PlacementGroup& group : view.map().groups()) factors.insert(group.replicas());
  RebalancePlan plan;
  // Those of most copies first: they have the data that somebody cares for most.
  for (auto factor = factors.rbegin(); factor != factors.rend(); ++factor) {
    Balancer balancer(view, loads, partners_max, *factor);
    plan.under_way.insert(plan.under_way.end(), balancer.under_way().begin(), balancer.under_way().end());
    while (plan.next.size() < moves_max) {
      const std::optional<GroupMove> move = balancer.Next();
      if (!move) break;
      plan.next.push_back(*move);
    }
  }
  return plan;
}

}  // namespace tarn::meta
