// Has copies that are behind others of their group brought up to date: what fsck does about missing and stale copies.
//
// The member is taken out of the in-sync ones, as if its primary had reported it, and is synced like any other that comes
// back (docs/replication.md, "Coming back and repair"): chunks whose stamps differ are copied, nothing else. A primary that is
// behind first hands over to a member that is not, for what only others have would go. If every in-sync member is behind in
// something there is none to copy from, and nothing is done.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "common/base/status.h"
#include "metaserver/service/service_context.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

// One group of which some members are behind.
class GroupResync {
 public:
  enum class Step { kDone, kWait, kHandOver, kTakeOut, kNoSource };

  explicit GroupResync(std::set<uint64_t> behind) : behind_(std::move(behind)) {}

  // What is to be done next, by the group's present members; to be asked again once that is in the map, or a while later. One
  // member at a time is out.
  Step Next(const proto::PlacementGroup& group);
  // What kTakeOut asked for was done.
  void NoteTakenOut() { out_ = target_; }
  // Of kHandOver: the new primary; of kTakeOut: the member.
  uint64_t target() const { return target_; }

 private:
  std::set<uint64_t> behind_;    // and in-sync, as far as is known
  std::optional<uint64_t> out_;  // is being brought up to date
  uint64_t target_ = 0;
};

// One thread, which may block.
class CopyRepair {
 public:
  // The context outlives it.
  explicit CopyRepair(ServiceContext* context) : context_(context) {}

  // By group, its members that are behind. Returns what became of each; kNotFound: no in-sync member has everything;
  // kTimeout: nothing has moved for minutes; kNotLeader. Asks now and then whether to go on: kCancelled if not.
  std::map<uint32_t, Status> Run(const std::map<uint32_t, std::set<uint64_t>>& behind, const std::function<bool()>& goes_on);

 private:
  // Nothing: it goes on.
  std::optional<Status> Advance(const proto::ClusterMap& map, uint32_t group, GroupResync* resync);
  // Rises, or changes, while anything moves.
  uint64_t Progress(const proto::ClusterMap& map) const;

  ServiceContext* const context_;
};

}  // namespace tarn::meta
