#include "metaserver/state/command_context.h"

#include <algorithm>
#include <utility>

#include "metaserver/state/limits.h"

namespace tarn::meta {
namespace {

std::string InodeText(InodeId inode) { return "inode " + std::to_string(inode.value()); }

uint64_t Add(uint64_t number, int64_t delta) {
  if (delta >= 0) return number + static_cast<uint64_t>(delta);
  const uint64_t less = static_cast<uint64_t>(-delta);
  // Never below zero: a counter that is off must not stop a server that has the files.
  return number - std::min(number, less);
}

Status CheckQuota(const proto::Volume& volume, const VolumeCounters& counters, bool bytes_grow, bool inodes_grow) {
  if (bytes_grow && volume.quota_bytes() != 0 && counters.used_bytes > volume.quota_bytes()) {
    return Status(StatusCode::kQuota, "volume " + volume.name() + " may hold " + std::to_string(volume.quota_bytes()) +
                                          " bytes, this would make " + std::to_string(counters.used_bytes));
  }
  if (inodes_grow && volume.quota_inodes() != 0 && counters.used_inodes > volume.quota_inodes()) {
    return Status(StatusCode::kQuota,
                  "volume " + volume.name() + " may hold " + std::to_string(volume.quota_inodes()) + " inodes");
  }
  return Status::Ok();
}

std::string DentryValue(const proto::Attributes& child) {
  proto::DentryRecord record;
  record.set_inode(child.inode());
  record.set_type(child.type());
  return Encode(record);
}

}  // namespace

void CommandContext::ReplaceMap(proto::ClusterMap map) {
  map.set_version(std::max(map.version(), state_->map->version()) + 1);
  state_->transaction.Put(ClusterMapKey(), Encode(map));
  state_->map = std::make_shared<const proto::ClusterMap>(std::move(map));
}

Result<InodeId> CommandContext::TakeInodeId() {
  const InodeId inode(command_->inode());
  const uint64_t counter = IdCounter(inode.value());
  if (counter < kFirstInodeCounter) {
    return Status(StatusCode::kInternal, "the command has no inode id (" + std::to_string(inode.value()) + ")");
  }
  if (counter < header().next_inode()) {
    ASSIGN_OR_RETURN(const auto existing, ReadInode(view(), inode));
    if (existing) return Status(StatusCode::kInternal, InodeText(inode) + " is already in use");
  }
  header().set_next_inode(std::max(header().next_inode(), counter + 1));
  return inode;
}

Result<DataId> CommandContext::TakeDataIds(uint32_t count) {
  const DataId first(command_->data_id());
  const uint64_t counter = IdCounter(first.value());
  // Strict, since nothing else would show that two files share their bytes.
  if (counter < header().next_data_id() || counter + count > kIdCounterMax) {
    return Status(StatusCode::kInternal,
                  "data id " + std::to_string(first.value()) + " of the command is not a new one");
  }
  header().set_next_data_id(counter + count);
  return first;
}

Result<proto::Attributes> CommandContext::Inode(InodeId inode) const {
  ASSIGN_OR_RETURN(auto attributes, ReadInode(view(), inode));
  if (!attributes) return Status(StatusCode::kStaleHandle, InodeText(inode) + " does not exist");
  return std::move(*attributes);
}

Result<proto::Attributes> CommandContext::Directory(InodeId inode) const {
  ASSIGN_OR_RETURN(auto attributes, ReadInode(view(), inode));
  if (!attributes) return Status(StatusCode::kNotFound, "directory " + InodeText(inode) + " does not exist");
  if (attributes->type() != proto::FILE_TYPE_DIRECTORY) {
    return Status(StatusCode::kNotDirectory, InodeText(inode) + " is not a directory");
  }
  if (attributes->nlink() == 0) {
    return Status(StatusCode::kNotFound, "directory " + InodeText(inode) + " was removed");
  }
  return std::move(*attributes);
}

Result<std::optional<proto::Attributes>> CommandContext::FindChild(InodeId parent, std::string_view name) const {
  ASSIGN_OR_RETURN(const auto dentry, ReadDentry(view(), parent, name));
  if (!dentry) return std::optional<proto::Attributes>();
  ASSIGN_OR_RETURN(auto attributes, ReadInode(view(), InodeId(dentry->inode())));
  if (!attributes) {
    // Damage of this name only, which fsck repairs: it must not end every member of the group.
    return Status(StatusCode::kInternal, "a name in directory " + InodeText(parent) + " points at " +
                                             InodeText(InodeId(dentry->inode())) + ", which does not exist");
  }
  return attributes;
}

Result<proto::Attributes> CommandContext::Child(InodeId parent, std::string_view name) const {
  ASSIGN_OR_RETURN(auto attributes, FindChild(parent, name));
  if (!attributes) return Status(StatusCode::kNotFound, "no such name in directory " + InodeText(parent));
  return std::move(*attributes);
}

void CommandContext::PutInode(const proto::Attributes& attributes) {
  ChangedInode& changed = state_->changes.Inode(InodeId(attributes.inode()));
  const bool covered = attributes.type() != proto::FILE_TYPE_DIRECTORY && attributes.nlink() == 1;
  if (covered) changed.directory = InodeId(attributes.parent());
  state_->transaction.Put(InodeKey(InodeId(attributes.inode())), EncodeInode(attributes));
}

void CommandContext::PutNewInode(const proto::Attributes& attributes) {
  state_->transaction.PutNew(InodeKey(InodeId(attributes.inode())), EncodeInode(attributes));
}

void CommandContext::PutDentry(InodeId parent, std::string_view name, const proto::Attributes& child) {
  state_->changes.names.push_back({.directory = parent, .name = std::string(name)});
  state_->transaction.Put(DentryKey(parent, name), DentryValue(child));
}

void CommandContext::PutNewDentry(InodeId parent, std::string_view name, const proto::Attributes& child) {
  state_->changes.names.push_back({.directory = parent, .name = std::string(name)});
  state_->transaction.PutNew(DentryKey(parent, name), DentryValue(child));
}

void CommandContext::DeleteDentry(InodeId parent, std::string_view name) {
  state_->changes.names.push_back({.directory = parent, .name = std::string(name)});
  state_->transaction.Delete(DentryKey(parent, name));
}

void CommandContext::NoteAllNames(InodeId directory) { state_->changes.names.push_back({.directory = directory, .name = ""}); }

void CommandContext::NoteLeaves(InodeId directory, InodeId inode) {
  if (directory.valid()) state_->changes.Inode(inode).left_directory = directory;
}

void CommandContext::NoteRemoved(const proto::Attributes& inode) {
  ChangedInode& changed = state_->changes.Inode(InodeId(inode.inode()));
  changed.removed = true;
  if (inode.type() != proto::FILE_TYPE_DIRECTORY) changed.directory = InodeId(inode.parent());
}

void CommandContext::Touch(proto::Attributes* attributes) const {
  attributes->set_ctime_ns(now_ns_);
  attributes->set_change(attributes->change() + 1);
}

void CommandContext::TouchDirectory(proto::Attributes* directory, int entries_delta, int subdirectories_delta) const {
  directory->set_mtime_ns(now_ns_);
  directory->set_size_bytes(Add(directory->size_bytes(), entries_delta));
  directory->set_nlink(static_cast<uint32_t>(Add(directory->nlink(), subdirectories_delta)));
  Touch(directory);
}

Status CommandContext::Charge(VolumeId volume, int64_t bytes_delta, int64_t inodes_delta) {
  if (bytes_delta == 0 && inodes_delta == 0) return Status::Ok();
  ASSIGN_OR_RETURN(auto counters, ReadVolumeCounters(view(), volume));
  const bool grows = bytes_delta > 0 || inodes_delta > 0;
  if (counters) {
    counters->used_bytes = Add(counters->used_bytes, bytes_delta);
    counters->used_inodes = Add(counters->used_inodes, inodes_delta);
  }
  if (grows) {
    ASSIGN_OR_RETURN(const auto record, ReadVolume(view(), volume));
    if (!record || !counters || record->deleting()) {
      return Status(StatusCode::kNotFound, "volume " + std::to_string(volume.value()) + " was deleted");
    }
    RETURN_IF_ERROR(CheckQuota(*record, *counters, bytes_delta > 0, inodes_delta > 0));
  }
  // An unlinked file held open may outlive its volume.
  if (counters) state_->transaction.Put(VolumeCountersKey(volume), EncodeVolumeCounters(*counters));
  return Status::Ok();
}

void CommandContext::QueuePurge(VolumeId volume, InodeId directory, uint64_t inodes) {
  state_->transaction.Put(PurgeKey(volume, directory), "");
  header().set_purge_directories(header().purge_directories() + 1);
  header().set_purge_inodes(header().purge_inodes() + inodes);
}

void CommandContext::CountPurged(uint64_t directories, uint64_t inodes) {
  proto::StateHeader& header = this->header();
  header.set_purge_directories(header.purge_directories() - std::min(header.purge_directories(), directories));
  header.set_purge_inodes(header.purge_inodes() - std::min(header.purge_inodes(), inodes));
  // Sizes lag, and a file may have had another name.
  if (header.purge_directories() == 0) header.set_purge_inodes(0);
}

}  // namespace tarn::meta
