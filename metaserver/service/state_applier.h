// Gives committed log entries to the state machine and tells the rest of the server about leadership.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "metaserver/replication/replicator.h"
#include "metaserver/state/kv.h"
#include "metaserver/state/state_machine.h"

namespace tarn::meta {

// Threads: as LogConsumer says.
class StateApplier final : public LogConsumer {
 public:
  struct Listener {
    std::function<void(uint64_t term)> gained;  // apply thread
    std::function<void()> lost;                 // apply thread
    // Apply thread: whether to collect what the next entry changes; an entry that was applied.
    std::function<bool()> wants_changes;
    std::function<void(const proto::LogEntry&, const std::vector<proto::MutationReply>&, const std::vector<ChangeSet>&)>
        applied;
    std::function<void(const Status&)> failed;  // any thread
    // A thread of the log's own, while nothing is applied; see LogConsumer.
    std::function<Result<uint64_t>(const CheckpointRequest&)> install;
  };

  // Both outlive the applier.
  StateApplier(StateMachine* state, KvStore* store) : state_(state), store_(store) {}

  // Before the replicator starts.
  void SetListener(Listener listener) { listener_ = std::move(listener); }

  // Apply thread: the replies of the entry that was just applied. Once per entry.
  std::vector<proto::MutationReply> TakeReplies() { return std::move(replies_); }

  Status Apply(std::string_view entry, uint64_t number) override;
  void LeadershipGained(uint64_t term) override { listener_.gained(term); }
  void LeadershipLost() override { listener_.lost(); }
  Status MakeDurable() override { return store_->Flush(); }
  void Failed(const Status& status) override { listener_.failed(status); }
  Result<uint64_t> InstallCheckpoint(const CheckpointRequest& request) override { return listener_.install(request); }

 private:
  StateMachine* const state_;
  KvStore* const store_;
  Listener listener_;  // immutable once the replicator has started

  // Apply thread.
  proto::LogEntry entry_;
  std::vector<proto::MutationReply> replies_;
  std::vector<ChangeSet> changes_;
};

}  // namespace tarn::meta
