// What files should hold, and what clients saw of it: the promise of docs/coherence.md for data, size and time of
// modification, and its failures.
//
// A file is a row of cells of eight bytes. A write puts one value, which no other write has, into one cell; files are
// either overwritten (the first cells only) or appended to. Moments are counted, not timed: each call of this class is
// later than the one before.
//
// A write *must be seen* by a look (stat, or a read of the cells) that began after it had returned. It need not be if
// the session that it was made under was fenced or closed before the write was published (docs/coherence.md, rule 5: the writer
// is told), nor if it failed or the writer could not publish it for long; then it may be seen or not. So a look is wrong if it shows
//   - a cell, or the time of modification, of a write that returned before another one of the same began, if that other
//     one must be seen; or of none, if one must be seen;
//   - a value that nobody wrote there; a smaller size than a write that must be seen, or a larger one than any;
//   - of a file that is appended to: not each write that must be seen once, or not in the order in which they were made.
// It raises no false alarm on a system that gives writes an order agreeing with real time: two writes of a cell that
// overlap may be seen in either order, by different looks too.
//
// Also: two clients never hold exclusive write grants of a file at one moment, with leases by their own clocks; a chunk
// server takes nothing of a session that was fenced and closed; a file stays as long as somebody has it open, whoever
// unlinks it, and goes afterwards.
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "client/types.h"
#include "common/base/ids.h"
#include "metaserver/state/memory_kv.h"
#include "proto/metadata.pb.h"
#include "proto/state.pb.h"

namespace tarn::sim {

// The times of modification that clients set lie behind those of any clock, and say which write they are of.
inline constexpr int64_t kMtimeBaseNs = 3'000'000'000'000'000'000;
inline constexpr int64_t kMtimeStepNs = 1'000;
inline constexpr uint64_t kCellBytes = 8;
inline constexpr uint64_t kAppendedCell = ~uint64_t{0};  // wherever the end is

// Of one client's copy of a file.
class GrantHolder {
 public:
  virtual ~GrantHolder() = default;
  // It may buffer writes of the inode at this moment.
  virtual bool HoldsExclusively() const = 0;
  virtual uint64_t client() const = 0;
};

class FileOracle {
 public:
  explicit FileOracle(std::function<void(const std::string&)> violation) : violation_(std::move(violation)) {}
  FileOracle(const FileOracle&) = delete;
  FileOracle& operator=(const FileOracle&) = delete;

  uint64_t Moment() { return ++moment_; }

  // ---- From the log, when an entry is applied for the first time ----
  void OnEntry(const proto::LogEntry& entry, std::span<const proto::MutationReply> replies);
  bool IsClosed(SessionId session) const { return closed_.contains(session); }

  // ---- Writes ----
  // Returns the value.
  uint64_t BeginWrite(InodeId inode, uint64_t cell);
  // The client has taken it, under that session.
  void OnTaken(uint64_t value, SessionId session);
  // Others can see it, durably enough to survive the session.
  void OnPublished(uint64_t value);
  // The client had taken it, and has given it up: the next flush of whoever has the file open says so. `opened_under`:
  // the session that first opened the file of those uses.
  void OnLost(uint64_t value, const Status& why, SessionId opened_under);
  // It has returned: from now on others must see it, if it went well.
  void EndWrite(uint64_t value, bool ok);

  // ---- Looks ----
  // `began`: its moment.
  void OnAttributes(uint64_t began, const client::Attributes& attributes, const std::string& who);
  void OnCells(uint64_t began, InodeId inode, std::span<const uint64_t> cells, const std::string& who);

  // ---- Grants, fences, open files ----
  void Attach(InodeId inode, std::weak_ptr<GrantHolder> holder) { holders_[inode].push_back(std::move(holder)); }
  void OnBuffered(InodeId inode);
  // False: as if the write had been lost on its way: of a session that was closed without a fence (docs/coherence.md,
  // "a new leader"), it may still arrive in production.
  bool OnChunkWrite(SessionId session);
  void NoteFile(InodeId inode) { writes_of_[inode]; }
  // An operation on a file that was opened under that session found that it is gone.
  void OnGone(InodeId inode, SessionId opened_under, const std::string& who);
  // Files of ours that are held by somebody although they have no name.
  std::string OrphansIn(const meta::MemoryKv::Contents& contents) const;

  uint64_t looks() const { return looks_; }
  uint64_t writes() const { return writes_.size(); }
  uint64_t recalled() const { return published_; }
  uint64_t unfenced() const { return unfenced_; }
  uint64_t fenced() const { return fenced_.size(); }

 private:
  struct Write {
    InodeId inode;
    uint64_t cell = 0;
    uint64_t begun = 0;
    uint64_t ended = 0;  // 0: not yet, or nobody knows whether it was carried out
    bool failed = false;
    bool published = false;
    bool lost = false;
    SessionId session;
  };
  using Value = uint64_t;

  bool IsOver(SessionId session) const { return IsClosed(session) || fenced_.contains(session); }
  bool MustBeSeen(const Write& write, uint64_t began) const;
  // When it was certainly over; never if it may come later.
  uint64_t OverSince(const Write& write) const;
  // Empty if `value` (0: none) may be what a look that began then sees of those writes.
  std::string CheckLatest(uint64_t began, const std::vector<Value>& candidates, Value value) const;
  std::string CheckCells(uint64_t began, InodeId inode, std::span<const uint64_t> cells) const;
  std::string CheckAppended(uint64_t began, InodeId inode, std::span<const uint64_t> cells) const;
  std::string CheckAttributes(uint64_t began, const client::Attributes& attributes) const;
  std::string Describe(Value value) const;

  const std::function<void(const std::string&)> violation_;
  uint64_t moment_ = 0;
  std::map<Value, Write> writes_;
  std::map<InodeId, std::vector<Value>> writes_of_;
  std::map<SessionId, uint64_t> closed_;  // when
  std::set<SessionId> fenced_;
  std::map<InodeId, std::vector<std::weak_ptr<GrantHolder>>> holders_;
  uint64_t looks_ = 0;
  uint64_t published_ = 0;
  uint64_t unfenced_ = 0;
};

}  // namespace tarn::sim
