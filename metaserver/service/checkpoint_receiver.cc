#include "metaserver/service/checkpoint_receiver.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <span>

#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;

constexpr int kFilesMax = 1'000'000;
constexpr size_t kNameBytesMax = 128;

Status Damaged(const std::string& text) { return Status(StatusCode::kCorruption, "the checkpoint received: " + text); }

// A plain file of this directory: the name comes from elsewhere.
bool IsPlainName(const std::string& name) {
  return !name.empty() && name.size() <= kNameBytesMax && name[0] != '.' &&
         std::ranges::all_of(name,
                             [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; });
}

}  // namespace

Result<CheckpointReceiver> CheckpointReceiver::Begin(const std::string& directory) {
  std::error_code error;
  fs::remove_all(directory, error);
  if (error) return Status::FromErrno(error.value(), "remove " + directory);
  RETURN_IF_ERROR(MakeDirectories(directory));
  return CheckpointReceiver(directory);
}

Status CheckpointReceiver::AcceptList(const proto::CheckpointPiece& piece) {
  if (piece.files().empty() || piece.files_size() > kFilesMax) return Damaged("no usable list of files");
  std::set<std::string> names;
  for (const proto::CheckpointFile& file : piece.files()) {
    if (!IsPlainName(file.name())) return Damaged("a file name that is none");
    if (!names.insert(file.name()).second) return Damaged(file.name() + " is listed twice");
    files_.push_back(file);
  }
  applied_entries_ = piece.applied_entries();
  listed_ = true;
  return Advance();
}

Status CheckpointReceiver::Advance() {
  while (file_ < files_.size()) {
    const std::string path = directory_ + "/" + files_[file_].name();
    if (!open_file_.valid()) {
      ASSIGN_OR_RETURN(open_file_, OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
    }
    if (offset_bytes_ < files_[file_].size_bytes()) return Status::Ok();
    if (fdatasync(open_file_.get()) != 0) return Status::FromErrno(errno, "sync " + path);
    open_file_.Reset();
    offset_bytes_ = 0;
    ++file_;
  }
  return Status::Ok();
}

Status CheckpointReceiver::Accept(const proto::CheckpointPiece& piece) {
  if (!listed_) return AcceptList(piece);
  if (file_ == files_.size() || piece.file() != file_ || piece.offset_bytes() != offset_bytes_)
    return Damaged("a piece that is not the next one");
  const proto::CheckpointFile& file = files_[file_];
  if (piece.data().empty() || piece.data().size() > file.size_bytes() - offset_bytes_)
    return Damaged(file.name() + " is longer than announced");
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(piece.data().data()), piece.data().size());
  if (Xxh3(bytes) != piece.data_sum()) return Damaged(file.name() + ": checksum at " + std::to_string(offset_bytes_));
  RETURN_IF_ERROR(PwriteFull(open_file_.get(), bytes, offset_bytes_, directory_ + "/" + file.name()));
  offset_bytes_ += bytes.size();
  received_bytes_ += bytes.size();
  return Advance();
}

Status CheckpointReceiver::Finish() {
  if (!listed_ || file_ != files_.size()) return Damaged("it ended early");
  return FsyncDirectory(directory_);
}

}  // namespace tarn::meta
