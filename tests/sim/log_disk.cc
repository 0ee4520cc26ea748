#include "tests/sim/log_disk.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace tarn::sim {

void LogDisk::Append(std::vector<LogRecord> records, Done done) {
  next_index_ += records.size();
  Write write;
  write.records = std::move(records);
  write.done = std::move(done);
  if (plan_.plant == Plant::kAckUnsynced) {
    scheduler_->After(0, [this, life = life_, early = std::exchange(write.done, nullptr)] {
      if (life == life_) early();
    });
  }
  Enqueue(std::move(write));
}

void LogDisk::Truncate(uint64_t index) {
  if (index >= next_index_) return;
  next_index_ = index;
  Write write;
  write.kind = Write::Kind::kTruncate;
  write.index = index;
  Enqueue(std::move(write));
}

void LogDisk::PutVote(uint64_t term, uint64_t vote, Done done) {
  Write write;
  write.kind = Write::Kind::kVote;
  write.term = term;
  write.vote = vote;
  write.done = std::move(done);
  Enqueue(std::move(write));
}

void LogDisk::PutSnapshot(StoredSnapshot snapshot, unsigned trailing, Done done) {
  Write write;
  write.kind = Write::Kind::kSnapshot;
  if (trailing == 0) next_index_ = snapshot.index + 1;
  write.snapshot = std::move(snapshot);
  write.trailing = trailing;
  write.done = std::move(done);
  Enqueue(std::move(write));
}

void LogDisk::SetTerm(uint64_t term) {
  term_ = term;
  vote_ = 0;
  durable_vote_ = 0;
}

void LogDisk::SetVote(uint64_t member) {
  vote_ = member;
  if (plan_.plant != Plant::kForgetVote) durable_vote_ = member;
}

void LogDisk::Enqueue(Write write) {
  queue_.push_back(std::move(write));
  if (!busy_) StartNext();
}

void LogDisk::StartNext() {
  if (queue_.empty()) return;
  busy_ = true;
  Dice& dice = scheduler_->dice();
  int64_t time_ns = dice.LongTailed(plan_.faults.sync_ns);
  if (dice.Chance(plan_.faults.slow_sync)) time_ns = dice.Between(time_ns, 2 * kSecond);
  if (plan_.plant == Plant::kAckUnsynced) time_ns += dice.Between(0, 500 * kMillisecond);
  scheduler_->After(time_ns, [this, life = life_] {
    if (life != life_) return;
    busy_ = false;
    const Write write = std::move(queue_.front());
    queue_.pop_front();
    Perform(write);
    StartNext();
    if (write.done) write.done();
  });
}

void LogDisk::Perform(const Write& write) {
  switch (write.kind) {
    case Write::Kind::kAppend:
      records_.insert(records_.end(), write.records.begin(), write.records.end());
      break;
    case Write::Kind::kTruncate: {
      CHECK(write.index >= start_index_, "a log is truncated behind its snapshot");
      const uint64_t kept = std::min<uint64_t>(write.index - start_index_, records_.size());
      records_.resize(kept);
      break;
    }
    case Write::Kind::kVote:
      if (write.term != term_) SetTerm(write.term);
      SetVote(write.vote);
      break;
    case Write::Kind::kSnapshot: {
      const uint64_t index = write.snapshot.index;
      snapshot_ = write.snapshot;
      snapshot_is_leaders_ = write.trailing == 0;
      const uint64_t start = write.trailing == 0 ? index + 1 : index > write.trailing ? index - write.trailing + 1 : 1;
      if (write.trailing == 0) {
        records_.clear();
        start_index_ = start;
      }
      while (start_index_ < start && !records_.empty()) {
        records_.pop_front();
        ++start_index_;
      }
      break;
    }
  }
}

void LogDisk::Lose() {
  ++life_;
  busy_ = false;
  queue_.clear();
  records_.clear();
  snapshot_.reset();
  snapshot_is_leaders_ = false;
  term_ = vote_ = durable_vote_ = 0;
  start_index_ = next_index_ = 1;
}

void LogDisk::Crash() {
  ++life_;
  busy_ = false;
  Dice& dice = scheduler_->dice();
  uint64_t survive = dice.Chance(0.5) ? 0 : dice.Below(queue_.size() + 1);
  while (survive-- > 0) {
    Perform(queue_.front());
    queue_.pop_front();
  }
  if (!queue_.empty() && queue_.front().kind == Write::Kind::kAppend && dice.Chance(0.5)) {
    Write torn = std::move(queue_.front());
    torn.records.resize(dice.Below(torn.records.size() + 1));
    Perform(torn);
  }
  queue_.clear();
  vote_ = durable_vote_;
  next_index_ = start_index_ + records_.size();
}

}  // namespace tarn::sim
