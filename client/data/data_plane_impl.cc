#include <algorithm>
#include <atomic>
#include <utility>

#include "client/data/data_plane.h"
#include "client/data/data_view.h"
#include "client/data/inode_data_impl.h"
#include "client/data/plane_core.h"
#include "common/base/mutex.h"

namespace tarn::client {
namespace {

// Counts down the parts of an operation; the last one reports the first error.
struct Join {
  Join(uint64_t parts, StatusCallback callback) : parts_left(parts), done(std::move(callback)) {}

  void Over(const Status& status) {
    Status result;
    {
      MutexLock lock(mutex);
      if (first_error.ok()) first_error = status;
      if (--parts_left > 0) return;
      result = first_error;
    }
    done(result);
  }

  Mutex mutex;
  uint64_t parts_left GUARDED_BY(mutex);
  Status first_error GUARDED_BY(mutex);
  const StatusCallback done;
};

std::shared_ptr<const Clock> ClockOf(const DataPlaneOptions& options) {
  if (options.clock == nullptr) return std::make_shared<SystemClock>();
  return {options.clock, [](const Clock*) {}};
}

class DataPlaneImpl final : public DataPlane {
 public:
  DataPlaneImpl(const DataPlaneOptions& options, std::vector<rpc::EventLoop*> loops, MetadataForData* metadata,
                std::shared_ptr<WriteBuffer> buffer)
      : core_(std::make_shared<PlaneCore>(options, std::move(loops), metadata, ClockOf(options), std::move(buffer))) {}
  // Answers of the metadata half that still come hold the core and find it closed.
  ~DataPlaneImpl() override { core_->Close(); }

  std::shared_ptr<InodeData> Attach(const Attributes& attributes) override { return core_->Attach(attributes); }

  std::shared_ptr<ReadAheadState> NewReadAhead() override { return std::make_shared<ReadAheadState>(); }

  void WriteWhole(DataId data, const FileLayout& layout, std::span<const uint8_t> bytes, StatusCallback done) override {
    const Status valid = ValidateLayout(layout);
    if (!valid.ok()) return done(valid);
    if (bytes.empty()) return done(Status::Ok());
    if (bytes.size() > FileSizeMaxOf(layout))
      return done(Status(StatusCode::kFileTooLarge, "larger than its layout allows"));
    const DataView view{
        .data = data, .layout = layout, .truncate_generation = 0, .truncate_floor_bytes = {}, .data_generation = 0, .settled = false};
    const std::vector<ChunkPiece> pieces = SplitRange(layout, {0, bytes.size()});
    auto join = std::make_shared<Join>(pieces.size(), std::move(done));
    for (const ChunkPiece& piece : pieces) {
      core_->chunks.Write(
          ChunkOf(view, piece.chunk_index), piece.chunk_offset, bytes.subspan(piece.file_offset, piece.length),
          WriteOptions{.durable = true}, [join](const Result<WriteAck>& ack) {
            if (ack.ok() && !ack->durable) {
              join->Over(Status(StatusCode::kIoError, "the chunk server did not make the write durable"));
            } else {
              join->Over(ack.status());
            }
          });
    }
  }

  void SyncAll(StatusCallback done) override {
    const std::vector<InodeDataPtr> inodes = core_->Active();
    if (inodes.empty()) return done(Status::Ok());
    auto join = std::make_shared<Join>(inodes.size(), std::move(done));
    for (const InodeDataPtr& inode : inodes) {
      inode->SyncKeepingErrors([join](const Status& status) { join->Over(status); });
    }
  }

  Counters counters() const override {
    const ChunkClient::Counters& counters = core_->chunks.counters();
    return Counters{.requests = counters.requests.load(),
                    .bytes_read = counters.bytes_read.load(),
                    .bytes_written = counters.bytes_written.load(),
                    .checksum_failures = counters.checksum_failures.load(),
                    .relayed_requests = counters.relayed_requests.load(),
                    .second_reads = counters.second_reads.load(),
                    .elastic_reads = counters.elastic_reads.load(),
                    .elastic_fallbacks = counters.elastic_fallbacks.load(),
                    .dirty_bytes = core_->unacknowledged_bytes()};
  }

 private:
  const std::shared_ptr<PlaneCore> core_;
};

}  // namespace

Result<std::unique_ptr<DataPlane>> DataPlane::Create(const DataPlaneOptions& options,
                                                     std::vector<rpc::EventLoop*> loops, MetadataForData* metadata) {
  if (loops.empty()) return Status(StatusCode::kInvalidArgument, "the data plane needs an event loop");
  ASSIGN_OR_RETURN(std::shared_ptr<WriteBuffer> buffer,
                   WriteBuffer::Create(options.write_buffer_name, options.write_buffer_bytes));
  return std::unique_ptr<DataPlane>(new DataPlaneImpl(options, std::move(loops), metadata, std::move(buffer)));
}

}  // namespace tarn::client
