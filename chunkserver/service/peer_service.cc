#include "chunkserver/service/peer_service.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <cstring>
#include <utility>
#include <vector>

#include "chunkserver/replication/target_replication.h"
#include "common/base/buffer.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"
#include "proto/types.pb.h"

namespace tarn::chunk {
namespace {

// The payload of a request, and its part of the budget.
struct PeerPayload {
  std::unique_ptr<WriteBudget::Share> share;
  Buffer bytes;
};

class FrameResponder final : public replication::PeerResponder {
 public:
  explicit FrameResponder(std::shared_ptr<rpc::Responder> responder) : responder_(std::move(responder)) {}

  void Reply(const google::protobuf::MessageLite& reply, std::vector<uint8_t> payload) override {
    if (payload.empty()) return responder_->Reply(reply);
    Buffer bytes(payload.size());
    std::memcpy(bytes.data(), payload.data(), payload.size());
    responder_->Reply(reply, std::move(bytes));
  }
  void Fail(const Status& status, uint64_t map_version) override {
    proto::ErrorDetail detail;
    detail.set_map_version(map_version);
    responder_->Fail(status, detail);
  }

 private:
  const std::shared_ptr<rpc::Responder> responder_;
};

class SilentResponder final : public replication::PeerResponder {
 public:
  void Reply(const google::protobuf::MessageLite& /*reply*/, std::vector<uint8_t> /*payload*/) override {}
  void Fail(const Status& /*status*/, uint64_t /*map_version*/) override {}
};

}  // namespace

bool PeerService::Serves(const rpc::Request& request) {
  switch (request.method) {
    case rpc::Method::kReplicate:
    case rpc::Method::kReconcile:
    case rpc::Method::kInventory:
    case rpc::Method::kChunkSums:
    case rpc::Method::kInstallChunk:
    case rpc::Method::kInstallWindows:
    case rpc::Method::kReadGrant:
    case rpc::Method::kConfirmChanges: return true;
    case rpc::Method::kCommitTarget: {
      proto::CommitTargetRequest commit;
      return rpc::ParseRequest(request, &commit).ok() && commit.this_target_only();
    }
    default: return false;
  }
}

// Not the whole message, which replication parses: its address is field 1 of all but three.
std::optional<TargetId> ReceiverOf(rpc::Method method, std::span<const uint8_t> message) {
  using google::protobuf::internal::WireFormatLite;
  if (method == rpc::Method::kReadGrant) {
    proto::ReadGrantRequest request;
    if (!request.ParseFromArray(message.data(), static_cast<int>(message.size()))) return std::nullopt;
    return TargetId(request.target());
  }
  if (method == rpc::Method::kConfirmChanges) {
    proto::ConfirmChangesRequest request;
    if (!request.ParseFromArray(message.data(), static_cast<int>(message.size()))) return std::nullopt;
    return TargetId(request.target());
  }
  if (method == rpc::Method::kCommitTarget) {
    proto::CommitTargetRequest request;
    if (!request.ParseFromArray(message.data(), static_cast<int>(message.size()))) return std::nullopt;
    return TargetId(request.target());
  }
  google::protobuf::io::CodedInputStream input(message.data(), static_cast<int>(message.size()));
  constexpr uint32_t kMemberTag = WireFormatLite::MakeTag(1, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  while (const uint32_t tag = input.ReadTag()) {
    if (tag != kMemberTag) {
      if (!WireFormatLite::SkipField(&input, tag)) return std::nullopt;
      continue;
    }
    uint32_t length = 0;
    if (!input.ReadVarint32(&length) || length > message.size()) return std::nullopt;
    proto::GroupAddress address;
    const auto limit = input.PushLimit(static_cast<int>(length));
    if (!address.ParseFromCodedStream(&input)) return std::nullopt;
    input.PopLimit(limit);
    return TargetId(address.target());
  }
  return std::nullopt;
}

void PeerService::Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
  if (request.peer->hello().role() != proto::PEER_ROLE_CHUNKSERVER) {
    return responder->Fail(Status(StatusCode::kPermission, rpc::MethodName(request.method) + " is for chunk servers"));
  }
  const std::optional<TargetId> receiver = ReceiverOf(request.method, request.message);
  if (!receiver) return responder->Fail(Status(StatusCode::kInvalidArgument, "the request is no " + rpc::MethodName(request.method)));
  HostedTarget* const target = targets_->Find(*receiver);
  if (target == nullptr) return responder->Fail(Status(StatusCode::kWrongIncarnation, "this server does not have that target"));
  replication::TargetReplication* const replica = target->replication();
  if (replica == nullptr) return responder->Fail(Status(StatusCode::kUnavailable, "the target is not served"));
  if (survey_ != nullptr && request.method == rpc::Method::kInventory) {
    // What is being removed must not be taken for what is there.
    proto::InventoryRequest inventory;
    const bool parsed = inventory.ParseFromArray(request.message.data(), static_cast<int>(request.message.size()));
    if (parsed && survey_->IsRemoving(*receiver, GroupId(inventory.member().group())))
      return responder->Fail(Status(StatusCode::kUnavailable, "an earlier copy of the group is being removed"));
  }
  if (request.method == rpc::Method::kReplicate && faults_->armed() && Forgets(request, target, responder.get())) return;
  auto share = budget_->Admit(request.payload.size());
  if (share == nullptr) return responder->Fail(Status(StatusCode::kResourceExhausted, "too many bytes of changes wait for the disk"));
  auto payload = std::make_shared<PeerPayload>(std::move(share), std::move(request.payload));
  const std::span<const uint8_t> bytes = payload->bytes.span();
  replica->HandlePeer(request.method, request.message, bytes, std::move(payload), ResponderFor(request.method, std::move(responder)));
}

bool PeerService::Forgets(const rpc::Request& request, HostedTarget* target, rpc::Responder* responder) {
  proto::ReplicateRequest change;
  if (!rpc::ParseRequest(request, &change).ok()) return false;
  if (!faults_->Fires(change.base().version() == 0 ? kFaultForgetFirstChange : kFaultForgetLaterChange)) return false;
  proto::ReplicateReply reply;
  reply.set_durable(true);
  reply.set_available_bytes(target->store()->AvailableBytes());
  responder->Reply(reply);
  return true;
}

std::shared_ptr<replication::PeerResponder> PeerService::ResponderFor(rpc::Method method, std::shared_ptr<rpc::Responder> responder) {
  if (method != rpc::Method::kReplicate || !faults_->Fires(kFaultDropReplicateAck)) return std::make_shared<FrameResponder>(std::move(responder));
  MutexLock lock(mutex_);
  unanswered_.push_back(std::move(responder));
  return std::make_shared<SilentResponder>();
}

}  // namespace tarn::chunk
