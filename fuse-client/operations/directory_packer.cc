#include "fuse-client/operations/directory_packer.h"

namespace tarn::fuse {

DirectoryPacker::DirectoryPacker(size_t bytes_max, bool with_attributes, const NodeIds& nodes)
    : with_attributes_(with_attributes), nodes_(nodes), buffer_(bytes_max) {}

bool DirectoryPacker::Commit(size_t length) {
  if (length > buffer_.size() - used_) return false;
  used_ += length;
  return true;
}

bool DirectoryPacker::AddDot(const char* name, InodeId inode, uint64_t offset) {
  fuse_entry_param entry{};  // node 0: the kernel learns no entry from it
  entry.attr.st_ino = inode.value();
  entry.attr.st_mode = S_IFDIR;
  char* const at = buffer_.data() + used_;
  const size_t left = buffer_.size() - used_;
  const auto position = static_cast<off_t>(offset);
  // libfuse does not look at the request.
  return Commit(with_attributes_ ? fuse_add_direntry_plus(nullptr, at, left, name, &entry, position)
                                 : fuse_add_direntry(nullptr, at, left, name, &entry.attr, position));
}

bool DirectoryPacker::AddDots(uint64_t offset, InodeId self, InodeId parent) {
  if (offset < kOffsetAfterDot && !AddDot(".", self, kOffsetAfterDot)) return false;
  return offset >= kOffsetAfterDotDot || AddDot("..", parent, kOffsetAfterDotDot);
}

bool DirectoryPacker::AddEntry(const client::DirectoryEntry& entry, const TimeoutsOf& timeouts_of) {
  char* const at = buffer_.data() + used_;
  const size_t left = buffer_.size() - used_;
  const auto position = static_cast<off_t>(entry.cookie);
  if (with_attributes_ && entry.attributes.nlink == 0) {
    fuse_entry_param param{};  // node 0: the kernel learns no entry from it
    param.attr.st_ino = entry.attributes.inode.value();
    param.attr.st_mode = TypeBits(entry.attributes.type);
    return Commit(fuse_add_direntry_plus(nullptr, at, left, entry.name.c_str(), &param, position));
  }
  if (with_attributes_) {
    const fuse_entry_param param = ToEntry(entry.attributes, nodes_, timeouts_of(entry));
    return Commit(fuse_add_direntry_plus(nullptr, at, left, entry.name.c_str(), &param, position));
  }
  struct stat status {};
  status.st_ino = entry.attributes.inode.value();
  status.st_mode = TypeBits(entry.attributes.type);
  return Commit(fuse_add_direntry(nullptr, at, left, entry.name.c_str(), &status, position));
}

size_t DirectoryPacker::AddEntries(std::span<const client::DirectoryEntry> entries, const TimeoutsOf& timeouts_of) {
  size_t group_begin = 0;  // of the entries that share the last cookie
  size_t used_at_group = used_;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i == 0 || entries[i].cookie != entries[i - 1].cookie) {
      group_begin = i;
      used_at_group = used_;
    }
    if (AddEntry(entries[i], timeouts_of)) continue;
    // Not even one group fits into an empty answer: take what does, an endless listing would be worse.
    if (used_at_group == 0) return i;
    used_ = used_at_group;
    return group_begin;
  }
  return entries.size();
}

}  // namespace tarn::fuse
