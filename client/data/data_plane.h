// The data half of the client: file bytes to and from chunk servers. The namespace half (client/meta) implements
// MetadataForData and owns it.
//
// Write path: bytes are copied into the write buffer (a memfd of bounded size), coalesced per stripe unit, sent
// pipelined, and kept until a durable acknowledgement of the incarnation that took them; a changed incarnation means:
// send again. Read path: write buffer over read-ahead blocks over chunk servers; every block's sum is checked.
// Thread-safe; callbacks as in client/types.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "client/types.h"
#include "common/base/byte_range.h"
#include "common/rpc/event_loop.h"

namespace tarn {
class Clock;
}
namespace tarn::proto {
class ClusterMap;
}

namespace tarn::client {

// What the data half asks of the namespace half. Retries are inside; thread-safe.
class MetadataForData {
 public:
  virtual ~MetadataForData() = default;
  // Gives the inode a data id and layout if it has none.
  virtual void AllocateData(InodeId inode, Callback<Attributes> done) = 0;
  struct WriteCommit {
    InodeId inode;
    DataId data;
    uint64_t truncate_generation = 0;
    uint64_t min_size_bytes = 0;
    int64_t mtime_ns = 0;
    bool clear_suid_sgid = false;
    bool publishes_all = false;  // of what was written before
    bool release_write = false;  // the session's write grant ends with it
  };
  virtual void CommitWrite(const WriteCommit& commit, Callback<Attributes> done) = 0;
  virtual void FetchAttributes(InodeId inode, Callback<Attributes> done) = 0;
  virtual void TruncateDone(InodeId inode, uint64_t truncate_generation, StatusCallback done) = 0;
  // The newest map this client has; never null.
  virtual std::shared_ptr<const proto::ClusterMap> cluster_map() = 0;
  // Calls back when the map's version is at least `version` (0: any newer than now, fetched afresh).
  virtual void RefreshClusterMap(uint64_t version, StatusCallback done) = 0;
  virtual SessionId session() = 0;
  // What the chunks of a file hold, as its attributes name it.
  struct DataContent {
    DataId data;
    uint64_t data_generation = 0;
    uint64_t truncate_generation = 0;
  };
  // A grant that is valid now says that the inode's data is this, and that nobody may be writing it. Cheap.
  virtual bool KnowsContent(InodeId /*inode*/, const DataContent& /*content*/) { return false; }
  // False while this client's lease is over: others may be writing what it has buffered. Cheap; asked again later.
  virtual bool MayWriteData() { return true; }
  // Not 0: nobody else has written the inode since this number was first told, under whatever lease this client has. Cheap; takes locks of the
  // namespace half.
  virtual uint64_t SoleWriterTerm(InodeId /*inode*/) { return 0; }
};

struct DataPlaneOptions {
  uint64_t write_buffer_bytes = 256 << 20;
  uint64_t read_cache_bytes = 256 << 20;
  uint64_t read_ahead_bytes_max = 16 << 20;
  int64_t retry_deadline_ms = 30'000;
  std::string write_buffer_name = "tarn-write-buffer";
  // How these connections introduce themselves.
  std::string peer_name;
  std::string token;
  // Copies on this node are read first. Empty: unknown.
  std::string node;
  // A read without an answer is asked for at another copy after this time, or sooner if reads are usually fast.
  int64_t hedge_ms = 300;
  int64_t request_timeout_ms = 10'000;  // of one attempt, then it is repeated
  int64_t flush_age_ms = 1'000;         // unwritten data goes to the servers at this age at the latest
  const Clock* clock = nullptr;         // null: the system's; otherwise it outlives the data plane
};

// Sequential-access history of one open handle. Guarded by the data plane.
struct ReadAheadState;

// How far an open file has reported the write errors of its inode: each open file hears of each error, whatever others did. So a
// close(2) of a forked copy of a descriptor cannot hide an error from the fsync(2) that follows (Linux's errseq_t has the same reason).
// Changed by the data plane only.
struct ErrorCursor {
  std::atomic<uint64_t> reported{0};
};
using ErrorCursorPtr = std::shared_ptr<ErrorCursor>;

// The data of one inode while it is open in this client; shared by its handles.
class InodeData {
 public:
  virtual ~InodeData() = default;

  // Short at the end of file, which is the larger of the committed size it was told and what it buffers.
  virtual void Read(const std::shared_ptr<ReadAheadState>& read_ahead, ByteRange range, Callback<ReadResult> done) = 0;
  // Copies before it returns; done when buffered.
  virtual void Write(uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done) = 0;
  // At the end of the file as this client knows it.
  virtual void Append(std::span<const uint8_t> bytes, StatusCallback done) = 0;
  // Everything written so far is at the servers, size and mtime are committed. Reports an earlier write error once.
  virtual void Flush(StatusCallback done) = 0;
  // Flush, on stable storage of every target concerned.
  virtual void Sync(StatusCallback done) = 0;
  // For a new open file, which hears of errors from now on.
  virtual ErrorCursorPtr NewErrorCursor() { return std::make_shared<ErrorCursor>(); }
  // The same for one open file: Flush tells its unreported errors again and again, until a Sync has told them.
  virtual void FlushFor(const ErrorCursorPtr& /*cursor*/, StatusCallback done) { Flush(std::move(done)); }
  virtual void SyncFor(const ErrorCursorPtr& /*cursor*/, StatusCallback done) { Sync(std::move(done)); }
  // SyncFor, and what other clients had written and published before is on stable storage as well.
  virtual void SyncEverybodysFor(const ErrorCursorPtr& cursor, StatusCallback done) { SyncFor(cursor, std::move(done)); }
  // What was written and is not published yet is not to be sent any more: it is lost, with this error.
  virtual void Abandon(const Status& /*status*/) {}
  // Fresh attributes from the metadata server: adopts size, data id and truncate view; drops read-ahead blocks if data
  // changed elsewhere.
  virtual void Adopt(const Attributes& attributes) = 0;
  // After the server committed a shrink (`attributes` shows it pending): drops buffered bytes beyond, cuts the chunks,
  // reports TruncateDone. To zero: just drops.
  virtual void FinishTruncate(const Attributes& attributes, StatusCallback done) = 0;
  // `attributes` with the size and mtime of what is buffered.
  virtual Attributes Overlay(Attributes attributes) const = 0;
  virtual bool dirty() const = 0;
};

class DataPlane {
 public:
  // `metadata` and the loops outlive it.
  static Result<std::unique_ptr<DataPlane>> Create(const DataPlaneOptions& options, std::vector<rpc::EventLoop*> loops,
                                                   MetadataForData* metadata);
  virtual ~DataPlane() = default;

  virtual std::shared_ptr<InodeData> Attach(const Attributes& attributes) = 0;
  virtual std::shared_ptr<ReadAheadState> NewReadAhead() = 0;
  // Whole small file under a data id that no inode shows yet, durable when done. `bytes` stays alive until the
  // callback.
  virtual void WriteWhole(DataId data, const FileLayout& layout, std::span<const uint8_t> bytes,
                          StatusCallback done) = 0;
  virtual void SyncAll(StatusCallback done) = 0;

  struct Counters {
    uint64_t requests = 0;
    uint64_t bytes_read = 0;
    uint64_t bytes_written = 0;
    uint64_t checksum_failures = 0;
    uint64_t relayed_requests = 0;  // answered through another server than the one that was meant
    uint64_t second_reads = 0;  // asked for at another copy because one was slow
    uint64_t elastic_reads = 0;      // answered by elastic targets
    uint64_t elastic_fallbacks = 0;  // asked for at an in-sync copy because an elastic target did not give the bytes
    uint64_t dirty_bytes = 0;
  };
  virtual Counters counters() const = 0;
};

}  // namespace tarn::client
