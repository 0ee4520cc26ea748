#include "tests/sim/data/planted_bugs.h"

#include <optional>
#include <string>

#include "metaserver/state/group_members.h"
#include "proto/data.pb.h"
#include "proto/state.pb.h"

namespace tarn::sim_data {
namespace {

// Parses, changes and writes back a message of one method.
template <typename Message, typename Edit>
auto Editor(rpc::Method wanted, Edit edit) {
  return [wanted, edit](TargetId, TargetId to, rpc::Method method, std::string* bytes) {
    if (method != wanted) return;
    Message message;
    if (!message.ParseFromString(*bytes)) return;
    edit(to, &message);
    *bytes = message.SerializeAsString();
  };
}

// The change is laid on whatever the member has, and says so.
void IgnoreBase(Server* server, proto::ReplicateRequest* request) {
  if (!request->has_write()) return;
  const ChunkId chunk{DataId(request->write().chunk().data_id()), request->write().chunk().chunk_index()};
  const Result<store::ChunkState> state = server->store().StateOf(chunk);
  if (!state.ok() || state->stamp.version >= request->stamp().version()) return;
  request->mutable_base()->set_epoch(state->stamp.epoch.value());
  request->mutable_base()->set_version(state->stamp.version);
  request->mutable_stamp()->set_version(state->stamp.version + 1);
}

template <typename Edit>
void EachChange(proto::LogEntry* entry, Edit edit) {
  for (proto::LogCommand& command : *entry->mutable_commands()) {
    if (!command.mutation().has_change_groups()) continue;
    for (auto& change : *command.mutable_mutation()->mutable_change_groups()->mutable_changes()) edit(&change);
  }
}

// What drains leaves as soon as another copy is begun.
void DropDrained(const proto::ClusterMap& map, proto::ChangeGroupsOp::Change* change) {
  if (change->syncing_targets().empty()) return;
  auto* targets = change->mutable_targets();
  const auto drains = [&map](uint64_t id) {
    const proto::Target* target = meta::FindTarget(map, id);
    return target != nullptr && target->state() == proto::TARGET_STATE_DRAINING;
  };
  for (int i = targets->size() - 1; i > 0; --i) {
    if (drains(targets->Get(i))) targets->erase(targets->begin() + i);
  }
}

}  // namespace

proto::Mutation PlantMutation(const Leader& leader, sim::Dice* dice) {
  proto::Mutation mutation;
  for (const replication::GroupView& group : leader.groups()) {
    if (group.syncing.empty() || !dice->Chance(0.05)) continue;
    proto::ChangeGroupsOp::Change* change = mutation.mutable_change_groups()->add_changes();
    change->set_group(static_cast<uint32_t>(group.id.value()));
    change->set_expected_epoch(group.epoch.value());
    for (const TargetId target : group.in_sync) change->add_targets(target.value());
    change->add_targets(group.syncing.front().value());
    for (size_t i = 1; i < group.syncing.size(); ++i) change->add_syncing_targets(group.syncing[i].value());
  }
  return mutation;
}

void PlantBug(Plant plant, replication::testing::FakeNetwork* peers, Fleet* fleet, Leader* leader) {
  switch (plant) {
    case Plant::kGrantWaitTooShort:
      peers->tamper_reply = Editor<proto::ReadGrantReply>(rpc::Method::kReadGrant, [](TargetId, proto::ReadGrantReply* reply) { reply->set_grant_ms(reply->grant_ms() + 2'500); });
      return;
    case Plant::kNoReconcile:
      peers->tamper_reply = Editor<proto::ReconcileReply>(rpc::Method::kReconcile, [](TargetId, proto::ReconcileReply* reply) { reply->Clear(); });
      return;
    case Plant::kPromoteWithoutCommit:
      peers->answer_instead = [leader](TargetId, TargetId to, rpc::Method method, const std::string& bytes) -> std::optional<std::string> {
        proto::CommitTargetRequest request;
        if (method != rpc::Method::kCommitTarget || !request.ParseFromString(bytes) || request.groups_size() != 1) return std::nullopt;
        if (!leader->group(request.groups(0)).IsSyncing(to)) return std::nullopt;
        return proto::CommitTargetReply().SerializeAsString();
      };
      return;
    case Plant::kIgnoreBase:
      peers->tamper_request = Editor<proto::ReplicateRequest>(
          rpc::Method::kReplicate, [fleet](TargetId to, proto::ReplicateRequest* request) { IgnoreBase(fleet->Find(to), request); });
      return;
    case Plant::kAcknowledgeEarly:
      peers->answer_instead = [calls = 0](TargetId, TargetId, rpc::Method method, const std::string&) mutable -> std::optional<std::string> {
        if (method != rpc::Method::kReplicate || ++calls % 50 != 0) return std::nullopt;
        proto::ReplicateReply reply;
        reply.set_durable(true);
        reply.set_available_bytes(uint64_t{1} << 40);
        return reply.SerializeAsString();
      };
      return;
    case Plant::kForgetWindows:
      peers->tamper_request = Editor<proto::InstallWindowsRequest>(rpc::Method::kInstallWindows, [](TargetId, proto::InstallWindowsRequest* request) {
        if (!request->forget()) request->clear_windows();
      });
      return;
    case Plant::kDropDrained:
      leader->tamper = [leader](proto::LogEntry* entry) { EachChange(entry, [leader](auto* change) { DropDrained(*leader->map(), change); }); };
      return;
    case Plant::kOneNode:
      leader->tamper = [](proto::LogEntry* entry) {
        for (proto::LogCommand& command : *entry->mutable_commands()) {
          if (!command.mutation().has_register_server()) continue;
          proto::RegisterServerRequest* request = command.mutable_mutation()->mutable_register_server()->mutable_request();
          request->set_node(request->address());
        }
      };
      return;
    case Plant::kNone:
    case Plant::kNoSequences:     // client.cc
    case Plant::kSendAgainAsNew:  // client.cc
    case Plant::kNoLease:         // server.cc
    case Plant::kHastyLeader:     // leader.cc
    case Plant::kNoProof:         // leader.cc
    case Plant::kPromoteEarly:    // PlantMutation
      return;
  }
}

}  // namespace tarn::sim_data
