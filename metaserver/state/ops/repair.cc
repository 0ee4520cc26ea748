// Repairs what a check of a snapshot found (metaserver/state/fsck), as far as it is still so.
//
// A name or an inode that has changed since is left alone: whatever the change was, the next check sees it. Counters
// get the difference between what was recorded and what was right in the snapshot, since every operation keeps that
// difference. An inode without a name gets one in lost+found of its volume, "#" and its number; so does a directory of a
// circle that no path leads to. The reply counts the
// repairs made.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

constexpr const char* kLostAndFound = "lost+found";
constexpr uint32_t kLostAndFoundMode = 0700;
constexpr int kCircleDirectoriesMax = 65'536;

bool IsDirectory(const proto::Attributes& inode) { return inode.type() == proto::FILE_TYPE_DIRECTORY; }

// One kind of repair after another; counts those made.
class Repairer {
 public:
  explicit Repairer(CommandContext* context) : context_(context) {}
  uint32_t made() const { return made_; }

  Status Dentry(const proto::RepairOp::Dentry& repair);
  Status Inode(const proto::RepairOp::Inode& repair);
  Status LostInode(const proto::RepairOp::Inode& repair);
  Status Directory(const proto::RepairOp::Directory& repair);
  Status VolumeUse(const proto::RepairOp::VolumeUse& repair);
  Status Orphan(const proto::RepairOp::Orphan& repair);
  Status UnheldInode(const proto::RepairOp::Inode& repair);
  Status DeadDataCount(int64_t delta);
  Status Queues();

 private:
  // The inode as it was found; nullopt: it changed.
  Result<std::optional<proto::Attributes>> Unchanged(const proto::RepairOp::Inode& repair);
  Result<proto::Attributes> LostAndFound(VolumeId volume);
  Result<uint64_t> CountKeys(KeyKind kind);
  // The inode gets a name in lost+found.
  Status PutIntoLostAndFound(proto::Attributes* inode);
  Result<bool> LiesInItself(const proto::Attributes& directory);
  Status OpenCircle(const std::string& name, proto::Attributes parent, uint64_t child);

  CommandContext* const context_;
  uint32_t made_ = 0;
};

uint64_t Plus(uint64_t number, int64_t delta) {
  return delta >= 0 || number >= static_cast<uint64_t>(-delta) ? number + static_cast<uint64_t>(delta) : 0;
}

Result<std::optional<proto::Attributes>> Repairer::Unchanged(const proto::RepairOp::Inode& repair) {
  ASSIGN_OR_RETURN(auto inode, ReadInode(context_->view(), InodeId(repair.inode())));
  if (inode && inode->change() != repair.change()) inode.reset();
  return inode;
}

Status Repairer::Dentry(const proto::RepairOp::Dentry& repair) {
  const InodeId parent_id(repair.parent());
  ASSIGN_OR_RETURN(const auto dentry, ReadDentry(context_->view(), parent_id, repair.name()));
  if (!dentry || dentry->inode() != repair.inode()) return Status::Ok();
  ASSIGN_OR_RETURN(const auto child, ReadInode(context_->view(), InodeId(repair.inode())));
  ASSIGN_OR_RETURN(auto parent, ReadInode(context_->view(), parent_id));
  const bool in_directory = parent && IsDirectory(*parent);
  if (child && in_directory) {
    if (child->type() == dentry->type()) {
      if (!IsDirectory(*child) || child->parent() != repair.parent()) return Status::Ok();
      ASSIGN_OR_RETURN(const bool is_circle, LiesInItself(*child));
      return is_circle ? OpenCircle(repair.name(), *parent, repair.inode()) : Status::Ok();
    }
    context_->PutDentry(parent_id, repair.name(), *child);
  } else {
    context_->DeleteDentry(parent_id, repair.name());
    if (in_directory) {
      context_->TouchDirectory(&*parent, -1, dentry->type() == proto::FILE_TYPE_DIRECTORY ? -1 : 0);
      context_->PutInode(*parent);
    }
  }
  ++made_;
  return Status::Ok();
}

Status Repairer::Inode(const proto::RepairOp::Inode& repair) {
  ASSIGN_OR_RETURN(auto inode, Unchanged(repair));
  if (!inode) return Status::Ok();
  if (IsDirectory(*inode)) {
    if (repair.parent() == 0) return Status::Ok();
    inode->set_parent(repair.parent());
  } else {
    if (repair.nlink() > 1 && inode->parent() != 0) {
      CountAnotherName(context_, *inode);
      inode->set_parent(0);
    }
    if (repair.parent() != 0) inode->set_parent(repair.parent());
    inode->set_nlink(repair.nlink());
  }
  context_->Touch(&*inode);
  context_->PutInode(*inode);
  ++made_;
  return Status::Ok();
}

Result<proto::Attributes> Repairer::LostAndFound(VolumeId volume) {
  ASSIGN_OR_RETURN(const auto record, ReadVolume(context_->view(), volume));
  if (!record) return Status(StatusCode::kNotFound, "volume " + std::to_string(volume.value()) + " does not exist");
  ASSIGN_OR_RETURN(proto::Attributes root, context_->Directory(InodeId(record->root())));
  ASSIGN_OR_RETURN(auto existing, context_->FindChild(InodeId(root.inode()), kLostAndFound));
  if (existing) {
    if (IsDirectory(*existing)) return std::move(*existing);
    return Status(StatusCode::kNotDirectory, "lost+found is not a directory");
  }
  ASSIGN_OR_RETURN(proto::Attributes made, NewInode(context_, root, proto::FILE_TYPE_DIRECTORY, kLostAndFoundMode));
  made.set_nlink(2);
  made.set_uid(0);
  made.set_gid(0);
  RETURN_IF_ERROR(AddNewEntry(context_, &root, kLostAndFound, made));
  return made;
}

Status Repairer::LostInode(const proto::RepairOp::Inode& repair) {
  ASSIGN_OR_RETURN(auto inode, Unchanged(repair));
  return inode ? PutIntoLostAndFound(&*inode) : Status::Ok();
}

Status Repairer::PutIntoLostAndFound(proto::Attributes* inode) {
  ASSIGN_OR_RETURN(proto::Attributes directory, LostAndFound(VolumeId(inode->volume())));
  const InodeId directory_id(directory.inode());
  const std::string name = "#" + std::to_string(inode->inode());
  RETURN_IF_ERROR(CheckNameFree(*context_, directory, name));
  TreeSize counts = OwnSize(*inode);
  if (IsDirectory(*inode)) {
    const InodeId id(inode->inode());
    ASSIGN_OR_RETURN(const auto size, ReadDirectorySize(context_->view(), id));
    if (size) {
      counts = HeardOf(*size);
    } else {
      StartDirectorySize(context_, id);
    }
  } else {
    context_->transaction().Delete(LinkedFileHomeKey(InodeId(inode->inode())));
    inode->set_nlink(1);
  }
  inode->set_parent(directory.inode());
  context_->Touch(inode);
  context_->PutInode(*inode);
  context_->PutDentry(directory_id, name, *inode);
  context_->TouchDirectory(&directory, 1, IsDirectory(*inode) ? 1 : 0);
  context_->PutInode(directory);
  RETURN_IF_ERROR(AddToDirectory(context_, directory_id, counts));
  ++made_;
  return Status::Ok();
}

Result<bool> Repairer::LiesInItself(const proto::Attributes& directory) {
  uint64_t at = directory.parent();
  for (int i = 0; i < kCircleDirectoriesMax && at != directory.inode(); ++i) {
    ASSIGN_OR_RETURN(const auto above, ReadInode(context_->view(), InodeId(at)));
    if (!above || above->parent() == at) return false;
    at = above->parent();
  }
  return at == directory.inode();
}

Status Repairer::OpenCircle(const std::string& name, proto::Attributes parent, uint64_t child) {
  const InodeId parent_id(parent.inode());
  ASSIGN_OR_RETURN(const auto size, ReadDirectorySize(context_->view(), InodeId(child)));
  context_->DeleteDentry(parent_id, name);
  context_->TouchDirectory(&parent, -1, -1);
  context_->PutInode(parent);
  if (size) RETURN_IF_ERROR(AddToDirectory(context_, parent_id, TreeSize() - HeardOf(*size)));
  // Only now: a directory that lies in itself was its own parent.
  ASSIGN_OR_RETURN(auto inode, ReadInode(context_->view(), InodeId(child)));
  return PutIntoLostAndFound(&*inode);
}

Status Repairer::Directory(const proto::RepairOp::Directory& repair) {
  const InodeId id(repair.inode());
  ASSIGN_OR_RETURN(auto directory, ReadInode(context_->view(), id));
  if (!directory || !IsDirectory(*directory)) return Status::Ok();
  if (repair.entries() != 0 || repair.subdirectories() != 0) {
    directory->set_size_bytes(Plus(directory->size_bytes(), repair.entries()));
    directory->set_nlink(static_cast<uint32_t>(Plus(directory->nlink(), repair.subdirectories())));
    context_->Touch(&*directory);
    context_->PutInode(*directory);
  }
  if (repair.start_size()) {
    ASSIGN_OR_RETURN(const auto size, ReadDirectorySize(context_->view(), id));
    if (!size) StartDirectorySize(context_, id);
  }
  RETURN_IF_ERROR(AddToDirectory(
      context_, id, {.bytes = repair.bytes(), .files = repair.files(), .directories = repair.directories()}));
  ++made_;
  return Status::Ok();
}

Status Repairer::VolumeUse(const proto::RepairOp::VolumeUse& repair) {
  const VolumeId id(repair.volume());
  ASSIGN_OR_RETURN(const auto record, ReadVolume(context_->view(), id));
  if (!record) return Status::Ok();
  ASSIGN_OR_RETURN(const auto counters, ReadVolumeCounters(context_->view(), id));
  VolumeCounters right = counters.value_or(VolumeCounters());
  right.used_bytes = Plus(right.used_bytes, repair.bytes());
  right.used_inodes = Plus(right.used_inodes, repair.inodes());
  context_->transaction().Put(VolumeCountersKey(id), EncodeVolumeCounters(right));
  ++made_;
  return Status::Ok();
}

Status Repairer::Orphan(const proto::RepairOp::Orphan& repair) {
  ASSIGN_OR_RETURN(const auto session, ReadSession(context_->view(), SessionId(repair.session())));
  ASSIGN_OR_RETURN(const auto inode, ReadInode(context_->view(), InodeId(repair.inode())));
  if ((session || repair.session() == 0) && inode) return Status::Ok();
  // The inode is not touched here: without a name and a holder it is found by the next check.
  context_->transaction().Delete(OrphanKey(SessionId(repair.session()), InodeId(repair.inode())));
  context_->transaction().Delete(OrphanHolderKey(InodeId(repair.inode()), SessionId(repair.session())));
  ++made_;
  return Status::Ok();
}

Status Repairer::UnheldInode(const proto::RepairOp::Inode& repair) {
  ASSIGN_OR_RETURN(const auto inode, Unchanged(repair));
  if (!inode || inode->nlink() != 0 || IsDirectory(*inode)) return Status::Ok();
  bool held = false;
  RETURN_IF_ERROR(context_->view().Scan(KindPrefix(KeyKind::kOrphan), {}, [&](std::string_view key, std::string_view) {
    held = ParseTrailingId(key) == repair.inode();
    return !held;
  }));
  if (held) return Status::Ok();
  std::vector<std::string> index;
  RETURN_IF_ERROR(context_->view().Scan(OrphanHolderPrefix(InodeId(repair.inode())), {},
                                        [&](std::string_view key, std::string_view) {
                                          index.emplace_back(key);
                                          return true;
                                        }));
  for (std::string& key : index) context_->transaction().Delete(std::move(key));
  ++made_;
  return RemoveInode(context_, *inode);
}

Status Repairer::DeadDataCount(int64_t delta) {
  if (delta == 0) return Status::Ok();
  ASSIGN_OR_RETURN(const uint64_t count, ReadDeadDataCount(context_->view()));
  context_->transaction().Put(DeadDataCountKey(), EncodeU64(Plus(count, delta)));
  ++made_;
  return Status::Ok();
}

Result<uint64_t> Repairer::CountKeys(KeyKind kind) {
  uint64_t count = 0;
  RETURN_IF_ERROR(context_->view().Scan(KindPrefix(kind), {}, [&](std::string_view, std::string_view) {
    ++count;
    return true;
  }));
  return count;
}

Status Repairer::Queues() {
  ASSIGN_OR_RETURN(const uint64_t purge, CountKeys(KeyKind::kPurge));
  ASSIGN_OR_RETURN(const uint64_t unpropagated, CountKeys(KeyKind::kUnpropagated));
  context_->header().set_purge_directories(purge);
  context_->header().set_unpropagated(unpropagated);
  ++made_;
  return Status::Ok();
}

}  // namespace

Status Repair(CommandContext* context, const proto::RepairOp& op, proto::MutationReply* reply) {
  Repairer repairer(context);
  for (const auto& repair : op.dentries()) RETURN_IF_ERROR(repairer.Dentry(repair));
  for (const auto& repair : op.inodes()) RETURN_IF_ERROR(repairer.Inode(repair));
  for (const auto& repair : op.lost_inodes()) RETURN_IF_ERROR(repairer.LostInode(repair));
  for (const auto& repair : op.directories()) RETURN_IF_ERROR(repairer.Directory(repair));
  for (const auto& repair : op.volumes()) RETURN_IF_ERROR(repairer.VolumeUse(repair));
  for (const auto& repair : op.orphans()) RETURN_IF_ERROR(repairer.Orphan(repair));
  for (const auto& repair : op.unheld_inodes()) RETURN_IF_ERROR(repairer.UnheldInode(repair));
  RETURN_IF_ERROR(repairer.DeadDataCount(op.dead_data_count()));
  if (op.recount_queues()) RETURN_IF_ERROR(repairer.Queues());
  reply->set_purged(repairer.made());
  return Status::Ok();
}

}  // namespace tarn::meta::ops
