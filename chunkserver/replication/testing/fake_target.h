// For tests: one target's server process over a store that outlives it: started, killed, shut down.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "chunkserver/replication/target_replication.h"
#include "chunkserver/replication/testing/event_queue.h"
#include "chunkserver/replication/testing/fake_executor.h"
#include "chunkserver/replication/testing/fake_network.h"
#include "chunkserver/replication/testing/fake_store.h"

namespace tarn::replication::testing {

// One thread.
class FakeTarget {
 public:
  struct Hooks {
    std::function<void(TargetId from, const proto::GroupReport&)> report;
    std::function<void(TargetId from, uint64_t version)> want_map;
    std::function<int64_t()> task_delay_ns = [] { return int64_t{0}; };
    int64_t sync_delay_ms = 1;
    double clock_rate = 1.0;
  };

  FakeTarget(TargetId the_id, EventQueue* queue, FakeNetwork* network, const ReplicationOptions& options, Hooks hooks);
  ~FakeTarget();
  FakeTarget(const FakeTarget&) = delete;
  FakeTarget& operator=(const FakeTarget&) = delete;

  // A new process, which has neither map nor lease.
  void Start();
  // `kept`: see FakeStore::Crash.
  void Kill(size_t kept);
  void ShutDown();

  bool is_up() const { return engine_ != nullptr; }
  TargetReplication* engine() { return engine_.get(); }
  // Of the process that is there.
  int64_t NowNs() { return executors_.back()->BoottimeNs(); }

  const TargetId id;
  FakeStore store;

 private:
  class Authority;
  void Handle(rpc::Method method, std::span<const uint8_t> message, std::span<const uint8_t> payload, std::shared_ptr<void> holder,
              std::shared_ptr<PeerResponder> responder);
  void EndProcess();

  EventQueue* const queue_;
  FakeNetwork* const network_;
  const ReplicationOptions options_;
  const Hooks hooks_;
  uint64_t incarnation_ = 0;
  std::unique_ptr<Authority> authority_;
  // Of all processes so far: late callbacks of theirs may still come.
  std::vector<std::unique_ptr<FakeExecutor>> executors_;
  std::vector<std::unique_ptr<PeerNetwork>> ports_;
  std::unique_ptr<TargetReplication> engine_;
};

}  // namespace tarn::replication::testing
