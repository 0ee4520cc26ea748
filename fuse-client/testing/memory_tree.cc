#include "fuse-client/testing/memory_tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace tarn::fuse {
namespace {

using client::FileType;

// A root that is not inode 1, so that the exchange of node ids is exercised.
constexpr uint64_t kRootInode = 0x1000;
constexpr size_t kNameBytesMax = 255;
constexpr size_t kXattrBytesMax = 64 << 10;

Status Error(StatusCode code) { return Status(code, StatusCodeName(code)); }

bool IsDirectory(const client::Attributes& attributes) { return attributes.type == FileType::kDirectory; }

uint32_t WithoutSetIds(uint32_t mode) {
  mode &= ~uint32_t{S_ISUID};
  if ((mode & S_IXGRP) != 0) mode &= ~uint32_t{S_ISGID};
  return mode;
}

}  // namespace

MemoryTree::MemoryTree(const Clock& clock) : clock_(clock), root_(kRootInode), next_inode_(kRootInode + 1) {
  auto root = std::make_unique<Inode>();
  root->attributes.inode = root_;
  root->attributes.parent = root_;
  root->attributes.type = FileType::kDirectory;
  root->attributes.mode = 0755;
  root->attributes.nlink = 2;
  root->attributes.atime_ns = clock_.WallNs();
  Touch(root.get(), true);
  inodes_.emplace(root_, std::move(root));
}

Result<MemoryTree::Inode*> MemoryTree::Find(InodeId inode) {
  const auto found = inodes_.find(inode);
  if (found == inodes_.end()) return Error(StatusCode::kStaleHandle);
  return found->second.get();
}

Result<MemoryTree::Inode*> MemoryTree::FindDirectory(InodeId inode) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  if (!IsDirectory(found->attributes)) return Error(StatusCode::kNotDirectory);
  return found;
}

MemoryTree::Inode* MemoryTree::ChildOf(Inode* directory, const std::string& name) {
  const auto cookie = directory->names.find(name);
  return cookie == directory->names.end() ? nullptr : inodes_.at(directory->entries.at(cookie->second).inode).get();
}

void MemoryTree::AddEntry(Inode* directory, const std::string& name, Inode* child) {
  const uint64_t cookie = directory->next_cookie++;
  directory->entries.emplace(cookie, Dentry{name, child->attributes.inode});
  directory->names.emplace(name, cookie);
  Touch(directory, true);
}

void MemoryTree::RemoveEntry(Inode* directory, const std::string& name) {
  const auto cookie = directory->names.find(name);
  directory->entries.erase(cookie->second);
  directory->names.erase(cookie);
  Touch(directory, true);
}

void MemoryTree::Touch(Inode* inode, bool contents) {
  const int64_t now = clock_.WallNs();
  inode->attributes.ctime_ns = now;
  if (contents) inode->attributes.mtime_ns = now;
  ++inode->attributes.change;
}

void MemoryTree::Drop(Inode* inode) {
  inode->attributes.nlink = IsDirectory(inode->attributes) ? 0 : inode->attributes.nlink - 1;
  Touch(inode, false);
  if (inode->attributes.nlink == 0 && inode->holders == 0) inodes_.erase(inode->attributes.inode);
}

Status MemoryTree::CheckName(const std::string& name) {
  if (name.size() > kNameBytesMax) return Error(StatusCode::kNameTooLong);
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
    return Error(StatusCode::kInvalidArgument);
  return Status::Ok();
}

client::Attributes MemoryTree::Snapshot(const Inode& inode) const {
  Attributes attributes = inode.attributes;
  attributes.has_xattrs = !inode.xattrs.empty();
  return attributes;
}

Result<client::Attributes> MemoryTree::Lookup(InodeId parent, const std::string& name) {
  ASSIGN_OR_RETURN(Inode * directory, FindDirectory(parent));
  if (name.size() > kNameBytesMax) return Error(StatusCode::kNameTooLong);
  Inode* const child = ChildOf(directory, name);
  if (child == nullptr) return Error(StatusCode::kNotFound);
  return Snapshot(*child);
}

Result<client::Attributes> MemoryTree::Make(InodeId parent, const std::string& name, FileType type, uint32_t mode,
                                            uint64_t rdev, const std::string& symlink_target, Caller caller) {
  ASSIGN_OR_RETURN(Inode * directory, FindDirectory(parent));
  RETURN_IF_ERROR(CheckName(name));
  if (directory->attributes.nlink == 0) return Error(StatusCode::kNotFound);
  if (ChildOf(directory, name) != nullptr) return Error(StatusCode::kExists);
  auto made = std::make_unique<Inode>();
  Attributes& attributes = made->attributes;
  attributes.inode = InodeId(next_inode_++);
  attributes.type = type;
  attributes.mode = type == FileType::kSymlink ? 0777 : mode;
  attributes.nlink = type == FileType::kDirectory ? 2 : 1;
  attributes.uid = caller.uid;
  attributes.gid = caller.gid;
  attributes.rdev = rdev;
  attributes.symlink_target = symlink_target;
  if ((directory->attributes.mode & S_ISGID) != 0) {
    attributes.gid = directory->attributes.gid;
    if (type == FileType::kDirectory) attributes.mode |= S_ISGID;
  }
  if (type == FileType::kDirectory) {
    attributes.parent = parent;
    ++directory->attributes.nlink;
  }
  Touch(made.get(), true);
  attributes.atime_ns = attributes.btime_ns = attributes.mtime_ns;
  Inode* const inode = made.get();
  inodes_.emplace(attributes.inode, std::move(made));
  AddEntry(directory, name, inode);
  return Snapshot(*inode);
}

Result<client::Attributes> MemoryTree::Link(InodeId inode, InodeId new_parent, const std::string& new_name) {
  ASSIGN_OR_RETURN(Inode * linked, Find(inode));
  ASSIGN_OR_RETURN(Inode * directory, FindDirectory(new_parent));
  RETURN_IF_ERROR(CheckName(new_name));
  if (IsDirectory(linked->attributes)) return Error(StatusCode::kNotPermitted);
  if (linked->attributes.nlink == 0 || directory->attributes.nlink == 0) return Error(StatusCode::kNotFound);
  if (ChildOf(directory, new_name) != nullptr) return Error(StatusCode::kExists);
  ++linked->attributes.nlink;
  Touch(linked, false);
  AddEntry(directory, new_name, linked);
  return Snapshot(*linked);
}

Status MemoryTree::Unlink(InodeId parent, const std::string& name) {
  ASSIGN_OR_RETURN(Inode * directory, FindDirectory(parent));
  Inode* const child = ChildOf(directory, name);
  if (child == nullptr) return Error(StatusCode::kNotFound);
  if (IsDirectory(child->attributes)) return Error(StatusCode::kIsDirectory);
  RemoveEntry(directory, name);
  Drop(child);
  return Status::Ok();
}

Status MemoryTree::RemoveDirectory(InodeId parent, const std::string& name) {
  ASSIGN_OR_RETURN(Inode * directory, FindDirectory(parent));
  Inode* const child = ChildOf(directory, name);
  if (child == nullptr) return Error(StatusCode::kNotFound);
  if (!IsDirectory(child->attributes)) return Error(StatusCode::kNotDirectory);
  if (!child->entries.empty()) return Error(StatusCode::kNotEmpty);
  RemoveEntry(directory, name);
  --directory->attributes.nlink;
  Drop(child);
  return Status::Ok();
}

bool MemoryTree::IsBelow(InodeId inode, InodeId ancestor) {
  while (true) {
    if (inode == ancestor) return true;
    if (inode == root_) return false;
    inode = inodes_.at(inode)->attributes.parent;
  }
}

void MemoryTree::Reparent(Inode* child, Inode* from, Inode* to) {
  if (!IsDirectory(child->attributes) || from == to) return;
  child->attributes.parent = to->attributes.inode;
  --from->attributes.nlink;
  ++to->attributes.nlink;
}

Status MemoryTree::CheckReplace(const Inode& moved, const Inode& replaced) {
  if (IsDirectory(moved.attributes) && !IsDirectory(replaced.attributes)) return Error(StatusCode::kNotDirectory);
  if (!IsDirectory(moved.attributes) && IsDirectory(replaced.attributes)) return Error(StatusCode::kIsDirectory);
  if (!replaced.entries.empty()) return Error(StatusCode::kNotEmpty);
  return Status::Ok();
}

Status MemoryTree::Exchange(Inode* from, const std::string& name, Inode* to, const std::string& new_name) {
  Inode* const first = ChildOf(from, name);
  Inode* const second = ChildOf(to, new_name);
  if (second == nullptr) return Error(StatusCode::kNotFound);
  const bool first_into_itself =
      IsDirectory(first->attributes) && IsBelow(to->attributes.inode, first->attributes.inode);
  const bool second_into_itself =
      IsDirectory(second->attributes) && IsBelow(from->attributes.inode, second->attributes.inode);
  if (first_into_itself || second_into_itself) return Error(StatusCode::kInvalidArgument);
  from->entries.at(from->names.at(name)).inode = second->attributes.inode;
  to->entries.at(to->names.at(new_name)).inode = first->attributes.inode;
  Reparent(first, from, to);
  Reparent(second, to, from);
  Touch(from, true);
  Touch(to, true);
  Touch(first, false);
  Touch(second, false);
  return Status::Ok();
}

Status MemoryTree::Rename(InodeId parent, const std::string& name, InodeId new_parent, const std::string& new_name,
                          RenameFlags flags) {
  ASSIGN_OR_RETURN(Inode * from, FindDirectory(parent));
  ASSIGN_OR_RETURN(Inode * to, FindDirectory(new_parent));
  RETURN_IF_ERROR(CheckName(new_name));
  Inode* const moved = ChildOf(from, name);
  if (moved == nullptr || to->attributes.nlink == 0) return Error(StatusCode::kNotFound);
  Inode* const replaced = ChildOf(to, new_name);
  if (flags.no_replace && replaced != nullptr) return Error(StatusCode::kExists);
  if (flags.exchange) return Exchange(from, name, to, new_name);
  if (moved == replaced) return Status::Ok();
  if (IsDirectory(moved->attributes) && IsBelow(new_parent, moved->attributes.inode))
    return Error(StatusCode::kInvalidArgument);
  if (replaced != nullptr) {
    RETURN_IF_ERROR(CheckReplace(*moved, *replaced));
    RemoveEntry(to, new_name);
    if (IsDirectory(replaced->attributes)) --to->attributes.nlink;
    Drop(replaced);
  }
  RemoveEntry(from, name);
  AddEntry(to, new_name, moved);
  Reparent(moved, from, to);
  Touch(moved, false);
  return Status::Ok();
}

Result<client::DirectoryPage> MemoryTree::ReadDirectory(InodeId directory, uint64_t after_cookie,
                                                        uint32_t entries_max) {
  ASSIGN_OR_RETURN(Inode * listed, FindDirectory(directory));
  client::DirectoryPage page;
  auto entry = listed->entries.upper_bound(after_cookie);
  for (; entry != listed->entries.end() && page.entries.size() < entries_max; ++entry) {
    page.entries.push_back({entry->second.name, entry->first, Snapshot(*inodes_.at(entry->second.inode))});
  }
  page.end = entry == listed->entries.end();
  return page;
}

Result<client::Attributes> MemoryTree::GetAttributes(InodeId inode) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  return Snapshot(*found);
}

Result<client::Attributes> MemoryTree::SetAttributes(InodeId inode, const client::AttributeChanges& changes) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  Attributes& attributes = found->attributes;
  if (changes.size_bytes && attributes.type != FileType::kRegular) {
    return Error(IsDirectory(attributes) ? StatusCode::kIsDirectory : StatusCode::kInvalidArgument);
  }
  const bool owner_changes = changes.uid || changes.gid;
  if (changes.clear_suid_sgid || (owner_changes && !changes.mode && !IsDirectory(attributes)))
    attributes.mode = WithoutSetIds(attributes.mode);
  attributes.mode = changes.mode.value_or(attributes.mode);
  attributes.uid = changes.uid.value_or(attributes.uid);
  attributes.gid = changes.gid.value_or(attributes.gid);
  if (changes.size_bytes) Resize(found, *changes.size_bytes);
  Touch(found, changes.size_bytes.has_value());
  attributes.atime_ns = changes.atime_now ? clock_.WallNs() : changes.atime_ns.value_or(attributes.atime_ns);
  attributes.mtime_ns = changes.mtime_now ? clock_.WallNs() : changes.mtime_ns.value_or(attributes.mtime_ns);
  return Snapshot(*found);
}

Result<std::string> MemoryTree::GetXattr(InodeId inode, const std::string& name) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  const auto value = found->xattrs.find(name);
  if (value == found->xattrs.end()) return Error(StatusCode::kNoAttribute);
  return value->second;
}

Result<std::vector<std::string>> MemoryTree::ListXattrs(InodeId inode) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  std::vector<std::string> names;
  for (const auto& [name, value] : found->xattrs) names.push_back(name);
  return names;
}

Status MemoryTree::SetXattr(InodeId inode, const std::string& name, const std::string& value, SetXattrFlags flags) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  if (value.size() > kXattrBytesMax) return Error(StatusCode::kArgumentTooBig);
  const bool exists = found->xattrs.contains(name);
  if (flags.create_only && exists) return Error(StatusCode::kExists);
  if (flags.replace_only && !exists) return Error(StatusCode::kNoAttribute);
  found->xattrs[name] = value;
  Touch(found, false);
  return Status::Ok();
}

Status MemoryTree::RemoveXattr(InodeId inode, const std::string& name) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  if (found->xattrs.erase(name) == 0) return Error(StatusCode::kNoAttribute);
  Touch(found, false);
  return Status::Ok();
}

Status MemoryTree::Hold(InodeId inode) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  ++found->holders;
  return Status::Ok();
}

void MemoryTree::LetGo(InodeId inode) {
  const auto found = inodes_.find(inode);
  if (found == inodes_.end()) return;
  if (--found->second->holders == 0 && found->second->attributes.nlink == 0) inodes_.erase(found);
}

Result<std::string> MemoryTree::Read(InodeId inode, uint64_t offset, size_t length) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  const uint64_t size = found->attributes.size_bytes;
  if (offset >= size) return std::string();
  std::string bytes(std::min<uint64_t>(length, size - offset), '\0');
  for (uint64_t done = 0; done < bytes.size();) {
    const uint64_t at = offset + done;
    const uint64_t take = std::min<uint64_t>(kBlockBytes - at % kBlockBytes, bytes.size() - done);
    const auto block = found->blocks.find(at / kBlockBytes);
    if (block != found->blocks.end()) memcpy(bytes.data() + done, block->second.data() + at % kBlockBytes, take);
    done += take;
  }
  return bytes;
}

Status MemoryTree::Write(InodeId inode, uint64_t offset, std::span<const uint8_t> bytes) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  if (offset + bytes.size() > kFileSizeMax) return Error(StatusCode::kFileTooLarge);
  for (uint64_t done = 0; done < bytes.size();) {
    const uint64_t at = offset + done;
    const uint64_t take = std::min<uint64_t>(kBlockBytes - at % kBlockBytes, bytes.size() - done);
    std::vector<uint8_t>& block = found->blocks[at / kBlockBytes];
    block.resize(kBlockBytes);
    memcpy(block.data() + at % kBlockBytes, bytes.data() + done, take);
    done += take;
  }
  found->attributes.size_bytes = std::max(found->attributes.size_bytes, offset + bytes.size());
  Touch(found, true);
  return Status::Ok();
}

Result<uint64_t> MemoryTree::Size(InodeId inode) {
  ASSIGN_OR_RETURN(Inode * found, Find(inode));
  return found->attributes.size_bytes;
}

void MemoryTree::Resize(Inode* inode, uint64_t size) {
  if (size < inode->attributes.size_bytes) {
    inode->blocks.erase(inode->blocks.lower_bound((size + kBlockBytes - 1) / kBlockBytes), inode->blocks.end());
    const auto last = inode->blocks.find(size / kBlockBytes);
    if (last != inode->blocks.end())
      std::fill(last->second.begin() + static_cast<ptrdiff_t>(size % kBlockBytes), last->second.end(), 0);
  }
  inode->attributes.size_bytes = size;
}

}  // namespace tarn::fuse
