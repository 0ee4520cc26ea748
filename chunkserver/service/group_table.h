// The cluster map as a chunk server's hot paths need it: the epochs of the groups on its targets, and where the servers of other
// targets are. Immutable after construction.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "proto/cluster.pb.h"
#include "proto/data.pb.h"

namespace tarn::chunk {

class GroupTable {
 public:
  GroupTable() = default;  // before the registration: version 0, no groups
  // `own`: the targets of this server.
  GroupTable(const proto::ClusterMap& map, const std::vector<TargetId>& own);

  uint64_t version() const { return version_; }

  enum class Verdict {
    kCurrent,
    kRequestIsOlder,  // kStaleEpoch
    kTableIsOlder,    // a newer map must be fetched before this can be answered
    kWrongTarget,     // kWrongIncarnation: meant for another server
  };
  Verdict Check(TargetId target, GroupId group, Epoch epoch) const;
  Verdict Check(const proto::ChunkAddress& address) const {
    return Check(TargetId(address.target()), GroupId(address.group()), Epoch(address.epoch()));
  }
  // Of the server that has the target; empty if the map does not know it.
  std::string AddressOf(TargetId target) const;

 private:
  using Epochs = std::unordered_map<GroupId, Epoch>;

  uint64_t version_ = 0;
  std::vector<std::pair<TargetId, Epochs>> own_;  // of the groups on each; few targets, searched one by one
  Epochs epochs_;                                 // of all groups
  std::unordered_map<TargetId, std::string> addresses_;
};

}  // namespace tarn::chunk
