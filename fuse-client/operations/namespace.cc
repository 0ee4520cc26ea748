// Names: lookup, forget, readlink, mknod, mkdir, unlink, rmdir, symlink, rename, link.
#include <fcntl.h>
#include <stdio.h>  // RENAME_*

#include <cerrno>
#include <string>

#include "fuse-client/operations/fuse_mount.h"
#include "fuse-client/operations/operations.h"

namespace tarn::fuse {
namespace {

using client::Attributes;

void Lookup(fuse_req_t request, fuse_ino_t parent_node, const char* name) {
  FuseMount& mount = MountOf(request);
  const InodeId parent = mount.nodes.ToInode(parent_node);
  mount.filesystem.Lookup(parent, name, [request, &mount, parent, name = std::string(name)](Result<Attributes> found) {
    if (found.ok() || found.status().code() != StatusCode::kNotFound)
      return ReplyEntry(request, mount, parent, name, found);
    const KernelView::Showing showing(mount.kernel);
    fuse_entry_param absent{};  // node 0: the kernel may remember that there is nothing
    absent.entry_timeout = showing.AbsentTimeout(parent, name);
    if (absent.entry_timeout > 0) {
      fuse_reply_entry(request, &absent);
    } else {
      fuse_reply_err(request, ENOENT);
    }
  });
}

// Node ids are inode numbers, so there is nothing to free.
void Forget(fuse_req_t request, fuse_ino_t /*node*/, uint64_t /*lookups*/) { fuse_reply_none(request); }
void ForgetMulti(fuse_req_t request, size_t /*count*/, fuse_forget_data* /*forgets*/) { fuse_reply_none(request); }

void ReadLink(fuse_req_t request, fuse_ino_t node) {
  FuseMount& mount = MountOf(request);
  mount.filesystem.GetAttributes(mount.nodes.ToInode(node), [request](Result<Attributes> link) {
    if (!link.ok()) return ReplyStatus(request, link.status());
    fuse_reply_readlink(request, link->symlink_target.c_str());
  });
}

client::Callback<Attributes> ReplyMade(fuse_req_t request, InodeId parent, const char* name) {
  return [request, &mount = MountOf(request), parent, name = std::string(name)](const Result<Attributes>& made) {
    ReplyChangedEntry(request, mount, parent, name, made);
  };
}

void MakeNode(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  FuseMount& mount = MountOf(request);
  const InodeId directory = mount.nodes.ToInode(parent);
  mount.filesystem.MakeNode(directory, name, TypeOfMode(mode), mode & 07777, device, CallerOf(request),
                            ReplyMade(request, directory, name));
}

void MakeDirectory(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
  FuseMount& mount = MountOf(request);
  const InodeId directory = mount.nodes.ToInode(parent);
  mount.filesystem.MakeDirectory(directory, name, mode & 07777, CallerOf(request), ReplyMade(request, directory, name));
}

void Unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  FuseMount& mount = MountOf(request);
  mount.filesystem.Unlink(mount.nodes.ToInode(parent), name, CallerOf(request),
                          [request, &mount](const Status& status) { ReplyChanged(request, mount, status); });
}

void RemoveDirectory(fuse_req_t request, fuse_ino_t parent, const char* name) {
  FuseMount& mount = MountOf(request);
  mount.filesystem.RemoveDirectory(mount.nodes.ToInode(parent), name, CallerOf(request),
                                   [request, &mount](const Status& status) { ReplyChanged(request, mount, status); });
}

void Symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  FuseMount& mount = MountOf(request);
  const InodeId directory = mount.nodes.ToInode(parent);
  mount.filesystem.MakeSymlink(directory, name, target, CallerOf(request), ReplyMade(request, directory, name));
}

void Rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned flags) {
  if ((flags & ~unsigned{RENAME_NOREPLACE | RENAME_EXCHANGE}) != 0) {
    fuse_reply_err(request, EINVAL);  // RENAME_WHITEOUT
    return;
  }
  FuseMount& mount = MountOf(request);
  client::Filesystem::RenameFlags how;
  how.no_replace = (flags & RENAME_NOREPLACE) != 0;
  how.exchange = (flags & RENAME_EXCHANGE) != 0;
  mount.filesystem.Rename(mount.nodes.ToInode(parent), name, mount.nodes.ToInode(new_parent), new_name, how,
                          CallerOf(request),
                          [request, &mount](const Status& status) { ReplyChanged(request, mount, status); });
}

void Link(fuse_req_t request, fuse_ino_t node, fuse_ino_t new_parent, const char* new_name) {
  FuseMount& mount = MountOf(request);
  const InodeId directory = mount.nodes.ToInode(new_parent);
  mount.filesystem.Link(mount.nodes.ToInode(node), directory, new_name, CallerOf(request),
                        ReplyMade(request, directory, new_name));
}

}  // namespace

void AddNamespaceOperations(fuse_lowlevel_ops* table) {
  table->lookup = &Lookup;
  table->forget = &Forget;
  table->forget_multi = &ForgetMulti;
  table->readlink = &ReadLink;
  table->mknod = &MakeNode;
  table->mkdir = &MakeDirectory;
  table->unlink = &Unlink;
  table->rmdir = &RemoveDirectory;
  table->symlink = &Symlink;
  table->rename = &Rename;
  table->link = &Link;
}

}  // namespace tarn::fuse
