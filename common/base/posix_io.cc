#include "common/base/posix_io.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace tarn {
namespace {

constexpr int kLockPollMs = 20;
constexpr int kLockWaitMs = 2'000;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::span<const uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Status WriteAndSync(const std::string& path, std::string_view contents) {
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC));
  RETURN_IF_ERROR(PwriteFull(file.get(), BytesOf(contents), 0, path));
  if (fdatasync(file.get()) != 0) return Status::FromErrno(errno, "fdatasync " + path);
  return Status::Ok();
}

// The first line of what the holder wrote, if it is a number.
std::string HolderPid(int fd) {
  char text[32];
  const ssize_t got = pread(fd, text, sizeof(text), 0);
  const std::string_view all(text, got > 0 ? static_cast<size_t>(got) : 0);
  const std::string_view line = all.substr(0, all.find('\n'));
  const bool is_number =
      !line.empty() && std::all_of(line.begin(), line.end(), [](char c) { return c >= '0' && c <= '9'; });
  return is_number ? std::string(line) : std::string();
}

}  // namespace

Result<UniqueFd> OpenFile(const std::string& path, int flags, unsigned mode) {
  while (true) {
    const int fd = open(path.c_str(), flags | O_CLOEXEC, static_cast<mode_t>(mode));
    if (fd >= 0) return UniqueFd(fd);
    if (errno != EINTR) return Status::FromErrno(errno, "open " + path);
  }
}

Status PreadFull(int fd, std::span<uint8_t> bytes, uint64_t offset, std::string_view what) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (got > 0) {
      done += static_cast<size_t>(got);
    } else if (got == 0) {
      return Status(StatusCode::kCorruption, "read " + std::string(what) + ": ends at byte " +
                                                 std::to_string(offset + done) + ", " +
                                                 std::to_string(bytes.size() - done) + " bytes are missing");
    } else if (errno != EINTR) {
      return Status::FromErrno(errno, "read " + std::string(what) + " at " + std::to_string(offset + done));
    }
  }
  return Status::Ok();
}

Status PwriteFull(int fd, std::span<const uint8_t> bytes, uint64_t offset, std::string_view what) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put = pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (put >= 0) {
      done += static_cast<size_t>(put);
    } else if (errno != EINTR) {
      return Status::FromErrno(errno, "write " + std::string(what) + " at " + std::to_string(offset + done));
    }
  }
  return Status::Ok();
}

Result<std::string> ReadSmallFile(const std::string& path, size_t bytes_max) {
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path, O_RDONLY));
  std::string contents;
  // Read to the end rather than to st_size, which is 0 for files of /proc and /sys.
  while (true) {
    constexpr size_t kStep = 64 << 10;
    const size_t before = contents.size();
    contents.resize(before + kStep);
    const ssize_t got = read(file.get(), contents.data() + before, kStep);
    const int read_errno = errno;
    contents.resize(before + (got > 0 ? static_cast<size_t>(got) : 0));
    if (got == 0) return contents;
    if (got < 0 && read_errno != EINTR) return Status::FromErrno(read_errno, "read " + path);
    if (contents.size() > bytes_max) {
      return Status(StatusCode::kTooLong, path + " is longer than " + std::to_string(bytes_max) + " bytes");
    }
  }
}

Status WriteSmallFileDurably(const std::string& path, std::string_view contents) {
  const std::string temporary = path + ".tmp";
  if (Status written = WriteAndSync(temporary, contents); !written.ok()) {
    unlink(temporary.c_str());
    return written;
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    const int rename_errno = errno;
    unlink(temporary.c_str());
    return Status::FromErrno(rename_errno, "rename " + temporary + " to " + path);
  }
  return FsyncDirectory(DirectoryOf(path));
}

Status FsyncDirectory(const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd directory, OpenFile(path, O_RDONLY | O_DIRECTORY));
  if (fsync(directory.get()) != 0) return Status::FromErrno(errno, "fsync " + path);
  return Status::Ok();
}

Status MakeDirectories(const std::string& path, unsigned mode) {
  for (size_t end = path.find('/', 1); true; end = path.find('/', end + 1)) {
    const std::string prefix = path.substr(0, end);
    if (mkdir(prefix.c_str(), static_cast<mode_t>(mode)) != 0) {
      const int mkdir_errno = errno;
      struct stat attributes {};
      const bool is_directory = stat(prefix.c_str(), &attributes) == 0 && S_ISDIR(attributes.st_mode);
      if (!is_directory) return Status::FromErrno(mkdir_errno == EEXIST ? ENOTDIR : mkdir_errno, "mkdir " + prefix);
    }
    if (end == std::string::npos) return Status::Ok();
  }
}

Result<UniqueFd> LockFile(const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path, O_RDWR | O_CREAT));
  // A server that is started again right after its predecessor was killed finds it still ending.
  for (int waited_ms = 0; flock(file.get(), LOCK_EX | LOCK_NB) != 0; waited_ms += kLockPollMs) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return Status::FromErrno(errno, "lock " + path);
    if (waited_ms < kLockWaitMs) {
      (void)poll(nullptr, 0, kLockPollMs);
      continue;
    }
    const std::string pid = HolderPid(file.get());
    return Status(StatusCode::kBusy, path + " is locked by " + (pid.empty() ? "another process" : "process " + pid));
  }
  // Only for the text of the error above; the lock itself is the flock.
  const std::string text = std::to_string(getpid()) + "\n";
  if (ftruncate(file.get(), 0) != 0) return Status::FromErrno(errno, "truncate " + path);
  RETURN_IF_ERROR(PwriteFull(file.get(), BytesOf(text), 0, path));
  return file;
}

}  // namespace tarn
