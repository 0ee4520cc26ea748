#include "chunkserver/replication/chunk_repair.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "chunkserver/replication/peer_call.h"
#include "chunkserver/replication/wire.h"
#include "common/checksum/block_sums.h"

namespace tarn::replication {
namespace {

constexpr uint64_t kPieceBytes = 1u << 20;
constexpr int kAttempts = 10;

// Whether the bytes at `offset` are what this target's sums say (the last block's is that of the block padded with zeros).
bool FitsSums(const store::ChunkSums& sums, uint64_t offset, std::span<const uint8_t> bytes) {
  for (uint64_t done = 0; done < bytes.size(); done += kSumBlockBytes) {
    std::array<uint8_t, kSumBlockBytes> block{};
    const auto piece = bytes.subspan(done, std::min<uint64_t>(kSumBlockBytes, bytes.size() - done));
    std::copy(piece.begin(), piece.end(), block.begin());
    const uint64_t index = (offset + done) / kSumBlockBytes;
    if (index >= sums.blocks.size() || Xxh3(block) != sums.blocks[index]) return false;
  }
  return true;
}

// One attempt; the chunk's turn is held, so that its stamp here stays.
class Repair : public std::enable_shared_from_this<Repair> {
 public:
  Repair(ReplicaPtr replica, ChunkId chunk, ChunkOrder::TurnPtr turn, std::function<void(const Status&)> done)
      : replica_(std::move(replica)), ctx_(replica_->ctx), chunk_(chunk), turn_(std::move(turn)), done_(std::move(done)) {}

  void Start() {
    {
      MutexLock lock(replica_->mutex);
      epoch_ = replica_->view.epoch;
      if (replica_->view.IsInSync(ctx_->target)) sources_ = replica_->view.in_sync;
    }
    std::erase(sources_, ctx_->target);
    if (sources_.empty()) return End(Status(StatusCode::kCorruption, "there is no other copy of the chunk"));
    Result<store::ChunkSums> own = ctx_->store->SumsOf(chunk_);
    if (!own.ok()) return End(own.status());
    own_ = std::move(*own);
    NextPiece();
  }

 private:
  // On a thread that may block. Reads on until something is damaged.
  void NextPiece() {
    while (offset_ < own_.state.bytes) {
      const Result<std::vector<uint8_t>> bytes = ctx_->store->ReadForCopy(chunk_, offset_, kPieceBytes);
      if (store::IsUnreadable(bytes.status())) return AskSource(0);
      if (!bytes.ok()) return End(bytes.status());
      offset_ += kPieceBytes;
    }
    const Status installed = repaired_ ? ctx_->store->InstallEnd(chunk_, own_.state) : Status::Ok();
    repaired_ = false;  // its end is made
    // Also where the disk has given everything this time: what is damaged no more must not stay known as damaged.
    End(installed.ok() ? ctx_->store->RecheckDamaged(chunk_) : installed);
  }

  void AskSource(size_t index) {
    if (index == sources_.size()) return End(worst_);
    proto::ChunkSumsRequest request;
    SetAddress(*ctx_, sources_[index], replica_->group, epoch_, request.mutable_member());
    request.set_data_id(chunk_.data.value());
    request.set_chunk_index(chunk_.index);
    CallPeer<proto::ChunkSumsReply>(ctx_, sources_[index], rpc::Method::kChunkSums, request, {},
                                    [self = shared_from_this(), index](const Status& status, const proto::ChunkSumsReply& reply) {
                                      // Another stamp: one of the two has a change that the other will get.
                                      if (!status.ok() || StampOf(reply.stamp()) != self->own_.state.stamp) return self->NextSource(index);
                                      self->ReadSource(index);
                                    });
  }

  void NextSource(size_t index, StatusCode code = StatusCode::kUnavailable) {
    if (code == StatusCode::kCorruption || worst_.ok()) worst_ = Status(code, "no other copy of the chunk has the damaged blocks");
    AskSource(index + 1);
  }

  void ReadSource(size_t index) {
    proto::ReadChunkRequest request;
    request.mutable_chunk()->set_target(sources_[index].value());
    request.mutable_chunk()->set_group(replica_->group.value());
    request.mutable_chunk()->set_epoch(epoch_.value());
    request.mutable_chunk()->set_data_id(chunk_.data.value());
    request.mutable_chunk()->set_chunk_index(chunk_.index);
    request.set_offset_bytes(static_cast<uint32_t>(offset_));
    request.set_length_bytes(static_cast<uint32_t>(kPieceBytes));
    request.mutable_truncate()->set_generation(own_.state.truncate_generation);
    request.mutable_truncate()->set_truncated_chunk_bytes(own_.state.bytes);
    request.set_verify_at_source(true);
    request.set_primary_is_silent(true);  // a member answers its primary as well, and without a grant: what it says is held against the sums here
    ctx_->network->Call(sources_[index], rpc::Method::kReadChunk, request, {}, ctx_->options.member_timeout_ms,
                        [self = shared_from_this(), index](const PeerReply& reply) {
                          std::vector<uint8_t> bytes(reply.payload.begin(), reply.payload.end());
                          const uint64_t wanted = std::min(kPieceBytes, self->own_.state.bytes - self->offset_);
                          if (reply.status.code() == StatusCode::kAskPrimary) return self->NextSource(index);  // a change of it is on its way
                          if (!reply.status.ok()) return self->NextSource(index, reply.status.code());
                          if (bytes.size() != wanted || !FitsSums(self->own_, self->offset_, bytes)) return self->NextSource(index);
                          self->ctx_->executor->Run([self, bytes = std::move(bytes)] { self->Install(bytes); });
                        });
  }

  void Install(const std::vector<uint8_t>& bytes) {
    const Status status = ctx_->store->InstallPiece(chunk_, replica_->group, offset_, bytes, ComputePieceSums(offset_, bytes));
    if (!status.ok()) return End(status);
    repaired_ = true;
    offset_ += kPieceBytes;
    NextPiece();
  }

  void End(Status status) {
    // What was repaired so far is of the stamp it had.
    if (!status.ok() && repaired_) {
      ctx_->executor->Run([self = shared_from_this(), status] {
        const Status ended = self->ctx_->store->InstallEnd(self->chunk_, self->own_.state);
        self->turn_.reset();
        self->done_(ended.ok() ? status : ended);
      });
      return;
    }
    turn_.reset();
    done_(status);
  }

  const ReplicaPtr replica_;
  const ContextPtr ctx_;
  const ChunkId chunk_;
  ChunkOrder::TurnPtr turn_;
  const std::function<void(const Status&)> done_;
  Epoch epoch_;
  std::vector<TargetId> sources_;
  store::ChunkSums own_;
  uint64_t offset_ = 0;
  bool repaired_ = false;
  Status worst_;
};

void Attempt(const ReplicaPtr& replica, ChunkId chunk, int attempts_left, const std::function<void(const Status&)>& done) {
  replica->order->Acquire(chunk, [=](const ChunkOrder::TurnPtr& turn) {
    std::make_shared<Repair>(replica, chunk, turn, [=](const Status& status) {
      if (status.code() != StatusCode::kUnavailable || attempts_left <= 1 || replica->ctx->stopped) return done(status);
      replica->ctx->executor->RunAfter(kRepeatDelayMs, [=] { Attempt(replica, chunk, attempts_left - 1, done); });
    })->Start();
  });
}

}  // namespace

void RepairChunkInTurn(const ReplicaPtr& replica, ChunkId chunk, const ChunkOrder::TurnPtr& turn, std::function<void(const Status&)> done) {
  std::make_shared<Repair>(replica, chunk, turn, std::move(done))->Start();
}

void RepairChunk(const ReplicaPtr& replica, ChunkId chunk, std::function<void(const Status&)> done) { Attempt(replica, chunk, kAttempts, done); }

}  // namespace tarn::replication
