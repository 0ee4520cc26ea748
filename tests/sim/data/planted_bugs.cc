#include "tests/sim/data/planted_bugs.h"

#include <optional>
#include <string>

#include "proto/data.pb.h"

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

}  // namespace

void PlantBug(Plant plant, replication::testing::FakeNetwork* peers, std::map<TargetId, std::unique_ptr<Server>>* servers, Leader* leader) {
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
          rpc::Method::kReplicate, [servers](TargetId to, proto::ReplicateRequest* request) { IgnoreBase(servers->at(to).get(), request); });
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
    case Plant::kNone:
    case Plant::kNoSequences:    // client.cc
    case Plant::kSendAgainAsNew:  // client.cc
    case Plant::kNoLease:        // server.cc
    case Plant::kPromoteEarly:   // leader.cc
      return;
  }
}

}  // namespace tarn::sim_data
