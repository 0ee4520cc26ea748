// A POSIX tree in memory: the model behind MemoryFilesystem. Blocking, in plain data structures, written to be
// obviously right.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/filesystem.h"
#include "common/base/clock.h"

namespace tarn::fuse {

// One thread.
class MemoryTree {
 public:
  explicit MemoryTree(const Clock& clock);

  using Attributes = client::Attributes;
  using Caller = client::Caller;
  using RenameFlags = client::Filesystem::RenameFlags;
  using SetXattrFlags = client::Filesystem::SetXattrFlags;

  InodeId root() const { return root_; }

  // ---- Names ----
  Result<Attributes> Lookup(InodeId parent, const std::string& name);
  Result<Attributes> Make(InodeId parent, const std::string& name, client::FileType type, uint32_t mode, uint64_t rdev,
                          const std::string& symlink_target, Caller caller);
  Result<Attributes> Link(InodeId inode, InodeId new_parent, const std::string& new_name);
  Status Unlink(InodeId parent, const std::string& name);
  Status RemoveDirectory(InodeId parent, const std::string& name);
  Status Rename(InodeId parent, const std::string& name, InodeId new_parent, const std::string& new_name,
                RenameFlags flags);
  Result<client::DirectoryPage> ReadDirectory(InodeId directory, uint64_t after_cookie, uint32_t entries_max);

  // ---- Inodes ----
  Result<Attributes> GetAttributes(InodeId inode);
  Result<Attributes> SetAttributes(InodeId inode, const client::AttributeChanges& changes);
  Result<std::string> GetXattr(InodeId inode, const std::string& name);
  Result<std::vector<std::string>> ListXattrs(InodeId inode);
  Status SetXattr(InodeId inode, const std::string& name, const std::string& value, SetXattrFlags flags);
  Status RemoveXattr(InodeId inode, const std::string& name);
  uint64_t inodes() const { return inodes_.size(); }

  // ---- Bytes ----
  // An inode without a name lives while it is held.
  Status Hold(InodeId inode);
  void LetGo(InodeId inode);
  Result<std::string> Read(InodeId inode, uint64_t offset, size_t length);
  Status Write(InodeId inode, uint64_t offset, std::span<const uint8_t> bytes);
  Result<uint64_t> Size(InodeId inode);

 private:
  static constexpr uint64_t kBlockBytes = 64 << 10;

  struct Dentry {
    std::string name;
    InodeId inode;
  };
  struct Inode {
    Attributes attributes;
    int holders = 0;
    uint64_t next_cookie = 16;
    std::map<uint64_t, Dentry> entries;               // by cookie
    std::unordered_map<std::string, uint64_t> names;  // to the cookie
    std::map<uint64_t, std::vector<uint8_t>> blocks;  // sparse, by block number
    std::map<std::string, std::string> xattrs;
  };

  Result<Inode*> Find(InodeId inode);
  Result<Inode*> FindDirectory(InodeId inode);
  Inode* ChildOf(Inode* directory, const std::string& name);
  void AddEntry(Inode* directory, const std::string& name, Inode* child);
  void RemoveEntry(Inode* directory, const std::string& name);
  void Touch(Inode* inode, bool contents);
  void Drop(Inode* inode);  // one name less; frees what nobody needs
  bool IsBelow(InodeId inode, InodeId ancestor);
  void Reparent(Inode* child, Inode* from, Inode* to);
  Status CheckReplace(const Inode& moved, const Inode& replaced);
  Status Exchange(Inode* from, const std::string& name, Inode* to, const std::string& new_name);
  static Status CheckName(const std::string& name);
  static void Resize(Inode* inode, uint64_t size);
  Attributes Snapshot(const Inode& inode) const;

  const Clock& clock_;
  InodeId root_;
  uint64_t next_inode_;
  std::unordered_map<InodeId, std::unique_ptr<Inode>> inodes_;
};

}  // namespace tarn::fuse
