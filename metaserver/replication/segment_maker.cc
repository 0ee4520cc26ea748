#include "metaserver/replication/segment_maker.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <utility>

#include "common/base/check.h"
#include "common/base/named_thread.h"
#include "common/base/posix_io.h"
#include "metaserver/replication/log_format.h"
#include "metaserver/replication/synced_file.h"

namespace tarn::meta {
namespace {

constexpr size_t kSparesMax = 2;
constexpr size_t kZeroBytes = 1u << 20;

Status WriteHeader(int fd, uint64_t number, uint64_t generation, const std::string& path) {
  std::vector<uint8_t> block(kLogBlockBytes);
  EncodeSegmentHeader(number, generation, block);
  RETURN_IF_ERROR(PwriteFull(fd, block, 0, path));
  return SyncFile(fd, path);
}

Result<UniqueFd> MakeZeroedFile(const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path, O_RDWR | O_CREAT | O_TRUNC));
  const std::vector<uint8_t> zeros(kZeroBytes);
  for (size_t offset = 0; offset < kSegmentBytes; offset += zeros.size()) {
    RETURN_IF_ERROR(PwriteFull(file.get(), zeros, offset, path));
  }
  return file;
}

Result<UniqueFd> OpenSpare(const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path, O_RDWR));
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return Status::FromErrno(errno, "stat " + path);
  if (static_cast<uint64_t>(info.st_size) != kSegmentBytes) return Status(StatusCode::kInvalidArgument, "another size");
  return file;
}

}  // namespace

Result<MadeSegment> MakeSegment(const std::string& directory, uint64_t number, uint64_t generation,
                                const std::string& spare) {
  std::string path = spare;
  UniqueFd file;
  if (!spare.empty()) {
    auto opened = OpenSpare(spare);
    if (opened.ok()) file = std::move(*opened);
  }
  if (!file.valid()) {
    path = directory + "/" + SegmentName(number) + ".new";
    ASSIGN_OR_RETURN(file, MakeZeroedFile(path));
  }
  RETURN_IF_ERROR(WriteHeader(file.get(), number, generation, path));
  const std::string name = directory + "/" + SegmentName(number);
  if (rename(path.c_str(), name.c_str()) != 0) return Status::FromErrno(errno, "rename " + path + " to " + name);
  RETURN_IF_ERROR(FsyncDirectory(directory));
  return MadeSegment{.file = std::move(file), .number = number, .generation = generation};
}

SegmentMaker::SegmentMaker(std::string directory, Random* random)
    : directory_(std::move(directory)), random_(random), segment_(Status(StatusCode::kInternal, "not made")) {
  thread_ = StartNamedThread("log segments", [this] { Run(); });
}

SegmentMaker::~SegmentMaker() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

void SegmentMaker::Request(uint64_t number) {
  MutexLock lock(mutex_);
  CHECK(requested_ == 0 && !made_, "one segment is made at a time");
  requested_ = number;
  wake_.NotifyAll();
}

void SegmentMaker::Provide(MadeSegment segment) {
  MutexLock lock(mutex_);
  segment_ = std::move(segment);
  made_ = true;
}

Result<MadeSegment> SegmentMaker::Take() {
  MutexLock lock(mutex_);
  while (!made_) wake_.Wait(lock);
  made_ = false;
  return std::exchange(segment_, Status(StatusCode::kInternal, "not made"));
}

void SegmentMaker::AddSpares(std::vector<std::string> paths) {
  std::vector<std::string> surplus;
  {
    MutexLock lock(mutex_);
    for (std::string& path : paths) (spares_.size() < kSparesMax ? spares_ : surplus).push_back(std::move(path));
  }
  // Leftovers are not part of the log, whether they can be deleted or not.
  std::error_code ignored;
  for (const std::string& path : surplus) std::filesystem::remove(path, ignored);
}

void SegmentMaker::Run() {
  MutexLock lock(mutex_);
  while (!stop_) {
    if (requested_ == 0) {
      wake_.Wait(lock);
      continue;
    }
    const uint64_t number = std::exchange(requested_, 0);
    std::string spare;
    if (!spares_.empty()) {
      spare = std::move(spares_.back());
      spares_.pop_back();
    }
    lock.Unlock();
    auto made = MakeSegment(directory_, number, random_->NextNonZero(), spare);
    lock.Lock();
    segment_ = std::move(made);
    made_ = true;
    wake_.NotifyAll();
  }
}

}  // namespace tarn::meta
