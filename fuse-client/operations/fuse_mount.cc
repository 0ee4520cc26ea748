#include "fuse-client/operations/fuse_mount.h"

namespace tarn::fuse {

void FuseMount::ReleaseAll() {
  for (const std::shared_ptr<OpenedFileEntry>& entry : files.RemoveAll()) {
    filesystem.Release(entry->handle);
    MutexLock lock(entry->mutex);
    if (entry->positional != nullptr) filesystem.Release(entry->positional);
  }
  directories.RemoveAll();
}

void ReplyEntry(fuse_req_t request, FuseMount& mount, InodeId parent, const std::string& name,
                const Result<client::Attributes>& attributes) {
  if (!attributes.ok()) return ReplyStatus(request, attributes.status());
  mount.privileges.Learn(attributes.value());
  const KernelView::Showing showing(mount.kernel);
  const fuse_entry_param entry =
      ToEntry(attributes.value(), mount.nodes, showing.EntryTimeouts(parent, name, attributes.value()));
  fuse_reply_entry(request, &entry);
}

void ReplyAttributes(fuse_req_t request, FuseMount& mount, const Result<client::Attributes>& attributes) {
  if (!attributes.ok()) return ReplyStatus(request, attributes.status());
  mount.privileges.Learn(attributes.value());
  const struct stat status = ToStat(attributes.value());
  const KernelView::Showing showing(mount.kernel);
  fuse_reply_attr(request, &status, showing.AttributesTimeout(attributes.value()));
}

}  // namespace tarn::fuse
