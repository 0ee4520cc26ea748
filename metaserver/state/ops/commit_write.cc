// Publishes written data: what write, fsync and close need from the namespace.
//
// POSIX: mtime and ctime of a written file change; its size grows to the end of what was written. The data generation
// rises, and mtime always moves, so that caches keyed by either notice. A writer that goes on may change the data before
// its next commit (docs/elastic.md). kStaleTruncate: the data id or the truncate
// generation moved on, the bytes may be gone. EFBIG; EDQUOT; EISDIR; EINVAL: no regular file; ESTALE: no such inode.
#include <algorithm>

#include "metaserver/state/file_data.h"
#include "metaserver/state/ops/mark_writing.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status CommitWrite(CommandContext* context, const proto::CommitWriteOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(proto::Attributes file, RegularFile(*context, InodeId(op.inode())));
  if (file.data_id() != op.data_id() || file.truncate_generation() != op.truncate_generation()) {
    return Status(StatusCode::kStaleTruncate, "inode " + std::to_string(op.inode()) + " has data " +
                                                  std::to_string(file.data_id()) + " of truncate generation " +
                                                  std::to_string(file.truncate_generation()));
  }
  RETURN_IF_ERROR(Resize(context, &file, std::max(file.size_bytes(), op.min_size_bytes())));
  const int64_t mtime_ns = op.mtime_ns() != 0 ? op.mtime_ns() : context->now_ns();
  file.set_mtime_ns(mtime_ns != file.mtime_ns() ? mtime_ns : mtime_ns + 1);
  file.set_data_generation(file.data_generation() + 1);
  ASSIGN_OR_RETURN(const bool marked, IsMarkedAfter(*context, op));
  file.set_being_written(marked);
  if (op.clear_suid_sgid()) ClearSuidSgid(&file);
  context->Touch(&file);
  context->PutInode(file);
  *reply->mutable_attributes() = std::move(file);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
