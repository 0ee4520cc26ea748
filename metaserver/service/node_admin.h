// What operators do with nodes and their targets: list, drain, take back, retire, scrub.
//
// Thread-safe; what changes the map waits for the log.
#pragma once

#include <set>
#include <map>
#include <string>

#include "common/base/status.h"
#include "metaserver/service/service_context.h"
#include "proto/admin.pb.h"

namespace tarn::meta {

class NodeAdmin {
 public:
  // The context outlives it.
  explicit NodeAdmin(ServiceContext* context) : context_(context) {}

  Status List(proto::ListNodesReply* reply) const;
  // Copies are moved off the node's targets from now on. kInvalidArgument: no such node; kNoSpace: see DrainNodeRequest.
  Status Drain(const proto::DrainNodeRequest& request, proto::DrainNodeReply* reply) const;
  // Its targets take copies again; those that fail or are retired stay so.
  Status Uncordon(const proto::UncordonNodeRequest& request, proto::UncordonNodeReply* reply) const;
  // For good. kInvalidArgument: no such target; kBusy: it is the last in-sync member of a group.
  Status Retire(const proto::RetireTargetRequest& request, proto::RetireTargetReply* reply) const;
  // Its targets that do not answer are retired: gone with their disks. kInvalidArgument: no such node; kBusy: all its
  // targets answer, or a group has its last current copy there and that is not given up.
  Status Remove(const proto::RemoveNodeRequest& request, proto::RemoveNodeReply* reply) const;
  // What those four send to the log, without waiting for it; the same refusals. Without an operation: nothing to do.
  Result<proto::Mutation> PlanDrain(const proto::DrainNodeRequest& request) const;
  Result<proto::Mutation> PlanUncordon(const proto::UncordonNodeRequest& request) const;
  Result<proto::Mutation> PlanRetire(const proto::RetireTargetRequest& request) const;
  Result<proto::Mutation> PlanRemove(const proto::RemoveNodeRequest& request) const;
  // kInvalidArgument: no such target.
  Status StartScrub(const proto::StartScrubRequest& request) const;
  Status ScrubStatus(proto::ScrubStatusReply* reply) const;

  // The placement groups that volumes of so many copies need are there. kNoSpace: there are fewer nodes than copies.
  Status MakeGroupsFor(uint32_t replicas) const;

 private:
  Result<std::map<std::string, proto::NodeInfo>> Nodes() const;
  // kInvalidArgument: there is none.
  Result<proto::NodeInfo> Describe(const std::string& name) const;
  // In how many groups that files use no target but these has a current copy that counts on.
  Result<uint32_t> CountLastCopies(const std::set<uint64_t>& leaving) const;
  Status Submit(proto::Mutation mutation) const;

  ServiceContext* const context_;
};

}  // namespace tarn::meta
