// What the handlers of one mount share.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "client/filesystem.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "fuse-client/operations/attributes.h"
#include "fuse-client/operations/blocked_locks.h"
#include "fuse-client/operations/directory_stream.h"
#include "fuse-client/operations/fresh_files.h"
#include "fuse-client/operations/handle_table.h"
#include "fuse-client/operations/kernel_view.h"
#include "fuse-client/operations/node_ids.h"
#include "fuse-client/operations/privilege_bits.h"

namespace tarn::fuse {

// An open file. All but `positional` is immutable.
struct OpenedFileEntry {
  InodeId inode;
  client::FileHandlePtr handle;
  bool appends = false;  // the library puts every write through `handle` at the end of the file

  // For writes of an appending file that say where (page write-back, a cleared O_APPEND); opened at the first of them.
  Mutex mutex;
  client::FileHandlePtr positional GUARDED_BY(mutex);
};

// Thread-safe. Outlives the file system's callbacks.
class FuseMount {
 public:
  FuseMount(client::Filesystem& mounted, const Clock& time, const Timeouts& ungranted, const Timeouts& limits)
      : filesystem(mounted), clock(time), nodes(mounted.root()), kernel(mounted, time, nodes, ungranted, limits) {}

  // Lets go of what the kernel did not release (an aborted connection sends nothing). After the last request.
  void ReleaseAll();

  client::Filesystem& filesystem;
  const Clock& clock;
  const NodeIds nodes;
  KernelView kernel;
  PrivilegeBits privileges;
  FreshFiles fresh_files;
  HandleTable<OpenedFileEntry> files;
  HandleTable<DirectoryStream> directories;
  // Locks are the file system's, else the kernel's. Set before anything is served.
  bool cluster_locks = false;
  // Somebody has used one: from then on closing a file that was opened for reading sends FLUSH as well, since it ends the locks of its process.
  std::atomic<bool> locks_used{false};
  BlockedLocks blocked_locks{[this](uint64_t ticket) { filesystem.CancelLock(ticket); }};
  // Counts completed changes of anything, so that attributes kept from before can be told.
  std::atomic<uint64_t> changes{0};
};

inline FuseMount& MountOf(fuse_req_t request) { return *static_cast<FuseMount*>(fuse_req_userdata(request)); }

inline client::Caller CallerOf(fuse_req_t request) {
  const fuse_ctx* context = fuse_req_ctx(request);
  return client::Caller{context->uid, context->gid};
}

inline void ReplyStatus(fuse_req_t request, const Status& status) { fuse_reply_err(request, ToErrno(status)); }

// Teaches the mount what the attributes say, then answers with them. `parent` and `name`: where the entry was found.
void ReplyEntry(fuse_req_t request, FuseMount& mount, InodeId parent, const std::string& name,
                const Result<client::Attributes>& attributes);
void ReplyAttributes(fuse_req_t request, FuseMount& mount, const Result<client::Attributes>& attributes);

// The same after a change.
inline void ReplyChanged(fuse_req_t request, FuseMount& mount, const Status& status) {
  mount.changes.fetch_add(1, std::memory_order_acq_rel);
  ReplyStatus(request, status);
}
inline void ReplyChangedEntry(fuse_req_t request, FuseMount& mount, InodeId parent, const std::string& name,
                              const Result<client::Attributes>& attributes) {
  mount.changes.fetch_add(1, std::memory_order_acq_rel);
  ReplyEntry(request, mount, parent, name, attributes);
}

}  // namespace tarn::fuse
