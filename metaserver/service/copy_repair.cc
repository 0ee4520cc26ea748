#include "metaserver/service/copy_repair.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "metaserver/service/replication_keeper.h"
#include "metaserver/state/group_members.h"

namespace tarn::meta {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(200);
constexpr int64_t kPatienceNs = 300'000'000'000;

bool Contains(const google::protobuf::RepeatedField<uint64_t>& targets, uint64_t target) {
  return std::ranges::find(targets, target) != targets.end();
}

}  // namespace

GroupResync::Step GroupResync::Next(const proto::PlacementGroup& group) {
  if (out_ && Contains(group.syncing_targets(), *out_)) return Step::kWait;
  if (out_) behind_.erase(*out_);  // equal again, or no member any more
  out_.reset();
  // What somebody else took out, or moved away.
  std::erase_if(behind_, [&](uint64_t target) { return !Contains(group.targets(), target) && !Contains(group.syncing_targets(), target); });
  const auto syncs = std::ranges::find_if(behind_, [&](uint64_t target) { return Contains(group.syncing_targets(), target); });
  if (syncs != behind_.end()) {
    out_ = *syncs;
    return Step::kWait;
  }
  if (behind_.empty()) return Step::kDone;
  const auto source = std::ranges::find_if(group.targets(), [&](uint64_t target) { return !behind_.contains(target); });
  if (source == group.targets().end()) return Step::kNoSource;
  const bool primary_is_behind = behind_.contains(group.targets(0));
  target_ = primary_is_behind ? *source : *behind_.begin();
  return primary_is_behind ? Step::kHandOver : Step::kTakeOut;
}

uint64_t CopyRepair::Progress(const proto::ClusterMap& map) const {
  uint64_t progress = map.version();
  for (const proto::SyncProgress& sync : context_->servers->Syncs()) progress += sync.bytes_done();
  return progress;
}

std::optional<Status> CopyRepair::Advance(const proto::ClusterMap& map, uint32_t group, GroupResync* resync) {
  const proto::PlacementGroup* const now = FindGroup(map, group);
  if (now == nullptr) return Status(StatusCode::kNotFound, "the placement group is gone");
  Status asked;
  switch (resync->Next(*now)) {
    case GroupResync::Step::kDone:
      return Status::Ok();
    case GroupResync::Step::kNoSource:
      return Status(StatusCode::kNotFound, "no in-sync copy of placement group " + std::to_string(group) + " has everything that the others have");
    case GroupResync::Step::kWait:
      return std::nullopt;
    case GroupResync::Step::kHandOver:
      spdlog::info("fsck: the primary is behind and hands over group={} to={}", group, resync->target());
      asked = context_->replication->HandOver(*now, resync->target());
      break;
    case GroupResync::Step::kTakeOut:
      asked = context_->replication->TakeOut(*now, resync->target());
      if (!asked.ok()) break;
      spdlog::info("fsck: a copy is behind and is synced group={} target={}", group, resync->target());
      resync->NoteTakenOut();
      break;
  }
  // Not yet: it is asked again.
  if (asked.ok() || asked.code() == StatusCode::kBusy) return std::nullopt;
  return asked;
}

std::map<uint32_t, Status> CopyRepair::Run(const std::map<uint32_t, std::set<uint64_t>>& behind, const std::function<bool()>& goes_on) {
  // A primary that has just handed over must not be made the primary again before it is equal.
  const std::shared_ptr<void> hold = context_->replication->HoldStill();
  std::map<uint32_t, Status> results;
  std::map<uint32_t, GroupResync> under_way;
  for (const auto& [group, targets] : behind) under_way.emplace(group, targets);
  uint64_t progress = 0;
  int64_t progress_ns = context_->clock->MonotonicNs();
  while (!under_way.empty()) {
    Status end = context_->CheckLease();
    if (end.ok() && !goes_on()) end = Status(StatusCode::kCancelled, "the check was ended");
    const auto map = context_->state->cluster_map();
    const int64_t now_ns = context_->clock->MonotonicNs();
    if (const uint64_t now = Progress(*map); now != progress) {
      progress = now;
      progress_ns = now_ns;
    }
    if (end.ok() && now_ns - progress_ns >= kPatienceNs) end = Status(StatusCode::kTimeout, "nothing has moved for five minutes");
    for (auto entry = under_way.begin(); entry != under_way.end();) {
      std::optional<Status> result = end.ok() ? Advance(*map, entry->first, &entry->second) : std::optional(end);
      if (result) results[entry->first] = *std::move(result);
      entry = result ? under_way.erase(entry) : std::next(entry);
    }
    if (!under_way.empty()) std::this_thread::sleep_for(kPollInterval);
  }
  return results;
}

}  // namespace tarn::meta
