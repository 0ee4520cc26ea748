// Makes a state that was brought back from a backup fit to be served: see ops/raise_incarnation.cc.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/status.h"
#include "metaserver/state/kv.h"

namespace tarn::meta {

struct RestoreFacts {
  uint32_t incarnation = 0;      // as it is now
  uint64_t applied_entries = 0;  // that the backup held
  uint64_t member_id = 0;        // for the first member of the group that serves it: never used before
};

// `store` holds the state as the backup had it; it is left durable, with no entry of a log applied, in the incarnation
// after its own, or in `incarnation` if that is not 0. kCorruption: no state of the cluster `cluster_id`;
// kInvalidArgument: an incarnation that does not follow.
Result<RestoreFacts> MakeRestored(KvStore* store, const std::string& cluster_id, uint32_t incarnation, int64_t now_ns);

}  // namespace tarn::meta
