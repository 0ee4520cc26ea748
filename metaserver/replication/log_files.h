// The replicated log on disk (log_format.h): entries, term and vote, and the snapshot marker.
//
// Loading tells a torn last write, which nobody was told of and which is dropped, from damage of what had been durable:
// then it fails, names file and position, and touches nothing. After a failed write the object is not to be used again:
// what the disk holds is unknown.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/base/status.h"
#include "metaserver/replication/log_format.h"
#include "metaserver/replication/segment_maker.h"

namespace tarn::meta {

struct LoadedEntry {
  uint64_t term = 0;
  uint8_t type = 0;
  std::string bytes;
};

struct LoadedLog {
  uint64_t term = 0;
  uint64_t voted_for = 0;
  std::optional<LogMarker> marker;
  uint64_t start_index = 1;  // of the first entry
  std::vector<LoadedEntry> entries;
  std::string torn;  // where an unreadable end was dropped; for the log
};

// Blocking. One thread at a time.
class LogFiles {
 public:
  // Makes a log in an existing directory without one: with term 1 and `first` as entry 1, or empty. Term and vote,
  // whose presence makes it a log, are written last.
  static Status Create(const std::string& directory, const std::optional<LogEntryRef>& first, Random* random);
  static bool Exists(const std::string& directory);

  static Result<std::unique_ptr<LogFiles>> Open(const std::string& directory, Random* random, LoadedLog* loaded);
  LogFiles(const LogFiles&) = delete;
  LogFiles& operator=(const LogFiles&) = delete;

  // All of these return once everything is on stable storage.
  Status WriteVote(uint64_t term, uint64_t voted_for);
  // Replaces what the log holds from `first_index` on.
  Status Append(uint64_t first_index, std::span<const LogEntryRef> entries);
  // From now on the log need not begin before `keep_from`; 0: all entries are dropped (the marker came from elsewhere).
  // first_segment and first_sequence of the marker are filled in.
  Status PutMarker(LogMarker marker, uint64_t keep_from);
  // A last mark for a clean end: damage of the last entries will be seen, too.
  Status Seal();

 private:
  struct Segment {
    uint64_t number = 0;
    uint64_t generation = 0;
    uint64_t first_sequence = 0;  // 0: no group yet
    uint64_t last_index = 0;      // the highest in it
  };
  // While loading.
  struct Scan {
    LoadedLog* loaded = nullptr;
    std::string stopped;  // where the groups of the last segment with groups end
    bool torn = false;    // with a group that was begun there
  };

  LogFiles(std::string directory, Random* random);
  std::string PathOf(uint64_t number) const;
  Status Load(LoadedLog* loaded);
  Status LoadVote(LoadedLog* loaded);
  Status LoadMarker(LoadedLog* loaded);
  Status LoadSegments(LoadedLog* loaded);
  Status ScanSegment(uint64_t number, Scan* scan);
  Status TakeGroup(const DecodedGroup& group, const std::string& place, Scan* scan);
  Status OpenActive(uint64_t last_number);
  Status Switch();
  Status WriteGroup(uint64_t first_index, std::span<const LogEntryRef> entries);
  Status WriteVoteFile(const char* name, const std::string& record);
  std::vector<std::string> DropBefore(size_t count);

  const std::string directory_;
  Random* const random_;
  SegmentMaker maker_;
  std::deque<Segment> segments_;  // the last one is written to
  UniqueFd file_;                 // of the last one
  size_t offset_ = 0;             // in it
  uint64_t next_sequence_ = 1;
  uint64_t vote_sequence_ = 0;
  bool sealed_ = false;
  std::vector<uint8_t> buffer_;
};

}  // namespace tarn::meta
