#include "tests/sim/file_oracle.h"

#include <algorithm>
#include <limits>

#include "metaserver/state/keys.h"

namespace tarn::sim {
namespace {

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

}  // namespace

// ---- The log ----

void FileOracle::OnEntry(const proto::LogEntry& entry, std::span<const proto::MutationReply> replies) {
  for (int i = 0; i < entry.commands_size(); ++i) {
    const proto::Mutation& mutation = entry.commands(i).mutation();
    const proto::MutationReply& reply = replies[static_cast<size_t>(i)];
    if (reply.status() != 0) continue;
    if (mutation.has_close_session()) closed_.emplace(SessionId(reply.session()), Moment());
    for (const uint64_t session : mutation.fence_sessions().fenced()) fenced_.insert(SessionId(session));
  }
}

bool FileOracle::OnChunkWrite(SessionId session) {
  if (!IsClosed(session)) return true;
  if (fenced_.contains(session)) {
    violation_("a chunk server takes a write of session " + std::to_string(session.value()) +
               ", which was fenced and closed");
  }
  ++unfenced_;
  return false;
}

// ---- Writes ----

uint64_t FileOracle::BeginWrite(InodeId inode, uint64_t cell) {
  const Value value = writes_.size() + 1;
  Write& write = writes_[value];
  write.inode = inode;
  write.cell = cell;
  write.begun = Moment();
  writes_of_[inode].push_back(value);
  return value;
}

void FileOracle::OnTaken(uint64_t value, SessionId session) {
  if (const auto write = writes_.find(value); write != writes_.end()) write->second.session = session;
}

void FileOracle::OnPublished(uint64_t value) {
  const auto write = writes_.find(value);
  if (write == writes_.end() || write->second.published) return;
  write->second.published = true;
  ++published_;
}

void FileOracle::OnLost(uint64_t value, const Status& why, SessionId opened_under) {
  const auto found = writes_.find(value);
  if (found == writes_.end() || found->second.published) return;
  switch (why.code()) {
    case StatusCode::kUnavailable:  // until its deadline
    case StatusCode::kNoSpace:      // no placement groups yet
      found->second.lost = true;
      return;
    case StatusCode::kFenced:
    case StatusCode::kUnknownSession:
    case StatusCode::kIoError:  // the session
      if (IsOver(found->second.session)) return;
      break;
    case StatusCode::kStaleHandle:  // it had no name any more, and was held for that session only
    case StatusCode::kNotFound:
      if (!opened_under.valid() || IsClosed(opened_under)) return;
      break;
    default:
      break;
  }
  violation_("what was written is given up although the session is open: " + Describe(value) + ": " + why.ToString());
}

void FileOracle::EndWrite(uint64_t value, bool ok) {
  Write& write = writes_.at(value);
  write.failed = !ok;
  write.ended = Moment();
}

bool FileOracle::MustBeSeen(const Write& write, uint64_t began) const {
  if (write.failed || write.lost || write.ended == 0 || write.ended >= began) return false;
  return write.published || !IsOver(write.session);
}

uint64_t FileOracle::OverSince(const Write& write) const {
  if (write.ended == 0 || write.failed || write.lost) return kNever;
  return write.published || !IsOver(write.session) ? write.ended : kNever;
}

std::string FileOracle::Describe(Value value) const {
  if (value == 0) return "none";
  const Write& write = writes_.at(value);
  return std::to_string(value) + " (session " + std::to_string(write.session.value()) +
         (write.published ? ", published" : "") + ", moments " + std::to_string(write.begun) + " to " +
         std::to_string(write.ended) + ")";
}

// ---- Looks ----

std::string FileOracle::CheckLatest(uint64_t began, const std::vector<Value>& candidates, Value value) const {
  const uint64_t over = value == 0 ? 0 : OverSince(writes_.at(value));
  for (const Value other : candidates) {
    const Write& later = writes_.at(other);
    if (other == value || later.begun < over || !MustBeSeen(later, began)) continue;
    return "that of write " + Describe(value) + ", although write " + Describe(other) + " had returned at moment " +
           std::to_string(began);
  }
  return {};
}

std::string FileOracle::CheckCells(uint64_t began, InodeId inode, std::span<const uint64_t> cells) const {
  std::map<uint64_t, std::vector<Value>> of_cell;
  for (const Value value : writes_of_.at(inode)) of_cell[writes_.at(value).cell].push_back(value);
  if (of_cell.contains(kAppendedCell)) return CheckAppended(began, inode, cells);
  for (uint64_t cell = 0; cell < cells.size(); ++cell) {
    const Value value = cells[cell];
    if (value != 0 && std::ranges::find(of_cell[cell], value) == of_cell[cell].end()) {
      return "cell " + std::to_string(cell) + " holds " + std::to_string(value) + ", which nobody wrote there";
    }
  }
  for (const auto& [cell, candidates] : of_cell) {
    const std::string wrong = CheckLatest(began, candidates, cell < cells.size() ? cells[cell] : 0);
    if (!wrong.empty()) return "cell " + std::to_string(cell) + " is " + wrong;
  }
  return {};
}

std::string FileOracle::CheckAppended(uint64_t began, InodeId inode, std::span<const uint64_t> cells) const {
  std::map<Value, uint64_t> found;
  const std::vector<Value>& candidates = writes_of_.at(inode);
  for (uint64_t cell = 0; cell < cells.size(); ++cell) {
    const Value value = cells[cell];
    if (value == 0) return "cell " + std::to_string(cell) + " of a file that is appended to is empty";
    if (std::ranges::find(candidates, value) == candidates.end())
      return "cell " + std::to_string(cell) + " holds " + std::to_string(value) + ", which nobody wrote";
    if (!found.emplace(value, cell).second) return "write " + Describe(value) + " is there twice";
  }
  for (const Value value : candidates) {
    const Write& write = writes_.at(value);
    if (!found.contains(value) && MustBeSeen(write, began))
      return "appended write " + Describe(value) + " is missing at moment " + std::to_string(began);
    if (!found.contains(value)) continue;
    for (const auto& [other, cell] : found) {
      if (cell < found.at(value) && writes_.at(other).begun > OverSince(write))
        return "appended write " + Describe(other) + " is before write " + Describe(value);
    }
  }
  return {};
}

std::string FileOracle::CheckAttributes(uint64_t began, const client::Attributes& attributes) const {
  const std::vector<Value>& candidates = writes_of_.at(attributes.inode);
  uint64_t least = 0;
  uint64_t most = 0;
  Value behind = 0;
  for (const Value value : candidates) {
    const Write& write = writes_.at(value);
    const bool appended = write.cell == kAppendedCell;
    most = appended ? most + kCellBytes : std::max(most, (write.cell + 1) * kCellBytes);
    if (!MustBeSeen(write, began)) continue;
    least = appended ? least + kCellBytes : std::max(least, (write.cell + 1) * kCellBytes);
    if (attributes.size_bytes < least && behind == 0) behind = value;
  }
  if (attributes.size_bytes < least || attributes.size_bytes > most) {
    return "size " + std::to_string(attributes.size_bytes) + " instead of " + std::to_string(least) + " to " +
           std::to_string(most) + " at moment " + std::to_string(began) + ", write " + Describe(behind);
  }
  const int64_t behind_ns = attributes.mtime_ns - kMtimeBaseNs;
  const Value value = behind_ns < 0 ? 0 : static_cast<Value>(behind_ns / kMtimeStepNs);
  if (value != 0 && std::ranges::find(candidates, value) == candidates.end()) return "a time that nobody set";
  const std::string wrong = CheckLatest(began, candidates, value);
  return wrong.empty() ? "" : "the time of modification is " + wrong;
}

void FileOracle::OnAttributes(uint64_t began, const client::Attributes& attributes, const std::string& who) {
  if (!writes_of_.contains(attributes.inode)) return;
  ++looks_;
  const std::string wrong = CheckAttributes(began, attributes);
  if (wrong.empty()) return;
  violation_(who + " sees of inode " + std::to_string(attributes.inode.value()) + " with change " +
             std::to_string(attributes.change) + ", " + std::to_string(attributes.nlink) + " links: " + wrong);
}

void FileOracle::OnCells(uint64_t began, InodeId inode, std::span<const uint64_t> cells, const std::string& who) {
  ++looks_;
  const std::string wrong = CheckCells(began, inode, cells);
  if (!wrong.empty()) violation_(who + " reads of inode " + std::to_string(inode.value()) + ": " + wrong);
}

// ---- Grants and open files ----

void FileOracle::OnBuffered(InodeId inode) {
  auto& holders = holders_[inode];
  std::erase_if(holders, [](const auto& each) { return each.expired(); });
  std::set<uint64_t> holding;
  for (const auto& each : holders) {
    if (each.lock()->HoldsExclusively()) holding.insert(each.lock()->client());
  }
  if (holding.size() <= 1) return;
  std::string who;
  for (const uint64_t client : holding) who += " " + std::to_string(client);
  violation_("clients" + who + " hold exclusive write grants of inode " + std::to_string(inode.value()));
}

void FileOracle::OnGone(InodeId inode, SessionId opened_under, const std::string& who) {
  if (IsClosed(opened_under)) return;
  violation_(who + " has inode " + std::to_string(inode.value()) + " open, and it is gone");
}

std::string FileOracle::OrphansIn(const meta::MemoryKv::Contents& contents) const {
  for (const auto& [key, value] : contents) {
    if (key[0] != static_cast<char>(meta::KeyKind::kOrphan)) continue;
    const InodeId inode(meta::ParseTrailingId(key).value_or(0));
    if (writes_of_.contains(inode)) return "inode " + std::to_string(inode.value()) + " is held still";
  }
  return {};
}

}  // namespace tarn::sim
