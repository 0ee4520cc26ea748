#include "metaserver/state/directory_sizes.h"

#include <string>

#include "metaserver/state/records.h"

namespace tarn::meta {
namespace {

bool IsDirectory(const proto::Attributes& inode) { return inode.type() == proto::FILE_TYPE_DIRECTORY; }

Status MoveCount(CommandContext* context, const TreeSize& size, InodeId from, InodeId to) {
  if (from == to) return Status::Ok();
  RETURN_IF_ERROR(AddToDirectory(context, from, -size));
  return AddToDirectory(context, to, size);
}

Result<std::optional<InodeId>> RootOf(const KvView& view, VolumeId volume) {
  ASSIGN_OR_RETURN(const auto record, ReadVolume(view, volume));
  if (!record) return std::optional<InodeId>();
  return std::optional<InodeId>(InodeId(record->root()));
}

}  // namespace

TreeSize HeardOf(const DirectorySize& subdirectory) {
  return subdirectory.total - subdirectory.unsent + TreeSize{.directories = 1};
}

TreeSize OwnSize(const proto::Attributes& inode) {
  if (IsDirectory(inode)) return TreeSize{.directories = 1};
  const bool has_data = inode.type() == proto::FILE_TYPE_REGULAR;
  return TreeSize{.bytes = has_data ? static_cast<int64_t>(inode.size_bytes()) : 0, .files = 1};
}

void StartDirectorySize(CommandContext* context, InodeId directory) {
  context->transaction().Put(DirectorySizeKey(directory), EncodeDirectorySize({}));
}

Status AddToDirectory(CommandContext* context, InodeId directory, const TreeSize& delta) {
  if (delta == TreeSize()) return Status::Ok();
  ASSIGN_OR_RETURN(auto size, ReadDirectorySize(context->view(), directory));
  if (!size) return Status::Ok();
  size->total = size->total + delta;
  size->unsent = size->unsent + delta;
  if (size->queued == 0) {
    proto::StateHeader& header = context->header();
    size->queued = header.next_unpropagated() + 1;
    header.set_next_unpropagated(size->queued);
    header.set_unpropagated(header.unpropagated() + 1);
    context->transaction().PutNew(UnpropagatedKey(size->queued), EncodeU64(directory.value()));
  }
  context->transaction().Put(DirectorySizeKey(directory), EncodeDirectorySize(*size));
  return Status::Ok();
}

Result<std::optional<InodeId>> CountedIn(const KvView& view, const proto::Attributes& file) {
  if (file.parent() != 0) return std::optional<InodeId>(InodeId(file.parent()));
  ASSIGN_OR_RETURN(const auto home, ReadLinkedFileHome(view, InodeId(file.inode())));
  if (home) return home;
  return RootOf(view, VolumeId(file.volume()));
}

Status CountNewEntry(CommandContext* context, InodeId parent, const proto::Attributes& child) {
  if (IsDirectory(child)) StartDirectorySize(context, InodeId(child.inode()));
  return AddToDirectory(context, parent, OwnSize(child));
}

Status CountResize(CommandContext* context, const proto::Attributes& file, int64_t bytes_delta) {
  if (bytes_delta == 0 || file.nlink() == 0) return Status::Ok();
  ASSIGN_OR_RETURN(const auto home, CountedIn(context->view(), file));
  return home ? AddToDirectory(context, *home, TreeSize{.bytes = bytes_delta}) : Status::Ok();
}

void CountAnotherName(CommandContext* context, const proto::Attributes& file) {
  if (file.parent() == 0) return;
  context->transaction().Put(LinkedFileHomeKey(InodeId(file.inode())), EncodeU64(file.parent()));
}

Status CountNameGone(CommandContext* context, const proto::Attributes& file, InodeId directory) {
  ASSIGN_OR_RETURN(const auto home, CountedIn(context->view(), file));
  if (!home) return Status::Ok();
  const std::string home_key = LinkedFileHomeKey(InodeId(file.inode()));
  if (file.nlink() <= 1) {
    if (file.parent() == 0) context->transaction().Delete(home_key);
    return AddToDirectory(context, *home, -OwnSize(file));
  }
  if (*home != directory) return Status::Ok();
  ASSIGN_OR_RETURN(const auto root, RootOf(context->view(), VolumeId(file.volume())));
  if (!root) return AddToDirectory(context, *home, -OwnSize(file));
  context->transaction().Put(home_key, EncodeU64(root->value()));
  return MoveCount(context, OwnSize(file), *home, *root);
}

Status CountMove(CommandContext* context, const proto::Attributes& child, InodeId from, InodeId to) {
  if (IsDirectory(child)) {
    ASSIGN_OR_RETURN(const auto size, ReadDirectorySize(context->view(), InodeId(child.inode())));
    return MoveCount(context, HeardOf(size.value_or(DirectorySize())), from, to);
  }
  ASSIGN_OR_RETURN(const auto home, CountedIn(context->view(), child));
  if (!home) return Status::Ok();
  const bool only_name = child.nlink() <= 1;
  if (!only_name && *home != from) return Status::Ok();
  const std::string home_key = LinkedFileHomeKey(InodeId(child.inode()));
  if (only_name) {
    // The rename tells which directory has the name.
    if (child.parent() == 0) context->transaction().Delete(home_key);
  } else {
    context->transaction().Put(home_key, EncodeU64(to.value()));
  }
  return MoveCount(context, OwnSize(child), *home, to);
}

Result<TreeSize> CountDirectoryGone(CommandContext* context, InodeId directory, InodeId parent) {
  ASSIGN_OR_RETURN(const auto size, ReadDirectorySize(context->view(), directory));
  const DirectorySize counted = size.value_or(DirectorySize());
  context->transaction().Delete(DirectorySizeKey(directory));
  RETURN_IF_ERROR(AddToDirectory(context, parent, -HeardOf(counted)));
  return counted.total;
}

}  // namespace tarn::meta
