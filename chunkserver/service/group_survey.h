// Walks through what each target holds of each placement group, a page at a time, for ever: measures groups of which the
// target is a member (rebalancing wants to know), and removes copies of groups that it has left.
//
// A copy that was left is removed only when all of this holds (docs/replication.md, "Copies that are left behind"):
//   - the map lists the target neither as in-sync nor as syncing, and has as many in-sync members as the group should
//     have, for a while;
//   - the metadata server has just said that such copies may go;
//   - nobody begins to bring the target up to date meanwhile: a primary's inventory of the group waits (IsRemoving), and
//     the map is looked at after that is certain. Maps come here before they come to replication.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "chunkserver/service/target_set.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "proto/cluster.pb.h"

namespace tarn::chunk {

struct GroupSurveyOptions {
  int64_t leftover_delay_ms = 60'000;
  size_t page_chunks = 4'096;
  size_t groups_per_step_max = 64;
};

// Thread-safe. The work is done on the targets' workers, one page for each at a time, which end before this object does.
class GroupSurvey {
 public:
  using MapPtr = std::shared_ptr<const proto::ClusterMap>;

  // Both outlive it.
  GroupSurvey(const TargetSet* targets, const Clock* clock, const GroupSurveyOptions& options) : targets_(targets), clock_(clock), options_(options) {}
  GroupSurvey(const GroupSurvey&) = delete;
  GroupSurvey& operator=(const GroupSurvey&) = delete;

  // Before anybody else adopts it. Older ones are passed over.
  void SetMap(const MapPtr& map);
  // Does not block: begins the next page of each target that has none under way.
  void Step(bool may_remove_leftovers);
  void FillReport(proto::TargetReport* report) const;
  // Copies of the group are being removed from the target now.
  bool IsRemoving(TargetId target, GroupId group) const;

 private:
  // Of one target; guarded by mutex_, but that one page at a time works with `group` and `after`.
  struct Survey {
    bool running = false;
    uint32_t group = 0;              // the last one that was looked at
    std::optional<ChunkId> after;    // set: in the middle of `group`
    proto::GroupUsage counted;       // of it, so far
    std::map<uint32_t, proto::GroupUsage> measured;
    std::map<uint32_t, uint64_t> leftover_bytes;  // by group
    std::map<uint32_t, int64_t> left_since_ns;    // and complete elsewhere
    GroupId removing;
  };

  void RunPage(HostedTarget* target, bool may_remove_leftovers);
  // Whether there may be more to do at once.
  bool LookAtGroup(HostedTarget* target, bool may_remove_leftovers);
  bool IsLeftBehind(TargetId target, uint32_t group) REQUIRES(mutex_);
  void RemovePage(HostedTarget* target, GroupId group, const store::InventoryPage& page);

  const TargetSet* const targets_;
  const Clock* const clock_;
  const GroupSurveyOptions options_;

  mutable Mutex mutex_;
  MapPtr map_ GUARDED_BY(mutex_);
  std::map<TargetId, Survey> surveys_ GUARDED_BY(mutex_);
};

}  // namespace tarn::chunk
