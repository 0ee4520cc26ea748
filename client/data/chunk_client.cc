#include "client/data/chunk_client.h"

#include <utility>

#include "client/data/chunk_client_core.h"
#include "client/data/read_operation.h"
#include "client/data/target_operations.h"
#include "client/data/write_operations.h"
#include "common/base/check.h"
#include "common/base/mutex.h"
#include "common/checksum/block_sums.h"

namespace tarn::client {

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

void ChunkClient::Write(const ChunkReference& chunk, uint64_t offset, std::span<const uint8_t> bytes,
                        const WriteOptions& options, Callback<WriteAck> done) {
  CHECK(!bytes.empty() && bytes.size() <= rpc::kPayloadBytesMax, "the length of a write is bounded");
  std::make_shared<WriteOperation>(core_, chunk, offset, bytes, options, std::move(done))->Attempt();
}

void ChunkClient::Truncate(const ChunkReference& chunk, Callback<WriteAck> done) {
  std::make_shared<TruncateOperation>(core_, chunk, std::move(done))->Attempt();
}

void ChunkClient::CommitTarget(TargetId target, std::vector<GroupId> groups, Callback<CommitOutcome> done) {
  std::make_shared<CommitOperation>(core_, target, std::move(groups), std::move(done))->Attempt();
}

void ChunkClient::CommitColumns(const FileLayout& layout, uint32_t columns, StatusCallback done) {
  if (columns == 0) return done(Status::Ok());
  struct Pending {
    Mutex mutex;
    uint32_t left GUARDED_BY(mutex) = 0;
    Status status GUARDED_BY(mutex);
    StatusCallback done;
  };
  const auto pending = std::make_shared<Pending>();
  {
    MutexLock lock(pending->mutex);
    pending->left = columns;
  }
  pending->done = std::move(done);
  const auto on_column = [pending](const Status& status) {
    Status result;
    {
      MutexLock lock(pending->mutex);
      if (!status.ok()) pending->status = status;
      if (--pending->left > 0) return;
      result = pending->status;
    }
    pending->done(result);
  };
  for (uint32_t column = 0; column < columns; ++column) {
    std::make_shared<ColumnCommitOperation>(core_, layout, column, on_column)->Attempt();
  }
}

void ChunkClient::ListChunks(const FileLayout& layout, uint32_t column, DataId data,
                             Callback<std::vector<StoredChunk>> done) {
  std::make_shared<ListOperation>(core_, layout, column, data, std::move(done))->Attempt();
}

void ChunkClient::Close() {
  core_->Close();
  core_->AwaitOperations();
}

bool ChunkClient::HasElasticTargets() const { return core_->has_elastic_targets.load(std::memory_order_relaxed); }

const ChunkClient::Counters& ChunkClient::counters() const { return core_->counters; }

}  // namespace tarn::client
