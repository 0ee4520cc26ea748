#include "metaserver/state/dispatch.h"

#include "metaserver/state/ops/mark_writing.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta {
namespace {

Status RunNamespaceOperation(CommandContext* context, const proto::Mutation& mutation, proto::MutationReply* reply) {
  switch (mutation.op_case()) {
    case proto::Mutation::kCreate:
      return ops::Create(context, mutation.create(), reply);
    case proto::Mutation::kMkdir:
      return ops::Mkdir(context, mutation.mkdir(), reply);
    case proto::Mutation::kSymlink:
      return ops::Symlink(context, mutation.symlink(), reply);
    case proto::Mutation::kLink:
      return ops::Link(context, mutation.link(), reply);
    case proto::Mutation::kUnlink:
      return ops::Unlink(context, mutation.unlink(), reply);
    case proto::Mutation::kRmdir:
      return ops::Rmdir(context, mutation.rmdir(), reply);
    case proto::Mutation::kRemoveTree:
      return ops::RemoveTree(context, mutation.remove_tree(), reply);
    case proto::Mutation::kRename:
      return ops::Rename(context, mutation.rename(), reply);
    case proto::Mutation::kSetAttr:
      return ops::SetAttr(context, mutation.set_attr(), reply);
    case proto::Mutation::kTruncate:
      return ops::Truncate(context, mutation.truncate(), reply);
    case proto::Mutation::kTruncateDone:
      return ops::TruncateDone(context, mutation.truncate_done(), reply);
    case proto::Mutation::kCommitWrite:
      return ops::CommitWrite(context, mutation.commit_write(), reply);
    case proto::Mutation::kMarkWriting:
      return ops::MarkWriting(context, mutation.mark_writing(), reply);
    case proto::Mutation::kAllocateData:
      return ops::AllocateData(context, mutation.allocate_data(), reply);
    case proto::Mutation::kSetXattr:
      return ops::SetXattr(context, mutation.set_xattr(), reply);
    case proto::Mutation::kRemoveXattr:
      return ops::RemoveXattr(context, mutation.remove_xattr(), reply);
    case proto::Mutation::kReleaseOrphan:
      return ops::ReleaseOrphan(context, mutation.release_orphan(), reply);
    case proto::Mutation::kLock:
      return ops::Lock(context, mutation.lock(), reply);
    case proto::Mutation::kCancelLock:
      return ops::CancelLock(context, mutation.cancel_lock(), reply);
    case proto::Mutation::kSettleOrphan:
      return ops::SettleOrphan(context, mutation.settle_orphan(), reply);
    case proto::Mutation::kReserveDataIds:
      return ops::ReserveDataIds(context, mutation.reserve_data_ids(), reply);
    default:
      return Status(StatusCode::kInvalidArgument, "the mutation has no operation that this server knows");
  }
}

// What frees space, ends something or keeps the cluster going is not among them.
bool MakesStateGrow(const proto::Mutation& mutation) {
  switch (mutation.op_case()) {
    case proto::Mutation::kCreate:
    case proto::Mutation::kMkdir:
    case proto::Mutation::kSymlink:
    case proto::Mutation::kLink:
    case proto::Mutation::kSetXattr:
    case proto::Mutation::kReserveDataIds:
    case proto::Mutation::kCreateVolume:
      return true;
    default:
      return false;
  }
}

}  // namespace

Status RunOperation(CommandContext* context, const proto::Mutation& mutation, proto::MutationReply* reply) {
  if (context->no_growth() && MakesStateGrow(mutation))
    return Status(StatusCode::kNoSpace, "the disk of the metadata server is nearly full");
  switch (mutation.op_case()) {
    case proto::Mutation::kOpenSession:
      return ops::OpenSession(context, mutation.open_session(), reply);
    case proto::Mutation::kCloseSession:
      return ops::CloseSession(context, mutation.close_session(), reply);
    case proto::Mutation::kCreateVolume:
      return ops::CreateVolume(context, mutation.create_volume(), reply);
    case proto::Mutation::kResizeVolume:
      return ops::ResizeVolume(context, mutation.resize_volume(), reply);
    case proto::Mutation::kDeleteVolume:
      return ops::DeleteVolume(context, mutation.delete_volume(), reply);
    case proto::Mutation::kInitCluster:
      return ops::InitCluster(context, mutation.init_cluster(), reply);
    case proto::Mutation::kRegisterServer:
      return ops::RegisterServer(context, mutation.register_server(), reply);
    case proto::Mutation::kSetMetaservers:
      return ops::SetMetaservers(context, mutation.set_metaservers(), reply);
    case proto::Mutation::kUpdateTargets:
      return ops::UpdateTargets(context, mutation.update_targets(), reply);
    case proto::Mutation::kAddGroups:
      return ops::AddGroups(context, mutation.add_groups(), reply);
    case proto::Mutation::kChangeGroups:
      return ops::ChangeGroups(context, mutation.change_groups(), reply);
    case proto::Mutation::kFenceSessions:
      return ops::FenceSessions(context, mutation.fence_sessions(), reply);
    case proto::Mutation::kDataReclaimed:
      return ops::DataReclaimed(context, mutation.data_reclaimed(), reply);
    case proto::Mutation::kNoteUnknownData:
      return ops::NoteUnknownData(context, mutation.note_unknown_data(), reply);
    case proto::Mutation::kReclaimUnknownData:
      return ops::ReclaimUnknownData(context, mutation.reclaim_unknown_data(), reply);
    case proto::Mutation::kCloseReservations:
      return ops::CloseReservations(context, mutation.close_reservations(), reply);
    case proto::Mutation::kPromoteMember:
      return ops::PromoteMember(context, mutation.promote_member(), reply);
    case proto::Mutation::kPurge:
      return ops::Purge(context, mutation.purge(), reply);
    case proto::Mutation::kRaiseIncarnation:
      return ops::RaiseIncarnation(context, mutation.raise_incarnation(), reply);
    case proto::Mutation::kRepair:
      return ops::Repair(context, mutation.repair(), reply);
    case proto::Mutation::kSetReclaim:
      return ops::SetReclaim(context, mutation.set_reclaim(), reply);
    case proto::Mutation::kPropagateCounters:
      return ops::PropagateCounters(context, mutation.propagate_counters(), reply);
    default:
      return RunNamespaceOperation(context, mutation, reply);
  }
}

}  // namespace tarn::meta
