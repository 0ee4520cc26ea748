// The leader's lease (raft_replicator.h, "Lease", says why it holds): until when no other member can have been elected.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>

#include "common/base/clock.h"

struct tarn_raft;

namespace tarn::meta {

// Whoever drives libraft calls it; Holds: any thread.
class LeaderLease {
 public:
  // `clock` outlives it.
  LeaderLease(const Clock* clock, uint32_t election_timeout_ms)
      : clock_(clock), election_timeout_ms_(election_timeout_ms) {}
  LeaderLease(const LeaderLease&) = delete;
  LeaderLease& operator=(const LeaderLease&) = delete;

  // Before anything else; null again before it is freed.
  void SetRaft(tarn_raft* raft) { raft_ = raft; }

  bool Holds() const { return clock_->MonotonicNs() < until_ns_.load(std::memory_order_acquire); }

  // Leadership was won: a barrier is submitted, whose end begins it.
  void Begin() { SubmitBarrier(); }
  // Leadership was lost.
  void End();
  // Leadership is being handed over: another member need not wait for the end of the lease.
  void Suspend();
  // It is not any more: only what is submitted from now on proves anything.
  void Resume();
  bool suspended() const { return suspended_; }

  // What this leader submitted then is committed.
  void Renew(int64_t submitted_ns);
  void OnBarrier(uint64_t tag);
  // Once in a while, while this member leads: with nothing to commit, a barrier proves that the majority still follows.
  // libraft is to be settled after that if it says so.
  bool Keep();

 private:
  void Drop();
  void SubmitBarrier();

  const Clock* const clock_;
  const uint32_t election_timeout_ms_;
  tarn_raft* raft_ = nullptr;

  std::atomic<int64_t> until_ns_{0};

  std::map<uint64_t, int64_t> barriers_;  // tag -> when it was submitted, of those under way
  uint64_t next_barrier_ = 1;
  int64_t base_ns_ = 0;
  int64_t floor_ns_ = 0;  // what was submitted earlier proves nothing any more
  bool suspended_ = false;
};

}  // namespace tarn::meta
