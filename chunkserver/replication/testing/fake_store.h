// For tests: a store in memory that forgets what was not durable, and keeps the rules of replica_store.h.
//
// The fault model: changes become durable in the order in which they were made, through a log. A crash keeps what was reported durable and
// any number of the changes after it, in order, each whole or not at all. Session windows live in memory only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "chunkserver/replication/environment.h"
#include "chunkserver/store/replica_store.h"

namespace tarn::replication::testing {

// One thread.
class FakeStore final : public store::ReplicaStore {
 public:
  struct Chunk {
    std::string bytes;
    store::ChunkStamp stamp;
    GroupId group;
    uint64_t truncate_generation = 0;
  };

  // Of the process that has the store open; `sync_delay_ms` is what a sync takes.
  void Open(Executor* executor, int64_t sync_delay_ms) {
    executor_ = executor;
    sync_delay_ms_ = sync_delay_ms;
  }
  // The process is gone. `kept`: how many of the changes that are not durable survive, at most.
  void Crash(size_t kept);
  // As after a clean shutdown.
  void CloseCleanly();

  Result<store::ChangeOutcome> ApplyWrite(const store::WriteRequest& request, const store::ChangeContext& context) override;
  Result<store::ChangeOutcome> ApplyTruncate(ChunkId chunk, const store::WriterIdentity& writer, const store::TruncateView& view,
                                             const store::ChangeContext& context) override;
  Result<store::ChunkState> StateOf(ChunkId chunk) override;
  Result<store::ChunkSums> SumsOf(ChunkId chunk) override;
  Result<store::ChunkSums> SumsToInstall(ChunkId chunk) override;
  Result<std::vector<uint8_t>> ReadForCopy(ChunkId chunk, uint64_t offset, uint64_t length) override;
  Result<store::InventoryPage> ListGroup(GroupId group, std::optional<ChunkId> after, size_t entries_max) override;
  Status InstallPiece(ChunkId chunk, GroupId group, uint64_t offset, std::span<const uint8_t> bytes, std::string_view piece_sums) override;
  Status InstallEnd(ChunkId chunk, const store::ChunkState& state) override;
  Status RecheckDamaged(ChunkId chunk) override;
  Status RemoveChunk(ChunkId chunk) override;
  std::vector<store::SessionWindow> WindowsOf(GroupId group) override;
  void InstallWindows(GroupId group, std::span<const store::SessionWindow> windows, bool replace) override;
  void WhenDurable(std::function<void(Status)> callback) override;
  uint64_t AvailableBytes() override { return available_bytes; }

  const std::map<ChunkId, Chunk>& chunks() const { return chunks_; }
  // What a crash leaves, at least.
  const std::map<ChunkId, Chunk>& durable_chunks() const { return durable_; }
  // Flips a byte without the sums knowing, or (kIoError) the disk does not give the block any more: ReadForCopy of the block, and a change that
  // keeps a part of it, then fail in that way until it is overwritten.
  void Damage(ChunkId chunk, uint64_t block, StatusCode how = StatusCode::kCorruption) { damaged_[{chunk, block}] = how; }
  size_t damaged_blocks() const { return damaged_.size(); }
  // ok: none of the blocks that [begin, end) touches is damaged.
  Status CheckIntact(ChunkId id, uint64_t begin, uint64_t end) const;
  std::set<ChunkId> damaged_chunks() const;
  void MendAll() { damaged_.clear(); }
  size_t not_durable() const { return journal_.size(); }

  uint64_t available_bytes = uint64_t{1} << 40;
  size_t page_entries_max = 4096;
  Status fail_changes;       // not ok: what every change answers
  bool is_brimful = false;   // not even what a primary has ordered finds room (with available_bytes 0 clients' changes do not)

 private:
  struct Window {
    uint64_t acked_through = 0;
    std::set<uint64_t> applied;
  };

  Result<bool> WasApplied(const store::WriterIdentity& writer, const store::ChangeContext& context);
  void MarkApplied(const store::WriterIdentity& writer, GroupId group);
  Status CheckBase(const Chunk& chunk, const store::ChangeContext& context) const;
  void Cut(Chunk* chunk, const store::TruncateView& view, Epoch epoch);
  void Save(ChunkId id, const Chunk& chunk);
  Status CheckRoom(const store::ChangeContext& context) const;
  // Of the blocks in which a change of [begin, end) leaves something.
  Status CheckKept(ChunkId id, const Chunk& chunk, uint64_t begin, uint64_t end) const;
  // The whole blocks of [begin, end) are new.
  void Overwritten(ChunkId id, uint64_t begin, uint64_t end);

  Executor* executor_ = nullptr;
  int64_t sync_delay_ms_ = 1;
  std::map<ChunkId, Chunk> chunks_;   // version 0: not there
  std::map<ChunkId, Chunk> durable_;
  std::deque<std::pair<ChunkId, Chunk>> journal_;  // changes that are not durable, whole chunks
  uint64_t journal_begin_ = 0;                     // number of the first of them
  std::map<std::pair<GroupId, SessionId>, Window> windows_;
  std::map<std::pair<ChunkId, uint64_t>, StatusCode> damaged_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tarn::replication::testing
