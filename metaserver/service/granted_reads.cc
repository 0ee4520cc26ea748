#include "metaserver/service/granted_reads.h"

#include <set>
#include <vector>

namespace tarn::meta {
namespace {

// How often an answer is read again because what its name leads to, or where it lies, has changed meanwhile. Then there
// is no grant.
constexpr int kReadingsMax = 3;

// The directory whose interest covers the attributes; invalid: only an interest in the inode itself does.
InodeId CoverOf(const proto::Attributes& attributes) {
  const bool covered = attributes.type() != proto::FILE_TYPE_DIRECTORY && attributes.nlink() == 1;
  return InodeId(covered ? attributes.parent() : 0);
}

void SetDirectory(const PushCoordinator::Grant& watch, InodeId directory, proto::CacheGrant* grant) {
  grant->set_term(watch.term);
  if (!watch.granted) return;
  grant->set_directory(directory.value());
  grant->set_shared(watch.shared);
}

// The attributes of inodes that other sessions write, or did while they were read: they are behind. Inode and type stay.
void LeaveOutHeld(PushCoordinator* coherence, SessionId session, uint64_t ends, proto::ReadDirReply* reply) {
  if (!coherence->AnyWriter() && coherence->grant_ends() == ends) return;
  std::vector<InodeId> inodes;
  for (const proto::Entry& entry : reply->entries()) {
    if (entry.attributes().type() == proto::FILE_TYPE_REGULAR) inodes.emplace_back(entry.attributes().inode());
  }
  const std::set<InodeId> held = coherence->HeldByOthers(session, inodes, ends);
  if (held.empty()) return;
  for (proto::Entry& entry : *reply->mutable_entries()) {
    const InodeId inode(entry.attributes().inode());
    if (!held.contains(inode)) continue;
    const proto::FileType type = entry.attributes().type();
    entry.clear_attributes();
    entry.mutable_attributes()->set_inode(inode.value());
    entry.mutable_attributes()->set_type(type);
  }
}

}  // namespace

Status LookupGranted(const StateMachine& state, PushCoordinator* coherence, const proto::LookupRequest& request,
                     proto::LookupReply* reply) {
  if (request.session() == 0) return state.Lookup(request, reply);
  const SessionId session(request.session());
  const InodeId parent(request.parent());
  const PushCoordinator::Grant names = coherence->Watch(session, parent, true);
  InodeId watched;
  for (int i = 0; i < kReadingsMax; ++i) {
    const Status status = state.Lookup(request, reply);
    if (status.code() == StatusCode::kNotFound) {
      reply->clear_attributes();
      break;
    }
    RETURN_IF_ERROR(status);
    const proto::Attributes& child = reply->attributes();
    const InodeId inode(child.inode());
    const InodeId cover = CoverOf(child);
    if (cover == parent) break;
    if (watched == inode) {
      reply->mutable_grant()->set_inode(inode.value());
      break;
    }
    if (!coherence->Watch(session, inode, false, InodeId(child.parent())).granted) break;
    watched = inode;
  }
  SetDirectory(names, parent, reply->mutable_grant());
  return Status::Ok();
}

Status GetAttrGranted(const StateMachine& state, PushCoordinator* coherence, const proto::GetAttrRequest& request,
                      proto::GetAttrReply* reply) {
  RETURN_IF_ERROR(state.GetAttr(request, reply));
  if (request.session() == 0) return Status::Ok();
  const SessionId session(request.session());
  const InodeId inode(request.inode());
  InodeId watched;
  PushCoordinator::Grant watch;
  for (int i = 0; i < kReadingsMax; ++i) {
    const InodeId cover = request.will_open() ? InodeId() : CoverOf(reply->attributes());
    const InodeId wanted = cover.valid() ? cover : inode;
    if (watched == wanted) {
      if (cover.valid()) {
        SetDirectory(watch, cover, reply->mutable_grant());
      } else {
        reply->mutable_grant()->set_inode(inode.value());
      }
      break;
    }
    watch = coherence->Watch(session, wanted, cover.valid(), InodeId(reply->attributes().parent()));
    if (!watch.granted) break;
    watched = wanted;
    RETURN_IF_ERROR(state.GetAttr(request, reply));
  }
  reply->mutable_grant()->set_term(watch.term);
  return Status::Ok();
}

Status ReadDirGranted(const StateMachine& state, PushCoordinator* coherence, const proto::ReadDirRequest& request,
                      proto::ReadDirReply* reply) {
  const uint64_t ends = coherence->grant_ends();
  if (request.session() == 0) {
    RETURN_IF_ERROR(state.ReadDir(request, reply));
    LeaveOutHeld(coherence, SessionId(), ends, reply);
    return Status::Ok();
  }
  const InodeId directory(request.directory());
  const PushCoordinator::Grant names = coherence->Watch(SessionId(request.session()), directory, true);
  RETURN_IF_ERROR(state.ReadDir(request, reply));
  LeaveOutHeld(coherence, SessionId(request.session()), ends, reply);
  SetDirectory(names, directory, reply->mutable_grant());
  return Status::Ok();
}

}  // namespace tarn::meta
