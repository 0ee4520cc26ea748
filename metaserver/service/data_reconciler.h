// Finds data that targets hold and nobody knows (docs/replication.md, "Data that nobody knows"): compares each target's
// data ids with a snapshot of the state, notes what is in neither, and has what stays unknown through its quarantine
// declared dead.
//
// A pass goes over all ids in windows of bounded memory, each with a snapshot of its own, and asks the targets for
// pages. It begins some minutes after a server has registered, and once in an interval. A pass that is broken off
// (another leader, the end) begins anew: what it has noted is in the log.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "metaserver/service/service_context.h"
#include "metaserver/state/unknown_data.h"
#include "proto/admin.pb.h"

namespace tarn::meta {

struct ReconcilePolicy {
  int64_t interval_ms = int64_t{24} * 3'600'000;
  int64_t quarantine_ms = int64_t{24} * 3'600'000;
  int64_t settle_ms = 300'000;  // after a registration, and of a new leader; the interval if that is shorter
  int64_t page_pause_ms = 50;
  uint32_t page_ids = 4'096;
  size_t memory_bytes = 64u << 20;  // for the ids of a window
};

// Thread-safe. Has a thread of its own.
class DataReconciler {
 public:
  // The context outlives it.
  DataReconciler(ServiceContext* context, const ReconcilePolicy& policy);
  ~DataReconciler();
  DataReconciler(const DataReconciler&) = delete;
  DataReconciler& operator=(const DataReconciler&) = delete;

  void Start();
  void Stop();
  // What is known of the last pass.
  void Fill(proto::SpaceProgress* progress) const;

 private:
  struct Pass;

  void Run();
  bool IsDue();
  Status RunPass();
  // Closes reservations whose time is over.
  Status CloseReservations();
  Status CheckWindow(Pass* pass, DataIdSet* known);
  // False: it did not answer.
  Result<bool> CheckTarget(Pass* pass, const DataIdSet& known, const proto::Target& target);
  Status Note(Pass* pass, const proto::Target& target, const std::vector<uint64_t>& unknown);
  Status Propose(proto::Mutation mutation);
  Result<uint64_t> BytesHeld(const proto::Target& target, uint64_t data);
  std::shared_ptr<rpc::FrameClient> ClientOf(const proto::Target& target);
  bool GoOn() const;
  // False when stopping.
  bool Pause(int64_t pause_ms);

  ServiceContext* const context_;
  const ReconcilePolicy policy_;

  // The thread's.
  std::unique_ptr<rpc::EventLoop> loop_;
  std::map<std::string, std::shared_ptr<rpc::FrameClient>> clients_;  // by address
  bool led_ = false;
  int64_t led_since_ns_ = 0;
  int64_t begun_ns_ = 0;  // the last pass that was not broken off; monotonic

  mutable Mutex mutex_;
  CondVar changed_;
  bool stop_ GUARDED_BY(mutex_) = false;
  bool checking_ GUARDED_BY(mutex_) = false;
  int64_t checked_ns_ GUARDED_BY(mutex_) = 0;  // wall clock
  uint64_t kept_data_ids_ GUARDED_BY(mutex_) = 0;

  std::thread thread_;
};

}  // namespace tarn::meta
