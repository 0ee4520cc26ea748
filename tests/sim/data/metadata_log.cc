#include "tests/sim/data/metadata_log.h"

#include <utility>

namespace tarn::sim_data {
namespace {

constexpr int64_t kCommitNs = 2 * sim::kMillisecond;  // typically: a round trip and a sync

}  // namespace

// The proposer holds its lock meanwhile, so nothing is answered here.
void MetadataLog::Propose(uint64_t member, std::string entry, meta::Replicator::Committed committed) {
  if (member != leader_) {
    bench_->queue.After(0, [committed = std::move(committed)] { committed(Status(StatusCode::kNotLeader, "another member leads")); });
    return;
  }
  under_way_.push_back({std::move(entry), std::move(committed)});
  bench_->queue.After(bench_->dice.LongTailed(kCommitNs), [this, term = term_] {
    if (term == term_) CommitNext();
  });
}

void MetadataLog::CommitNext() {
  if (stands_still_) {
    ++owed_;
    return;
  }
  Entry entry = std::move(under_way_.front());
  under_way_.pop_front();
  Apply(entry.bytes);
  entry.committed(Status::Ok());
}

void MetadataLog::Apply(const std::string& entry) {
  const Status applied = consumer_->Apply(entry, ++applied_);
  if (!applied.ok()) bench_->Violation("the metadata log cannot be applied: " + applied.ToString());
}

void MetadataLog::Depose() {
  const size_t kept = bench_->dice.Below(under_way_.size() + 1);
  for (size_t i = 0; i < under_way_.size(); ++i) {
    if (i < kept) survivors_.push_back(std::move(under_way_[i].bytes));
    bench_->queue.After(0, [committed = std::move(under_way_[i].committed)] { committed(Status(StatusCode::kNotLeader, "leadership is lost")); });
  }
  under_way_.clear();
  owed_ = 0;
  stands_still_ = false;
  leader_ = 0;
  ++term_;  // what comes due of before is nobody's
  consumer_->LeadershipLost();
}

void MetadataLog::Elect(uint64_t member) {
  for (const std::string& entry : std::exchange(survivors_, {})) Apply(entry);
  leader_ = member;
  consumer_->LeadershipGained(++term_);
}

void MetadataLog::StandStill() { stands_still_ = true; }

void MetadataLog::GoOn() {
  stands_still_ = false;
  for (uint64_t due = std::exchange(owed_, 0); due > 0 && leader_ != 0; --due) CommitNext();
}

}  // namespace tarn::sim_data
