// What the services of one metadata server share. Built by MetadataServer, which outlives them all.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "metaserver/replication/replicator.h"
#include "metaserver/service/lock_notifier.h"
#include "metaserver/service/member_table.h"
#include "metaserver/service/proposer.h"
#include "metaserver/service/push_coordinator.h"
#include "metaserver/service/server_registry.h"
#include "metaserver/service/session_keeper.h"
#include "metaserver/state/kv.h"
#include "metaserver/state/state_machine.h"
#include "proto/cluster.pb.h"
#include "proto/hello.pb.h"

namespace tarn::meta {

class DataReconciler;
class ReplicationKeeper;
class ReplyFaults;

struct SelfDescription {
  std::string cluster_id;
  uint64_t member_id = 0;
  uint64_t incarnation = 0;  // of this process
  uint64_t pid = 0;
  std::string address;  // lean frames, as others reach it
  std::string grpc_address;
  std::string software_version;
};

// The parts are thread-safe.
struct ServiceContext {
  Clock* clock = nullptr;
  KvStore* store = nullptr;      // the state's: for what reads all of it
  std::string checkpoints_path;  // copies of the state, while they are sent
  StateMachine* state = nullptr;
  MemberTable* members = nullptr;
  Replicator* replicator = nullptr;
  Proposer* proposer = nullptr;
  SessionKeeper* sessions = nullptr;
  PushCoordinator* coherence = nullptr;
  LockNotifier* locks = nullptr;
  ServerRegistry* servers = nullptr;
  ReplicationKeeper* replication = nullptr;
  DataReconciler* reconciler = nullptr;
  ReplyFaults* reply_faults = nullptr;  // null: none
  // Gives the log a message of another member.
  std::function<void(uint64_t from, std::string message)> receive_message;
  SelfDescription self;  // immutable once `serving` is set; not to be read before
  std::atomic<bool> serving{false};
  int64_t heartbeat_interval_ms = 1000;
  int64_t reclaim_delay_ms = 300'000;

  // kNotLeader unless this member may answer from its state.
  Status CheckLease() const;
  // Proposer::SubmitAndWait, for what a gRPC call asked for and is answered: here fault points may lose the answer.
  Result<proto::MutationReply> SubmitForAnswer(proto::Mutation mutation) const;
  // The member to ask, as far as this one knows; addresses are empty if it knows none.
  proto::MetaserverMember Leader() const;
  // The members of the group with their roles and, on the leader, how far they are.
  void FillMetaservers(google::protobuf::RepeatedPtrField<proto::MetaserverMember>* metaservers) const;
  // Those that have a name: not the ones that are being deleted.
  Status ListVolumes(proto::ListVolumesReply* reply) const;
  // The map without groups of numbers of copies that no volume has: there is nothing in them.
  Result<proto::ClusterMap> MapOfUsedGroups() const;
  void DescribeSelf(proto::MetaserverMember* member) const;
  // The cluster map with the present usage and roles in it.
  proto::ClusterMap LiveMap() const;
};

}  // namespace tarn::meta
