#include "metaserver/state/fsck/check_state.h"

#include <utility>

#include "metaserver/state/fsck/check_pass.h"
#include "metaserver/state/records.h"

namespace tarn::meta {
namespace fsck {

Result<Pointed> ReadPointed(const KvView& view, InodeId inode) {
  auto read = ReadInode(view, inode);
  if (read.status().code() == StatusCode::kCorruption) return Pointed{.inode = std::nullopt, .unreadable = true};
  RETURN_IF_ERROR(read.status());
  return Pointed{.inode = std::move(*read), .unreadable = false};
}

std::string InodeName(const proto::Attributes& inode) {
  const bool is_directory = inode.type() == proto::FILE_TYPE_DIRECTORY;
  return (is_directory ? "directory " : "inode ") + std::to_string(inode.inode()) + " of volume " +
         std::to_string(inode.volume());
}

proto::RepairOp::Inode AsFound(const proto::Attributes& inode) {
  proto::RepairOp::Inode found;
  found.set_inode(inode.inode());
  found.set_change(inode.change());
  found.set_nlink(inode.nlink());
  return found;
}

}  // namespace fsck

Status CheckState(const KvView& view, const FsckOptions& options, const FsckListener& listener,
                  FsckProgress* progress) {
  fsck::CheckPass pass(view, options, listener, progress);
  RETURN_IF_ERROR(fsck::CheckRecords(&pass));
  RETURN_IF_ERROR(fsck::CheckLinks(&pass));
  RETURN_IF_ERROR(fsck::CheckDirectories(&pass));
  RETURN_IF_ERROR(fsck::CheckCircles(&pass));
  fsck::CheckVolumeUse(&pass);
  return Status::Ok();
}

}  // namespace tarn::meta
