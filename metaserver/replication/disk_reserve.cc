#include "metaserver/replication/disk_reserve.h"

#include <sys/statvfs.h>

namespace tarn::meta {

Status CheckDiskReserve(const std::string& directory, uint64_t reserve_bytes) {
  struct statvfs disk {};
  if (statvfs(directory.c_str(), &disk) != 0 || uint64_t{disk.f_bavail} * disk.f_frsize >= reserve_bytes)
    return Status::Ok();
  return Status(StatusCode::kNoSpace, directory + ": less than " + std::to_string(reserve_bytes >> 20) +
                                          " MiB are left on the disk of the metadata log");
}

}  // namespace tarn::meta
