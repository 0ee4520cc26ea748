#include "chunkserver/store/lossy_disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/posix_io.h"

namespace tarn::store {

class LossySegmentFile final : public SegmentFile {
 public:
  LossySegmentFile(std::unique_ptr<SegmentFile> file, std::shared_ptr<LossyDisk::FileState> state)
      : file_(std::move(file)), state_(std::move(state)) {}

  Status Write(std::span<const iovec> parts, uint64_t offset) override {
    uint64_t length = 0;
    for (const iovec& part : parts) length += part.iov_len;
    MutexLock lock(state_->mutex);
    Remember(offset, length);
    return file_->Write(parts, offset);
  }
  Status Sync() override {
    MutexLock lock(state_->mutex);
    state_->before.clear();
    return Status::Ok();
  }
  void StartWriteback(uint64_t, uint64_t) override {}
  Status PunchHole(uint64_t offset, uint64_t length) override {
    MutexLock lock(state_->mutex);
    Remember(offset, length);
    return file_->PunchHole(offset, length);
  }
  Status Truncate(uint64_t length) override {
    MutexLock lock(state_->mutex);
    state_->before.erase(state_->before.lower_bound((length + kBlockBytes - 1) / kBlockBytes), state_->before.end());
    return file_->Truncate(length);
  }
  Result<int> Descriptor() const override { return file_->Descriptor(); }
  int OpenDescriptor() const override { return file_->OpenDescriptor(); }
  bool WasUsed() override { return file_->WasUsed(); }
  UniqueFd Detach() override { return file_->Detach(); }
  const std::string& path() const override { return file_->path(); }

 private:
  void Remember(uint64_t offset, uint64_t length) REQUIRES(state_->mutex) {
    const Result<int> fd = file_->Descriptor();
    CHECK(fd.ok(), fd.status().ToString());
    for (uint64_t page = offset / kBlockBytes; page * kBlockBytes < offset + length; ++page) {
      const auto [it, is_new] = state_->before.try_emplace(page);
      if (!is_new) continue;
      it->second.resize(kBlockBytes);
      const ssize_t got = pread(*fd, it->second.data(), kBlockBytes, static_cast<off_t>(page * kBlockBytes));
      it->second.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    }
  }

  const std::unique_ptr<SegmentFile> file_;
  const std::shared_ptr<LossyDisk::FileState> state_;
};

class LossySegmentDirectory final : public SegmentDirectory {
 public:
  LossySegmentDirectory(LossyDisk* disk, std::unique_ptr<SegmentDirectory> directory) : disk_(disk), directory_(std::move(directory)) {}

  Result<std::vector<SegmentNumber>> List() override { return directory_->List(); }
  Result<std::unique_ptr<SegmentFile>> Create(SegmentNumber number, uint64_t bytes) override {
    ASSIGN_OR_RETURN(std::unique_ptr<SegmentFile> file, directory_->Create(number, bytes));
    MutexLock lock(disk_->mutex_);
    disk_->unsynced_names_.insert(file->path());
    return Wrap(std::move(file));
  }
  Result<std::unique_ptr<SegmentFile>> Open(SegmentNumber number) override {
    ASSIGN_OR_RETURN(std::unique_ptr<SegmentFile> file, directory_->Open(number));
    MutexLock lock(disk_->mutex_);
    return Wrap(std::move(file));
  }
  Status Remove(SegmentNumber number) override { return directory_->Remove(number); }
  Status SyncDirectory() override {
    MutexLock lock(disk_->mutex_);
    disk_->unsynced_names_.clear();
    return Status::Ok();
  }
  Result<FileSystemSpace> Space() override { return directory_->Space(); }

 private:
  std::unique_ptr<SegmentFile> Wrap(std::unique_ptr<SegmentFile> file) REQUIRES(disk_->mutex_) {
    std::shared_ptr<LossyDisk::FileState>& state = disk_->files_[file->path()];
    if (state == nullptr) state = std::make_shared<LossyDisk::FileState>();
    return std::make_unique<LossySegmentFile>(std::move(file), state);
  }

  LossyDisk* const disk_;
  const std::unique_ptr<SegmentDirectory> directory_;
};

Result<std::unique_ptr<SegmentDirectory>> LossyDisk::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<SegmentDirectory> directory, OpenPosixSegmentDirectory(path));
  return std::unique_ptr<SegmentDirectory>(std::make_unique<LossySegmentDirectory>(this, std::move(directory)));
}

uint64_t LossyDisk::PowerCut(Random* random) {
  uint64_t lost = 0;
  MutexLock lock(mutex_);
  for (const auto& [path, state] : files_) {
    MutexLock file_lock(state->mutex);
    if (unsynced_names_.contains(path) && random->Next() % 2 == 0) {
      unlink(path.c_str());
      state->before.clear();
      continue;
    }
    const Result<UniqueFd> file = OpenFile(path, O_RDWR);
    for (const auto& [page, before] : state->before) {
      if (!file.ok() || random->Next() % 2 == 0) continue;
      ++lost;
      const off_t offset = static_cast<off_t>(page * kBlockBytes);
      const bool was_zero = std::all_of(before.begin(), before.end(), [](uint8_t byte) { return byte == 0; });
      if (was_zero) {
        (void)fallocate(file->get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, kBlockBytes);
      } else {
        (void)pwrite(file->get(), before.data(), before.size(), offset);
      }
    }
    state->before.clear();
  }
  unsynced_names_.clear();
  files_.clear();
  return lost;
}

uint64_t LossyDisk::unsynced_pages() const {
  uint64_t pages = 0;
  MutexLock lock(mutex_);
  for (const auto& [path, state] : files_) {
    MutexLock file_lock(state->mutex);
    pages += state->before.size();
  }
  return pages;
}

}  // namespace tarn::store
