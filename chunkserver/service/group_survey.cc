#include "chunkserver/service/group_survey.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace tarn::chunk {
namespace {

bool Lists(const google::protobuf::RepeatedField<uint64_t>& members, TargetId target) {
  return std::ranges::find(members, target.value()) != members.end();
}

const proto::PlacementGroup* FindGroup(const proto::ClusterMap& map, uint32_t id) {
  const auto found = std::ranges::find(map.groups(), id, &proto::PlacementGroup::id);
  return found != map.groups().end() ? &*found : nullptr;
}

// The one with the next higher number; after the last one the first. 0: there are none.
uint32_t GroupAfter(const proto::ClusterMap& map, uint32_t group) {
  uint32_t first = 0;
  uint32_t next = 0;
  for (const proto::PlacementGroup& each : map.groups()) {
    if (first == 0 || each.id() < first) first = each.id();
    if (each.id() > group && (next == 0 || each.id() < next)) next = each.id();
  }
  return next != 0 ? next : first;
}

}  // namespace

void GroupSurvey::SetMap(const MapPtr& map) {
  MutexLock lock(mutex_);
  if (map_ == nullptr || map->version() >= map_->version()) map_ = map;
}

void GroupSurvey::Step(bool may_remove_leftovers) {
  for (const auto& target : targets_->targets()) {
    if (target->store() == nullptr || !target->id().valid() || target->replication() == nullptr) continue;
    {
      MutexLock lock(mutex_);
      if (map_ == nullptr || std::exchange(surveys_[target->id()].running, true)) continue;
    }
    const bool taken = target->workers()->Submit([this, raw = target.get(), may_remove_leftovers] { RunPage(raw, may_remove_leftovers); });
    if (taken) continue;
    MutexLock lock(mutex_);
    surveys_[target->id()].running = false;
  }
}

void GroupSurvey::RunPage(HostedTarget* target, bool may_remove_leftovers) {
  for (size_t i = 0; i < options_.groups_per_step_max && LookAtGroup(target, may_remove_leftovers); ++i) continue;
  MutexLock lock(mutex_);
  surveys_[target->id()].running = false;
}

bool GroupSurvey::LookAtGroup(HostedTarget* target, bool may_remove_leftovers) {
  uint32_t group = 0;
  bool is_member = false;
  std::optional<ChunkId> after;
  {
    MutexLock lock(mutex_);
    Survey& survey = surveys_[target->id()];
    const bool goes_on = survey.after && FindGroup(*map_, survey.group) != nullptr;
    group = goes_on ? survey.group : GroupAfter(*map_, survey.group);
    if (group == 0) return false;
    if (!goes_on) {
      survey.group = group;
      survey.after.reset();
      survey.counted.Clear();
      survey.counted.set_group(group);
    }
    after = survey.after;
    const proto::PlacementGroup& found = *FindGroup(*map_, group);
    is_member = Lists(found.targets(), target->id()) || Lists(found.syncing_targets(), target->id());
  }
  const Result<store::InventoryPage> page = target->store()->ListGroup(GroupId(group), after, options_.page_chunks);
  if (!page.ok()) {
    spdlog::warn("what a target holds of a group is not known target={} group={}: {}", target->id().value(), group, page.status().ToString());
    return false;
  }
  bool removes = false;
  {
    MutexLock lock(mutex_);
    Survey& survey = surveys_[target->id()];
    for (const store::InventoryEntry& chunk : page->chunks) survey.counted.set_bytes(survey.counted.bytes() + chunk.bytes);
    survey.counted.set_chunks(survey.counted.chunks() + page->chunks.size());
    survey.after.reset();
    if (!page->end && !page->chunks.empty()) survey.after = page->chunks.back().chunk;
    if (!survey.after) {
      is_member ? survey.leftover_bytes.erase(group) : survey.measured.erase(group);
      if (is_member) survey.measured[group] = survey.counted;
      if (!is_member && survey.counted.chunks() != 0) survey.leftover_bytes[group] = survey.counted.bytes();
      if (!is_member && survey.counted.chunks() == 0) survey.leftover_bytes.erase(group);
    }
    const bool has_left = !page->chunks.empty() && IsLeftBehind(target->id(), group);
    if (!has_left) survey.left_since_ns.erase(group);
    if (has_left) {
      const int64_t since_ns = survey.left_since_ns.try_emplace(group, clock_->MonotonicNs()).first->second;
      removes = may_remove_leftovers && clock_->MonotonicNs() - since_ns >= options_.leftover_delay_ms * 1'000'000;
    }
    // The map is looked at once more: whoever adopts a newer one from here on finds this.
    if (removes) survey.removing = GroupId(group);
    removes = removes && IsLeftBehind(target->id(), group);
    if (!removes) survey.removing = GroupId();
  }
  if (removes) RemovePage(target, GroupId(group), *page);
  return page->chunks.size() < options_.page_chunks && !removes;
}

bool GroupSurvey::IsLeftBehind(TargetId target, uint32_t group) {
  // An elastic target's copies are of no group's members.
  const auto self = std::ranges::find(map_->targets(), target.value(), &proto::Target::id);
  if (self == map_->targets().end() || self->target_class() != proto::TARGET_CLASS_DURABLE) return false;
  const proto::PlacementGroup* found = FindGroup(*map_, group);
  if (found == nullptr || Lists(found->targets(), target) || Lists(found->syncing_targets(), target)) return false;
  return static_cast<uint32_t>(found->targets_size()) >= std::max<uint32_t>(found->replicas(), 1);
}

void GroupSurvey::RemovePage(HostedTarget* target, GroupId group, const store::InventoryPage& page) {
  Status removed;
  uint64_t bytes = 0;
  for (const store::InventoryEntry& chunk : page.chunks) {
    removed = target->store()->RemoveChunk(chunk.chunk);
    if (!removed.ok()) break;
    bytes += chunk.bytes;
  }
  if (removed.ok()) {
    spdlog::info("copies of a group that has left are removed target={} group={} chunks={} bytes={}", target->id().value(), group.value(), page.chunks.size(), bytes);
  } else {
    spdlog::warn("copies of a group that has left stay for now target={} group={}: {}", target->id().value(), group.value(), removed.ToString());
  }
  MutexLock lock(mutex_);
  surveys_[target->id()].removing = GroupId();
}

bool GroupSurvey::IsRemoving(TargetId target, GroupId group) const {
  MutexLock lock(mutex_);
  const auto survey = surveys_.find(target);
  return survey != surveys_.end() && survey->second.removing == group && group.valid();
}

void GroupSurvey::FillReport(proto::TargetReport* report) const {
  MutexLock lock(mutex_);
  const auto survey = surveys_.find(TargetId(report->id()));
  if (survey == surveys_.end()) return;
  for (const auto& [group, usage] : survey->second.measured) *report->add_groups() = usage;
  uint64_t bytes = 0;
  for (const auto& [group, of_group] : survey->second.leftover_bytes) bytes += of_group;
  report->set_leftover_bytes(bytes);
}

}  // namespace tarn::chunk
