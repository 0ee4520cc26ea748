#include "client/data/chunk_operation.h"

#include <algorithm>
#include <utility>

#include "proto/types.pb.h"

namespace tarn::client {
namespace {

constexpr int64_t kDelayMinMs = 2;
constexpr int64_t kDelayMaxMs = 500;

}  // namespace

bool IsTransient(StatusCode code) {
  return code == StatusCode::kUnavailable || code == StatusCode::kTimeout || code == StatusCode::kResourceExhausted;
}

std::string ChunkText(const ChunkReference& chunk) { return ToString(ChunkId{chunk.data, chunk.chunk_index}); }

void FillAddress(const ChunkReference& chunk, const Route& route, proto::ChunkAddress* address) {
  address->set_target(route.target.value());
  address->set_group(route.group.value());
  address->set_epoch(route.epoch.value());
  address->set_data_id(chunk.data.value());
  address->set_chunk_index(chunk.chunk_index);
}

void FillTruncate(const ChunkReference& chunk, proto::TruncateView* view) {
  view->set_generation(chunk.truncate_generation);
  view->set_truncated_chunk_bytes(chunk.truncated_chunk_bytes);
}

// ---- ChunkOperation ----

ChunkOperation::ChunkOperation(std::shared_ptr<ChunkClient::Core> core)
    : core_(std::move(core)), started_ns_(core_->clock->MonotonicNs()) {
  core_->OperationBegins();
}

void ChunkOperation::End(const Status& status) {
  Finish(status);
  core_->OperationOver();
}

void ChunkOperation::Fail(const Status& status) { End(status.WithContext(Where())); }

void ChunkOperation::FailClosed() { Fail(Status(StatusCode::kCancelled, "the client is shutting down")); }

std::string ChunkOperation::Where() const {
  if (route_.address.empty()) return Describe();
  return Describe() + " at target " + std::to_string(route_.target.value()) + " (" + route_.address + ")";
}

void ChunkOperation::NoteAttempt(int64_t now_ns) {
  if (first_attempt_ns_ == 0) first_attempt_ns_ = now_ns;
  ++attempts_;
  core_->counters.requests.fetch_add(1, std::memory_order_relaxed);
}

void ChunkOperation::AwaitMap(uint64_t version, const Status& reason) {
  const ChunkOperationPtr self = shared_from_this();
  last_error_ = reason;
  if (Expired(core_->clock->MonotonicNs())) return RetryAfter(0, reason);
  if (!core_->Park(self)) return FailClosed();
  MetadataGate::Use use(*core_->metadata);
  if (!use) {
    if (core_->Unpark(self)) FailClosed();
    return;
  }
  use->RefreshClusterMap(version, [self, reason](const Status& status) {
    if (!self->core_->Unpark(self)) return;
    // A pause also after success: the answer may have come at once, and the server may still disagree.
    self->RetryAfter(self->NextDelayMs(), status.ok() ? reason : status);
  });
}

int64_t ChunkOperation::NextDelayMs() {
  delay_ms_ = std::clamp(delay_ms_ * 2, kDelayMinMs, kDelayMaxMs);
  return delay_ms_;
}

// Tried for long enough; or it waited for so long behind others that the server has been silent all the while.
bool ChunkOperation::Expired(int64_t now_ns) const {
  const int64_t limit_ns = core_->options.retry_deadline_ms * 1'000'000;
  if (first_attempt_ns_ != 0 && now_ns - first_attempt_ns_ >= limit_ns) return true;
  const int64_t heard_ns = link_ == nullptr ? started_ns_ : std::max(started_ns_, link_->last_answer_ns());
  return now_ns - heard_ns >= limit_ns;
}

void ChunkOperation::RetryAfter(int64_t delay_ms, const Status& reason) {
  last_error_ = reason;
  const int64_t now_ns = core_->clock->MonotonicNs();
  if (Expired(now_ns)) {
    const StatusCode code = IsTransient(reason.code()) ? reason.code() : StatusCode::kUnavailable;
    const int64_t waited_ms = (now_ns - started_ns_) / 1'000'000;
    return Fail(Status(code, reason.message() + " (given up after " + std::to_string(waited_ms) + " ms, " +
                                 std::to_string(attempts_) + " attempts)"));
  }
  if (!core_->Park(shared_from_this())) return FailClosed();
  AttemptAfter(delay_ms);
}

// The parking place owns the operation; a timer that is never run must not keep it.
void ChunkOperation::AttemptAfter(int64_t delay_ms) {
  loop()->PostAfter(delay_ms, [weak = weak_from_this()] {
    const ChunkOperationPtr operation = weak.lock();
    if (operation != nullptr && operation->core_->Unpark(operation)) operation->Attempt();
  });
}

// ---- UnaryOperation ----

void UnaryOperation::Attempt() {
  const auto routes = core_->Routes();
  if (core_->closed() || routes == nullptr) return FailClosed();
  Result<Route> route = FindRoute(*routes);
  if (!route.ok()) return AwaitMap(0, route.status());
  route_ = std::move(*route);
  if (!Admit()) return;
  const auto server = core_->ServerAt(route_.address);
  if (server == nullptr) return FailClosed();
  server_ = server;
  const int64_t now_ns = core_->clock->MonotonicNs();
  link_ = ChunkClient::Core::LinksTo(*server, now_ns).writes;
  ServerLink::Connection connection = link_->Get(now_ns);
  if (connection.client == nullptr) {
    core_->WantNewerMap();
    return RetryAfter(connection.wait_ms,
                      last_error_.ok() ? Status(StatusCode::kUnavailable, "no connection") : last_error_);
  }
  NoteAttempt(now_ns);
  sent_ns_ = now_ns;
  client_ = std::move(connection.client);
  link_->NoteSent(now_ns);
  core_->WatchServers();
  // Whoever answers may end the operation and let go of client_ while the call is still returning.
  const std::shared_ptr<rpc::FrameClient> client = client_;
  Send(*client,
       rpc::CallOptions{.timeout_ms = core_->options.request_timeout_ms, .payload = {}, .payload_destination = {}});
}

rpc::ReplyCallback UnaryOperation::MakeReplyCallback() {
  return [self = std::static_pointer_cast<UnaryOperation>(shared_from_this())](const rpc::Reply& reply) {
    self->OnReply(reply);
  };
}

void UnaryOperation::OnReply(const rpc::Reply& reply) {
  const StatusCode code = reply.status.code();
  const bool answered =
      code != StatusCode::kTimeout && code != StatusCode::kUnavailable && code != StatusCode::kCancelled;
  link_->NoteOver(core_->clock->MonotonicNs(), answered);
  const bool is_direct = link_ == server_->direct.writes;
  if (answered) server_->health.NoteGood();  // for reads, which may not have asked it for long
  if (answered && is_direct) core_->NoteDirectAnswer(*server_);
  may_be_under_way_ |= !answered;
  if (code == StatusCode::kTimeout) link_->NoteTimeout(client_, sent_ns_);
  if (is_direct && (code == StatusCode::kTimeout || !client_->usable())) core_->DoubtServer(server_);
  client_ = nullptr;
  if (core_->closed()) return FailClosed();
  if (reply.status.ok()) {
    const Status verdict = OnGood(reply);
    if (verdict.code() == StatusCode::kUnavailable) return RetryAfter(0, verdict);
    return verdict.ok() ? End(verdict) : Fail(verdict);
  }
  if (code == StatusCode::kStaleEpoch) return AwaitMap(rpc::ParseErrorDetail(reply).map_version(), reply.status);
  // Only a primary is asked, so this one is it no longer.
  if (code == StatusCode::kAskPrimary) return AwaitMap(0, reply.status);
  if (IsTransient(code)) {
    // The server may have moved, or another one have taken over.
    if (code != StatusCode::kResourceExhausted) core_->WantNewerMap();
    return RetryAfter(NextDelayMs(), reply.status);
  }
  if (RetryAfterRefusal(reply.status)) return RetryAfter(0, reply.status);
  Fail(reply.status);
}

}  // namespace tarn::client
