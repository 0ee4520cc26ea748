#include "metaserver/replication/log_check.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "common/base/posix_io.h"
#include "metaserver/replication/log_frame.h"

namespace tarn::meta {
namespace {

// libraft's file formats: docs of raft/uv.h and uv_encoding.h of libraft 0.22.
constexpr uint64_t kSegmentFormat = 1;
constexpr size_t kSegmentBytesMax = 64 << 20;
constexpr uint64_t kBatchEntriesMax = 1 << 18;
constexpr uint8_t kCommandType = 1;

struct OpenSegment {
  uint64_t counter = 0;
  std::string name;
};

struct Listing {
  std::vector<OpenSegment> open;
  uint64_t last_closed_index = 0;
  uint64_t snapshot_index = 0;
  bool has_metadata = false;
};

// CRC-32 with polynomial 0x04c11db7, most significant bit first, start 0, not inverted.
constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t crc = i << 24;
    for (int bit = 0; bit < 8; ++bit) crc = (crc << 1) ^ ((crc & 0x80000000u) != 0 ? 0x04c11db7u : 0);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = MakeCrcTable();

uint32_t Crc32(std::span<const uint8_t> bytes) {
  uint32_t crc = 0;
  for (const uint8_t byte : bytes) crc = (crc << 8) ^ kCrcTable[((crc >> 24) ^ byte) & 255];
  return crc;
}

template <typename T>
T Load(std::span<const uint8_t> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// "<prefix><number>" or "<number>-<number>": the numbers of a name, nullopt if it has another form.
std::optional<std::vector<uint64_t>> NumbersOf(std::string_view text) {
  std::vector<uint64_t> numbers;
  while (true) {
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) return std::nullopt;
    numbers.push_back(number);
    text.remove_prefix(end - text.data());
    if (text.empty()) return numbers;
    if (text.front() != '-') return std::nullopt;
    text.remove_prefix(1);
  }
}

void AddName(const std::string& name, Listing* listing) {
  constexpr std::string_view kOpen = "open-";
  constexpr std::string_view kSnapshot = "snapshot-";
  const std::string_view text = name;
  if (text == "metadata1" || text == "metadata2") {
    listing->has_metadata = true;
  } else if (text.starts_with(kOpen)) {
    if (const auto numbers = NumbersOf(text.substr(kOpen.size())); numbers && numbers->size() == 1) {
      listing->open.push_back({(*numbers)[0], name});
    }
  } else if (text.starts_with(kSnapshot)) {
    if (const auto numbers = NumbersOf(text.substr(kSnapshot.size())); numbers && numbers->size() == 3) {
      listing->snapshot_index = std::max(listing->snapshot_index, (*numbers)[1]);
    }
  } else if (const auto numbers = NumbersOf(text); numbers && numbers->size() == 2) {
    listing->last_closed_index = std::max(listing->last_closed_index, (*numbers)[1]);
  }
}

Result<Listing> List(const std::string& directory) {
  Listing listing;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    AddName(it->path().filename().string(), &listing);
  }
  if (error) return Status::FromErrno(error.value(), "read directory " + directory);
  std::sort(listing.open.begin(), listing.open.end(),
            [](const auto& a, const auto& b) { return a.counter < b.counter; });
  return listing;
}

// A batch of entries of a segment file.
struct Batch {
  uint64_t entries = 0;
  size_t end = 0;              // offset behind it
  uint64_t durable_index = 0;  // the highest that one of its commands carries
};

// The batch at `offset`, nullopt if what lies there is none or its sums do not hold.
std::optional<Batch> ParseBatch(std::span<const uint8_t> file, size_t offset) {
  if (offset + 16 > file.size()) return std::nullopt;
  Batch batch;
  batch.entries = Load<uint64_t>(file, offset + 8);
  if (batch.entries == 0 || batch.entries > kBatchEntriesMax) return std::nullopt;
  const size_t header_bytes = 8 + 16 * batch.entries;
  if (offset + 8 + header_bytes > file.size()) return std::nullopt;
  const auto header = file.subspan(offset + 8, header_bytes);
  if (Crc32(header) != Load<uint32_t>(file, offset)) return std::nullopt;
  size_t data_bytes = 0;
  for (uint64_t i = 0; i < batch.entries; ++i) data_bytes += Load<uint32_t>(header, 8 + 16 * i + 12);
  const size_t data_offset = offset + 8 + header_bytes;
  if (data_bytes > file.size() - data_offset) return std::nullopt;
  if (Crc32(file.subspan(data_offset, data_bytes)) != Load<uint32_t>(file, offset + 4)) return std::nullopt;
  size_t position = data_offset;
  for (uint64_t i = 0; i < batch.entries; ++i) {
    const auto entry_bytes = Load<uint32_t>(header, 8 + 16 * i + 12);
    if (header[8 + 16 * i + 8] == kCommandType) {
      const auto frame = DecodeLogFrame(file.subspan(position, entry_bytes));
      if (frame.ok()) batch.durable_index = std::max(batch.durable_index, frame->durable_index);
    }
    position += entry_bytes;
  }
  batch.end = data_offset + data_bytes;
  return batch;
}

// Whether an intact batch behind `offset` says that log index `index` had been on stable storage.
bool ProvenDurable(std::span<const uint8_t> file, size_t offset, uint64_t index) {
  for (size_t position = offset + 8; position + 16 <= file.size(); position += 8) {
    const auto batch = ParseBatch(file, position);
    if (batch && batch->durable_index >= index) return true;
  }
  return false;
}

struct SegmentEnd {
  bool has_entries = false;
  bool stops_early = false;  // something that is no batch and not only zeros follows the last one
};

Result<SegmentEnd> CheckOpenSegment(const std::string& path, uint64_t* next_index) {
  ASSIGN_OR_RETURN(const std::string contents, ReadSmallFile(path, kSegmentBytesMax));
  const std::span<const uint8_t> file(reinterpret_cast<const uint8_t*>(contents.data()), contents.size());
  SegmentEnd result;
  const auto is_zero = [](uint8_t byte) { return byte == 0; };
  if (std::all_of(file.begin(), file.end(), is_zero)) return result;
  size_t offset = 8;
  if (file.size() < offset || Load<uint64_t>(file, 0) != kSegmentFormat) {
    // The first write of a segment may be torn as well; then its first block is not there, and no entry behind it is
    // proven.
    offset = 0;
  } else {
    while (const auto batch = ParseBatch(file, offset)) {
      *next_index += batch->entries;
      offset = batch->end;
      result.has_entries = true;
    }
  }
  if (std::all_of(file.begin() + static_cast<ptrdiff_t>(offset), file.end(), is_zero)) return result;
  result.stops_early = true;
  if (ProvenDurable(file, offset, *next_index)) {
    return Status(StatusCode::kCorruption, path + ": damaged at byte " + std::to_string(offset) + ": log entry " +
                                               std::to_string(*next_index) +
                                               " had been on stable storage and cannot be read");
  }
  return result;
}

}  // namespace

Status CheckLogDirectory(const std::string& directory) {
  ASSIGN_OR_RETURN(const Listing listing, List(directory));
  if (!listing.has_metadata)
    return Status(StatusCode::kCorruption, directory + ": metadata1 and metadata2 are both missing");
  if (listing.last_closed_index == 0 && listing.snapshot_index == 0) {
    return Status(StatusCode::kCorruption, directory + ": no finished log segment and no snapshot");
  }
  uint64_t next_index = (listing.last_closed_index != 0 ? listing.last_closed_index : listing.snapshot_index) + 1;
  std::string stopped_early;
  for (const OpenSegment& segment : listing.open) {
    const std::string path = directory + "/" + segment.name;
    ASSIGN_OR_RETURN(const SegmentEnd end, CheckOpenSegment(path, &next_index));
    if (!stopped_early.empty() && (end.has_entries || end.stops_early)) {
      return Status(StatusCode::kCorruption,
                    stopped_early + ": damaged: its entries end early, yet " + segment.name + " continues the log");
    }
    if (end.stops_early) stopped_early = path;
  }
  return Status::Ok();
}

}  // namespace tarn::meta
