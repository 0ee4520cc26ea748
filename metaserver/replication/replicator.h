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

#include "common/base/status.h"

namespace tarn::meta {

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

  // The member that leads as far as is known: 0 none.
  virtual uint64_t leader_member() const = 0;
  virtual uint64_t term() const = 0;

  // Stops taking proposals, applies what is committed, makes it durable, joins the threads. Idempotent; the destructor
  // does it as well.
  virtual void Stop() = 0;
};

}  // namespace tarn::meta
