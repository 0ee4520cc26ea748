// Who belongs to the metadata group: the address book of clients and servers, and the list that the leader makes the
// log's own membership follow.
//
// A new member (no id) gets an id that was never given before: a directory that lost its state must not come back under
// its old one, since it would have forgotten its vote. A repeat is told by its nonce. kNotFound: no member of that id,
// or `replaces` names none; kInvalidArgument: no address or nonce, or nobody would be left; kResourceExhausted: the
// group is full.
#include <algorithm>
#include <string>

#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

using Members = google::protobuf::RepeatedPtrField<proto::MetaserverMember>;

proto::MetaserverMember* Find(Members* members, uint64_t id) {
  const auto found = std::ranges::find(*members, id, &proto::MetaserverMember::id);
  return found == members->end() ? nullptr : &*found;
}

Status CheckNew(Members* members, const proto::MetaserverMember& wanted) {
  if (wanted.nonce() == 0) return Status(StatusCode::kInvalidArgument, "a new member needs a nonce");
  if (members->size() >= kMetaserversMax) {
    return Status(StatusCode::kResourceExhausted,
                  "the metadata group has room for " + std::to_string(kMetaserversMax) + " members");
  }
  if (wanted.replaces() != 0 && Find(members, wanted.replaces()) == nullptr) {
    return Status(StatusCode::kNotFound,
                  "there is no member " + std::to_string(wanted.replaces()) + " that could be replaced");
  }
  return Status::Ok();
}

// What is replicated of a member; the rest only the leader knows, and it changes all the time.
void Copy(const proto::MetaserverMember& from, proto::MetaserverMember* to) {
  to->set_address(from.address());
  to->set_grpc_address(from.grpc_address());
}

Status Add(Members* members, const proto::MetaserverMember& wanted, proto::StateHeader* header, uint64_t* id) {
  RETURN_IF_ERROR(CheckNew(members, wanted));
  *id = std::max<uint64_t>(header->next_member(), 1);
  header->set_next_member(*id + 1);
  proto::MetaserverMember* added = members->Add();
  added->set_id(*id);
  added->set_nonce(wanted.nonce());
  added->set_replaces(wanted.replaces());
  Copy(wanted, added);
  return Status::Ok();
}

}  // namespace

Status SetMetaservers(CommandContext* context, const proto::SetMetaserversOp& op, proto::MutationReply* reply) {
  proto::ClusterMap map = context->map();
  proto::StateHeader& header = context->header();
  Members* members = map.mutable_metaservers();
  const std::string before = map.SerializeAsString();
  for (const proto::MetaserverMember& wanted : op.members()) {
    if (wanted.address().empty()) return Status(StatusCode::kInvalidArgument, "a metadata server needs an address");
    const auto repeated = std::ranges::find_if(*members, [&](const proto::MetaserverMember& member) {
      return wanted.nonce() != 0 && member.nonce() == wanted.nonce();
    });
    if (wanted.id() != 0) {
      proto::MetaserverMember* member = Find(members, wanted.id());
      if (member == nullptr && wanted.id() < header.next_member()) {
        return Status(StatusCode::kNotFound, "there is no member " + std::to_string(wanted.id()));
      }
      if (member == nullptr) member = members->Add();
      member->set_id(wanted.id());
      header.set_next_member(std::max(header.next_member(), wanted.id() + 1));
      Copy(wanted, member);
    } else if (repeated != members->end()) {
      reply->set_member(repeated->id());
      Copy(wanted, &*repeated);
    } else {
      uint64_t id = 0;
      RETURN_IF_ERROR(Add(members, wanted, &header, &id));
      reply->set_member(id);
    }
  }
  for (const uint64_t removed : op.removed()) {
    members->erase(std::remove_if(members->begin(), members->end(),
                                  [&](const proto::MetaserverMember& member) { return member.id() == removed; }),
                   members->end());
    for (proto::MetaserverMember& member : *members) {
      if (member.replaces() == removed) member.clear_replaces();
    }
  }
  if (members->empty()) return Status(StatusCode::kInvalidArgument, "the last metadata server cannot be removed");
  if (map.SerializeAsString() != before) context->ReplaceMap(std::move(map));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
