// The cluster map as a chunk server needs it: the epochs of the groups on its target, and who is fenced.
// Immutable after construction.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "proto/cluster.pb.h"
#include "proto/data.pb.h"

namespace tarn::chunk {

class GroupTable {
 public:
  GroupTable() = default;  // before the registration: version 0, no groups
  GroupTable(const proto::ClusterMap& map, TargetId target);

  uint64_t version() const { return version_; }

  enum class Verdict {
    kCurrent,
    kRequestIsOlder,  // kStaleEpoch
    kTableIsOlder,    // a newer map must be fetched before this can be answered
    kWrongTarget,     // kInvalidArgument: meant for another server
  };
  Verdict Check(const proto::ChunkAddress& address) const;
  bool IsFenced(SessionId session) const { return fenced_.contains(session); }

 private:
  uint64_t version_ = 0;
  TargetId target_;
  std::unordered_map<GroupId, Epoch> epochs_;
  std::unordered_set<SessionId> fenced_;
};

}  // namespace tarn::chunk
