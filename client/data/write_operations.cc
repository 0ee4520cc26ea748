#include "client/data/write_operations.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "common/checksum/block_sums.h"

namespace tarn::client {
namespace {

constexpr uint32_t kWriteSumRefusalsMax = 3;

}  // namespace

// ---- NumberedOperation ----

NumberedOperation::NumberedOperation(std::shared_ptr<ChunkClient::Core> core, const ChunkReference& chunk,
                                     Callback<WriteAck> done)
    : UnaryOperation(std::move(core)), chunk_(chunk), session_(core_->Session()), done_(std::move(done)) {}

Result<Route> NumberedOperation::FindRoute(const PlacementRoutes& routes) {
  return routes.ToPrimary(chunk_.layout, ColumnOfChunk(chunk_.layout, chunk_.chunk_index));
}

uint64_t NumberedOperation::Sequence() {
  if (sequence_ == 0) {
    numbered_in_ = route_.group;
    sequence_ = core_->BeginSequence(numbered_in_);
  }
  return sequence_;
}

// After a failure the caller may write something else in the place. What was given up must not come later.
void NumberedOperation::Finish(const Status& status) {
  OnFinished();
  if (sequence_ == 0) return Tell(status);
  if (status.ok() || !may_be_under_way()) {
    core_->EndSequence(numbered_in_, sequence_);
    return Tell(status);
  }
  core_->OperationBegins();  // for as long as the caller waits
  core_->EndUncertainSequence(numbered_in_, sequence_,
                              [self = std::static_pointer_cast<NumberedOperation>(shared_from_this()), status] {
                                self->Tell(status);
                                self->core_->OperationOver();
                              });
}

void NumberedOperation::Tell(const Status& status) {
  auto done = std::exchange(done_, nullptr);
  if (status.ok()) {
    done(ack_);
  } else {
    done(status);
  }
}

// ---- WriteOperation ----

WriteOperation::WriteOperation(std::shared_ptr<ChunkClient::Core> core, const ChunkReference& chunk, uint64_t offset,
                               std::span<const uint8_t> bytes, const WriteOptions& options,
                               Callback<WriteAck> done)
    : NumberedOperation(std::move(core), chunk, std::move(done)), bytes_(bytes) {
  FillTruncate(chunk_, request_.mutable_truncate());
  request_.set_session(session_.value());
  request_.set_offset_bytes(static_cast<uint32_t>(offset));
  request_.set_data_generation(chunk_.data_generation);
  request_.set_durable(options.durable);
  if (options.acknowledged) {
    request_.mutable_acknowledged()->set_epoch(options.acknowledged->epoch.value());
    request_.mutable_acknowledged()->set_version(options.acknowledged->version);
  }
  request_.set_piece_sums(ComputePieceSums(offset, bytes_));
}

void WriteOperation::Admitted() {
  admitted_ = true;
  Attempt();
}

bool WriteOperation::Admit() {
  if (admitted_ && admitted_at_ == route_.address) return true;
  if (admitted_) {
    // Another server is primary now. Later, and not from here: those that are let in may be on their way to it as well.
    loop()->Post([core = core_, address = admitted_at_, bytes = bytes_.size()] { core->LeaveWrite(address, bytes); });
    admitted_ = false;
  }
  // Set before it may be queued: from then on another thread may go on with it.
  admitted_at_ = route_.address;
  if (!core_->AdmitWrite(admitted_at_, bytes_.size(), shared_from_this())) return false;
  admitted_ = true;
  return true;
}

void WriteOperation::Send(rpc::FrameClient& client, rpc::CallOptions options) {
  FillAddress(chunk_, route_, request_.mutable_chunk());
  request_.set_sequence(Sequence());
  request_.set_acked_through(core_->AckedThrough(numbered_in_));
  options.payload = bytes_;
  client.Call(rpc::Method::kWriteChunk, request_, options, MakeReplyCallback());
}

Status WriteOperation::OnGood(const rpc::Reply& reply) {
  proto::WriteChunkReply message;
  RETURN_IF_ERROR(rpc::ParseReply(reply, &message));
  core_->counters.bytes_written.fetch_add(bytes_.size(), std::memory_order_relaxed);
  ack_ = WriteAck{route_.group, route_.target, Incarnation(message.incarnation()), message.durable()};
  ack_.stamp = {Epoch(message.epoch()), message.version()};
  for (const proto::ChunkRange& range : message.superseded()) {
    ack_.superseded.push_back({range.offset_bytes(), range.length_bytes()});
  }
  return Status::Ok();
}

bool WriteOperation::RetryAfterRefusal(const Status& status) {
  // The bytes or the sums changed on the way (or in memory: then fresh sums are no worse than what the application
  // will read).
  if (status.code() != StatusCode::kCorruption || ++sum_refusals_ > kWriteSumRefusalsMax) return false;
  core_->counters.checksum_failures.fetch_add(1, std::memory_order_relaxed);
  spdlog::warn("{}: refused ({}), sending again", Where(), status.message());
  return true;
}

void WriteOperation::OnFinished() {
  if (admitted_) core_->LeaveWrite(admitted_at_, bytes_.size());
}

// ---- TruncateOperation ----

void TruncateOperation::Send(rpc::FrameClient& client, rpc::CallOptions options) {
  proto::TruncateChunkRequest request;
  FillAddress(chunk_, route_, request.mutable_chunk());
  FillTruncate(chunk_, request.mutable_truncate());
  request.set_session(session_.value());
  request.set_sequence(Sequence());
  client.Call(rpc::Method::kTruncateChunk, request, options, MakeReplyCallback());
}

Status TruncateOperation::OnGood(const rpc::Reply& reply) {
  proto::TruncateChunkReply message;
  RETURN_IF_ERROR(rpc::ParseReply(reply, &message));
  ack_ = WriteAck{route_.group, route_.target, Incarnation(message.incarnation()), message.durable()};
  return Status::Ok();
}

}  // namespace tarn::client
