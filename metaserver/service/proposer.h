// Group commit: the mutations of all connections become log entries.
//
// A mutation waits in one queue until one of the few entries in flight is through; then everything that waits, up to a
// bound, goes into the next entry, in order. So a lone client has its mutation in the log at once, and many clients
// share entries. Here each command also gets what makes it deterministic: time, inode and data ids, a random seed. Ids
// are allocated in log order and begin behind those that the state knows.
//
// Bounds: commands and bytes per entry, entries in flight, mutations and bytes that wait; beyond the last two callers
// get kResourceExhausted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "metaserver/replication/replicator.h"
#include "proto/metadata.pb.h"
#include "proto/state.pb.h"

namespace tarn::meta {

struct ProposerOptions {
  size_t entries_in_flight_max = 4;
  size_t commands_per_entry_max = 512;  // a batch that alone has more is an entry of its own
  size_t entry_bytes_max = 1 << 20;     // likewise
  size_t waiting_mutations_max = 64 << 10;
  size_t waiting_bytes_max = 64 << 20;
};

// The largest batch that is taken at all.
inline constexpr size_t kBatchMutationsMax = 1024;
inline constexpr size_t kBatchBytesMax = 3 << 20;

// What became of a mutation that was applied.
Status StatusOf(const proto::MutationReply& reply);

// Thread-safe.
class Proposer {
 public:
  // Once per call of Submit: one reply per mutation, or an error for all of them. On the apply thread, or, refused at
  // once, on the caller's.
  using Done = std::function<void(const Status&, std::span<proto::MutationReply>)>;
  // The replies of the entry that was just applied; called on the apply thread.
  using TakeReplies = std::function<std::vector<proto::MutationReply>()>;

  // All outlive the proposer's last callback: stop the replicator first. `random` is used by the proposer alone.
  Proposer(const ProposerOptions& options, Replicator* replicator, Clock* clock, Random* random,
           TakeReplies take_replies);
  Proposer(const Proposer&) = delete;
  Proposer& operator=(const Proposer&) = delete;

  // The mutations go into one entry, one after another. kNotLeader while another member leads or this one has not begun
  // to: nothing was done. kUnavailable if leadership was lost with the entry under way: it may have been done.
  // `hold_removed`: LogCommand.hold_removed of each; empty: none is held.
  void Submit(std::vector<proto::Mutation> mutations, Done done, std::vector<bool> hold_removed = {});
  // For threads that may block, never the apply thread. The result of a failed mutation is its status.
  Result<proto::MutationReply> SubmitAndWait(proto::Mutation mutation);

  // Apply thread: leadership was gained with this state, or lost.
  void BeginLeading(const proto::StateHeader& header);
  void EndLeading();
  // Nothing new is taken any more; what waits is cancelled.
  void Stop();

 private:
  struct Unit {
    std::vector<proto::Mutation> mutations;
    std::vector<bool> hold_removed;  // empty, or one each
    size_t bytes = 0;
    Done done;
  };
  struct Ids {
    uint32_t metadata_group = 0;
    uint32_t incarnation = 0;
    uint64_t next_inode = 0;
    uint64_t next_data_id = 0;
  };

  Status CheckRoom(const Unit& unit) const REQUIRES(mutex_);
  void Pump() REQUIRES(mutex_);
  std::vector<Unit> TakeUnits() REQUIRES(mutex_);
  std::string BuildEntry(std::vector<Unit>& units) REQUIRES(mutex_);
  void OnCommitted(const Status& committed, std::vector<Unit>& units);
  std::deque<Unit> TakeWaiting() REQUIRES(mutex_);

  const ProposerOptions options_;
  Replicator* const replicator_;
  Clock* const clock_;
  const TakeReplies take_replies_;

  Mutex mutex_;
  Random* const random_ GUARDED_BY(mutex_);
  std::deque<Unit> waiting_ GUARDED_BY(mutex_);
  size_t waiting_mutations_ GUARDED_BY(mutex_) = 0;
  size_t waiting_bytes_ GUARDED_BY(mutex_) = 0;
  size_t in_flight_ GUARDED_BY(mutex_) = 0;
  bool leads_ GUARDED_BY(mutex_) = false;
  bool stopped_ GUARDED_BY(mutex_) = false;
  Ids ids_ GUARDED_BY(mutex_);
};

}  // namespace tarn::meta
