#include "common/io/record_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <span>

#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"

namespace tarn {
namespace {

constexpr uint32_t kVersion = 1;
constexpr size_t kHeadBytes = 16;
constexpr size_t kTrailerBytes = 16;

void Append(std::string* bytes, uint64_t number, size_t width) {
  for (size_t i = 0; i < width; ++i) bytes->push_back(static_cast<char>(number >> (8 * i) & 0xff));
}

uint64_t NumberAt(std::string_view bytes, size_t offset, size_t width) {
  uint64_t number = 0;
  for (size_t i = width; i-- > 0;) number = number << 8 | static_cast<uint8_t>(bytes[offset + i]);
  return number;
}

std::span<const uint8_t> AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string RecordHead(std::string_view record, uint32_t length) {
  std::string head;
  Append(&head, length, 4);
  Append(&head, 0, 4);
  Append(&head, Xxh3(AsBytes(record)), 8);
  return head;
}

std::string DirectoryOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

Result<RecordFileWriter> RecordFileWriter::Create(const std::string& path, std::string_view magic) {
  CHECK(magic.size() == kRecordFileMagicBytes, "a magic has 8 bytes");
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path + ".partial", O_WRONLY | O_CREAT | O_TRUNC, 0600));
  RecordFileWriter writer(path, std::move(file));
  std::string start(magic);
  tarn::Append(&start, kVersion, 4);
  tarn::Append(&start, 0, 4);
  RETURN_IF_ERROR(writer.Write(start));
  return writer;
}

Status RecordFileWriter::Write(std::string_view bytes) {
  RETURN_IF_ERROR(PwriteFull(file_.get(), AsBytes(bytes), offset_bytes_, path_ + ".partial"));
  offset_bytes_ += bytes.size();
  return Status::Ok();
}

Status RecordFileWriter::Append(std::string_view record) {
  if (record.empty() || record.size() > kRecordBytesMax) {
    return Status(StatusCode::kInvalidArgument, path_ + ": a record has 1 to " + std::to_string(kRecordBytesMax) +
                                                    " bytes, this one " + std::to_string(record.size()));
  }
  RETURN_IF_ERROR(Write(RecordHead(record, static_cast<uint32_t>(record.size()))));
  RETURN_IF_ERROR(Write(record));
  ++records_;
  record_bytes_ += record.size();
  return Status::Ok();
}

Status RecordFileWriter::Finish() {
  std::string trailer;
  tarn::Append(&trailer, records_, 8);
  tarn::Append(&trailer, record_bytes_, 8);
  RETURN_IF_ERROR(Write(RecordHead(trailer, 0)));
  RETURN_IF_ERROR(Write(trailer));
  if (fsync(file_.get()) != 0) return Status::FromErrno(errno, "sync " + path_ + ".partial");
  if (rename((path_ + ".partial").c_str(), path_.c_str()) != 0)
    return Status::FromErrno(errno, "rename " + path_ + ".partial");
  return FsyncDirectory(DirectoryOf(path_));
}

Status RecordFileReader::Damaged(const std::string& what) const {
  return Status(StatusCode::kCorruption, path_ + ": " + what + " at byte " + std::to_string(offset_bytes_));
}

Result<RecordFileReader> RecordFileReader::Open(const std::string& path, std::string_view magic) {
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path, O_RDONLY));
  RecordFileReader reader(path, std::move(file));
  ASSIGN_OR_RETURN(const std::string start, reader.Read(kRecordFileMagicBytes + 8));
  if (start.substr(0, kRecordFileMagicBytes) != magic) {
    return Status(StatusCode::kCorruption,
                  path + " is not a file of this kind: it does not begin with " + std::string(magic));
  }
  if (const uint64_t version = NumberAt(start, kRecordFileMagicBytes, 4); version != kVersion) {
    return Status(StatusCode::kNotSupported, path + " has version " + std::to_string(version) +
                                                 ", this program knows " + std::to_string(kVersion));
  }
  if (NumberAt(start, kRecordFileMagicBytes + 4, 4) != 0) return reader.Damaged("an unknown feature");
  return reader;
}

Result<std::string> RecordFileReader::Read(size_t bytes) {
  std::string read(bytes, '\0');
  const Status status = PreadFull(file_.get(), std::span<uint8_t>(reinterpret_cast<uint8_t*>(read.data()), read.size()),
                                  offset_bytes_, path_);
  if (status.code() == StatusCode::kCorruption) return Damaged("cut off: it ends too early, read");
  RETURN_IF_ERROR(status);
  offset_bytes_ += bytes;
  return read;
}

Status RecordFileReader::CheckEnd(std::string_view head) {
  ASSIGN_OR_RETURN(const std::string trailer, Read(kTrailerBytes));
  if (Xxh3(AsBytes(trailer)) != NumberAt(head, 8, 8)) return Damaged("the checksum of the end does not hold");
  if (NumberAt(trailer, 0, 8) != records_ || NumberAt(trailer, 8, 8) != record_bytes_) {
    return Damaged("records are missing: " + std::to_string(records_) + " of " +
                   std::to_string(NumberAt(trailer, 0, 8)));
  }
  struct stat status {};
  if (fstat(file_.get(), &status) != 0) return Status::FromErrno(errno, "stat " + path_);
  if (static_cast<uint64_t>(status.st_size) != offset_bytes_) return Damaged("something follows the end");
  return Status::Ok();
}

Result<std::optional<std::string>> RecordFileReader::Next() {
  ASSIGN_OR_RETURN(const std::string head, Read(kHeadBytes));
  const uint64_t length = NumberAt(head, 0, 4);
  if (length > kRecordBytesMax || NumberAt(head, 4, 4) != 0) return Damaged("no record");
  if (length == 0) {
    RETURN_IF_ERROR(CheckEnd(head));
    return std::optional<std::string>();
  }
  ASSIGN_OR_RETURN(std::string record, Read(length));
  if (Xxh3(AsBytes(record)) != NumberAt(head, 8, 8)) return Damaged("the checksum of a record does not hold");
  ++records_;
  record_bytes_ += length;
  return std::optional<std::string>(std::move(record));
}

}  // namespace tarn
