// Removes a part of what waits to be removed in a volume: trees that lost their name (RemoveTree), or all of a deleted
// volume; when nothing is left of that, its record too.
//
// Directories without a name wait in a queue (keys of kind kPurge), the top of a tree first: each step takes one entry
// out of one of them, and a subdirectory that lost its name joins the queue. So a step costs the same in a tree of any
// depth or width. A file goes when its last name does; one that a session holds open stays with the session.
// kInvalidArgument: no steps or too many.
#include <optional>
#include <string>
#include <vector>

#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Result<std::vector<std::string>> FirstKeys(const CommandContext& context, const std::string& prefix,
                                           uint32_t count_max) {
  std::vector<std::string> keys;
  RETURN_IF_ERROR(context.view().Scan(prefix, {}, [&](std::string_view key, std::string_view) {
    keys.emplace_back(key);
    return keys.size() < count_max;
  }));
  return keys;
}

Status RemoveEntry(CommandContext* context, VolumeId volume, InodeId directory, const std::string& dentry_key) {
  ASSIGN_OR_RETURN(const auto value, context->view().Get(dentry_key));
  ASSIGN_OR_RETURN(const proto::DentryRecord dentry, ParseDentry(value.value_or("")));
  context->transaction().Delete(dentry_key);
  const InodeId inode(dentry.inode());
  if (dentry.type() == proto::FILE_TYPE_DIRECTORY) {
    context->transaction().Delete(DirectorySizeKey(inode));
    context->QueuePurge(volume, inode, 0);  // it was counted with the top of its tree
    return Status::Ok();
  }
  context->CountPurged(/*directories=*/0, /*inodes=*/1);
  ASSIGN_OR_RETURN(auto file, ReadInode(context->view(), inode));
  return file ? DropLink(context, &*file, directory, false) : Status::Ok();
}

// Up to `steps_max` entries of one directory, then the directory itself. Returns the steps taken.
Result<uint32_t> PurgeDirectory(CommandContext* context, VolumeId volume, InodeId directory, uint32_t steps_max) {
  ASSIGN_OR_RETURN(const auto keys, FirstKeys(*context, DentryPrefix(directory), steps_max));
  context->NoteAllNames(directory);
  for (const std::string& key : keys) RETURN_IF_ERROR(RemoveEntry(context, volume, directory, key));
  const auto removed = static_cast<uint32_t>(keys.size());
  if (removed == steps_max) return removed;
  ASSIGN_OR_RETURN(const auto inode, ReadInode(context->view(), directory));
  if (inode) {
    context->NoteRemoved(*inode);
    RETURN_IF_ERROR(RemoveInode(context, *inode));
  }
  context->transaction().Delete(PurgeKey(volume, directory));
  context->CountPurged(/*directories=*/1, /*inodes=*/1);
  return removed + 1;
}

Result<std::optional<InodeId>> NextDirectory(const CommandContext& context, VolumeId volume) {
  ASSIGN_OR_RETURN(const auto keys, FirstKeys(context, PurgePrefix(volume), 1));
  if (keys.empty()) return std::optional<InodeId>();
  return std::optional<InodeId>(InodeId(ParseTrailingId(keys.front()).value_or(0)));
}

}  // namespace

Status Purge(CommandContext* context, const proto::PurgeOp& op, proto::MutationReply* reply) {
  const VolumeId volume(op.volume());
  if (op.steps_max() == 0 || op.steps_max() > kPurgeStepsMax) {
    return Status(StatusCode::kInvalidArgument, "a purge has 1 to " + std::to_string(kPurgeStepsMax) + " steps");
  }
  ASSIGN_OR_RETURN(const auto record, ReadVolume(context->view(), volume));
  if (!record) return Status::Ok();
  uint32_t steps = 0;
  while (steps < op.steps_max()) {
    ASSIGN_OR_RETURN(const auto directory, NextDirectory(*context, volume));
    if (!directory) {
      if (!record->deleting()) break;
      context->transaction().Delete(VolumeKey(volume));
      context->transaction().Delete(VolumeCountersKey(volume));
      break;
    }
    ASSIGN_OR_RETURN(const uint32_t taken, PurgeDirectory(context, volume, *directory, op.steps_max() - steps));
    steps += taken;
  }
  reply->set_purged(steps);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
