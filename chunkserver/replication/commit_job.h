// Makes what was acknowledged durable: here, and at the members of groups of which this target is the primary.
#pragma once

#include <functional>
#include <vector>

#include "chunkserver/replication/replica.h"

namespace tarn::replication {

// `done` with those of the groups of which this target is, or became meanwhile, not the primary: nothing is promised for them.
// kUnavailable: a member neither answers nor leaves; the client asks again.
void CommitGroups(const ContextPtr& ctx, const std::vector<ReplicaPtr>& groups,
                  std::function<void(const Status&, const std::vector<GroupId>& not_primary)> done);

}  // namespace tarn::replication
