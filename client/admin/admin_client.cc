#include "client/admin/admin_client.h"

// Before gRPC's: absl defines the same annotation macros, and a system header may do that without a warning.
#include "common/base/mutex.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <string_view>
#include <utility>

#include "client/blocking.h"
#include "client/meta/convert.h"
#include "client/meta/metadata_client.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/leader_hint.h"
#include "proto/admin.grpc.pb.h"
#include "proto/hello.pb.h"
#include "proto/member.grpc.pb.h"

namespace tarn::client {
namespace {

constexpr int64_t kRetryPauseMs = 100;
constexpr int64_t kAttemptTimeoutMs = 5'000;
constexpr int64_t kQuestionTimeoutMs = 1'500;  // where there are other servers to ask
constexpr int kRedirectsMax = 4;
constexpr uint64_t kVolumeChangeSequence = 2;  // 1 is that of the session's end

std::string Hexadecimal(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string TargetStateName(proto::TargetState state) {
  switch (state) {
    case proto::TARGET_STATE_ONLINE:
      return "online";
    case proto::TARGET_STATE_OFFLINE:
      return "offline";
    case proto::TARGET_STATE_DRAINING:
      return "draining";
    case proto::TARGET_STATE_RETIRED:
      return "retired";
    case proto::TARGET_STATE_FAILED:
      return "failed";
    default:
      return "unknown";
  }
}

MetaserverStatus MetaserverFromProto(const proto::MetaserverMember& member) {
  return {member.id(), member.address(), member.role(), member.pid(), member.applied_entries(), member.heard_ns()};
}

ChunkserverStatus TargetFromProto(const proto::Target& target) {
  ChunkserverStatus row;
  row.server_id = target.server_id();
  row.target_id = target.id();
  row.address = target.address();
  row.node = target.node();
  row.zone = target.zone();
  row.target_class = target.target_class() == proto::TARGET_CLASS_ELASTIC ? "elastic" : "durable";
  row.state = TargetStateName(target.state());
  row.pid = target.pid();
  row.capacity_bytes = target.capacity_bytes();
  row.used_bytes = target.used_bytes();
  row.available_bytes = target.available_bytes();
  row.chunk_count = target.chunk_count();
  row.bytes_read = target.bytes_read();
  if (target.target_class() == proto::TARGET_CLASS_ELASTIC) {
    const proto::ElasticUse& use = target.elastic();
    row.elastic = ElasticUse{.cached_bytes = use.cached_bytes(),
                             .hits = use.hits(),
                             .misses = use.misses(),
                             .refusals = use.refusals(),
                             .bytes_served = use.bytes_served(),
                             .bytes_filled = use.bytes_filled(),
                             .bytes_evicted = use.bytes_evicted(),
                             .bad_units = use.bad_units()};
    row.bytes_read = use.bytes_served();
  }
  return row;
}

NodeInfo NodeFromProto(const proto::NodeInfo& message) {
  NodeInfo node;
  node.name = message.name();
  node.zone = message.zone();
  for (const proto::Target& target : message.targets()) node.targets.push_back(TargetFromProto(target));
  node.draining = message.draining();
  node.groups_left = message.groups_left();
  node.bytes_left = message.bytes_left();
  return node;
}

GroupInfo GroupFromProto(const proto::GroupInfo& message) {
  GroupInfo group;
  group.id = message.group().id();
  group.epoch = message.group().epoch();
  group.replicas = message.group().replicas();
  group.health = message.health();
  group.in_sync.assign(message.group().targets().begin(), message.group().targets().end());
  group.syncing.assign(message.group().syncing_targets().begin(), message.group().syncing_targets().end());
  group.promotable.assign(message.promotable().begin(), message.promotable().end());
  group.bytes = message.bytes();
  group.used = message.used();
  return group;
}

SpaceProgress SpaceFromProto(const proto::SpaceProgress& message) {
  return {.reclaimed_bytes_per_second = message.reclaimed_bytes_per_second(),
          .leftover_bytes = message.leftover_bytes(),
          .unknown_data_ids = message.unknown_data_ids(),
          .unknown_bytes = message.unknown_bytes(),
          .unknown_reclaimed_bytes = message.unknown_reclaimed_bytes(),
          .kept_data_ids = message.kept_data_ids(),
          .checked_ns = message.checked_ns(),
          .checking = message.checking(),
          .usable_bytes = message.usable_bytes(),
          .used_bytes = message.used_bytes(),
          .available_bytes = message.available_bytes()};
}

ScrubStatus ScrubFromProto(const proto::ScrubStatusReply::Row& row) {
  ScrubStatus scrub;
  scrub.target_id = row.target();
  scrub.node = row.node();
  scrub.running = row.progress().running();
  scrub.bytes_checked = row.progress().bytes_checked();
  scrub.bytes_total = row.progress().bytes_total();
  scrub.errors_found = row.progress().errors_found();
  scrub.errors_repaired = row.progress().errors_repaired();
  scrub.last_round_ended_ns = row.progress().last_round_ended_ns();
  scrub.next_round_ns = row.progress().next_round_ns();
  return scrub;
}

ClusterStatus StatusFromProto(const proto::StatusReply& reply) {
  ClusterStatus status;
  status.health = reply.health();
  status.cluster_id = Hexadecimal(reply.cluster_id());
  for (const proto::MetaserverMember& member : reply.metaservers()) {
    status.metaservers.push_back(MetaserverFromProto(member));
  }
  for (const proto::Target& target : reply.targets()) {
    status.chunkservers.push_back(TargetFromProto(target));
  }
  for (const proto::Volume& volume : reply.volumes()) status.volumes.push_back(VolumeFromProto(volume));
  status.map_version = reply.map_version();
  status.placement_groups = reply.placement_groups();
  status.sessions = reply.sessions();
  status.dead_data_ids = reply.dead_data_ids();
  status.removing_inodes = reply.removing_inodes();
  status.unsettled_directories = reply.unsettled_directories();
  status.reclaim_disabled = reply.reclaim_disabled();
  status.repair.groups_degraded = reply.repair().groups_degraded();
  status.repair.groups_unavailable = reply.repair().groups_unavailable();
  status.repair.groups_moving = reply.repair().groups_moving();
  status.repair.bytes_done = reply.repair().bytes_done();
  status.repair.bytes_total = reply.repair().bytes_total();
  status.repair.bytes_per_second = reply.repair().bytes_per_second();
  status.repair.eta_seconds = reply.repair().eta_seconds();
  status.space = SpaceFromProto(reply.space());
  for (const proto::ForcedPromotion& promotion : reply.forced_promotions())
    status.forced_promotions.push_back({.group = promotion.group(), .target = promotion.target(), .at_ns = promotion.at_ns()});
  status.rebalance = {.moves_left = reply.rebalance().moves_left(),
                      .moves_done = reply.rebalance().moves_done(),
                      .bytes_left = reply.rebalance().bytes_left(),
                      .bytes_total = reply.rebalance().bytes_total(),
                      .bytes_per_second = reply.rebalance().bytes_per_second(),
                      .eta_seconds = reply.rebalance().eta_seconds()};
  status.software_version = reply.software_version();
  status.problems.assign(reply.problems().begin(), reply.problems().end());
  return status;
}

// What was asked may have been done, or not.
bool IsSilence(const grpc::Status& status) {
  const StatusCode code = rpc::FromGrpcStatus(status).code();
  return !status.ok() && (code == StatusCode::kUnavailable || code == StatusCode::kTimeout);
}

// One metadata server's services; shared by the callers that use them.
struct Stubs {
  explicit Stubs(const std::string& grpc_address) {
    // A connection of its own: a shared one that has failed makes everybody wait for its back-off.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto channel = grpc::CreateCustomChannel(grpc_address, grpc::InsecureChannelCredentials(), arguments);
    admin = proto::AdminService::NewStub(channel);
    member = proto::MemberService::NewStub(channel);
  }
  std::unique_ptr<proto::AdminService::Stub> admin;
  std::unique_ptr<proto::MemberService::Stub> member;
};
using StubPtr = std::shared_ptr<Stubs>;

class GrpcAdminClient final : public AdminClient {
 public:
  GrpcAdminClient(std::vector<std::string> metaservers, int64_t timeout_ms, std::unique_ptr<rpc::EventLoop> loop)
      : metaservers_(std::move(metaservers)), timeout_ms_(timeout_ms), loop_(std::move(loop)) {}

  // Asks the metadata servers in turn for their gRPC address until one answers or the time is over.
  Status FindServer(int64_t deadline_ns);

  Result<ClusterStatus> GetStatus() override {
    proto::StatusReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::Status, proto::StatusRequest(), &reply));
    return StatusFromProto(reply);
  }
  Result<VolumeInfo> CreateVolume(const VolumeRequest& request) override;
  Result<VolumeInfo> GetVolume(const std::string& name) override {
    proto::GetVolumeRequest message;
    message.set_name(name);
    proto::GetVolumeReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::GetVolume, message, &reply));
    return VolumeFromProto(reply.volume());
  }
  Result<std::vector<VolumeInfo>> ListVolumes() override {
    proto::ListVolumesReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::ListVolumes, proto::ListVolumesRequest(), &reply));
    std::vector<VolumeInfo> volumes;
    for (const proto::Volume& volume : reply.volumes()) volumes.push_back(VolumeFromProto(volume));
    return volumes;
  }
  Result<VolumeInfo> ResizeVolume(const std::string& name, std::optional<uint64_t> quota_bytes,
                                  std::optional<uint64_t> quota_inodes) override {
    proto::ResizeVolumeRequest message;
    message.set_name(name);
    if (quota_bytes) message.set_quota_bytes(*quota_bytes);
    if (quota_inodes) message.set_quota_inodes(*quota_inodes);
    proto::VolumeReply reply;
    RETURN_IF_ERROR(ChangeVolume(&proto::AdminService::Stub::ResizeVolume, message, &reply));
    return VolumeFromProto(reply.volume());
  }
  Status Fsck(const FsckOptions& options, const std::function<void(const FsckEvent&)>& on_event) override;
  Status Backup(const std::function<Status(const std::string& record)>& on_record) override;
  Status SetReclaim(bool enabled) override {
    proto::SetReclaimRequest message;
    message.set_enabled(enabled);
    proto::SetReclaimReply reply;
    return Ask(&proto::AdminService::Stub::SetReclaim, message, &reply);
  }
  Status DeleteVolume(const std::string& name, bool recursive) override {
    proto::DeleteVolumeRequest message;
    message.set_name(name);
    message.set_recursive(recursive);
    proto::VolumeReply reply;
    return ChangeVolume(&proto::AdminService::Stub::DeleteVolume, message, &reply);
  }
  Result<MetaserverGroup> ListMetaservers() override;
  Status RemoveMetaserver(uint64_t id) override {
    proto::RemoveMemberRequest message;
    message.set_member(id);
    proto::RemoveMemberReply reply;
    return Call(/*repeatable=*/true, [&](Stubs& stubs, grpc::ClientContext* context) {
      const grpc::Status status = stubs.member->RemoveMember(context, message, &reply);
      if (IsSilence(status)) message.set_asked_before(true);
      return status;
    });
  }
  Status TransferLeadership(uint64_t id) override {
    proto::TransferLeadershipRequest message;
    message.set_member(id);
    proto::TransferLeadershipReply reply;
    // Asked again for whichever is most up to date it would move on once more.
    return Call(/*repeatable=*/id != 0, [&](Stubs& stubs, grpc::ClientContext* context) {
      return stubs.member->TransferLeadership(context, message, &reply);
    });
  }
  Result<std::vector<NodeInfo>> ListNodes() override {
    proto::ListNodesReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::ListNodes, proto::ListNodesRequest(), &reply));
    std::vector<NodeInfo> nodes;
    for (const proto::NodeInfo& node : reply.nodes()) nodes.push_back(NodeFromProto(node));
    return nodes;
  }
  // These say how things shall be: asked twice they do no more than once.
  Result<NodeInfo> DrainNode(const std::string& node, bool force) override {
    proto::DrainNodeRequest message;
    message.set_node(node);
    message.set_force(force);
    proto::DrainNodeReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::DrainNode, message, &reply));
    return NodeFromProto(reply.node());
  }
  Result<NodeInfo> UncordonNode(const std::string& node) override {
    proto::UncordonNodeRequest message;
    message.set_node(node);
    proto::UncordonNodeReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::UncordonNode, message, &reply));
    return NodeFromProto(reply.node());
  }
  Result<ChunkserverStatus> RetireTarget(uint64_t target) override {
    proto::RetireTargetRequest message;
    message.set_target(target);
    proto::RetireTargetReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::RetireTarget, message, &reply));
    return TargetFromProto(reply.target());
  }
  Result<NodeInfo> RemoveNode(const std::string& node, bool accept_data_loss) override {
    proto::RemoveNodeRequest message;
    message.set_node(node);
    message.set_accept_data_loss(accept_data_loss);
    proto::RemoveNodeReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::RemoveNode, message, &reply));
    return NodeFromProto(reply.node());
  }
  Result<std::vector<GroupInfo>> ListGroups(bool unhealthy_only) override {
    proto::ListGroupsRequest message;
    message.set_unhealthy_only(unhealthy_only);
    proto::ListGroupsReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::ListGroups, message, &reply));
    std::vector<GroupInfo> groups;
    for (const proto::GroupInfo& group : reply.groups()) groups.push_back(GroupFromProto(group));
    return groups;
  }
  Result<GroupInfo> PromoteMember(uint32_t group, uint64_t target, bool accept_data_loss) override {
    proto::PromoteMemberRequest message;
    message.set_group(group);
    message.set_target(target);
    message.set_accept_data_loss(accept_data_loss);
    message.set_nonce(random_.NextNonZero());
    proto::PromoteMemberReply reply;
    RETURN_IF_ERROR(Call(/*repeatable=*/true, [&](Stubs& stubs, grpc::ClientContext* context) {
      return stubs.admin->PromoteMember(context, message, &reply);
    }));
    return GroupFromProto(reply.group());
  }
  Result<std::vector<ScrubStatus>> GetScrubStatus() override {
    proto::ScrubStatusReply reply;
    RETURN_IF_ERROR(Ask(&proto::AdminService::Stub::ScrubStatus, proto::ScrubStatusRequest(), &reply));
    std::vector<ScrubStatus> scrubs;
    for (const proto::ScrubStatusReply::Row& row : reply.targets()) scrubs.push_back(ScrubFromProto(row));
    return scrubs;
  }
  Status StartScrub(uint64_t target) override {
    proto::StartScrubRequest message;
    message.set_target(target);
    proto::StartScrubReply reply;
    return Ask(&proto::AdminService::Stub::StartScrub, message, &reply);
  }

 private:
  template <typename Request, typename Reply>
  using Method = grpc::Status (proto::AdminService::Stub::*)(grpc::ClientContext*, const Request&, Reply*);

  // A question may be asked again, and what says how things shall be.
  template <typename Request, typename Reply>
  Status Ask(Method<Request, Reply> method, const Request& request, Reply* reply) {
    return Call(/*repeatable=*/true, [&](Stubs& stubs, grpc::ClientContext* context) {
      return ((*stubs.admin).*method)(context, request, reply);
    });
  }
  // Under a session of its own a change of volumes may be repeated as well: it is done once.
  template <typename Request, typename Reply>
  Status ChangeVolume(Method<Request, Reply> method, Request request, Reply* reply) {
    MetadataChannelOptions options;
    options.addresses = metaservers_;
    options.client_name = "admin:" + std::to_string(getpid());
    options.retry_deadline_ms = timeout_ms_;
    if (metaservers_.size() > 1) options.call_timeout_ms = kQuestionTimeoutMs;
    MetadataClient session(loop_.get(), &clock_, &random_, options);
    RETURN_IF_ERROR(WaitStatus([&](StatusCallback done) { session.OpenSession(VolumeId(), std::move(done)); }));
    request.set_session(session.session().value());
    request.set_sequence(kVolumeChangeSequence);
    const Status status = Ask(method, request, reply);
    session.Shutdown(kAttemptTimeoutMs);
    return status;
  }
  using Attempt = std::function<grpc::Status(Stubs&, grpc::ClientContext*)>;
  Status Call(bool repeatable, const Attempt& attempt);
  // The server to ask for a stream: the one that leads.
  Result<StubPtr> StubOfLeader();

  Result<std::string> AskGrpcAddress(const std::string& metaserver, int64_t timeout_ms);
  void Use(const std::string& grpc_address);
  StubPtr stub() const {
    MutexLock lock(mutex_);
    return stub_;
  }
  void Pause(int64_t pause_ms) {
    (void)WaitStatus(
        [&](StatusCallback done) { loop_->PostAfter(pause_ms, [done = std::move(done)] { done(Status::Ok()); }); });
  }
  int64_t DeadlineNs() const { return clock_.MonotonicNs() + timeout_ms_ * 1'000'000; }

  // Immutable after construction.
  const std::vector<std::string> metaservers_;
  const int64_t timeout_ms_;
  const std::unique_ptr<rpc::EventLoop> loop_;
  SystemClock clock_;
  SystemRandom random_;
  std::atomic<size_t> next_server_{0};

  mutable Mutex mutex_;
  StubPtr stub_ GUARDED_BY(mutex_);
};

Result<std::string> GrpcAdminClient::AskGrpcAddress(const std::string& metaserver, int64_t timeout_ms) {
  rpc::FrameClientOptions options;
  options.address = metaserver;
  options.connect_timeout_ms = timeout_ms;
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_TOOL);
  hello.set_peer_name("admin:" + std::to_string(getpid()));
  hello.set_connection_nonce(random_.NextNonZero());
  std::shared_ptr<rpc::FrameClient> client = rpc::FrameClient::Create(loop_.get(), options, hello);
  const Status pinged = client->CallAndWait(rpc::Method::kPing, proto::HelloReply(), nullptr, timeout_ms);
  const std::string grpc_address = client->hello_reply().grpc_address();
  client->Close();
  RETURN_IF_ERROR(pinged);
  if (grpc_address.empty()) {
    return Status(StatusCode::kUnavailable, metaserver + " is no metadata server: it names no gRPC address");
  }
  return grpc_address;
}

Status GrpcAdminClient::FindServer(int64_t deadline_ns) {
  std::string tried;
  while (true) {
    tried.clear();
    for (size_t i = 0; i < metaservers_.size(); ++i) {
      // Not always the same one first: it may be up without being of use.
      const std::string& metaserver = metaservers_[next_server_++ % metaservers_.size()];
      const int64_t remaining_ms = std::max<int64_t>(1, (deadline_ns - clock_.MonotonicNs()) / 1'000'000);
      Result<std::string> address = AskGrpcAddress(
          metaserver, std::min(remaining_ms, metaservers_.size() > 1 ? kQuestionTimeoutMs : kAttemptTimeoutMs));
      if (address.ok()) {
        Use(*address);
        return Status::Ok();
      }
      tried += (tried.empty() ? "" : "; ") + metaserver + ": " + address.status().message();
    }
    if (clock_.MonotonicNs() + kRetryPauseMs * 1'000'000 >= deadline_ns) break;
    Pause(kRetryPauseMs);
  }
  return Status(StatusCode::kUnavailable,
                "no metadata server answered within " + std::to_string(timeout_ms_) + " ms (" + tried + ")");
}

void GrpcAdminClient::Use(const std::string& grpc_address) {
  auto stub = std::make_shared<Stubs>(grpc_address);
  MutexLock lock(mutex_);
  stub_ = std::move(stub);
}

Status GrpcAdminClient::Call(bool repeatable, const Attempt& attempt) {
  const int64_t deadline_ns = DeadlineNs();
  int redirects = 0;
  while (true) {
    grpc::ClientContext context;
    int64_t remaining_ms = std::max<int64_t>(1, (deadline_ns - clock_.MonotonicNs()) / 1'000'000);
    // A stopped server answers nothing; another one may.
    if (repeatable && metaservers_.size() > 1) remaining_ms = std::min(remaining_ms, kQuestionTimeoutMs);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(remaining_ms));
    const grpc::Status status = attempt(*stub(), &context);
    if (status.ok()) return Status::Ok();
    const std::string leader = rpc::LeaderHint(status);
    if (!leader.empty() && redirects++ < kRedirectsMax) {
      Use(leader);
      continue;
    }
    const Status error = rpc::FromGrpcStatus(status);
    // A refusal by a server that does not lead changed nothing.
    const bool try_again = error.code() == StatusCode::kNotLeader || (repeatable && IsSilence(status));
    if (!try_again || clock_.MonotonicNs() + kRetryPauseMs * 1'000'000 >= deadline_ns) return error;
    Pause(kRetryPauseMs);
    // It may have been started again, with another gRPC port.
    RETURN_IF_ERROR(FindServer(deadline_ns));
  }
}

Result<MetaserverGroup> GrpcAdminClient::ListMetaservers() {
  proto::ListMembersReply reply;
  RETURN_IF_ERROR(Call(/*repeatable=*/true, [&](Stubs& stubs, grpc::ClientContext* context) {
    return stubs.member->ListMembers(context, proto::ListMembersRequest(), &reply);
  }));
  MetaserverGroup group;
  for (const proto::MetaserverMember& member : reply.members())
    group.metaservers.push_back(MetaserverFromProto(member));
  group.term = reply.term();
  group.leader = reply.leader();
  return group;
}

Result<StubPtr> GrpcAdminClient::StubOfLeader() {
  ASSIGN_OR_RETURN(const ClusterStatus status, GetStatus());
  return stub();
}

Status GrpcAdminClient::Fsck(const FsckOptions& options, const std::function<void(const FsckEvent&)>& on_event) {
  ASSIGN_OR_RETURN(const StubPtr leader, StubOfLeader());
  proto::FsckRequest request;
  request.set_volume(options.volume);
  request.set_repair(options.repair);
  request.set_skip_chunks(options.skip_chunks);
  grpc::ClientContext context;
  const auto stream = leader->admin->Fsck(&context, request);
  bool ended = false;
  for (proto::FsckEvent message; stream->Read(&message);) {
    FsckEvent event;
    event.inodes_checked = message.inodes_checked();
    event.dentries_checked = message.dentries_checked();
    event.chunks_checked = message.chunks_checked();
    event.findings_total = message.findings_total();
    event.repaired_total = message.repaired_total();
    event.remaining_total = message.remaining_total();
    event.end = ended = message.end();
    for (const auto& finding : message.findings()) {
      event.findings.push_back({finding.kind(), finding.what(), finding.repaired()});
    }
    on_event(event);
  }
  RETURN_IF_ERROR(rpc::FromGrpcStatus(stream->Finish()));
  return ended ? Status::Ok() : Status(StatusCode::kUnavailable, "the metadata server ended the check before its end");
}

Status GrpcAdminClient::Backup(const std::function<Status(const std::string& record)>& on_record) {
  ASSIGN_OR_RETURN(const StubPtr leader, StubOfLeader());
  grpc::ClientContext context;
  const auto stream = leader->admin->Backup(&context, proto::BackupRequest());
  Status status;
  for (proto::BackupPiece piece; status.ok() && stream->Read(&piece);) status = on_record(piece.SerializeAsString());
  if (!status.ok()) context.TryCancel();
  const Status finished = rpc::FromGrpcStatus(stream->Finish());
  return status.ok() ? finished : status;
}

Result<VolumeInfo> GrpcAdminClient::CreateVolume(const VolumeRequest& request) {
  proto::CreateVolumeRequest message;
  proto::Volume* volume = message.mutable_volume();
  volume->set_name(request.name);
  volume->set_quota_bytes(request.quota_bytes);
  volume->set_quota_inodes(request.quota_inodes);
  volume->set_replicas(request.replicas);
  // 0 asks for the server's default.
  volume->set_stripe_unit_bytes(request.stripe_unit_bytes.value_or(0));
  volume->set_stripe_width(request.stripe_width.value_or(0));
  volume->set_chunk_size_bytes(request.chunk_size_bytes.value_or(0));
  proto::VolumeReply reply;
  RETURN_IF_ERROR(ChangeVolume(&proto::AdminService::Stub::CreateVolume, message, &reply));
  return VolumeFromProto(reply.volume());
}

}  // namespace

Result<std::unique_ptr<AdminClient>> AdminClient::Connect(const std::vector<std::string>& metaservers,
                                                          int64_t timeout_ms) {
  if (metaservers.empty()) return Status(StatusCode::kInvalidArgument, "no metadata server address is given");
  ASSIGN_OR_RETURN(std::unique_ptr<rpc::EventLoop> loop, rpc::EventLoop::Start("admin-loop"));
  auto client = std::make_unique<GrpcAdminClient>(metaservers, timeout_ms, std::move(loop));
  RETURN_IF_ERROR(client->FindServer(SystemClock().MonotonicNs() + timeout_ms * 1'000'000));
  return std::unique_ptr<AdminClient>(std::move(client));
}

}  // namespace tarn::client
