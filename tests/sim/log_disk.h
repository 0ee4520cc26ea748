// The simulated disk under one member's log: what libraft's raft_io keeps on stable storage.
//
// Fault model. Appends, truncations and snapshots wait in one queue and become durable one after another, each after a
// sync time that can be long; only then are they reported. A crash keeps a prefix of the queue chosen at random, and of
// an append right behind that prefix perhaps its first entries (a torn write, whose rest the record's checksum gives
// away). Term and vote wait in the same queue, or (SetTerm, SetVote) are durable at once. A snapshot replaces its predecessor and trims the log in one step. Terms and votes are durable when SetTerm or
// SetVote returns, or, if the member dies in it, perhaps. Nothing that was reported is lost, but by Plant::kAckUnsynced
// and Plant::kForgetVote.
// One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/plan.h"
#include "tests/sim/scheduler.h"

namespace tarn::sim {

struct LogRecord {
  uint64_t term = 0;
  int type = 0;
  std::string data;
};

struct StoredSnapshot {
  uint64_t index = 0;
  uint64_t term = 0;
  uint64_t configuration_index = 0;
  std::string configuration;
  std::string data;
};

class LogDisk {
 public:
  using Done = std::function<void()>;

  LogDisk(Scheduler* scheduler, const Plan& plan) : scheduler_(scheduler), plan_(plan) {}
  LogDisk(const LogDisk&) = delete;
  LogDisk& operator=(const LogDisk&) = delete;

  // ---- Queued; `done` when durable ----
  void Append(std::vector<LogRecord> records, Done done);
  void Truncate(uint64_t index);
  void PutVote(uint64_t term, uint64_t vote, Done done);
  void PutSnapshot(StoredSnapshot snapshot, unsigned trailing, Done done);

  // Before the member's first start: the log of a new group.
  void Bootstrap(LogRecord configuration) {
    term_ = 1;
    records_.push_back(std::move(configuration));
    next_index_ = 2;
  }

  // ---- Durable on return ----
  void SetTerm(uint64_t term);
  void SetVote(uint64_t member);

  // The disk is gone; an empty one takes its place.
  void Lose();
  // Of the present queue some survives, as the fault model says. Nothing queued before is reported any more.
  void Crash();
  void EndFaults() { plan_.faults.slow_sync = 0; }

  // ---- What is durable ----
  uint64_t term() const { return term_; }
  uint64_t vote() const { return vote_; }
  const std::optional<StoredSnapshot>& snapshot() const { return snapshot_; }
  // It came from a leader: the state of this member may be older.
  bool snapshot_is_leaders() const { return snapshot_is_leaders_; }
  uint64_t start_index() const { return start_index_; }
  const std::deque<LogRecord>& records() const { return records_; }

 private:
  struct Write {
    enum class Kind { kAppend, kTruncate, kVote, kSnapshot };
    Kind kind = Kind::kAppend;
    std::vector<LogRecord> records;
    uint64_t index = 0;
    uint64_t term = 0;
    uint64_t vote = 0;
    StoredSnapshot snapshot;
    unsigned trailing = 0;
    Done done;
  };

  void Enqueue(Write write);
  void StartNext();
  void Perform(const Write& write);

  Scheduler* const scheduler_;
  Plan plan_;
  uint64_t term_ = 0;
  uint64_t vote_ = 0;
  uint64_t durable_vote_ = 0;  // differs from vote_ by Plant::kForgetVote only
  std::optional<StoredSnapshot> snapshot_;
  bool snapshot_is_leaders_ = false;
  uint64_t start_index_ = 1;
  std::deque<LogRecord> records_;
  std::deque<Write> queue_;
  uint64_t next_index_ = 1;  // behind everything queued
  uint64_t life_ = 0;        // rises with each crash
  bool busy_ = false;
};

}  // namespace tarn::sim
