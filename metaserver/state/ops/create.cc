// open(O_CREAT), mknod, and the ingest of a file whose bytes were written beforehand.
//
// POSIX: the new file belongs to the caller, takes the group of a set-group-id directory, has one link, and stamps the
// parent's mtime and ctime. EEXIST with `exclusive` if there is anything of that name; without it an existing regular
// file is returned unchanged, a directory is EISDIR and anything else EEXIST. ENOENT: the parent was removed, or an
// empty name. ENOTDIR: the parent is no directory. ENAMETOOLONG. EINVAL: '/' or NUL in the name, or a type that has an
// operation of its own. EDQUOT. "." and ".." exist. Ingest (data_id set): the file appears with its data or not at all;
// with `replace` an existing regular file gets data, mode and, if asked, owner in place (its links and xattrs stay),
// and its old data becomes dead. The same data id again changes nothing: a client that lost its session may ask twice.
// EFBIG: larger than the layout allows. EINVAL: not a reserved data id, a bad layout.
#include "metaserver/state/file_data.h"
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/names.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Status CheckType(const proto::CreateOp& op) {
  switch (op.type()) {
    case proto::FILE_TYPE_REGULAR:
      return Status::Ok();
    case proto::FILE_TYPE_CHARACTER_DEVICE:
    case proto::FILE_TYPE_BLOCK_DEVICE:
    case proto::FILE_TYPE_FIFO:
    case proto::FILE_TYPE_SOCKET:
      if (op.data_id() == 0) return Status::Ok();
      return Status(StatusCode::kInvalidArgument, "only a regular file has data");
    default:
      return Status(StatusCode::kInvalidArgument, "create makes regular files, devices, fifos and sockets");
  }
}

Status CheckData(CommandContext* context, const proto::CreateOp& op) {
  if (op.data_id() == 0) {
    if (op.size_bytes() == 0 && !op.replace()) return Status::Ok();
    return Status(StatusCode::kInvalidArgument, "a size or a replacement needs a data id");
  }
  return CheckLayout(context->map(), op.layout());
}

// Without the reservation what was written under the id may have been taken for nobody's, and deleted.
Status CheckReserved(const CommandContext& context, uint64_t data_id) {
  ASSIGN_OR_RETURN(const auto reservation, ReadReservationOf(context.view(), DataId(data_id)));
  if (reservation) return Status::Ok();
  return Status(StatusCode::kInvalidArgument,
                "data id " + std::to_string(data_id) + " is not reserved, or its session has been gone for long");
}

void SetData(const CommandContext& context, const proto::CreateOp& op, proto::Attributes* file) {
  file->set_data_id(op.data_id());
  *file->mutable_layout() = op.layout();
  file->set_data_generation(file->data_generation() + 1);
  file->set_being_written(false);
  file->set_truncate_pending(false);
  file->set_truncate_floor_bytes(0);
  file->set_mtime_ns(op.mtime_ns() != 0 ? op.mtime_ns() : context.now_ns());
  if (op.set_owner()) {
    file->set_uid(op.uid());
    file->set_gid(op.gid());
  }
}

Status Replace(CommandContext* context, const proto::CreateOp& op, proto::Attributes* file) {
  if (file->data_id() == op.data_id()) return Status::Ok();
  RETURN_IF_ERROR(CheckReserved(*context, op.data_id()));
  RETURN_IF_ERROR(MakeDataDead(context, *file));
  SetData(*context, op, file);
  RETURN_IF_ERROR(CheckSizeFits(*context, *file, op.size_bytes()));
  RETURN_IF_ERROR(Resize(context, file, op.size_bytes()));
  file->set_mode(op.mode() & 07777);
  context->Touch(file);
  context->PutInode(*file);
  return Status::Ok();
}

Status UseExisting(CommandContext* context, const proto::CreateOp& op, proto::Attributes existing,
                   proto::MutationReply* reply) {
  const bool both_regular = existing.type() == proto::FILE_TYPE_REGULAR && op.type() == proto::FILE_TYPE_REGULAR;
  const bool may_replace = op.data_id() != 0 && (op.replace() || existing.data_id() == op.data_id());
  if (both_regular && may_replace) {
    RETURN_IF_ERROR(Replace(context, op, &existing));
  } else if (op.exclusive() || op.data_id() != 0) {
    return Status(StatusCode::kExists, "the name exists");
  } else if (existing.type() == proto::FILE_TYPE_DIRECTORY) {
    return Status(StatusCode::kIsDirectory, "the name is a directory");
  } else if (!both_regular) {
    return Status(StatusCode::kExists, "the name exists and is not a regular file");
  }
  *reply->mutable_attributes() = std::move(existing);
  return Status::Ok();
}

}  // namespace

Status Create(CommandContext* context, const proto::CreateOp& op, proto::MutationReply* reply) {
  RETURN_IF_ERROR(CheckNewName(op.name()));
  RETURN_IF_ERROR(CheckType(op));
  RETURN_IF_ERROR(CheckData(context, op));
  const InodeId parent_id(op.parent());
  ASSIGN_OR_RETURN(proto::Attributes parent, context->Directory(parent_id));
  ASSIGN_OR_RETURN(auto existing, context->FindChild(parent_id, op.name()));
  if (existing) return UseExisting(context, op, std::move(*existing), reply);

  if (op.data_id() != 0) RETURN_IF_ERROR(CheckReserved(*context, op.data_id()));
  ASSIGN_OR_RETURN(proto::Attributes file, NewInode(context, parent, op.type(), op.mode()));
  if (op.type() == proto::FILE_TYPE_CHARACTER_DEVICE || op.type() == proto::FILE_TYPE_BLOCK_DEVICE) {
    file.set_rdev(op.rdev());
  }
  if (op.data_id() != 0) {
    SetData(*context, op, &file);
    file.set_size_bytes(op.size_bytes());
    RETURN_IF_ERROR(CheckSizeFits(*context, file, op.size_bytes()));
  }
  RETURN_IF_ERROR(AddNewEntry(context, &parent, op.name(), file));
  *reply->mutable_attributes() = std::move(file);
  *reply->mutable_parent() = std::move(parent);
  reply->set_created(true);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
