#include "metaserver/replication/synced_file.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>

namespace tarn::meta {

Status SyncFile(int fd, const std::string& path) {
  if (fdatasync(fd) != 0) return Status::FromErrno(errno, "sync " + path);
  // A file system that has stopped refuses even reads and writes of nothing.
  char none = 0;
  if (pread(fd, &none, 0, 0) < 0 || pwrite(fd, &none, 0, 0) < 0) {
    return Status::FromErrno(errno, "the file system has stopped under " + path);
  }
  struct statvfs state {};
  if (fstatvfs(fd, &state) == 0 && (state.f_flag & ST_RDONLY) != 0) {
    return Status::FromErrno(EROFS, "the file system has stopped under " + path);
  }
  return Status::Ok();
}

}  // namespace tarn::meta
