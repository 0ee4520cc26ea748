// What the services of one metadata server share. Built by MetadataServer, which outlives them all.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/fault/fault_points.h"
#include "metaserver/replication/replicator.h"
#include "metaserver/service/proposer.h"
#include "metaserver/service/server_registry.h"
#include "metaserver/service/session_keeper.h"
#include "metaserver/state/state_machine.h"
#include "proto/cluster.pb.h"
#include "proto/hello.pb.h"

namespace tarn::meta {

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
  StateMachine* state = nullptr;
  Replicator* replicator = nullptr;
  Proposer* proposer = nullptr;
  SessionKeeper* sessions = nullptr;
  ServerRegistry* servers = nullptr;
  fault::FaultPoints* faults = nullptr;
  SelfDescription self;  // immutable once `serving` is set; not to be read before
  std::atomic<bool> serving{false};
  int64_t heartbeat_interval_ms = 1000;
  int64_t reclaim_delay_ms = 300'000;

  // kNotLeader unless this member may answer from its state.
  Status CheckLease() const;
  // This member is the one to ask.
  bool Leads() const;
  // Those that have a name: not the ones that are being deleted.
  Status ListVolumes(proto::ListVolumesReply* reply) const;
  // The cluster map with the present usage and this member in it.
  proto::ClusterMap LiveMap() const;
};

}  // namespace tarn::meta
