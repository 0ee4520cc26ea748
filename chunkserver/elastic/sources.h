// Where an elastic target fetches what it lacks, as one cluster map shows it. Immutable after construction; pure.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "proto/cluster.pb.h"

namespace tarn::elastic {

struct Source {
  TargetId target;
  Epoch epoch;           // of the group, by this map
  bool elastic = false;  // the chunk's home
  bool primary = false;
};

class Sources {
 public:
  Sources() = default;  // before the registration: nobody can be asked
  Sources(const proto::ClusterMap& map, TargetId self);

  // In the order in which they are to be asked: the chunk's home, unless that is this target or `from_elastic`; then the in-sync
  // members, those on this node first, then those in this zone, the rest by chunk.
  std::vector<Source> For(GroupId group, ChunkId chunk, bool from_elastic) const;

 private:
  struct Member {
    TargetId target;
    int distance = 0;  // 0: this node, 1: this zone, 2: farther
  };
  struct Group {
    Epoch epoch;
    std::vector<Member> members;
  };

  TargetId self_;
  std::unordered_map<GroupId, Group> groups_;
  std::vector<TargetId> elastic_;  // those online
};

}  // namespace tarn::elastic
