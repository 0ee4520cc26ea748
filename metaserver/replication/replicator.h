// The seam between the replicated log and what is made of it. The Raft library stays behind it; the simulator can stand
// in its place.
//
// The log is a list of entries, opaque bytes, numbered from 1 in commit order. The consumer (the state machine's owner)
// applies each entry once, in order. It keeps its own durable state and tells with how many entries in it it starts;
// those are not given to it again.
//
// Durability: an entry is committed once it is on stable storage of a majority. The consumer's state need not be synced
// per entry: the log is trimmed only behind what LogConsumer::MakeDurable has covered.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace tarn::meta {

enum class MemberRole : uint8_t {
  kVoter,
  kLearner,  // gets the log, has no vote
  kAdded,    // gets nothing yet: the leader that added it was lost halfway
};

struct GroupMember {
  uint64_t member = 0;
  std::string address;  // lean frames, HOST:PORT, as it was given when the member was added
  MemberRole role = MemberRole::kLearner;
};

// What a leader knows of a member.
struct MemberProgress {
  GroupMember member;
  uint64_t lag_entries = 0;  // of the log, that the member is not known to have on stable storage
  int64_t heard_ms_ago = 0;  // 0 for the leader itself, -1: not once in this term
  bool fetches_checkpoint = false;
};

// Where a member that is too far behind for the log gets the state from.
struct CheckpointRequest {
  uint64_t leader = 0;  // 0: not known at the moment, better fail with kUnavailable
  std::string leader_address;
  uint64_t at_least_entries = 0;    // the checkpoint must hold so many applied entries, or more
  std::function<bool()> cancelled;  // any thread; the replicator stops: return soon, with whatever status
};

// What the log drives. Called on the replicator's apply thread unless said otherwise.
class LogConsumer {
 public:
  virtual ~LogConsumer() = default;
  // Entry `number` is committed. In order, each number once. A failure is the consumer's storage's: the replicator
  // stops and reports it.
  virtual Status Apply(std::string_view entry, uint64_t number) = 0;
  // This member leads, an entry of its own term is committed, and everything before it is applied: from now on it may
  // serve.
  virtual void LeadershipGained(uint64_t term) = 0;
  virtual void LeadershipLost() = 0;
  // A thread of its own, beside Apply, and once more when the replicator stops: when it returns, everything applied
  // before the call is on stable storage. May block.
  virtual Status MakeDurable() = 0;
  // A thread of its own, while Apply and MakeDurable rest: replaces the state by a checkpoint of the leader's. Ok only
  // once it is on stable storage; then the value is the count of entries that it holds, and Apply goes on behind it.
  // kUnavailable, kTimeout, kNotLeader, kBusy, kResourceExhausted: asked again a little later, perhaps with another
  // leader. Other errors end the replicator. May block for long: heartbeats are answered meanwhile.
  virtual Result<uint64_t> InstallCheckpoint(const CheckpointRequest& /*request*/) {
    return Status(StatusCode::kNotSupported, "this server cannot take over a checkpoint");
  }
  // Apply thread: whether this member belongs to the group, as the newest configuration it has says. Told at every
  // change; a removed member gets no further entries.
  virtual void MembersChanged(const std::vector<GroupMember>& /*members*/) {}
  // Any thread, at most once: the log or the consumer's storage failed. Nothing that is in flight will be answered; the
  // process must end.
  virtual void Failed(const Status& status) = 0;
};

// Thread-safe.
class Replicator {
 public:
  // On the apply thread, directly after Apply of the entry. kNotLeader or kCancelled: it was not applied by this member
  // as leader; it may still be by another one (kNotLeader after the proposal had left) or never.
  using Committed = std::function<void(const Status&)>;

  virtual ~Replicator() = default;

  // Proposals of one thread keep their order. kResourceExhausted through the callback if too many bytes are in flight.
  virtual void Propose(std::string entry, Committed committed) = 0;

  // Whether this member may answer reads from its own state at this moment: it leads, has applied an entry of its own
  // term, and no other member can have been elected since. Cheap. A reader asks before and after reading.
  virtual bool HoldsLease() const = 0;

  // False: the disk of this member's log is nearly full, it leads nevertheless, and the state should not grow.
  virtual bool HasRoom() const { return true; }

  // The member that leads as far as is known: 0 none.
  virtual uint64_t leader_member() const = 0;
  virtual uint64_t term() const = 0;

  // The group as of the newest configuration in this member's log (it may not be committed yet). Empty: a member that
  // waits to be added.
  virtual std::vector<GroupMember> members() const = 0;
  // Of all members; kNotLeader elsewhere. At most one heartbeat interval old.
  virtual Result<std::vector<MemberProgress>> Progress() const = 0;

  // Changes of the group, one at a time (kBusy while one is under way). `done` comes on the apply thread once the new
  // configuration is committed, or with an error: kNotLeader (also if leadership was lost on the way: the change may
  // still come into force), kExists, kNotFound, kTimeout (the learner did not catch up).
  using Changed = std::function<void(const Status&)>;
  // As a learner.
  virtual void AddMember(uint64_t member, const std::string& address, Changed done) = 0;
  // A learner becomes a voter, after it has caught up with the log.
  virtual void PromoteMember(uint64_t member, Changed done) = 0;
  // May be the leader itself, which then steps down.
  virtual void RemoveMember(uint64_t member, Changed done) = 0;
  // Ok once the member leads (0: whichever is most up to date). The lease is given up first.
  virtual void TransferLeadership(uint64_t member, Changed done) = 0;

  // Stops taking proposals, hands leadership to another voter if there is one, applies what is committed, makes it
  // durable, joins the threads. Idempotent; the destructor does it as well.
  virtual void Stop() = 0;
};

}  // namespace tarn::meta
