// The handlers of libfuse's low-level interface (fuse_lowlevel_ops documents each). Every one hands its request to the
// client library and returns; the library's callback answers it, on whatever thread. The userdata of the session is a
// FuseMount.
//
// Absent on purpose:
//   fsyncdir         changes of a directory are durable when they return; ENOSYS makes the kernel succeed without
//   asking again lseek            ENOSYS makes the kernel treat files as without holes copy_file_range  ENOSYS makes
//   the kernel copy through the page cache access           default_permissions: the kernel checks
// With local locks also flock, getlk, setlk: the kernel then keeps locks itself, among the processes of this mount.
#pragma once

#include <fuse3/fuse_lowlevel.h>

namespace tarn::fuse {

fuse_lowlevel_ops Operations(bool cluster_locks);

// Each of these sets its part of the table.
void AddNamespaceOperations(fuse_lowlevel_ops* table);
void AddAttributeOperations(fuse_lowlevel_ops* table);
void AddDirectoryOperations(fuse_lowlevel_ops* table);
void AddFileOperations(fuse_lowlevel_ops* table);
void AddXattrOperations(fuse_lowlevel_ops* table);
void AddLockOperations(fuse_lowlevel_ops* table);
// `init`: what we ask of the kernel.
void AddSessionOperations(fuse_lowlevel_ops* table);

inline constexpr unsigned kRequestBytesMax = 1 << 20;  // of one READ or WRITE

}  // namespace tarn::fuse
