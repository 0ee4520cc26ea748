#include "fuse-client/operations/operations.h"

#include <spdlog/spdlog.h>

#include <array>

#include "fuse-client/operations/fuse_mount.h"

namespace tarn::fuse {
namespace {

constexpr unsigned kBackgroundRequestsMax = 256;
constexpr unsigned kCongestionThreshold = 192;

// FUSE_CAP_SPLICE_* stay off: slower here. FUSE_CAP_WRITEBACK_CACHE stays off: it would give size and mtime to the
// kernel.
constexpr std::array kWanted = {
    FUSE_CAP_ASYNC_READ,
    FUSE_CAP_ASYNC_DIO,
    FUSE_CAP_ATOMIC_O_TRUNC,
    FUSE_CAP_PARALLEL_DIROPS,
    FUSE_CAP_READDIRPLUS,
    FUSE_CAP_READDIRPLUS_AUTO,
    // A changed mtime makes the next read drop the pages: what others write is seen even by those who keep the file
    // open, once the attributes that the kernel has were taken back.
    FUSE_CAP_AUTO_INVAL_DATA,
    // The target of a symbolic link never changes, and inode numbers are never used again.
    FUSE_CAP_CACHE_SYMLINKS,
#if TARN_FUSE_MODERN
    FUSE_CAP_DIRECT_IO_ALLOW_MMAP,
    // Also spares the kernel asking for security.capability before every write.
    FUSE_CAP_HANDLE_KILLPRIV_V2,
#endif
};

void Want(fuse_conn_info* connection, uint64_t capability, bool wanted) {
#if TARN_FUSE_MODERN
  if (wanted) {
    fuse_set_feature_flag(connection, capability);  // does nothing if the kernel lacks it
  } else {
    fuse_unset_feature_flag(connection, capability);
  }
#else
  if (wanted) {
    connection->want |= static_cast<unsigned>(capability) & connection->capable;
  } else {
    connection->want &= ~static_cast<unsigned>(capability);
  }
#endif
}

void Init(void* mount, fuse_conn_info* connection) {
  static_cast<FuseMount*>(mount)->kernel.SetProtocol(connection->proto_minor);
  connection->max_read = kRequestBytesMax;
  connection->max_write = kRequestBytesMax;
  connection->max_background = kBackgroundRequestsMax;
  connection->congestion_threshold = kCongestionThreshold;
  for (const auto capability : kWanted) Want(connection, capability, true);
  for (const auto capability :
       {FUSE_CAP_SPLICE_READ, FUSE_CAP_SPLICE_WRITE, FUSE_CAP_SPLICE_MOVE, FUSE_CAP_WRITEBACK_CACHE}) {
    Want(connection, capability, false);
  }
#if TARN_FUSE_MODERN
  // Requests end by themselves at the library's deadline, but for locks: those are found without libfuse
  // (blocked_locks.h), which so keeps no list of the requests in flight.
  connection->no_interrupt = 1;
#endif
  spdlog::info("FUSE connection opened, protocol={}.{}", connection->proto_major, connection->proto_minor);
}

}  // namespace

void AddSessionOperations(fuse_lowlevel_ops* table) { table->init = &Init; }

fuse_lowlevel_ops Operations(bool cluster_locks) {
  fuse_lowlevel_ops table{};
  AddSessionOperations(&table);
  AddNamespaceOperations(&table);
  AddAttributeOperations(&table);
  AddDirectoryOperations(&table);
  AddFileOperations(&table);
  AddXattrOperations(&table);
  if (cluster_locks) AddLockOperations(&table);
  return table;
}

}  // namespace tarn::fuse
