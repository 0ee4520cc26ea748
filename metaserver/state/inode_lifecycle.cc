#include "metaserver/state/inode_lifecycle.h"

#include <string>
#include <vector>

#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/file_data.h"
#include "metaserver/state/limits.h"

namespace tarn::meta {
namespace {

constexpr uint32_t kModeBits = 07777;
constexpr uint32_t kSetGroupId = 02000;

Status RemoveXattrs(CommandContext* context, InodeId inode) {
  std::vector<std::string> keys;
  RETURN_IF_ERROR(context->view().Scan(XattrPrefix(inode), {}, [&](std::string_view key, std::string_view) {
    keys.emplace_back(key);
    return true;
  }));
  for (std::string& key : keys) context->transaction().Delete(std::move(key));
  return Status::Ok();
}

}  // namespace

Result<proto::Attributes> NewInode(CommandContext* context, const proto::Attributes& parent, proto::FileType type,
                                   uint32_t mode) {
  ASSIGN_OR_RETURN(const InodeId inode, context->TakeInodeId());
  proto::Attributes attributes;
  attributes.set_inode(inode.value());
  attributes.set_type(type);
  attributes.set_mode(mode & kModeBits);
  attributes.set_nlink(1);
  attributes.set_parent(parent.inode());
  attributes.set_uid(context->caller().uid());
  attributes.set_gid(context->caller().gid());
  if ((parent.mode() & kSetGroupId) != 0) {
    attributes.set_gid(parent.gid());
    if (type == proto::FILE_TYPE_DIRECTORY) attributes.set_mode(attributes.mode() | kSetGroupId);
  }
  attributes.set_atime_ns(context->now_ns());
  attributes.set_mtime_ns(context->now_ns());
  attributes.set_ctime_ns(context->now_ns());
  attributes.set_btime_ns(context->now_ns());
  attributes.set_volume(parent.volume());
  attributes.set_parent(parent.inode());
  attributes.set_change(1);
  return attributes;
}

Status CheckNameFree(const CommandContext& context, const proto::Attributes& parent, std::string_view name) {
  ASSIGN_OR_RETURN(const auto existing, ReadDentry(context.view(), InodeId(parent.inode()), name));
  return existing ? Status(StatusCode::kExists, "the name exists") : Status::Ok();
}

Status AddNewEntry(CommandContext* context, proto::Attributes* parent, std::string_view name,
                   const proto::Attributes& child) {
  const bool is_directory = child.type() == proto::FILE_TYPE_DIRECTORY;
  if (is_directory && parent->nlink() >= kDirectoryLinksMax) {
    return Status(StatusCode::kTooManyLinks, "the directory has too many subdirectories");
  }
  const uint64_t bytes = child.type() == proto::FILE_TYPE_REGULAR ? child.size_bytes() : 0;
  RETURN_IF_ERROR(context->Charge(VolumeId(parent->volume()), static_cast<int64_t>(bytes), 1));
  context->PutNewInode(child);
  context->PutNewDentry(InodeId(parent->inode()), name, child);
  context->TouchDirectory(parent, 1, is_directory ? 1 : 0);
  context->PutInode(*parent);
  return CountNewEntry(context, InodeId(parent->inode()), child);
}

Status DropLink(CommandContext* context, proto::Attributes* file, InodeId directory, bool held_open) {
  RETURN_IF_ERROR(CountNameGone(context, *file, directory));
  file->set_nlink(file->nlink() - 1);
  context->Touch(file);
  const InodeId inode(file->inode());
  if (file->nlink() == 0) {
    context->NoteRemoved(*file);
    const bool held_by_session = held_open && context->session().valid();
    if (!held_by_session && !context->hold_removed()) return RemoveInode(context, *file);
    if (held_by_session) AddOrphanHolder(context, context->session(), inode);
    if (context->hold_removed()) {
      AddOrphanHolder(context, kUnsettled, inode);
      context->NoteHeldOrphan(inode);
    }
  }
  context->PutInode(*file);
  return Status::Ok();
}

void AddOrphanHolder(CommandContext* context, SessionId session, InodeId inode) {
  context->transaction().Put(OrphanKey(session, inode), "");
  context->transaction().Put(OrphanHolderKey(inode, session), "");
}

Status RemoveOrphanHolder(CommandContext* context, SessionId session, InodeId inode) {
  const std::string key = OrphanKey(session, inode);
  ASSIGN_OR_RETURN(const auto orphan, context->view().Get(key));
  if (!orphan) return Status::Ok();
  context->transaction().Delete(key);
  context->transaction().Delete(OrphanHolderKey(inode, session));
  bool held = false;
  RETURN_IF_ERROR(context->view().Scan(OrphanHolderPrefix(inode), {}, [&](std::string_view, std::string_view) {
    held = true;
    return false;
  }));
  if (held) return Status::Ok();
  ASSIGN_OR_RETURN(const auto attributes, ReadInode(context->view(), inode));
  return attributes ? RemoveInode(context, *attributes) : Status::Ok();
}

Status RemoveInode(CommandContext* context, const proto::Attributes& inode) {
  const InodeId id(inode.inode());
  uint64_t bytes = 0;
  if (inode.type() == proto::FILE_TYPE_REGULAR) {
    bytes = inode.size_bytes();
    RETURN_IF_ERROR(MakeDataDead(context, inode));
  }
  if (inode.has_xattrs()) RETURN_IF_ERROR(RemoveXattrs(context, id));
  context->transaction().Delete(InodeKey(id));
  return context->Charge(VolumeId(inode.volume()), -static_cast<int64_t>(bytes), -1);
}

}  // namespace tarn::meta
