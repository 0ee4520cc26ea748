#include "chunkserver/replication/testing/fake_store.h"

#include <algorithm>

#include "chunkserver/store/chunk_reader.h"
#include "chunkserver/store/chunk_writer.h"
#include "common/checksum/block_sums.h"

namespace tarn::replication::testing {
namespace {

// Beyond every chunk.
constexpr uint64_t kWholeChunk = uint64_t{1} << 40;

uint64_t RoundedUp(uint64_t bytes) { return (bytes + kSumBlockBytes - 1) / kSumBlockBytes * kSumBlockBytes; }

}  // namespace

void FakeStore::Crash(size_t kept) {
  *alive_ = false;
  alive_ = std::make_shared<bool>(true);
  for (size_t i = 0; i < std::min(kept, journal_.size()); ++i) durable_[journal_[i].first] = journal_[i].second;
  journal_begin_ += journal_.size();
  journal_.clear();
  chunks_ = durable_;
  windows_.clear();
}

void FakeStore::CloseCleanly() {
  auto windows = windows_;
  Crash(journal_.size());
  windows_ = std::move(windows);
}

void FakeStore::Save(ChunkId id, const Chunk& chunk) {
  chunks_[id] = chunk;
  journal_.emplace_back(id, chunk);
}

Result<bool> FakeStore::WasApplied(const store::WriterIdentity& writer, const store::ChangeContext& context) {
  if (!writer.sequence.valid()) return false;
  Window& window = windows_[{context.group, writer.session}];
  if (writer.acked_through.value() > window.acked_through) {
    window.acked_through = writer.acked_through.value();
    window.applied.erase(window.applied.begin(), window.applied.upper_bound(window.acked_through));
  }
  if (context.base) return false;  // a member only marks
  if (writer.sequence.value() <= window.acked_through) return Status(StatusCode::kStaleSequence, "done");
  return window.applied.contains(writer.sequence.value());
}

void FakeStore::MarkApplied(const store::WriterIdentity& writer, GroupId group) {
  if (!writer.sequence.valid()) return;
  Window& window = windows_[{group, writer.session}];
  if (writer.sequence.value() > window.acked_through) window.applied.insert(writer.sequence.value());
}

Status FakeStore::CheckBase(const Chunk& chunk, const store::ChangeContext& context) const {
  if (!context.base || chunk.stamp == *context.base) return Status::Ok();
  return Status(StatusCode::kStaleEpoch, "the chunk has another stamp than the change builds on");
}

Status FakeStore::CheckRoom(const store::ChangeContext& context) const {
  const bool is_client = !context.base.has_value();
  if (is_brimful || (is_client && available_bytes == 0)) return Status(StatusCode::kNoSpace, "the disk is full");
  return Status::Ok();
}

Status FakeStore::CheckKept(ChunkId id, const Chunk& chunk, uint64_t begin, uint64_t end) const {
  const auto check = [&](uint64_t at) { return at % kSumBlockBytes == 0 || at >= chunk.bytes.size() ? Status::Ok() : CheckIntact(id, at, at + 1); };
  RETURN_IF_ERROR(check(begin));
  return check(end);
}

void FakeStore::Cut(Chunk* chunk, const store::TruncateView& view, Epoch epoch) {
  if (chunk->stamp.version == 0 || view.generation <= chunk->truncate_generation) return;
  chunk->truncate_generation = view.generation;
  if (chunk->bytes.size() > view.bytes) chunk->bytes.resize(view.bytes);
  chunk->stamp = {epoch, chunk->stamp.version + 1};
}

Result<store::ChangeOutcome> FakeStore::ApplyWrite(const store::WriteRequest& request, const store::ChangeContext& context) {
  RETURN_IF_ERROR(fail_changes);
  Chunk chunk = chunks_[request.chunk];
  ASSIGN_OR_RETURN(const bool was_applied, WasApplied(request.writer, context));
  if (was_applied) return store::ChangeOutcome{chunk.stamp, chunk.stamp, chunk.bytes.size(), true};
  RETURN_IF_ERROR(CheckBase(chunk, context));
  const store::ChunkStamp base = chunk.stamp;
  if (chunk.stamp.version > 0 && request.view.generation < chunk.truncate_generation) return Status(StatusCode::kStaleTruncate, "an older view");
  const uint64_t end = request.offset + request.payload.size();
  if (request.view.generation > chunk.truncate_generation) RETURN_IF_ERROR(CheckKept(request.chunk, chunk, request.view.bytes, request.view.bytes));
  RETURN_IF_ERROR(CheckKept(request.chunk, chunk, request.offset, end));
  RETURN_IF_ERROR(CheckRoom(context));
  Cut(&chunk, request.view, context.epoch);
  Overwritten(request.chunk, request.offset, end < chunk.bytes.size() ? end : RoundedUp(end));
  if (chunk.stamp.version == 0) chunk.truncate_generation = request.view.generation;
  if (chunk.bytes.size() < request.offset + request.payload.size()) chunk.bytes.resize(request.offset + request.payload.size());
  std::copy(request.payload.begin(), request.payload.end(), chunk.bytes.begin() + static_cast<ptrdiff_t>(request.offset));
  chunk.stamp = {context.epoch, chunk.stamp.version + 1};
  chunk.group = context.group;
  Save(request.chunk, chunk);
  MarkApplied(request.writer, context.group);
  return store::ChangeOutcome{base, chunk.stamp, chunk.bytes.size(), false};
}

Result<store::ChangeOutcome> FakeStore::ApplyTruncate(ChunkId id, const store::WriterIdentity& writer, const store::TruncateView& view,
                                                      const store::ChangeContext& context) {
  RETURN_IF_ERROR(fail_changes);
  Chunk chunk = chunks_[id];
  ASSIGN_OR_RETURN(const bool was_applied, WasApplied(writer, context));
  if (was_applied) return store::ChangeOutcome{chunk.stamp, chunk.stamp, chunk.bytes.size(), true};
  RETURN_IF_ERROR(CheckBase(chunk, context));
  const store::ChunkStamp base = chunk.stamp;
  if (chunk.stamp.version > 0 && view.generation < chunk.truncate_generation) return Status(StatusCode::kStaleTruncate, "an older view");
  if (view.generation > chunk.truncate_generation) RETURN_IF_ERROR(CheckKept(id, chunk, view.bytes, view.bytes));
  Cut(&chunk, view, context.epoch);
  Overwritten(id, RoundedUp(chunk.bytes.size()), kWholeChunk);
  if (chunk.stamp != base) Save(id, chunk);
  MarkApplied(writer, context.group);
  return store::ChangeOutcome{base, chunk.stamp, chunk.bytes.size(), false};
}

Result<store::ChunkState> FakeStore::StateOf(ChunkId id) {
  const auto found = chunks_.find(id);
  if (found == chunks_.end() || found->second.stamp.version == 0) return store::ChunkState{};
  const Chunk& chunk = found->second;
  return store::ChunkState{chunk.stamp, chunk.group, chunk.bytes.size(), chunk.truncate_generation};
}

Result<store::ChunkSums> FakeStore::SumsOf(ChunkId id) {
  store::ChunkSums sums;
  ASSIGN_OR_RETURN(sums.state, StateOf(id));
  if (sums.state.stamp.version == 0) return sums;
  std::string padded = chunks_[id].bytes;
  padded.resize((padded.size() + kSumBlockBytes - 1) / kSumBlockBytes * kSumBlockBytes);
  for (size_t at = 0; at < padded.size(); at += kSumBlockBytes) {
    sums.blocks.push_back(Xxh3({reinterpret_cast<const uint8_t*>(padded.data()) + at, kSumBlockBytes}));
  }
  return sums;
}

Result<store::ChunkSums> FakeStore::SumsToInstall(ChunkId id) {
  ASSIGN_OR_RETURN(store::ChunkSums sums, SumsOf(id));
  for (size_t block = 0; block < sums.blocks.size(); ++block) {
    if (damaged_.contains({id, block})) sums.blocks[block] = ~sums.blocks[block];
  }
  return sums;
}

Status FakeStore::CheckIntact(ChunkId id, uint64_t begin, uint64_t end) const {
  for (uint64_t block = begin / kSumBlockBytes; block * kSumBlockBytes < end; ++block) {
    if (const auto found = damaged_.find({id, block}); found != damaged_.end()) return Status(found->second, "a block is damaged");
  }
  return Status::Ok();
}

std::set<ChunkId> FakeStore::damaged_chunks() const {
  std::set<ChunkId> chunks;
  for (const auto& [block, how] : damaged_) chunks.insert(block.first);
  return chunks;
}

void FakeStore::Overwritten(ChunkId id, uint64_t begin, uint64_t end) {
  const uint64_t first = RoundedUp(begin) / kSumBlockBytes;
  damaged_.erase(damaged_.lower_bound({id, first}), damaged_.lower_bound({id, std::max(first, end / kSumBlockBytes)}));
}

Result<std::vector<uint8_t>> FakeStore::ReadForCopy(ChunkId id, uint64_t offset, uint64_t length) {
  const std::string& bytes = chunks_[id].bytes;
  const uint64_t end = std::min<uint64_t>(bytes.size(), offset + length);
  RETURN_IF_ERROR(CheckIntact(id, offset, end));
  if (offset >= end) return std::vector<uint8_t>();
  return std::vector<uint8_t>(bytes.begin() + static_cast<ptrdiff_t>(offset), bytes.begin() + static_cast<ptrdiff_t>(end));
}

Result<store::InventoryPage> FakeStore::ListGroup(GroupId group, std::optional<ChunkId> after, size_t entries_max) {
  store::InventoryPage page;
  entries_max = std::min(entries_max, page_entries_max);
  for (auto it = after ? chunks_.upper_bound(*after) : chunks_.begin(); it != chunks_.end(); ++it) {
    if (it->second.group != group || it->second.stamp.version == 0) continue;
    if (page.chunks.size() == entries_max) return page;
    page.chunks.push_back({it->first, it->second.stamp, it->second.bytes.size()});
  }
  page.end = true;
  return page;
}

Status FakeStore::InstallPiece(ChunkId id, GroupId group, uint64_t offset, std::span<const uint8_t> bytes, std::string_view piece_sums) {
  RETURN_IF_ERROR(fail_changes);
  if (FindBadPiece(offset, bytes, piece_sums)) return Status(StatusCode::kCorruption, "a piece does not fit its sum");
  if (is_brimful) return Status(StatusCode::kNoSpace, "the disk is full");
  Chunk chunk = chunks_[id];
  if (chunk.bytes.size() < offset + bytes.size()) chunk.bytes.resize(offset + bytes.size());
  std::copy(bytes.begin(), bytes.end(), chunk.bytes.begin() + static_cast<ptrdiff_t>(offset));
  Overwritten(id, offset, RoundedUp(offset + bytes.size()));
  chunk.stamp = {Epoch(), std::max<uint64_t>(1, chunk.stamp.version)};
  chunk.group = group;
  Save(id, chunk);
  return Status::Ok();
}

Status FakeStore::RecheckDamaged(ChunkId id) { return CheckIntact(id, 0, chunks_[id].bytes.size()); }

Status FakeStore::InstallEnd(ChunkId id, const store::ChunkState& state) {
  RETURN_IF_ERROR(fail_changes);
  Chunk chunk = chunks_[id];
  chunk.bytes.resize(state.bytes);
  Overwritten(id, RoundedUp(state.bytes), kWholeChunk);
  chunk.stamp = state.stamp;
  chunk.group = state.group;
  chunk.truncate_generation = state.truncate_generation;
  Save(id, chunk);
  return Status::Ok();
}

Status FakeStore::RemoveChunk(ChunkId id) {
  Overwritten(id, 0, kWholeChunk);
  Save(id, Chunk());
  return Status::Ok();
}

std::vector<store::SessionWindow> FakeStore::WindowsOf(GroupId group) {
  std::vector<store::SessionWindow> windows;
  for (const auto& [key, window] : windows_) {
    if (key.first != group) continue;
    store::SessionWindow row{.session = key.second, .acked_through = Sequence(window.acked_through), .applied = {}};
    for (const uint64_t sequence : window.applied) row.applied.emplace_back(sequence);
    windows.push_back(std::move(row));
  }
  return windows;
}

void FakeStore::InstallWindows(GroupId group, std::span<const store::SessionWindow> windows, bool replace) {
  if (replace) std::erase_if(windows_, [group](const auto& entry) { return entry.first.first == group; });
  for (const store::SessionWindow& row : windows) {
    Window& window = windows_[{group, row.session}];
    window.acked_through = std::max(window.acked_through, row.acked_through.value());
    for (const Sequence sequence : row.applied) window.applied.insert(sequence.value());
    window.applied.erase(window.applied.begin(), window.applied.upper_bound(window.acked_through));
  }
}

void FakeStore::WhenDurable(std::function<void(Status)> callback) {
  executor_->RunAfter(sync_delay_ms_, [this, alive = alive_, through = journal_begin_ + journal_.size(), callback = std::move(callback)] {
    if (!*alive) return;
    for (; journal_begin_ < through; ++journal_begin_) {
      durable_[journal_.front().first] = std::move(journal_.front().second);
      journal_.pop_front();
    }
    callback(Status::Ok());
  });
}

}  // namespace tarn::replication::testing
