#include "metaserver/service/checkpoint_source.h"

#include <fcntl.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <span>
#include <utility>

#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kPieceBytesMax = 1 << 20;

}  // namespace

Result<std::unique_ptr<CheckpointSource>> CheckpointSource::Take(KvStore* store, uint64_t applied_entries,
                                                                 const std::string& parent) {
  RETURN_IF_ERROR(MakeDirectories(parent));
  std::string directory = parent + "/XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) return Status::FromErrno(errno, "make a directory in " + parent);
  std::unique_ptr<CheckpointSource> source(new CheckpointSource(directory, applied_entries));
  RETURN_IF_ERROR(store->Checkpoint(source->CopyPath()));
  RETURN_IF_ERROR(source->ListFiles());
  return source;
}

CheckpointSource::~CheckpointSource() {
  std::error_code ignored;  // the next start tries again
  fs::remove_all(directory_, ignored);
}

Status CheckpointSource::ListFiles() {
  std::error_code error;
  for (fs::directory_iterator it(CopyPath(), error), end; !error && it != end; it.increment(error)) {
    proto::CheckpointFile& file = files_.emplace_back();
    file.set_name(it->path().filename().string());
    file.set_size_bytes(fs::file_size(it->path(), error));
    total_bytes_ += file.size_bytes();
  }
  if (error) return Status::FromErrno(error.value(), "list " + CopyPath());
  std::ranges::sort(files_, {}, &proto::CheckpointFile::name);
  return Status::Ok();
}

Result<bool> CheckpointSource::Next(proto::CheckpointPiece* piece) {
  piece->Clear();
  if (!listed_) {
    for (const proto::CheckpointFile& file : files_) *piece->add_files() = file;
    piece->set_applied_entries(applied_entries_);
    listed_ = true;
    return true;
  }
  while (file_ < files_.size() && offset_bytes_ == files_[file_].size_bytes()) {
    ++file_;
    offset_bytes_ = 0;
    open_file_.Reset();
  }
  if (file_ == files_.size()) return false;
  const std::string path = CopyPath() + "/" + files_[file_].name();
  if (!open_file_.valid()) {
    ASSIGN_OR_RETURN(open_file_, OpenFile(path, O_RDONLY));
  }
  std::string& data = *piece->mutable_data();
  data.resize(std::min(kPieceBytesMax, files_[file_].size_bytes() - offset_bytes_));
  const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(data.data()), data.size());
  RETURN_IF_ERROR(PreadFull(open_file_.get(), bytes, offset_bytes_, path));
  piece->set_file(static_cast<uint32_t>(file_));
  piece->set_offset_bytes(offset_bytes_);
  piece->set_data_sum(Xxh3(bytes));
  offset_bytes_ += data.size();
  return true;
}

Status RemoveCheckpoints(const std::string& parent) {
  std::error_code error;
  fs::remove_all(parent, error);
  return error ? Status::FromErrno(error.value(), "remove " + parent) : Status::Ok();
}

}  // namespace tarn::meta
