#include "chunkserver/store/segment_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "common/base/mutex.h"
#include "common/base/posix_io.h"

namespace tarn::store {
namespace {

constexpr std::string_view kSegmentSuffix = ".seg";

// Reads are of whole extents at places that say nothing about the next one: the kernel's own read-ahead would fetch strangers' data.
void AdviseRandom(int fd) { (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); }

std::optional<SegmentNumber> ParseSegmentFileName(const std::string& name) {
  if (name.size() != 16 + kSegmentSuffix.size() || !name.ends_with(kSegmentSuffix)) return std::nullopt;
  if (name.find_first_not_of("0123456789abcdef") != 16) return std::nullopt;
  const unsigned long long number = std::strtoull(name.c_str(), nullptr, 16);
  if (number == 0 || number > UINT32_MAX) return std::nullopt;
  return SegmentNumber(static_cast<uint32_t>(number));
}

class PosixSegmentFile final : public SegmentFile {
 public:
  PosixSegmentFile(std::string path, UniqueFd file) : path_(std::move(path)), fd_(file.Release()) {}
  ~PosixSegmentFile() override { UniqueFd(fd_.load(std::memory_order_relaxed)); }

  Status Write(std::span<const iovec> parts, uint64_t offset) override {
    ASSIGN_OR_RETURN(const int fd, Descriptor());
    std::vector<iovec> rest(parts.begin(), parts.end());
    size_t first = 0;
    while (first < rest.size()) {
      const ssize_t put = pwritev(fd, rest.data() + first, static_cast<int>(rest.size() - first), static_cast<off_t>(offset));
      if (put < 0) {
        if (errno == EINTR) continue;
        return Status::FromErrno(errno, "write " + path_ + " at " + std::to_string(offset));
      }
      offset += static_cast<uint64_t>(put);
      first = SkipWritten(&rest, first, static_cast<size_t>(put));
    }
    return Status::Ok();
  }

  Status Sync() override {
    ASSIGN_OR_RETURN(const int fd, Descriptor());
    if (fdatasync(fd) != 0) {
      NoteLoss(errno);
    } else if (const int error = FileSystemFailure(fd)) {
      NoteLoss(error);
    }
    const int lost = loss_.load(std::memory_order_relaxed);
    return lost == 0 ? Status::Ok() : Status::FromErrno(lost, "sync " + path_);
  }

  void StartWriteback(uint64_t offset, uint64_t length) override {
    const int fd = OpenDescriptor();
    if (fd < 0) return;
    if (sync_file_range(fd, static_cast<off64_t>(offset), static_cast<off64_t>(length), SYNC_FILE_RANGE_WRITE) == 0) return;
    // Where there is no such call, Sync does it all. But ext4 drops pages that it cannot place, and tells only whoever started their writing.
    if (errno == EIO || errno == ENOSPC || errno == EDQUOT || errno == EROFS) NoteLoss(errno);
  }

  Status PunchHole(uint64_t offset, uint64_t length) override {
    ASSIGN_OR_RETURN(const int fd, Descriptor());
    while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
      if (errno != EINTR) return Status::FromErrno(errno, "punch " + path_ + " at " + std::to_string(offset));
    }
    return Status::Ok();
  }

  Status Truncate(uint64_t length) override {
    ASSIGN_OR_RETURN(const int fd, Descriptor());
    if (ftruncate(fd, static_cast<off_t>(length)) != 0) return Status::FromErrno(errno, "truncate " + path_);
    return Status::Ok();
  }

  Result<int> Descriptor() const override {
    if (const int open = OpenDescriptor(); open >= 0) return open;
    MutexLock lock(opening_);
    if (const int open = fd_.load(std::memory_order_acquire); open >= 0) return open;
    ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path_, O_RDWR));
    AdviseRandom(file.get());
    const int fd = file.Release();
    fd_.store(fd, std::memory_order_release);
    return fd;
  }
  int OpenDescriptor() const override {
    if (!was_used_.load(std::memory_order_relaxed)) was_used_.store(true, std::memory_order_relaxed);
    return fd_.load(std::memory_order_acquire);
  }
  bool WasUsed() override { return was_used_.exchange(false, std::memory_order_relaxed); }
  UniqueFd Detach() override { return UniqueFd(fd_.exchange(-1, std::memory_order_acq_rel)); }
  const std::string& path() const override { return path_; }

 private:
  // Asks a file system that has just said that all is on the disk whether it is still alive; an errno, or 0.
  //
  // Measured on Linux 6.18: when ext4 or XFS stops (a journal that cannot be written, a forced shutdown) while fdatasync waits for the data of
  // a preallocated range, fdatasync returns 0 although the range was never marked as written, so that it reads as zeros after the next
  // mount. The error of that marking goes nowhere. But whatever makes it fail is visible in the file system's state before, and calls of no
  // bytes are answered by that state: ext4 and XFS refuse reads when shut down; ext4 refuses writes when its journal was aborted, and before
  // Linux 6.15 only shows itself as read-only then.
  static int FileSystemFailure(int fd) {
    char none = 0;
    if (pread(fd, &none, 0, 0) < 0) return errno;
    if (pwrite(fd, &none, 0, 0) < 0) return errno;
    struct statvfs state {};
    if (fstatvfs(fd, &state) == 0 && (state.f_flag & ST_RDONLY) != 0) return EROFS;
    return 0;
  }

  void NoteLoss(int error) {
    int none = 0;
    loss_.compare_exchange_strong(none, error, std::memory_order_relaxed);
  }

  // Moves the parts on by `written` bytes; returns the first part that is left.
  static size_t SkipWritten(std::vector<iovec>* parts, size_t first, size_t written) {
    while (first < parts->size() && written >= (*parts)[first].iov_len) {
      written -= (*parts)[first].iov_len;
      ++first;
    }
    if (first < parts->size()) {
      (*parts)[first].iov_base = static_cast<uint8_t*>((*parts)[first].iov_base) + written;
      (*parts)[first].iov_len -= written;
    }
    return first;
  }

  const std::string path_;
  mutable Mutex opening_;  // held while the file is opened again, so that two threads do not
  mutable std::atomic<int> fd_;
  mutable std::atomic<bool> was_used_{true};
  std::atomic<int> loss_{0};  // the first errno that meant lost data
};

class PosixSegmentDirectory final : public SegmentDirectory {
 public:
  explicit PosixSegmentDirectory(std::string path) : path_(std::move(path)) {}

  Result<std::vector<SegmentNumber>> List() override {
    std::vector<SegmentNumber> numbers;
    std::error_code error;
    for (std::filesystem::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
      if (const auto number = ParseSegmentFileName(it->path().filename().string())) numbers.push_back(*number);
    }
    if (error) return Status::FromErrno(error.value(), "list " + path_);
    std::sort(numbers.begin(), numbers.end());
    return numbers;
  }

  Result<std::unique_ptr<SegmentFile>> Create(SegmentNumber number, uint64_t bytes) override {
    const std::string path = PathOf(number);
    ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path, O_RDWR | O_CREAT | O_EXCL));
    while (fallocate(file.get(), 0, 0, static_cast<off_t>(bytes)) != 0) {
      if (errno == EINTR) continue;
      const Status failed = Status::FromErrno(errno, "preallocate " + path);
      unlink(path.c_str());
      return failed;
    }
    return Opened(path, std::move(file));
  }

  Result<std::unique_ptr<SegmentFile>> Open(SegmentNumber number) override {
    const std::string path = PathOf(number);
    ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path, O_RDWR));
    return Opened(path, std::move(file));
  }

  Status Remove(SegmentNumber number) override {
    const std::string path = PathOf(number);
    if (unlink(path.c_str()) != 0) return Status::FromErrno(errno, "unlink " + path);
    return Status::Ok();
  }

  Status SyncDirectory() override { return FsyncDirectory(path_); }

  Result<FileSystemSpace> Space() override {
    struct statvfs space {};
    if (statvfs(path_.c_str(), &space) != 0) return Status::FromErrno(errno, "statvfs " + path_);
    return FileSystemSpace{.capacity_bytes = uint64_t{space.f_blocks} * space.f_frsize,
                           .available_bytes = uint64_t{space.f_bavail} * space.f_frsize};
  }

 private:
  std::string PathOf(SegmentNumber number) const { return path_ + "/" + SegmentFileName(number); }

  static std::unique_ptr<SegmentFile> Opened(const std::string& path, UniqueFd file) {
    AdviseRandom(file.get());
    return std::make_unique<PosixSegmentFile>(path, std::move(file));
  }

  const std::string path_;
};

}  // namespace

Result<UniqueFd> SegmentFile::OpenDirect() const { return OpenFile(path(), O_RDONLY | O_DIRECT); }

Result<uint64_t> SegmentFile::SizeBytes() const {
  struct stat attributes {};
  if (stat(path().c_str(), &attributes) != 0) return Status::FromErrno(errno, "stat " + path());
  return static_cast<uint64_t>(attributes.st_size);
}

Result<uint64_t> SegmentFile::AllocatedBytes() const {
  struct stat attributes {};
  if (stat(path().c_str(), &attributes) != 0) return Status::FromErrno(errno, "stat " + path());
  return static_cast<uint64_t>(attributes.st_blocks) * 512;
}

Result<std::optional<SegmentFile::DataRange>> SegmentFile::NextData(uint64_t offset) const {
  ASSIGN_OR_RETURN(const int fd, Descriptor());
  const off_t data = lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0) {
    if (errno == ENXIO) return std::optional<DataRange>();
    return Status::FromErrno(errno, "seek " + path());
  }
  const off_t hole = lseek(fd, data, SEEK_HOLE);
  if (hole < 0) return Status::FromErrno(errno, "seek " + path());
  return std::optional<DataRange>(DataRange{static_cast<uint64_t>(data), static_cast<uint64_t>(hole)});
}

Result<std::unique_ptr<SegmentDirectory>> OpenPosixSegmentDirectory(const std::string& path) {
  RETURN_IF_ERROR(MakeDirectories(path));
  return std::unique_ptr<SegmentDirectory>(std::make_unique<PosixSegmentDirectory>(path));
}

std::string SegmentFileName(SegmentNumber number) {
  char name[32];
  std::snprintf(name, sizeof(name), "%016x.seg", number.value());
  return name;
}

}  // namespace tarn::store
