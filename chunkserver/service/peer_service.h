// What chunk servers ask of each other (docs/replication.md): finds the target that is meant and hands the request to its replication.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "chunkserver/service/group_survey.h"
#include "chunkserver/replication/target_replication.h"
#include "chunkserver/service/target_set.h"
#include "chunkserver/service/write_budget.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/fault/fault_points.h"
#include "common/rpc/frame_server.h"

namespace tarn::chunk {

// A change was taken, and its acknowledgement never comes.
inline constexpr fault::FaultPointName kFaultDropReplicateAck{"service.drop_replicate_ack"};

// A change is acknowledged and not made: the member is not what the others take it for. A chunk's first change, and a later one.
inline constexpr fault::FaultPointName kFaultForgetFirstChange{"service.forget_first_change"};
inline constexpr fault::FaultPointName kFaultForgetLaterChange{"service.forget_later_change"};

// The receiver that a peer's message names; nullopt: it is no such message.
std::optional<TargetId> ReceiverOf(rpc::Method method, std::span<const uint8_t> message);

// Thread-safe.
class PeerService {
 public:
  // All outlive its last request. `budget` is the peers' own: clients' writes must not starve them, since each of those waits for a peer.
  // `survey` may be null.
  PeerService(TargetSet* targets, WriteBudget* budget, fault::FaultPoints* faults, const GroupSurvey* survey = nullptr)
      : targets_(targets), budget_(budget), faults_(faults), survey_(survey) {}
  PeerService(const PeerService&) = delete;
  PeerService& operator=(const PeerService&) = delete;

  // The methods between members, and a primary's commit of its members (CommitTargetRequest.this_target_only).
  static bool Serves(const rpc::Request& request);
  // kPermission unless the connection was opened by a chunk server.
  void Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder);

 private:
  // True: a fault point has answered it.
  bool Forgets(const rpc::Request& request, HostedTarget* target, rpc::Responder* responder);
  std::shared_ptr<replication::PeerResponder> ResponderFor(rpc::Method method, std::shared_ptr<rpc::Responder> responder);

  TargetSet* const targets_;
  WriteBudget* const budget_;
  fault::FaultPoints* const faults_;
  const GroupSurvey* const survey_;

  Mutex mutex_;
  std::vector<std::shared_ptr<rpc::Responder>> unanswered_ GUARDED_BY(mutex_);  // of kFaultDropReplicateAck: one destroyed would answer
};

}  // namespace tarn::chunk
