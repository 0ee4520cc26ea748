// The data half of a simulated client: client::DataPlane over simulated chunk servers (chunk_server.h), whose files are
// cells (file_oracle.h). The namespace half above it is the library's own.
//
// It keeps the rules of client/data: what is written is buffered; a flush allocates the data, sends what is buffered
// while the client's lease holds, and commits size and time; a background flush does so after a while. Cells that were
// read are remembered until attributes say that the data has changed. What cannot be written is lost, and each open file
// hears of it.
// Planted bug: Plant::kForgetSize.
// One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "client/data/data_plane.h"
#include "tests/sim/chunk_server.h"
#include "tests/sim/file_oracle.h"
#include "tests/sim/member.h"
#include "tests/sim/sim_process.h"

namespace tarn::sim {

// What the files of one client share.
struct DataContext {
  Cluster* cluster = nullptr;
  std::shared_ptr<SimProcess> process;
  Endpoint endpoint = 0;
  client::MetadataForData* metadata = nullptr;
};

class SimFile final : public client::InodeData, public GrantHolder, public std::enable_shared_from_this<SimFile> {
 public:
  SimFile(const DataContext& context, const client::Attributes& attributes)
      : context_(context), opened_under_(context.metadata->session()), attributes_(attributes) {}
  SimFile(const SimFile&) = delete;
  SimFile& operator=(const SimFile&) = delete;

  void Read(const std::shared_ptr<client::ReadAheadState>& read_ahead, ByteRange range,
            client::Callback<client::ReadResult> done) override;
  void Write(uint64_t offset, std::span<const uint8_t> bytes, client::StatusCallback done) override;
  void Append(std::span<const uint8_t> bytes, client::StatusCallback done) override;
  void Flush(client::StatusCallback done) override { FlushFor(nullptr, std::move(done)); }
  void Sync(client::StatusCallback done) override { FlushFor(nullptr, std::move(done)); }
  client::ErrorCursorPtr NewErrorCursor() override;
  void FlushFor(const client::ErrorCursorPtr& cursor, client::StatusCallback done) override;
  void SyncFor(const client::ErrorCursorPtr& cursor, client::StatusCallback done) override {
    FlushFor(cursor, std::move(done));
  }
  void Abandon(const Status& status) override { Lose(status); }
  void Adopt(const client::Attributes& attributes) override;
  void FinishTruncate(const client::Attributes& /*attributes*/, client::StatusCallback done) override {
    done(Status(StatusCode::kNotSupported, "simulated files are not truncated"));
  }
  client::Attributes Overlay(client::Attributes attributes) const override;
  bool dirty() const override { return !taken_.empty() || !sent_.empty(); }
  bool HoldsExclusively() const override;
  uint64_t client() const override { return context_.endpoint; }

 private:
  using Cells = ChunkServer::Cells;
  struct Request {
    client::ErrorCursorPtr cursor;
    client::StatusCallback done;
  };

  uint64_t End() const { return dirty() ? std::max(attributes_.size_bytes, end_bytes_) : attributes_.size_bytes; }
  void Put(uint64_t cell, std::span<const uint8_t> bytes);
  void Advance();
  void Allocate();
  void SendCells();
  void SendCell(uint64_t cell, uint64_t value, int attempts);
  void SendCellLater(uint64_t cell, uint64_t value, int attempts);
  void Commit();
  void OnCommitted(const client::Attributes& attributes);
  void Lose(const Status& status);
  void FinishRequests(std::deque<Request>* requests);
  void Fetch(int attempts, std::function<void(const Result<Cells>&)> done);
  void Deliver(const Cells& cells, uint64_t end_bytes, const client::Callback<client::ReadResult>& done) const;
  ChunkServer* Server() const;

  const DataContext context_;
  const SessionId opened_under_;
  client::Attributes attributes_;

  // What was taken and is not published yet: not on its way, on its way, at the chunk server.
  Cells buffered_;
  Cells sending_;
  Cells done_;
  std::vector<uint64_t> taken_;  // values
  std::vector<uint64_t> sent_;
  uint64_t end_bytes_ = 0;
  uint64_t newest_ = 0;
  bool flushes_later_ = false;

  bool busy_ = false;
  uint64_t losses_ = 0;  // continuations of what was before are void
  Status error_;
  std::deque<Request> waiting_;
  std::deque<Request> flushing_;

  std::optional<Cells> read_;  // remembered
  uint64_t reads_ended_ = 0;   // how often that was forgotten
};

class SimDataPlane final : public client::DataPlane {
 public:
  explicit SimDataPlane(const DataContext& context) : context_(context) {}

  std::shared_ptr<client::InodeData> Attach(const client::Attributes& attributes) override;
  std::shared_ptr<client::ReadAheadState> NewReadAhead() override { return nullptr; }
  void WriteWhole(DataId, const FileLayout&, std::span<const uint8_t>, client::StatusCallback done) override {
    done(Status(StatusCode::kNotSupported, "nothing is ingested"));
  }
  // The run is over.
  void SyncAll(client::StatusCallback done) override { done(Status::Ok()); }
  Counters counters() const override { return {}; }

 private:
  const DataContext context_;
};

}  // namespace tarn::sim
