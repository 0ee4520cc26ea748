// Extended attributes. user., trusted., security. and tarn. pass; POSIX ACLs and other system. names are not supported, and
// say so.
#include <sys/xattr.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fuse-client/operations/fuse_mount.h"
#include "fuse-client/operations/operations.h"

namespace tarn::fuse {
namespace {

constexpr std::string_view kTrustedPrefix = "trusted.";

constexpr std::string_view kSelinuxLabel = "security.selinux";

bool IsSupported(std::string_view name) {
  if (name == kSelinuxLabel) return false;
  if (name.starts_with("tarn.")) return true;  // what the server answers by itself
  return name.starts_with("user.") || name.starts_with(kTrustedPrefix) || name.starts_with("security.");
}

// A size of 0 asks for the size.
void ReplyBytes(fuse_req_t request, const std::string& bytes, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(request, bytes.size());
  } else if (bytes.size() > size) {
    fuse_reply_err(request, ERANGE);
  } else {
    fuse_reply_buf(request, bytes.data(), bytes.size());
  }
}

void Get(fuse_req_t request, fuse_ino_t node, const char* name, size_t size) {
  if (!IsSupported(name)) {
    fuse_reply_err(request, EOPNOTSUPP);
    return;
  }
  FuseMount& mount = MountOf(request);
  // With grants the library knows better.
  const bool may_be_wrong = mount.filesystem.freshness() == client::Filesystem::Freshness::kUnknown;
  if (may_be_wrong && mount.fresh_files.Contains(mount.nodes.ToInode(node), mount.clock.MonotonicNs())) {
    fuse_reply_err(request, ENODATA);
    return;
  }
  mount.filesystem.GetXattr(mount.nodes.ToInode(node), name, [request, size](Result<std::string> value) {
    if (!value.ok()) return ReplyStatus(request, value.status());
    ReplyBytes(request, value.value(), size);
  });
}

void List(fuse_req_t request, fuse_ino_t node, size_t size) {
  FuseMount& mount = MountOf(request);
  const bool sees_trusted = CallerOf(request).uid == 0;
  mount.filesystem.ListXattrs(mount.nodes.ToInode(node),
                              [request, size, sees_trusted](Result<std::vector<std::string>> names) {
                                if (!names.ok()) return ReplyStatus(request, names.status());
                                std::string list;
                                for (const std::string& name : names.value()) {
                                  if (sees_trusted || !name.starts_with(kTrustedPrefix))
                                    list.append(name).push_back('\0');
                                }
                                ReplyBytes(request, list, size);
                              });
}

void Set(fuse_req_t request, fuse_ino_t node, const char* name, const char* value, size_t size, int flags) {
  if (!IsSupported(name)) {
    fuse_reply_err(request, EOPNOTSUPP);
    return;
  }
  FuseMount& mount = MountOf(request);
  mount.fresh_files.Remove(mount.nodes.ToInode(node));
  client::Filesystem::SetXattrFlags how;
  how.create_only = (flags & XATTR_CREATE) != 0;
  how.replace_only = (flags & XATTR_REPLACE) != 0;
  mount.filesystem.SetXattr(mount.nodes.ToInode(node), name, std::string(value, size), how, CallerOf(request),
                            [request, &mount](const Status& status) { ReplyChanged(request, mount, status); });
}

void Remove(fuse_req_t request, fuse_ino_t node, const char* name) {
  if (!IsSupported(name)) {
    fuse_reply_err(request, EOPNOTSUPP);
    return;
  }
  FuseMount& mount = MountOf(request);
  mount.filesystem.RemoveXattr(mount.nodes.ToInode(node), name, CallerOf(request),
                               [request, &mount](const Status& status) { ReplyChanged(request, mount, status); });
}

}  // namespace

void AddXattrOperations(fuse_lowlevel_ops* table) {
  table->getxattr = &Get;
  table->listxattr = &List;
  table->setxattr = &Set;
  table->removexattr = &Remove;
}

}  // namespace tarn::fuse
