// A file of records, each with its checksum, and an end that says that nothing is missing (docs/formats.md "Record
// files"): for what is written once, kept elsewhere, and read back in one go.
//
//   0   8   magic, of whose file it is
//   8   4   version, 1
//   12  4   zero
// Then records: bytes (4, not 0), zero (4), XXH3-64 of what follows (8), the record. The end is a record head with 0
// bytes, whose sum is that of the trailer behind it: count of records (8), their bytes (8). Nothing follows it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn {

inline constexpr size_t kRecordFileMagicBytes = 8;
inline constexpr uint32_t kRecordBytesMax = 16 << 20;

// One thread. Writes PATH.partial; only Finish makes it PATH, durably. Without it nothing is left but that file.
class RecordFileWriter {
 public:
  static Result<RecordFileWriter> Create(const std::string& path, std::string_view magic);
  Status Append(std::string_view record);
  Status Finish();
  uint64_t bytes() const { return offset_bytes_; }

 private:
  RecordFileWriter(std::string path, UniqueFd file) : path_(std::move(path)), file_(std::move(file)) {}
  Status Write(std::string_view bytes);

  std::string path_;
  UniqueFd file_;
  uint64_t offset_bytes_ = 0;
  uint64_t records_ = 0;
  uint64_t record_bytes_ = 0;
};

// One thread. Errors name the file and the place.
class RecordFileReader {
 public:
  // kCorruption: it does not begin with this magic; kNotSupported: a newer version.
  static Result<RecordFileReader> Open(const std::string& path, std::string_view magic);
  // nullopt after the last record, once the end has been checked. kCorruption: damaged, or cut off.
  Result<std::optional<std::string>> Next();

 private:
  RecordFileReader(std::string path, UniqueFd file) : path_(std::move(path)), file_(std::move(file)) {}
  Result<std::string> Read(size_t bytes);
  Status CheckEnd(std::string_view head);
  Status Damaged(const std::string& what) const;

  std::string path_;
  UniqueFd file_;
  uint64_t offset_bytes_ = 0;
  uint64_t records_ = 0;
  uint64_t record_bytes_ = 0;
};

}  // namespace tarn
