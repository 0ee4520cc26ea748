#include "client/data/chunk_client.h"

#include <google/protobuf/arena.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "client/data/chunk_operation.h"
#include "common/base/check.h"
#include "common/checksum/block_sums.h"
#include "proto/data.pb.h"

namespace tarn::client {
namespace {

using google::protobuf::Arena;
using google::protobuf::ArenaOptions;

constexpr uint32_t kWriteSumRefusalsMax = 3;

// Messages of the hot paths are built in a block on the stack.
struct StackArena {
  alignas(8) char block[1024];
  Arena arena;
  StackArena() : arena(Options(block, sizeof block)) {}
  static ArenaOptions Options(char* block, size_t bytes) {
    ArenaOptions options;
    options.initial_block = block;
    options.initial_block_size = bytes;
    return options;
  }
};

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

SessionId SessionOf(ChunkClient::Core& core) {
  MetadataGate::Use use(*core.metadata);
  return use ? use->session() : SessionId();
}

std::string ChunkText(const ChunkReference& chunk) { return ToString(ChunkId{chunk.data, chunk.chunk_index}); }

// ---- Read ----

class ReadOperation final : public ChunkOperation {
 public:
  ReadOperation(std::shared_ptr<ChunkClient::Core> core, const ChunkReference& chunk, uint64_t offset,
                std::span<uint8_t> destination, StatusCallback done)
      : ChunkOperation(std::move(core)),
        chunk_(chunk),
        offset_(offset),
        destination_(destination),
        done_(std::move(done)),
        session_(SessionOf(*core_)) {}

 private:
  Result<Route> FindRoute(const PlacementRoutes& routes) const override {
    return routes.OfColumn(chunk_.layout, ColumnOfChunk(chunk_.layout, chunk_.chunk_index));
  }
  LinkPurpose purpose() const override { return LinkPurpose::kRead; }

  void Send(rpc::FrameClient& client, rpc::CallOptions options) override {
    StackArena stack;
    auto* request = Arena::CreateMessage<proto::ReadChunkRequest>(&stack.arena);
    FillAddress(chunk_, route_, request->mutable_chunk());
    FillTruncate(chunk_, request->mutable_truncate());
    request->set_session(session_.value());
    request->set_offset_bytes(static_cast<uint32_t>(offset_));
    request->set_length_bytes(static_cast<uint32_t>(destination_.size()));
    request->set_data_generation(chunk_.data_generation);
    request->set_verify_at_source(bad_sums_ >= 2);
    options.payload_destination = destination_;
    client.Call(rpc::Method::kReadChunk, *request, options, MakeReplyCallback());
  }

  Status OnGood(const rpc::Reply& reply) override {
    StackArena stack;
    auto* message = Arena::CreateMessage<proto::ReadChunkReply>(&stack.arena);
    const Status parsed = rpc::ParseReply(reply, message);
    if (!parsed.ok()) return OnBadBytes(parsed.message());
    const auto bad = FindBadPiece(offset_, reply.payload, message->block_sums());
    if (bad) {
      return OnBadBytes("checksum of bytes from " + std::to_string((offset_ / kSumBlockBytes + *bad) * kSumBlockBytes) +
                        " of the chunk does not hold");
    }
    std::memset(destination_.data() + reply.payload.size(), 0, destination_.size() - reply.payload.size());
    core_->counters.bytes_read.fetch_add(reply.payload.size(), std::memory_order_relaxed);
    return Status::Ok();
  }

  // First once more as before (it may have happened on the way), then with a check at the server.
  Status OnBadBytes(const std::string& what) {
    core_->counters.checksum_failures.fetch_add(1, std::memory_order_relaxed);
    if (++bad_sums_ >= 3) return Status(StatusCode::kCorruption, what);
    spdlog::warn("{}: {}, reading again", Where(), what);
    return Status(StatusCode::kUnavailable, what);
  }

  bool RetryAfterRefusal(const Status& status) override {
    // Of an attempt that did not ask for a check at the source it can only be a frame that made no sense.
    return status.code() == StatusCode::kCorruption && bad_sums_ < 2 &&
           OnBadBytes(status.message()).code() == StatusCode::kUnavailable;
  }

  void Finish(const Status& status) override {
    if (status.code() == StatusCode::kCorruption) spdlog::error("{}", status.message());
    std::exchange(done_, nullptr)(status);
  }
  std::string Describe() const override { return "read chunk " + ChunkText(chunk_); }

  const ChunkReference chunk_;
  const uint64_t offset_;
  const std::span<uint8_t> destination_;
  StatusCallback done_;
  const SessionId session_;
  uint32_t bad_sums_ = 0;
};

// ---- Operations with a number: write, truncate ----

class NumberedOperation : public ChunkOperation {
 public:
  NumberedOperation(std::shared_ptr<ChunkClient::Core> core, const ChunkReference& chunk, Callback<WriteAck> done)
      : ChunkOperation(std::move(core)), chunk_(chunk), session_(SessionOf(*core_)), done_(std::move(done)) {}

 protected:
  Result<Route> FindRoute(const PlacementRoutes& routes) const override {
    return routes.OfColumn(chunk_.layout, ColumnOfChunk(chunk_.layout, chunk_.chunk_index));
  }
  LinkPurpose purpose() const override { return LinkPurpose::kWrite; }

  // The same number for every attempt at one target; another target has numbers of its own.
  uint64_t NumberForRoute() {
    if (numbered_at_ != route_.target) {
      EndNumber();
      numbered_at_ = route_.target;
      sequence_ = core_->BeginSequence(numbered_at_);
    }
    return sequence_;
  }
  void EndNumber() {
    if (numbered_at_.valid()) core_->EndSequence(numbered_at_, sequence_);
    numbered_at_ = TargetId();
  }

  void Finish(const Status& status) override {
    EndNumber();
    OnFinished();
    auto done = std::exchange(done_, nullptr);
    if (status.ok()) {
      done(ack_);
    } else {
      done(status);
    }
  }
  virtual void OnFinished() {}

  const ChunkReference chunk_;
  const SessionId session_;
  WriteAck ack_;

 private:
  Callback<WriteAck> done_;
  TargetId numbered_at_;
  uint64_t sequence_ = 0;
};

class WriteOperation final : public NumberedOperation {
 public:
  WriteOperation(std::shared_ptr<ChunkClient::Core> core, const ChunkReference& chunk, uint64_t offset,
                 std::span<const uint8_t> bytes, bool durable, Callback<WriteAck> done)
      : NumberedOperation(std::move(core), chunk, std::move(done)), bytes_(bytes) {
    FillTruncate(chunk_, request_.mutable_truncate());
    request_.set_session(session_.value());
    request_.set_offset_bytes(static_cast<uint32_t>(offset));
    request_.set_data_generation(chunk_.data_generation);
    request_.set_durable(durable);
    request_.set_piece_sums(ComputePieceSums(offset, bytes_));
  }

  void Admitted() override {
    admitted_ = true;
    Attempt();
  }

 private:
  bool Admit() override {
    if (admitted_) return true;
    // Set before it may be queued: from then on another thread may go on with it.
    admitted_at_ = route_.address;
    if (!core_->AdmitWrite(admitted_at_, bytes_.size(), shared_from_this())) return false;
    admitted_ = true;
    return true;
  }

  void Send(rpc::FrameClient& client, rpc::CallOptions options) override {
    FillAddress(chunk_, route_, request_.mutable_chunk());
    request_.set_sequence(NumberForRoute());
    request_.set_acked_through(core_->AckedThrough(route_.target));
    options.payload = bytes_;
    client.Call(rpc::Method::kWriteChunk, request_, options, MakeReplyCallback());
  }

  Status OnGood(const rpc::Reply& reply) override {
    proto::WriteChunkReply message;
    RETURN_IF_ERROR(rpc::ParseReply(reply, &message));
    core_->counters.bytes_written.fetch_add(bytes_.size(), std::memory_order_relaxed);
    ack_ = WriteAck{route_.target, Incarnation(message.incarnation()), message.durable()};
    return Status::Ok();
  }

  bool RetryAfterRefusal(const Status& status) override {
    // The bytes or the sums changed on the way (or in memory: then fresh sums are no worse than what the application
    // will read).
    if (status.code() != StatusCode::kCorruption || ++sum_refusals_ > kWriteSumRefusalsMax) return false;
    core_->counters.checksum_failures.fetch_add(1, std::memory_order_relaxed);
    spdlog::warn("{}: refused ({}), sending again", Where(), status.message());
    return true;
  }

  void OnFinished() override {
    if (admitted_) core_->LeaveWrite(admitted_at_, bytes_.size());
  }
  std::string Describe() const override { return "write chunk " + ChunkText(chunk_); }

  const std::span<const uint8_t> bytes_;
  proto::WriteChunkRequest request_;
  bool admitted_ = false;
  std::string admitted_at_;
  uint32_t sum_refusals_ = 0;
};

class TruncateOperation final : public NumberedOperation {
 public:
  using NumberedOperation::NumberedOperation;

 private:
  void Send(rpc::FrameClient& client, rpc::CallOptions options) override {
    proto::TruncateChunkRequest request;
    FillAddress(chunk_, route_, request.mutable_chunk());
    FillTruncate(chunk_, request.mutable_truncate());
    request.set_session(session_.value());
    request.set_sequence(NumberForRoute());
    client.Call(rpc::Method::kTruncateChunk, request, options, MakeReplyCallback());
  }
  Status OnGood(const rpc::Reply& reply) override {
    proto::TruncateChunkReply message;
    RETURN_IF_ERROR(rpc::ParseReply(reply, &message));
    ack_ = WriteAck{route_.target, Incarnation(message.incarnation()), message.durable()};
    return Status::Ok();
  }
  std::string Describe() const override { return "truncate chunk " + ChunkText(chunk_); }
};

// ---- Operations on a target ----

class CommitOperation final : public ChunkOperation {
 public:
  CommitOperation(std::shared_ptr<ChunkClient::Core> core, TargetId target, Callback<Incarnation> done)
      : ChunkOperation(std::move(core)), target_(target), done_(std::move(done)), session_(SessionOf(*core_)) {}

 private:
  Result<Route> FindRoute(const PlacementRoutes& routes) const override { return routes.OfTarget(target_); }
  LinkPurpose purpose() const override { return LinkPurpose::kWrite; }

  void Send(rpc::FrameClient& client, rpc::CallOptions options) override {
    proto::CommitTargetRequest request;
    request.set_target(target_.value());
    request.set_session(session_.value());
    client.Call(rpc::Method::kCommitTarget, request, options, MakeReplyCallback());
  }
  Status OnGood(const rpc::Reply& reply) override {
    proto::CommitTargetReply message;
    RETURN_IF_ERROR(rpc::ParseReply(reply, &message));
    incarnation_ = Incarnation(message.incarnation());
    return Status::Ok();
  }
  void Finish(const Status& status) override {
    auto done = std::exchange(done_, nullptr);
    if (status.ok()) {
      done(incarnation_);
    } else {
      done(status);
    }
  }
  std::string Describe() const override { return "commit"; }

  const TargetId target_;
  Callback<Incarnation> done_;
  const SessionId session_;
  Incarnation incarnation_;
};

class ListOperation final : public ChunkOperation {
 public:
  ListOperation(std::shared_ptr<ChunkClient::Core> core, const FileLayout& layout, uint32_t column, DataId data,
                Callback<std::vector<StoredChunk>> done)
      : ChunkOperation(std::move(core)), layout_(layout), column_(column), data_(data), done_(std::move(done)) {}

 private:
  Result<Route> FindRoute(const PlacementRoutes& routes) const override { return routes.OfColumn(layout_, column_); }
  LinkPurpose purpose() const override { return LinkPurpose::kRead; }

  void Send(rpc::FrameClient& client, rpc::CallOptions options) override {
    proto::StatDataRequest request;
    request.set_target(route_.target.value());
    request.set_data_id(data_.value());
    client.Call(rpc::Method::kStatData, request, options, MakeReplyCallback());
  }
  Status OnGood(const rpc::Reply& reply) override {
    proto::StatDataReply message;
    RETURN_IF_ERROR(rpc::ParseReply(reply, &message));
    for (const auto& chunk : message.chunks()) {
      // The target also holds the chunks of other columns whose groups it serves.
      if (ColumnOfChunk(layout_, chunk.index()) == column_) chunks_.push_back({chunk.index(), chunk.bytes()});
    }
    return Status::Ok();
  }
  void Finish(const Status& status) override {
    auto done = std::exchange(done_, nullptr);
    if (status.ok()) {
      done(std::move(chunks_));
    } else {
      done(status);
    }
  }
  std::string Describe() const override { return "list chunks of data " + std::to_string(data_.value()); }

  const FileLayout layout_;
  const uint32_t column_;
  const DataId data_;
  Callback<std::vector<StoredChunk>> done_;
  std::vector<StoredChunk> chunks_;
};

}  // namespace

ChunkClient::ChunkClient(const ChunkClientOptions& options, std::vector<rpc::EventLoop*> loops,
                         std::shared_ptr<MetadataGate> metadata, std::shared_ptr<const Clock> clock)
    : core_(std::make_shared<Core>(options, std::move(loops), std::move(metadata), std::move(clock))) {
  CHECK(!core_->loops.empty(), "the chunk client needs an event loop");
}

// Perhaps on the thread of a last callback, hence without waiting for it.
ChunkClient::~ChunkClient() { core_->Close(); }

void ChunkClient::Read(const ChunkReference& chunk, uint64_t offset, std::span<uint8_t> destination,
                       StatusCallback done) {
  CHECK(offset % kSumBlockBytes == 0 && destination.size() % kSumBlockBytes == 0, "reads are whole blocks");
  CHECK(!destination.empty() && destination.size() <= rpc::kPayloadBytesMax, "the length of a read is bounded");
  std::make_shared<ReadOperation>(core_, chunk, offset, destination, std::move(done))->Attempt();
}

void ChunkClient::Write(const ChunkReference& chunk, uint64_t offset, std::span<const uint8_t> bytes, bool durable,
                        Callback<WriteAck> done) {
  CHECK(!bytes.empty() && bytes.size() <= rpc::kPayloadBytesMax, "the length of a write is bounded");
  std::make_shared<WriteOperation>(core_, chunk, offset, bytes, durable, std::move(done))->Attempt();
}

void ChunkClient::Truncate(const ChunkReference& chunk, Callback<WriteAck> done) {
  std::make_shared<TruncateOperation>(core_, chunk, std::move(done))->Attempt();
}

void ChunkClient::CommitTarget(TargetId target, Callback<Incarnation> done) {
  std::make_shared<CommitOperation>(core_, target, std::move(done))->Attempt();
}

void ChunkClient::ListChunks(const FileLayout& layout, uint32_t column, DataId data,
                             Callback<std::vector<StoredChunk>> done) {
  std::make_shared<ListOperation>(core_, layout, column, data, std::move(done))->Attempt();
}

void ChunkClient::Close() {
  core_->Close();
  core_->AwaitOperations();
}

const ChunkClient::Counters& ChunkClient::counters() const { return core_->counters; }

}  // namespace tarn::client
