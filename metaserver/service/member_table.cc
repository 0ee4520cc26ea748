#include "metaserver/service/member_table.h"

#include <algorithm>
#include <string>
#include <utility>

namespace tarn::meta {
namespace {

constexpr size_t kHeardMax = 64;  // a group is small; what claims to be more is not remembered

}  // namespace

std::string MemberName(uint64_t member) { return "member-" + std::to_string(member); }

const proto::MetaserverMember* FindMetaserver(const proto::ClusterMap& map, uint64_t member) {
  const auto found = std::ranges::find(map.metaservers(), member, &proto::MetaserverMember::id);
  return found == map.metaservers().end() ? nullptr : &*found;
}

void MemberTable::Hear(const proto::RaftMessageHeader& header) {
  const auto map = map_();
  const proto::MetaserverMember* in_map = FindMetaserver(*map, header.from());
  MutexLock lock(mutex_);
  auto found = heard_.find(header.from());
  if (found == heard_.end()) {
    if (heard_.size() >= kHeardMax) return;
    found = heard_.try_emplace(header.from()).first;
  }
  Heard& heard = found->second;
  heard.wall_ns = clock_->WallNs();
  heard.pid = header.from_pid();
  const bool same = heard.address == header.from_address() && heard.grpc_address == header.from_grpc_address();
  if (same && Counts(heard, in_map)) return;
  heard.address = header.from_address();
  heard.grpc_address = header.from_grpc_address();
  heard.map_address = in_map != nullptr ? in_map->address() : "";
  heard.map_grpc_address = in_map != nullptr ? in_map->grpc_address() : "";
}

bool MemberTable::Counts(const Heard& heard, const proto::MetaserverMember* in_map) {
  if (in_map == nullptr) return true;
  return heard.map_address == in_map->address() && heard.map_grpc_address == in_map->grpc_address();
}

proto::MetaserverMember MemberTable::Find(uint64_t member) const {
  const auto map = map_();
  const proto::MetaserverMember* in_map = FindMetaserver(*map, member);
  proto::MetaserverMember result;
  if (in_map != nullptr) result = *in_map;
  result.set_id(member);
  MutexLock lock(mutex_);
  const auto found = heard_.find(member);
  if (found == heard_.end()) return result;
  result.set_pid(found->second.pid);
  result.set_heard_ns(found->second.wall_ns);
  if (!Counts(found->second, in_map)) return result;
  result.set_address(found->second.address);
  result.set_grpc_address(found->second.grpc_address);
  return result;
}

std::vector<proto::MetaserverMember> MemberTable::Moved() const {
  const auto map = map_();
  std::vector<proto::MetaserverMember> moved;
  for (const proto::MetaserverMember& in_map : map->metaservers()) {
    const proto::MetaserverMember now = Find(in_map.id());
    if (now.address() == in_map.address() && now.grpc_address() == in_map.grpc_address()) continue;
    proto::MetaserverMember& change = moved.emplace_back();
    change.set_id(in_map.id());
    change.set_address(now.address());
    change.set_grpc_address(now.grpc_address());
  }
  return moved;
}

}  // namespace tarn::meta
