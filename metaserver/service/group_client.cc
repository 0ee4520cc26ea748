#include "metaserver/service/group_client.h"

// Before gRPC's: absl defines the same annotation macros, and a system header may do that without a warning.
#include "common/base/mutex.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <utility>

#include "common/rpc/frame_client.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/leader_hint.h"
#include "metaserver/service/checkpoint_receiver.h"
#include "proto/hello.pb.h"
#include "proto/member.grpc.pb.h"

namespace tarn::meta {
namespace {

constexpr int64_t kAttemptTimeoutMs = 3'000;
constexpr auto kPause = std::chrono::milliseconds(200);
constexpr int64_t kReportEveryMs = 10'000;
constexpr int kMessageBytesMax = 64 << 20;  // a list of very many files
constexpr int kHintsMax = 4;
constexpr int64_t kWatchIntervalMs = 250;
constexpr int64_t kSilenceMsMax = 15'000;  // the sender flushes its memory tables first

std::unique_ptr<proto::MemberService::Stub> MakeStub(const std::string& grpc_address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  // A connection of its own: a shared one that has failed makes everybody wait for its back-off.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return proto::MemberService::NewStub(
      grpc::CreateCustomChannel(grpc_address, grpc::InsecureChannelCredentials(), arguments));
}

std::chrono::system_clock::time_point In(int64_t milliseconds) {
  return std::chrono::system_clock::now() + std::chrono::milliseconds(milliseconds);
}

Result<std::string> AskGrpcAddress(rpc::EventLoop* loop, const std::string& address) {
  rpc::FrameClientOptions options;
  options.address = address;
  options.connect_timeout_ms = kAttemptTimeoutMs;
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_METASERVER);
  hello.set_peer_name("a metadata server that wants to join");
  const auto client = rpc::FrameClient::Create(loop, options, hello);
  const Status status = client->CallAndWait(rpc::Method::kPing, proto::HelloRequest(), nullptr, kAttemptTimeoutMs);
  const std::string grpc_address = client->hello_reply().grpc_address();
  client->Close();
  RETURN_IF_ERROR(status);
  if (grpc_address.empty()) return Status(StatusCode::kUnavailable, address + " names no gRPC address");
  return grpc_address;
}

Result<proto::JoinGroupReply> AskToJoin(std::string grpc_address, const proto::JoinGroupRequest& request) {
  for (int hints = 0;; ++hints) {
    grpc::ClientContext context;
    context.set_deadline(In(kAttemptTimeoutMs));
    proto::JoinGroupReply reply;
    const grpc::Status status = MakeStub(grpc_address)->JoinGroup(&context, request, &reply);
    if (status.ok()) return reply;
    grpc_address = rpc::LeaderHint(status);
    if (grpc_address.empty() || hints == kHintsMax) return rpc::FromGrpcStatus(status);
  }
}

bool MayHelpLater(const Status& status) {
  switch (status.code()) {
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
    case StatusCode::kNotLeader:
    case StatusCode::kCancelled:
    case StatusCode::kBusy:
    case StatusCode::kNotFound:  // also a host name that does not exist yet
      return true;
    default:
      return false;
  }
}

// Ends a stream whose sender has fallen silent, or that nobody wants any more: a read of gRPC's waits for ever. A timer
// of the loop looks at it.
class StreamWatch : public std::enable_shared_from_this<StreamWatch> {
 public:
  StreamWatch(rpc::EventLoop* loop, const Clock* clock, grpc::ClientContext* context, Cancelled cancelled)
      : loop_(loop), clock_(clock), cancelled_(std::move(cancelled)), context_(context) {
    Progress();
  }
  void Start() {
    loop_->PostAfter(kWatchIntervalMs, [self = shared_from_this()] {
      if (self->Look()) self->Start();
    });
  }
  void Progress() {
    MutexLock lock(mutex_);
    progress_ms_ = clock_->MonotonicMs();
  }
  // The context may go.
  void End() {
    MutexLock lock(mutex_);
    context_ = nullptr;
  }

 private:
  bool Look() {
    MutexLock lock(mutex_);
    if (context_ == nullptr) return false;
    if (!cancelled_() && clock_->MonotonicMs() - progress_ms_ < kSilenceMsMax) return true;
    context_->TryCancel();
    return false;
  }

  rpc::EventLoop* const loop_;
  const Clock* const clock_;
  const Cancelled cancelled_;
  Mutex mutex_;
  grpc::ClientContext* context_ GUARDED_BY(mutex_);
  int64_t progress_ms_ GUARDED_BY(mutex_) = 0;
};

Status CancelledStatus() { return Status(StatusCode::kCancelled, "the server was told to stop"); }

}  // namespace

Result<proto::JoinGroupReply> JoinGroup(rpc::EventLoop* loop, const Clock& clock,
                                        const std::vector<std::string>& addresses,
                                        const proto::JoinGroupRequest& request, int64_t timeout_ms,
                                        const Cancelled& cancelled) {
  const int64_t deadline_ms = clock.MonotonicMs() + timeout_ms;
  int64_t report_ms = clock.MonotonicMs() + kReportEveryMs;
  Status last(StatusCode::kInvalidArgument, "no address to join at is given");
  while (clock.MonotonicMs() < deadline_ms) {
    for (const std::string& address : addresses) {
      if (cancelled()) return CancelledStatus();
      const Result<std::string> grpc_address = AskGrpcAddress(loop, address);
      Result<proto::JoinGroupReply> reply =
          grpc_address.ok() ? AskToJoin(*grpc_address, request) : Result<proto::JoinGroupReply>(grpc_address.status());
      if (reply.ok()) return reply;
      last = reply.status();
      if (!MayHelpLater(last)) return last.WithContext("join the group through " + address);
    }
    if (clock.MonotonicMs() >= report_ms) {
      spdlog::warn("waits to join the group reason=\"{}\"", last.message());
      report_ms = clock.MonotonicMs() + kReportEveryMs;
    }
    Mutex mutex;
    CondVar never;
    MutexLock lock(mutex);
    never.WaitFor(lock, kPause);
  }
  return Status(StatusCode::kUnavailable, "no metadata group took this server in: " + last.message());
}

Status FetchCheckpoint(rpc::EventLoop* loop, const Clock* clock, const std::string& grpc_address,
                       const proto::FetchCheckpointRequest& request, const std::string& directory,
                       const Cancelled& cancelled) {
  ASSIGN_OR_RETURN(CheckpointReceiver receiver, CheckpointReceiver::Begin(directory));
  const auto stub = MakeStub(grpc_address);
  grpc::ClientContext context;
  const auto watch = std::make_shared<StreamWatch>(loop, clock, &context, cancelled);
  watch->Start();
  const auto reader = stub->FetchCheckpoint(&context, request);
  proto::CheckpointPiece piece;
  Status status;
  while (status.ok() && reader->Read(&piece)) {
    watch->Progress();
    status = receiver.Accept(piece);
  }
  if (!status.ok()) context.TryCancel();
  const grpc::Status ended = reader->Finish();
  watch->End();
  RETURN_IF_ERROR(status);
  if (cancelled()) return CancelledStatus();
  // A watch that ran out shows as a cancellation.
  if (ended.error_code() == grpc::StatusCode::CANCELLED)
    return Status(StatusCode::kTimeout, "the checkpoint from " + grpc_address + " came to a halt");
  if (!ended.ok()) return rpc::FromGrpcStatus(ended).WithContext("fetch a checkpoint from " + grpc_address);
  return receiver.Finish();
}

}  // namespace tarn::meta
