#include "client/meta/convert.h"

namespace tarn::client {

FileLayout LayoutFromProto(const proto::Layout& layout) {
  FileLayout result;
  result.group_set = GroupSetVersion(layout.group_set_version());
  result.seed = layout.seed();
  result.stripe_unit_bytes = layout.stripe_unit_bytes();
  result.width = layout.width();
  result.chunk_size_bytes = layout.chunk_size_bytes();
  return result;
}

proto::Layout LayoutToProto(const FileLayout& layout) {
  proto::Layout result;
  result.set_group_set_version(layout.group_set.value());
  result.set_seed(layout.seed);
  result.set_stripe_unit_bytes(layout.stripe_unit_bytes);
  result.set_width(layout.width);
  result.set_chunk_size_bytes(layout.chunk_size_bytes);
  return result;
}

Attributes AttributesFromProto(const proto::Attributes& from) {
  Attributes result;
  result.inode = InodeId(from.inode());
  // A type this version does not know (or none, from a broken peer) must not become an invalid enum value.
  result.type = from.type() >= proto::FILE_TYPE_REGULAR && from.type() <= proto::FILE_TYPE_SOCKET
                    ? static_cast<FileType>(from.type())
                    : FileType::kRegular;
  result.mode = from.mode();
  result.nlink = from.nlink();
  result.uid = from.uid();
  result.gid = from.gid();
  result.rdev = from.rdev();
  result.size_bytes = from.size_bytes();
  result.atime_ns = from.atime_ns();
  result.mtime_ns = from.mtime_ns();
  result.ctime_ns = from.ctime_ns();
  result.btime_ns = from.btime_ns();
  result.change = from.change();
  result.data = DataId(from.data_id());
  result.layout = LayoutFromProto(from.layout());
  result.data_generation = from.data_generation();
  result.being_written = from.being_written() || from.has_data_parent();
  result.truncate_generation = from.truncate_generation();
  if (from.truncate_pending()) result.truncate_floor_bytes = from.truncate_floor_bytes();
  result.parent = InodeId(from.parent());
  result.symlink_target = from.symlink_target();
  result.has_xattrs = from.has_xattrs();
  return result;
}

VolumeInfo VolumeFromProto(const proto::Volume& from) {
  VolumeInfo result;
  result.id = VolumeId(from.id());
  result.name = from.name();
  result.root = InodeId(from.root());
  result.quota_bytes = from.quota_bytes();
  result.quota_inodes = from.quota_inodes();
  result.replicas = from.replicas();
  result.stripe_unit_bytes = from.stripe_unit_bytes();
  result.stripe_width = from.stripe_width();
  result.chunk_size_bytes = from.chunk_size_bytes();
  result.created_ns = from.created_ns();
  result.used_bytes = from.used_bytes();
  result.used_inodes = from.used_inodes();
  return result;
}

proto::FileType FileTypeToProto(FileType type) { return static_cast<proto::FileType>(type); }

proto::Mutation MutationFor(Caller caller) {
  proto::Mutation mutation;
  mutation.mutable_caller()->set_uid(caller.uid);
  mutation.mutable_caller()->set_gid(caller.gid);
  return mutation;
}

}  // namespace tarn::client
