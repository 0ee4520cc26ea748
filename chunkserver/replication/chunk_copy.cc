#include "chunkserver/replication/chunk_copy.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "chunkserver/replication/chunk_repair.h"
#include "chunkserver/replication/peer_call.h"
#include "chunkserver/replication/wire.h"
#include "common/checksum/block_sums.h"

namespace tarn::replication {
namespace {

constexpr uint64_t kPieceBytesMax = 1u << 20;

class Copy : public std::enable_shared_from_this<Copy> {
 public:
  Copy(const CopyJob& job, ChunkOrder::TurnPtr turn, CopyCallback done, std::function<void()> before_end)
      : job_(job), ctx_(job.replica->ctx), turn_(std::move(turn)), done_(std::move(done)), before_end_(std::move(before_end)) {}

  // On a thread that may block, as all that touches the store.
  void Start() {
    if (Status status = LoadOwn(); !status.ok()) return SourceFailed(status);
    proto::ChunkSumsRequest request;
    Address(request.mutable_member());
    request.set_data_id(job_.chunk.data.value());
    request.set_chunk_index(job_.chunk.index);
    request.set_install(true);
    CallPeer<proto::ChunkSumsReply>(ctx_, job_.member, rpc::Method::kChunkSums, request, {},
                                    [self = shared_from_this()](const Status& status, const proto::ChunkSumsReply& reply) {
                                      if (!status.ok()) return self->End(status.WithContext("sums of a member's chunk"));
                                      self->Compare(reply);
                                    });
  }

 private:
  struct Piece {
    uint64_t offset;
    uint64_t length;
  };

  void Address(proto::GroupAddress* address) const { SetAddress(*ctx_, job_.member, job_.replica->group, job_.epoch, address); }

  // A chunk whose content is of no single epoch gets a stamp that no other copy has: of this epoch, which has ordered no change of it yet.
  Status LoadOwn() {
    ASSIGN_OR_RETURN(own_, ctx_->store->SumsOf(job_.chunk));
    if (own_.state.stamp.version == 0 || own_.state.stamp.epoch.valid()) return Status::Ok();
    own_.state.stamp = {job_.epoch, own_.state.stamp.version + 1};
    own_.state.group = job_.replica->group;
    return ctx_->store->InstallEnd(job_.chunk, own_.state);
  }

  void Compare(const proto::ChunkSumsReply& reply) {
    copy_ = reply.copy();
    count_.bytes_total = own_.state.bytes;
    const store::ChunkStamp theirs = StampOf(reply.stamp());
    if (theirs.version == own_.state.stamp.version && (theirs.version == 0 || theirs == own_.state.stamp)) return End(Status::Ok());
    if (own_.state.stamp.version == 0) {
      proto::InstallChunkRequest request = Message();
      request.set_remove(true);
      return Install(request, {}, [](Copy& copy) { copy.End(Status::Ok()); });
    }
    Plan(reply.block_sums(), reply.bytes());
    SendNext();
  }

  // Runs of blocks that differ. Blocks that the member does not have read as zeros there once the length is set.
  void Plan(const std::string& theirs, uint64_t their_bytes) {
    const uint64_t their_blocks = std::min<uint64_t>(theirs.size() / kSumBytes, PieceCount(0, their_bytes));
    for (uint64_t block = 0; block < own_.blocks.size(); ++block) {
      const uint64_t their_sum = block < their_blocks ? LoadSum(theirs, block) : ZeroBlockSum();
      if (own_.blocks[block] == their_sum) continue;
      const uint64_t offset = block * kSumBlockBytes;
      const uint64_t length = std::min<uint64_t>(kSumBlockBytes, own_.state.bytes - offset);
      const bool extends = !pieces_.empty() && pieces_.back().offset + pieces_.back().length == offset && pieces_.back().length + length <= kPieceBytesMax;
      if (extends) {
        pieces_.back().length += length;
      } else {
        pieces_.push_back({offset, length});
      }
    }
  }

  void SendNext() {
    if (next_piece_ == pieces_.size()) return SendEnd();
    ctx_->executor->Run([self = shared_from_this()] { self->SendPiece(self->pieces_[self->next_piece_++]); });
  }

  void SendPiece(const Piece& piece) {
    Result<std::vector<uint8_t>> bytes = ctx_->store->ReadForCopy(job_.chunk, piece.offset, piece.length);
    if (store::IsUnreadable(bytes.status()) && !std::exchange(mending_, true)) return Mend(piece);
    if (!bytes.ok()) return SourceFailed(bytes.status());
    mending_ = false;
    bytes_ = std::move(*bytes);
    proto::InstallChunkRequest request = Message();
    request.set_offset_bytes(static_cast<uint32_t>(piece.offset));
    request.set_piece_sums(ComputePieceSums(piece.offset, bytes_));
    request.set_truncate_generation(own_.state.truncate_generation + 1);
    count_.bytes_sent += bytes_.size();
    ctx_->pacer.Pay(ctx_->NowNs(), bytes_.size());
    Install(request, bytes_, [](Copy& copy) { copy.SendNext(); });
  }

  void Mend(const Piece& piece) {
    RepairChunkInTurn(job_.replica, job_.chunk, turn_, [self = shared_from_this(), piece](const Status& status) {
      if (!status.ok()) return self->SourceFailed(status);
      self->ctx_->executor->Run([self, piece] { self->SendPiece(piece); });
    });
  }

  void SourceFailed(const Status& status) {
    count_.source_failed = true;
    End(status.WithContext("read a chunk to be copied"));
  }

  void SendEnd() {
    proto::InstallChunkRequest request = Message();
    request.set_end(true);
    SetStamp(own_.state.stamp, request.mutable_stamp());
    request.set_chunk_bytes(own_.state.bytes);
    request.set_truncate_generation(own_.state.truncate_generation);
    Install(request, {}, [](Copy& copy) { copy.End(Status::Ok()); });
  }

  proto::InstallChunkRequest Message() const {
    proto::InstallChunkRequest request;
    Address(request.mutable_member());
    request.set_data_id(job_.chunk.data.value());
    request.set_chunk_index(job_.chunk.index);
    request.set_copy(copy_);
    return request;
  }

  void Install(const proto::InstallChunkRequest& request, std::span<const uint8_t> payload, void (*next)(Copy&)) {
    CallPeer<proto::InstallChunkReply>(ctx_, job_.member, rpc::Method::kInstallChunk, request, payload,
                                       [self = shared_from_this(), next](const Status& status, const proto::InstallChunkReply&) {
                                         // The data id is deleted for good there: nothing to keep.
                                         if (status.code() == StatusCode::kStaleTruncate) return self->End(Status::Ok());
                                         if (!status.ok()) return self->End(status.WithContext("install a chunk at a member"));
                                         next(*self);
                                       });
  }

  void End(const Status& status) {
    if (status.ok() && before_end_) before_end_();
    before_end_ = nullptr;
    turn_.reset();
    if (const CopyCallback done = std::exchange(done_, nullptr)) done(status, count_);
  }

  const CopyJob job_;
  const ContextPtr ctx_;
  ChunkOrder::TurnPtr turn_;
  CopyCallback done_;
  std::function<void()> before_end_;
  store::ChunkSums own_;
  uint64_t copy_ = 0;
  std::vector<Piece> pieces_;
  size_t next_piece_ = 0;
  std::vector<uint8_t> bytes_;  // of the piece under way
  bool mending_ = false;        // that piece could not be read
  CopyCount count_;
};

}  // namespace

void CopyChunk(const CopyJob& job, CopyCallback done, std::function<void()> before_end) {
  const ContextPtr& ctx = job.replica->ctx;
  const auto start = [=] {
    job.replica->order->Acquire(job.chunk, [=](const ChunkOrder::TurnPtr& turn) { CopyChunk(job, turn, done, before_end); });
  };
  const int64_t delay_ms = ctx->pacer.DelayMs(ctx->NowNs());
  delay_ms == 0 ? start() : ctx->executor->RunAfter(delay_ms, start);
}

void CopyChunk(const CopyJob& job, ChunkOrder::TurnPtr turn, CopyCallback done, std::function<void()> before_end) {
  std::make_shared<Copy>(job, std::move(turn), std::move(done), std::move(before_end))->Start();
}

}  // namespace tarn::replication
