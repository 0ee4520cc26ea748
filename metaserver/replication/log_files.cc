#include "metaserver/replication/log_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <utility>

#include "common/base/check.h"
#include "common/base/posix_io.h"
#include "metaserver/replication/synced_file.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;

constexpr char kVoteA[] = "vote-a";
constexpr char kVoteB[] = "vote-b";
constexpr char kMarker[] = "snapshot";
constexpr size_t kBufferBytesKept = 1u << 20;

std::span<const uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Status Damaged(const std::string& text) { return Status(StatusCode::kCorruption, text); }

Result<std::vector<uint64_t>> ListSegments(const std::string& directory) {
  std::vector<uint64_t> numbers;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (const auto number = SegmentNumber(it->path().filename().string())) numbers.push_back(*number);
  }
  if (error) return Status::FromErrno(error.value(), "read directory " + directory);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// Whether a group of this generation was begun here, whatever became of it.
bool IsBegun(std::span<const uint8_t> bytes, uint64_t generation) {
  GroupHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  return header.magic == kGroupMagic && header.generation == generation;
}

}  // namespace

LogFiles::LogFiles(std::string directory, Random* random)
    : directory_(std::move(directory)), random_(random), maker_(directory_, random) {}

std::string LogFiles::PathOf(uint64_t number) const { return directory_ + "/" + SegmentName(number); }

bool LogFiles::Exists(const std::string& directory) {
  std::error_code ignored;
  return fs::exists(directory + "/" + kVoteA, ignored) || fs::exists(directory + "/" + kVoteB, ignored);
}

Status LogFiles::Create(const std::string& directory, const std::optional<LogEntryRef>& first, Random* random) {
  if (Exists(directory)) return Status(StatusCode::kExists, directory + ": there is a log already");
  ASSIGN_OR_RETURN(MadeSegment segment, MakeSegment(directory, 1, random->NextNonZero(), ""));
  if (first) {
    const std::span<const LogEntryRef> entries(&*first, 1);
    std::vector<uint8_t> bytes(GroupBytes(entries));
    EncodeGroup({.generation = segment.generation, .sequence = 1, .first_index = 1}, entries, bytes);
    RETURN_IF_ERROR(PwriteFull(segment.file.get(), bytes, kLogBlockBytes, directory));
    RETURN_IF_ERROR(SyncFile(segment.file.get(), directory));
  }
  const std::string vote = EncodeVote(1, first ? first->term : 0, 0);
  RETURN_IF_ERROR(WriteSmallFileDurably(directory + "/" + kVoteB, vote));
  return WriteSmallFileDurably(directory + "/" + kVoteA, vote);
}

// ---- Loading ----

Result<std::unique_ptr<LogFiles>> LogFiles::Open(const std::string& directory, Random* random, LoadedLog* loaded) {
  if (!fs::is_directory(directory)) return Status(StatusCode::kNotFound, directory + ": no such directory");
  if (!Exists(directory)) return Damaged(directory + ": vote-a and vote-b are both missing: this is no log");
  std::unique_ptr<LogFiles> files(new LogFiles(directory, random));
  RETURN_IF_ERROR(files->Load(loaded));
  return files;
}

Status LogFiles::Load(LoadedLog* loaded) {
  RETURN_IF_ERROR(LoadMarker(loaded));
  RETURN_IF_ERROR(LoadSegments(loaded));
  return LoadVote(loaded);  // it may write: last
}

Status LogFiles::LoadVote(LoadedLog* loaded) {
  std::array<Result<VoteRecord>, 2> records{Status(StatusCode::kNotFound, "missing"),
                                            Status(StatusCode::kNotFound, "missing")};
  const std::array<const char*, 2> names{kVoteA, kVoteB};
  for (size_t i = 0; i < names.size(); ++i) {
    const auto contents = ReadSmallFile(directory_ + "/" + names[i], kLogBlockBytes);
    records[i] = contents.ok() ? DecodeVote(*contents) : Result<VoteRecord>(contents.status());
    if (records[i].status().code() == StatusCode::kNotSupported) {
      return records[i].status().WithContext(directory_ + "/" + names[i]);
    }
  }
  if (!records[0].ok() && !records[1].ok()) {
    return Damaged(directory_ + ": neither vote-a nor vote-b can be read: " + records[0].status().ToString());
  }
  // Each change is written to both, one after the other: if one of them cannot be read, the other one holds at least
  // what was acted upon.
  const bool second = !records[0].ok() || (records[1].ok() && records[1]->sequence > records[0]->sequence);
  const VoteRecord& record = second ? *records[1] : *records[0];
  loaded->term = record.term;
  loaded->voted_for = record.voted_for;
  vote_sequence_ = record.sequence;
  if (!records[0].ok() || !records[1].ok() || records[0]->sequence != records[1]->sequence) {
    // Both must hold before one of them is touched again.
    const std::string copy = EncodeVote(record.sequence, record.term, record.voted_for);
    RETURN_IF_ERROR(WriteSmallFileDurably(directory_ + "/" + names[second ? 0 : 1], copy));
  }
  return Status::Ok();
}

Status LogFiles::LoadMarker(LoadedLog* loaded) {
  const std::string path = directory_ + "/" + kMarker;
  const auto contents = ReadSmallFile(path, kMarkerBytesMax);
  if (contents.status().code() == StatusCode::kNotFound) return Status::Ok();
  RETURN_IF_ERROR(contents.status());
  auto marker = DecodeMarker(*contents);
  if (!marker.ok()) return marker.status().WithContext(path);
  next_sequence_ = marker->first_sequence;
  loaded->start_index = marker->index + 1;
  loaded->marker = std::move(*marker);
  return Status::Ok();
}

Status LogFiles::LoadSegments(LoadedLog* loaded) {
  ASSIGN_OR_RETURN(const std::vector<uint64_t> numbers, ListSegments(directory_));
  const uint64_t first = loaded->marker ? loaded->marker->first_segment : 1;
  const auto begin = std::lower_bound(numbers.begin(), numbers.end(), first);
  if (begin == numbers.end() || *begin != first) {
    return Damaged(PathOf(first) + ": missing: the log begins there");
  }
  Scan scan;
  scan.loaded = loaded;
  for (auto number = begin; number != numbers.end(); ++number) {
    if (*number != first + static_cast<uint64_t>(number - begin)) {
      return Damaged(PathOf(*number - 1) + ": missing, yet " + SegmentName(*number) + " is there");
    }
    RETURN_IF_ERROR(ScanSegment(*number, &scan));
  }
  if (scan.torn) loaded->torn = scan.stopped;
  if (loaded->marker && loaded->start_index + loaded->entries.size() <= loaded->marker->index) {
    return Damaged(PathOf(numbers.back()) + ": the log ends at entry " +
                   std::to_string(loaded->start_index + loaded->entries.size() - 1) + ", before its snapshot's " +
                   std::to_string(loaded->marker->index));
  }
  if (loaded->entries.empty()) loaded->start_index = loaded->marker ? loaded->marker->index + 1 : 1;
  std::vector<std::string> spares;
  for (auto number = numbers.begin(); number != begin; ++number) spares.push_back(PathOf(*number));
  maker_.AddSpares(std::move(spares));
  std::error_code ignored;
  for (const uint64_t number : {numbers.back(), numbers.back() + 1}) fs::remove(PathOf(number) + ".new", ignored);
  return OpenActive(numbers.back());
}

Status LogFiles::ScanSegment(uint64_t number, Scan* scan) {
  const std::string path = PathOf(number);
  ASSIGN_OR_RETURN(const std::string contents, ReadSmallFile(path, kSegmentBytes));
  if (contents.size() != kSegmentBytes) {
    return Damaged(path + ": has " + std::to_string(contents.size()) + " bytes instead of " +
                   std::to_string(kSegmentBytes));
  }
  const std::span<const uint8_t> bytes = BytesOf(contents);
  const auto generation = DecodeSegmentHeader(bytes.first(kLogBlockBytes), number);
  if (!generation.ok()) return generation.status().WithContext(path);
  segments_.push_back({.number = number, .generation = *generation});
  size_t end = kLogBlockBytes;  // of the groups that can be read
  for (size_t offset = kLogBlockBytes; offset < bytes.size();) {
    const auto group = DecodeGroup(bytes.subspan(offset), *generation);
    if (!group) {
      // Only damage has something behind it; what an earlier use of the segment left has another generation.
      offset += kLogBlockBytes;
      continue;
    }
    if (offset != end) {
      return Damaged(path + ": damaged at byte " + std::to_string(end) + ": log entry " +
                     std::to_string(scan->loaded->start_index + scan->loaded->entries.size()) +
                     " had been on stable storage and cannot be read");
    }
    if (end == kLogBlockBytes && !scan->stopped.empty() && group->header.sequence != next_sequence_) {
      return Damaged(scan->stopped + ": entries had been on stable storage there and cannot be read: " +
                     SegmentName(number) + " continues behind them");
    }
    RETURN_IF_ERROR(TakeGroup(*group, path + ": byte " + std::to_string(offset), scan));
    offset += group->block_bytes;
    end = offset;
  }
  if (segments_.back().first_sequence == 0 && segments_.size() > 1) return Status::Ok();
  scan->stopped = path + ": damaged at byte " + std::to_string(end);
  scan->torn = end < bytes.size() && IsBegun(bytes.subspan(end), *generation);
  offset_ = end;
  return Status::Ok();
}

Status LogFiles::TakeGroup(const DecodedGroup& group, const std::string& place, Scan* scan) {
  const GroupHeader& header = group.header;
  LoadedLog* loaded = scan->loaded;
  if (header.sequence != next_sequence_) {
    return Damaged(place + ": group " + std::to_string(header.sequence) + " where " + std::to_string(next_sequence_) +
                   " was expected: entries before it are missing");
  }
  ++next_sequence_;
  Segment& segment = segments_.back();
  if (segment.first_sequence == 0) segment.first_sequence = header.sequence;
  if (header.entries == 0) return Status::Ok();
  const uint64_t before_first = loaded->marker ? loaded->marker->index : 0;
  if (loaded->entries.empty() && header.first_index <= before_first + 1) loaded->start_index = header.first_index;
  const uint64_t next = loaded->start_index + loaded->entries.size();
  if (header.first_index < loaded->start_index || header.first_index > next) {
    return Damaged(place + ": entry " + std::to_string(header.first_index) + " where " + std::to_string(next) +
                   " was expected");
  }
  loaded->entries.resize(header.first_index - loaded->start_index);
  ForEachEntry(group, [&](const LogEntryRef& entry) {
    loaded->entries.push_back(
        {entry.term, entry.type, std::string(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size())});
  });
  segment.last_index = std::max(segment.last_index, header.first_index + header.entries - 1);
  return Status::Ok();
}

Status LogFiles::OpenActive(uint64_t last_number) {
  // What follows the last segment with groups was made ahead; more than one of those there is not.
  std::vector<Segment> ahead;
  while (segments_.size() > 1 && segments_.back().first_sequence == 0) {
    ahead.push_back(segments_.back());
    segments_.pop_back();
  }
  ASSIGN_OR_RETURN(file_, OpenFile(PathOf(segments_.back().number), O_RDWR));
  if (ahead.size() > 1) return Damaged(PathOf(last_number) + ": several segments without entries end the log");
  if (ahead.empty()) {
    maker_.Request(segments_.back().number + 1);
    return Status::Ok();
  }
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(PathOf(ahead[0].number), O_RDWR));
  maker_.Provide({.file = std::move(file), .number = ahead[0].number, .generation = ahead[0].generation});
  return Status::Ok();
}

// ---- Writing ----

Status LogFiles::WriteVoteFile(const char* name, const std::string& record) {
  const std::string path = directory_ + "/" + name;
  ASSIGN_OR_RETURN(const UniqueFd file, OpenFile(path, O_RDWR));
  RETURN_IF_ERROR(PwriteFull(file.get(), BytesOf(record), 0, path));
  return SyncFile(file.get(), path);
}

Status LogFiles::WriteVote(uint64_t term, uint64_t voted_for) {
  const std::string record = EncodeVote(++vote_sequence_, term, voted_for);
  RETURN_IF_ERROR(WriteVoteFile(kVoteA, record));
  return WriteVoteFile(kVoteB, record);
}

Status LogFiles::Switch() {
  ASSIGN_OR_RETURN(MadeSegment made, maker_.Take());
  CHECK(made.number == segments_.back().number + 1, "segments follow each other");
  file_ = std::move(made.file);
  offset_ = kLogBlockBytes;
  segments_.push_back({.number = made.number, .generation = made.generation});
  maker_.Request(made.number + 1);
  return Status::Ok();
}

Status LogFiles::WriteGroup(uint64_t first_index, std::span<const LogEntryRef> entries) {
  const size_t bytes = GroupBytes(entries);
  if (bytes > kSegmentBytes - offset_) RETURN_IF_ERROR(Switch());
  Segment& segment = segments_.back();
  buffer_.resize(bytes);
  EncodeGroup({.generation = segment.generation, .sequence = next_sequence_, .first_index = first_index}, entries,
              buffer_);
  const std::string path = PathOf(segment.number);
  RETURN_IF_ERROR(PwriteFull(file_.get(), buffer_, offset_, path));
  RETURN_IF_ERROR(SyncFile(file_.get(), path));
  if (segment.first_sequence == 0) segment.first_sequence = next_sequence_;
  if (!entries.empty()) segment.last_index = std::max(segment.last_index, first_index + entries.size() - 1);
  ++next_sequence_;
  offset_ += bytes;
  sealed_ = entries.empty();
  if (buffer_.capacity() > kBufferBytesKept) std::vector<uint8_t>().swap(buffer_);
  return Status::Ok();
}

Status LogFiles::Append(uint64_t first_index, std::span<const LogEntryRef> entries) {
  while (!entries.empty()) {
    size_t count = 0;
    size_t bytes = sizeof(GroupHeader);
    const size_t room = kSegmentBytes - offset_;
    while (count < entries.size() && count < kGroupEntriesMax) {
      bytes += EntryBytesInGroup(entries[count].bytes.size());
      if (count > 0 && PadTo(bytes, kLogBlockBytes) > room) break;
      ++count;
      // The first one does not fit: it opens the next segment, alone.
      if (count == 1 && PadTo(bytes, kLogBlockBytes) > room) break;
    }
    if (GroupBytes(entries.first(1)) > kSegmentBytes - kLogBlockBytes) {
      return Status(StatusCode::kFileTooLarge, directory_ + ": an entry is larger than a segment");
    }
    RETURN_IF_ERROR(WriteGroup(first_index, entries.first(count)));
    first_index += count;
    entries = entries.subspan(count);
  }
  return Status::Ok();
}

std::vector<std::string> LogFiles::DropBefore(size_t count) {
  std::vector<std::string> paths;
  for (size_t i = 0; i < count; ++i) {
    paths.push_back(PathOf(segments_.front().number));
    segments_.pop_front();
  }
  return paths;
}

Status LogFiles::PutMarker(LogMarker marker, uint64_t keep_from) {
  size_t drop = 0;
  if (keep_from == 0) {
    // The rest of the segment could hold entries that no longer count: the log goes on in a new one.
    if (segments_.back().first_sequence != 0) RETURN_IF_ERROR(Switch());
    drop = segments_.size() - 1;
  } else {
    while (drop + 1 < segments_.size() && segments_[drop].last_index < keep_from) ++drop;
  }
  marker.first_segment = segments_[drop].number;
  marker.first_sequence = segments_[drop].first_sequence != 0 ? segments_[drop].first_sequence : next_sequence_;
  RETURN_IF_ERROR(WriteSmallFileDurably(directory_ + "/" + kMarker, EncodeMarker(marker)));
  maker_.AddSpares(DropBefore(drop));
  return Status::Ok();
}

Status LogFiles::Seal() { return sealed_ ? Status::Ok() : WriteGroup(0, {}); }

}  // namespace tarn::meta
