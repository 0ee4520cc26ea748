// What drives libraft.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "metaserver/replication/log_frame.h"
#include "metaserver/replication/raft_core.h"
#include "metaserver/replication/raft_envelope.h"
#include "metaserver/replication/raft_member_io.h"
#include "metaserver/replication/raft_message.h"
#include "metaserver/replication/raft_replicator.h"

namespace tarn::meta {
namespace {

constexpr int64_t kTickMsMin = 5;
// How often a thread that drives takes along what others have brought meanwhile; then the raft thread goes on.
constexpr int kRoundsMax = 4;
// The largest entry that the writer applies itself: what is larger takes longer than to wake the apply thread.
constexpr size_t kAppliedByWriterBytesMax = 4096;
constexpr int64_t kSlowTickMs = 1000;
// Should nobody have room, leadership goes round no faster than this.
constexpr int64_t kRoomTransferPauseMs = 60'000;
// How long a stop waits for what is in flight, and for another member to take over.
constexpr int64_t kCloseMsMax = 5000;
// Of a frame (log_frame.h): filled in when its turn comes.
constexpr size_t kProposalOffset = 24;

}  // namespace

void RaftReplicator::RunLoop() {
  const int64_t tick_ms = std::max<int64_t>(kTickMsMin, options_.election_timeout_ms / 40);
  int64_t next_tick_ms = clock_->MonotonicMs();
  tarn_raft_settle(raft_);
  while (true) {
    Work work;
    {
      MutexLock lock(mutex_);
      WakeApply();
      driving_ = false;
      const int64_t wait_ms = std::min(tick_ms, next_tick_ms - clock_->MonotonicMs());
      // There is work if others thought that it would be taken along.
      if (!loop_awake_ && !work_ && wait_ms > 0) loop_wake_.WaitFor(lock, std::chrono::milliseconds(wait_ms));
      loop_awake_ = false;
      loop_waits_ = true;
      while (driving_) driver_gone_.Wait(lock);
      loop_waits_ = false;
      driving_ = true;
      work = TakeWork();
    }
    Step(std::move(work));
    const int64_t now_ms = clock_->MonotonicMs();
    if (now_ms >= next_tick_ms) {
      next_tick_ms = now_ms + tick_ms;
      Tick(now_ms);
    }
    if (closing_ && (now_ms >= close_at_ms_ || MayClose())) break;
  }
  CloseLoop();
}

bool RaftReplicator::Drive(MutexLock& lock) {
  work_ = true;
  if (driving_) return false;
  driving_ = true;
  for (int round = 0; work_ && !loop_waits_ && round < kRoundsMax; ++round) {
    Work work = TakeWork();
    lock.Unlock();
    Step(std::move(work));
    lock.Lock();
  }
  driving_ = false;
  if (loop_waits_) {
    driver_gone_.NotifyOne();
  } else if (work_) {
    WakeLoop();
  }
  return true;
}

void RaftReplicator::OnWritten(uint64_t ticket, bool last) {
  MutexLock lock(mutex_);
  written_ticket_ = ticket;
  if (!Drive(lock)) return;
  const bool idle = last && !writer_->HasWaiting();
  const bool lone = tasks_.size() == 1 && tasks_.front().kind == Task::Kind::kEntry;
  if (!idle || !lone || applying_ || tasks_.front().entry.size() > kAppliedByWriterBytesMax) {
    WakeApply();
    return;
  }
  applying_ = true;
  Task task = std::move(tasks_.front());
  tasks_.pop_front();
  lock.Unlock();
  RunTask(task);  // a failure is the apply thread's to find
  lock.Lock();
  EndApplying();
  WakeApply();
}

void RaftReplicator::CloseLoop() {
  closing_ = true;
  // First the writer: what it writes lies in libraft's memory.
  if (writer_ != nullptr) writer_->Stop(!failed_.load(std::memory_order_acquire));
  tarn_raft_close(raft_);
  tarn_raft_settle(raft_);
  group_.Cancel();
  group_.SetRaft(nullptr);
  lease_.SetRaft(nullptr);
  tarn_raft_free(std::exchange(raft_, nullptr));
  tarn_member_io_free(std::exchange(io_, nullptr));
}

RaftReplicator::Work RaftReplicator::TakeWork() {
  Work work;
  work_ = false;
  work.proposals.swap(incoming_);
  work.messages.swap(received_);
  work.changes.swap(changes_);
  received_bytes_ = 0;
  work.written = written_ticket_;
  work.release = std::exchange(release_snapshot_, false);
  if (work.release) skip_through_ = std::max(skip_through_, applied_);
  work.stop = stop_requested_;
  return work;
}

void RaftReplicator::Step(Work work) {
  if (!failed_.load(std::memory_order_acquire)) {
    TakeDone(work.written);
    for (const Message& message : work.messages) ReceiveOnLoop(message);
  }
  for (Proposal& proposal : work.proposals) ProposeOnLoop(std::move(proposal));
  for (GroupChange& change : work.changes) ChangeOnLoop(std::move(change));
  if (work.release) tarn_raft_release_snapshot(raft_);
  tarn_raft_settle(raft_);
  group_.StepTransfer();
  if (work.stop && !closing_) {
    closing_ = true;
    close_at_ms_ = clock_->MonotonicMs() + kCloseMsMax;
    if (leading_term_.load(std::memory_order_relaxed) != 0 && !tarn_raft_votes_alone(raft_)) {
      ChangeOnLoop({.kind = GroupChange::Kind::kTransfer, .member = 0, .address = "", .done = [](const Status&) {}});
    }
  }
}

bool RaftReplicator::MayClose() {
  if (failed_.load(std::memory_order_acquire)) return true;
  // A member that has stepped down has done its part, whether it hears of the new leader or not.
  return pending_.empty() && (!group_.transferring() || !tarn_raft_leads(raft_));
}

void RaftReplicator::TakeDone(uint64_t done_ticket) {
  done_ticket_ = done_ticket;
  while (!writes_.empty() && writes_.front().ticket <= done_ticket) {
    const Write write = writes_.front();
    writes_.pop_front();
    if (write.request == nullptr) continue;
    if (write.is_append) {
      tarn_member_io_appended(io_, write.request);
    } else {
      tarn_member_io_stored(io_, write.request);
    }
    tarn_raft_settle(raft_);
  }
  if (done_ticket_ < vote_ticket_ || held_messages_.empty()) return;
  tarn_raft_hold_election(raft_);
  for (Message& message : held_messages_) Send(std::move(message));
  held_messages_.clear();
}

void RaftReplicator::ReceiveOnLoop(const Message& message) {
  const auto body = OpenEnvelope(message.bytes);
  uint64_t configuration_index = 0;
  const auto* data = body ? reinterpret_cast<const uint8_t*>(body->data()) : nullptr;
  if (!body) {
    spdlog::warn("a message that is none was dropped member={} address={}", message.member, message.address);
    return;
  }
  if (tarn_message_decode_removed(data, body->size(), &configuration_index) != 0) {
    OnRemoved(configuration_index);
    return;
  }
  if (leading_term_.load(std::memory_order_relaxed) != 0) group_.Hear(message.member);
  if (!tarn_member_io_receive(io_, message.member, message.address.c_str(), data, body->size())) {
    spdlog::warn("a message that cannot be read was dropped member={} address={}", message.member, message.address);
  }
  tarn_raft_settle(raft_);
}

void RaftReplicator::ProposeOnLoop(Proposal proposal) {
  const uint64_t tag = next_tag_++;
  std::memcpy(proposal.frame + kProposalOffset, &tag, sizeof tag);
  // Before the proposal: were it committed at once, OnApply would look for it.
  pending_.push_back({.tag = tag,
                      .entry_bytes = proposal.entry_bytes,
                      .submitted_ns = clock_->MonotonicNs(),
                      .committed = std::move(proposal.committed)});
  std::array<char, TARN_RAFT_ERROR_BYTES> error{};
  const bool refused = group_.transferring();
  const int code = refused ? 0 : tarn_raft_propose(raft_, proposal.frame, proposal.frame_bytes, tag, error.data());
  if (code == 0 && !refused) return;
  std::free(proposal.frame);
  if (!refused && !tarn_raft_is_not_leader(code)) {
    Fail(Status(StatusCode::kIoError, options_.directory + ": " + error.data()));
    return;
  }
  Task answer;
  answer.kind = Task::Kind::kAnswer;
  answer.entry_bytes = pending_.back().entry_bytes;
  answer.committed = std::move(pending_.back().committed);
  answer.status = Status(StatusCode::kNotLeader, "this member does not lead");
  pending_.pop_back();
  Enqueue(std::move(answer));
}

void RaftReplicator::Tick(int64_t now_ms) {
  if (failed_.load(std::memory_order_acquire)) return;
  HoldElection();
  tarn_member_io_tick(io_);
  tarn_raft_settle(raft_);
  if (leading_term_.load(std::memory_order_relaxed) != 0 && lease_.Keep()) tarn_raft_settle(raft_);
  NoteProgress();
  group_.StepTransfer();
  if (now_ms - slow_tick_ms_ < kSlowTickMs) return;
  slow_tick_ms_ = now_ms;
  if (!closing_) TickSlowly();
}

// Waiting longer is always safe. Not while nobody can have heard of this member's vote, nor while it hands over.
void RaftReplicator::HoldElection() {
  if (done_ticket_ < vote_ticket_ || group_.HandsOver()) tarn_raft_hold_election(raft_);
}

void RaftReplicator::TickSlowly() {
  if (const Status status = reserve_.Check(tarn_raft_votes_alone(raft_)); !status.ok()) {
    Fail(status);
    return;
  }
  NoteRoom(clock_->MonotonicMs());
  // Counted in ticks, not in time: a machine that was suspended has not stalled.
  const uint64_t oldest = writes_.empty() ? 0 : writes_.front().ticket;
  stalled_ticks_ = oldest != 0 && oldest == stalled_ticket_ ? stalled_ticks_ + 1 : 0;
  stalled_ticket_ = oldest;
  if (stalled_ticks_ < options_.stall_limit_s) return;
  Fail(Status(StatusCode::kTimeout, options_.directory + ": a write to the log has not ended after " +
                                        std::to_string(stalled_ticks_) + " s"));
}

// Others may have room: they are asked to lead first, and growth is refused only by a member that leads nevertheless.
void RaftReplicator::NoteRoom(int64_t now_ms) {
  const bool is_low = !reserve_.AllowsGrowth();
  const bool leads = leading_term_.load(std::memory_order_relaxed) != 0;
  if (is_low && leads && !group_.transferring() && !tarn_raft_votes_alone(raft_) && now_ms >= next_room_transfer_ms_) {
    next_room_transfer_ms_ = now_ms + kRoomTransferPauseMs;
    spdlog::warn("the disk of the metadata is nearly full: leadership is handed over dir={}", options_.directory);
    ChangeOnLoop({.kind = GroupChange::Kind::kTransfer, .member = 0, .address = "", .done = [](const Status&) {}});
    return;
  }
  const bool has_room = !is_low || !leads || group_.transferring();
  if (has_room_.exchange(has_room) == has_room) return;
  if (has_room) {
    spdlog::info("the metadata may grow again dir={}", options_.directory);
  } else {
    spdlog::warn("the disk of the metadata is nearly full: what makes the metadata grow gets ENOSPC dir={}", options_.directory);
  }
}

}  // namespace tarn::meta
