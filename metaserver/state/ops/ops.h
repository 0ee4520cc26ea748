// The operations of the state machine: one function and one file each, which opens with its POSIX semantics and errors.
//
// Each changes the state through its context or returns an error, upon which everything it did is taken back; on
// success it fills what MutationReply's comments promise. kCorruption and kIoError are the store's and end the process;
// anything else is the client's answer. One thread, that of the command.
#pragma once

#include "common/base/status.h"
#include "metaserver/state/command_context.h"
#include "proto/metadata.pb.h"

namespace tarn::meta::ops {

Status Create(CommandContext* context, const proto::CreateOp& op, proto::MutationReply* reply);
Status Mkdir(CommandContext* context, const proto::MkdirOp& op, proto::MutationReply* reply);
Status Symlink(CommandContext* context, const proto::SymlinkOp& op, proto::MutationReply* reply);
Status Link(CommandContext* context, const proto::LinkOp& op, proto::MutationReply* reply);
Status Unlink(CommandContext* context, const proto::UnlinkOp& op, proto::MutationReply* reply);
Status Rmdir(CommandContext* context, const proto::RmdirOp& op, proto::MutationReply* reply);
Status RemoveTree(CommandContext* context, const proto::RemoveTreeOp& op, proto::MutationReply* reply);
Status Rename(CommandContext* context, const proto::RenameOp& op, proto::MutationReply* reply);
Status SetAttr(CommandContext* context, const proto::SetAttrOp& op, proto::MutationReply* reply);
Status Truncate(CommandContext* context, const proto::TruncateOp& op, proto::MutationReply* reply);
Status TruncateDone(CommandContext* context, const proto::TruncateDoneOp& op, proto::MutationReply* reply);
Status CommitWrite(CommandContext* context, const proto::CommitWriteOp& op, proto::MutationReply* reply);
Status AllocateData(CommandContext* context, const proto::AllocateDataOp& op, proto::MutationReply* reply);
Status SetXattr(CommandContext* context, const proto::SetXattrOp& op, proto::MutationReply* reply);
Status RemoveXattr(CommandContext* context, const proto::RemoveXattrOp& op, proto::MutationReply* reply);
Status Lock(CommandContext* context, const proto::LockOp& op, proto::MutationReply* reply);
Status CancelLock(CommandContext* context, const proto::CancelLockOp& op, proto::MutationReply* reply);
Status ReleaseOrphan(CommandContext* context, const proto::ReleaseOrphanOp& op, proto::MutationReply* reply);
Status SettleOrphan(CommandContext* context, const proto::SettleOrphanOp& op, proto::MutationReply* reply);
Status ReserveDataIds(CommandContext* context, const proto::ReserveDataIdsOp& op, proto::MutationReply* reply);

Status OpenSession(CommandContext* context, const proto::OpenSessionOp& op, proto::MutationReply* reply);
Status CloseSession(CommandContext* context, const proto::CloseSessionOp& op, proto::MutationReply* reply);

Status CreateVolume(CommandContext* context, const proto::CreateVolumeOp& op, proto::MutationReply* reply);
Status ResizeVolume(CommandContext* context, const proto::ResizeVolumeOp& op, proto::MutationReply* reply);
Status DeleteVolume(CommandContext* context, const proto::DeleteVolumeOp& op, proto::MutationReply* reply);
Status Purge(CommandContext* context, const proto::PurgeOp& op, proto::MutationReply* reply);
Status RaiseIncarnation(CommandContext* context, const proto::RaiseIncarnationOp& op, proto::MutationReply* reply);
Status Repair(CommandContext* context, const proto::RepairOp& op, proto::MutationReply* reply);
Status SetReclaim(CommandContext* context, const proto::SetReclaimOp& op, proto::MutationReply* reply);
Status PropagateCounters(CommandContext* context, const proto::PropagateCountersOp& op, proto::MutationReply* reply);

Status InitCluster(CommandContext* context, const proto::InitClusterOp& op, proto::MutationReply* reply);
Status RegisterServer(CommandContext* context, const proto::RegisterServerOp& op, proto::MutationReply* reply);
Status SetMetaservers(CommandContext* context, const proto::SetMetaserversOp& op, proto::MutationReply* reply);
Status UpdateTargets(CommandContext* context, const proto::UpdateTargetsOp& op, proto::MutationReply* reply);
Status AddGroups(CommandContext* context, const proto::AddGroupsOp& op, proto::MutationReply* reply);
Status ChangeGroups(CommandContext* context, const proto::ChangeGroupsOp& op, proto::MutationReply* reply);
Status FenceSessions(CommandContext* context, const proto::FenceSessionsOp& op, proto::MutationReply* reply);
Status NoteUnknownData(CommandContext* context, const proto::NoteUnknownDataOp& op, proto::MutationReply* reply);
Status ReclaimUnknownData(CommandContext* context, const proto::ReclaimUnknownDataOp& op, proto::MutationReply* reply);
Status CloseReservations(CommandContext* context, const proto::CloseReservationsOp& op, proto::MutationReply* reply);
Status PromoteMember(CommandContext* context, const proto::PromoteMemberOp& op, proto::MutationReply* reply);
Status DataReclaimed(CommandContext* context, const proto::DataReclaimedOp& op, proto::MutationReply* reply);

}  // namespace tarn::meta::ops
