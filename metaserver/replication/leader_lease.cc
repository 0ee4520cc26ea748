#include "metaserver/replication/leader_lease.h"

#include "metaserver/replication/raft_core.h"

namespace tarn::meta {
namespace {

// Apart from the tags of proposals.
constexpr uint64_t kBarrierTagBit = uint64_t{1} << 63;

}  // namespace

void LeaderLease::End() {
  Drop();
  barriers_.clear();
}

void LeaderLease::Suspend() {
  suspended_ = true;
  Drop();
}

void LeaderLease::Resume() {
  suspended_ = false;
  floor_ns_ = clock_->MonotonicNs();
}

void LeaderLease::Renew(int64_t submitted_ns) {
  if (!tarn_raft_leads(raft_) || suspended_ || submitted_ns < floor_ns_ || submitted_ns <= base_ns_) return;
  base_ns_ = submitted_ns;
  until_ns_.store(submitted_ns + int64_t{election_timeout_ms_} * 750'000, std::memory_order_release);
}

void LeaderLease::OnBarrier(uint64_t tag) {
  const auto barrier = barriers_.find(tag);
  if (barrier == barriers_.end()) return;
  Renew(barrier->second);
  barriers_.erase(barrier);
}

bool LeaderLease::Keep() {
  if (suspended_ || !barriers_.empty() || tarn_raft_votes_alone(raft_)) return false;
  const int64_t age_ms = (clock_->MonotonicNs() - base_ns_) / 1'000'000;
  if (age_ms * 3 < int64_t{election_timeout_ms_}) return false;
  SubmitBarrier();
  return true;
}

void LeaderLease::Drop() {
  until_ns_.store(0, std::memory_order_release);
  base_ns_ = 0;
}

void LeaderLease::SubmitBarrier() {
  const uint64_t tag = next_barrier_++ | kBarrierTagBit;
  barriers_[tag] = clock_->MonotonicNs();
  if (tarn_raft_barrier(raft_, tag) != 0) barriers_.erase(tag);
}

}  // namespace tarn::meta
