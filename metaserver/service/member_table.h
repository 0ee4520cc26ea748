// Where the members of the metadata group are: what the replicated map says, corrected by what was heard from them.
//
// A member says in every message of the log where it can be reached. That counts until the map says something new of
// it: so a member that comes back elsewhere is found at once, before the leader has committed its new address.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "proto/cluster.pb.h"
#include "proto/member.pb.h"

namespace tarn::meta {

// Thread-safe.
class MemberTable {
 public:
  using Map = std::function<std::shared_ptr<const proto::ClusterMap>()>;

  // `clock` outlives it, and so does what `map` asks for the replicated map.
  MemberTable(const Clock* clock, Map map) : clock_(clock), map_(std::move(map)) {}
  MemberTable(const MemberTable&) = delete;
  MemberTable& operator=(const MemberTable&) = delete;

  void Hear(const proto::RaftMessageHeader& header);
  // Empty address: nothing is known of it.
  proto::MetaserverMember Find(uint64_t member) const;
  // Members of the map that have said since that they are elsewhere.
  std::vector<proto::MetaserverMember> Moved() const;

 private:
  struct Heard {
    std::string address;
    std::string grpc_address;
    uint64_t pid = 0;
    int64_t wall_ns = 0;
    std::string map_address;  // what the map said then
    std::string map_grpc_address;
  };
  static bool Counts(const Heard& heard, const proto::MetaserverMember* in_map);

  const Clock* const clock_;
  const Map map_;
  mutable Mutex mutex_;
  std::unordered_map<uint64_t, Heard> heard_ GUARDED_BY(mutex_);  // at most kHeardMax
};

// What the log calls a member in place of its address: an address may change, and one that had a member which lost its
// directory is soon another one's, while the log insists on each being there once.
std::string MemberName(uint64_t member);

// Null if the map does not have it.
const proto::MetaserverMember* FindMetaserver(const proto::ClusterMap& map, uint64_t member);

}  // namespace tarn::meta
