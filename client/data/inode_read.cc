// Reading (client/data/inode_data_impl.h): what is buffered, over cached spans, over the chunk servers.
#include <algorithm>
#include <cstring>
#include <utility>

#include "client/data/file_read.h"
#include "client/data/inode_data_impl.h"

namespace tarn::client {
namespace {

constexpr uint64_t kBlockBytes = 4096;
// Attributes that turn out to be outdated are fetched again; a file that is truncated faster than that is an error.
constexpr uint32_t kReadAttemptsMax = 4;

constexpr uint64_t RoundUpToBlock(uint64_t value) { return (value + kBlockBytes - 1) / kBlockBytes * kBlockBytes; }

// Whole blocks, the last one cut at the end of the file: so spans fit together.
ByteRange ToBlocks(ByteRange range, uint64_t file_size) {
  const uint64_t begin = range.offset / kBlockBytes * kBlockBytes;
  return {begin, std::min(RoundUpToBlock(range.end()), file_size) - begin};
}

// The pieces of one span's fetch.
struct SpanFetch {
  std::atomic<uint32_t> pieces_left{0};
  Mutex mutex;
  Status status GUARDED_BY(mutex);
};

}  // namespace

// ---- FileRead ----

void FileRead::WaitFor(std::vector<ReadSpanPtr> needed) {
  spans_ = std::move(needed);
  waiting_.store(static_cast<uint32_t>(spans_.size()) + 1);
  for (const ReadSpanPtr& span : spans_) {
    if (!span->Wait(shared_from_this())) waiting_.fetch_sub(1);
  }
}

void FileRead::OnSpan() {
  if (waiting_.fetch_sub(1) != 1) return;
  for (const ReadSpanPtr& span : spans_) {
    const Status status = span->status();
    if (status.ok()) continue;
    if (status.code() == StatusCode::kStaleTruncate && ++attempts < kReadAttemptsMax)
      return inode->RefreshForRead(shared_from_this());
    return Fail(status.code() == StatusCode::kStaleTruncate ? Status(StatusCode::kIoError, status.message()) : status);
  }
  Deliver();
}

void FileRead::Fail(const Status& status) {
  inode = nullptr;
  std::exchange(done, nullptr)(status);
}

void FileRead::Deliver() {
  ReadResult result = Pieces();
  result.keep_alive = shared_from_this();
  inode = nullptr;
  std::exchange(done, nullptr)(std::move(result));
}

ReadResult FileRead::Pieces() {
  ReadResult result;
  result.bytes = range.length;
  if (!overlaid) {
    result.pieces.reserve(spans_.size());
    for (const ReadSpanPtr& span : spans_) {
      const ByteRange part = Intersect(span->range, range);
      if (!part.empty()) result.pieces.push_back(iovec{span->data() + (part.offset - span->range.offset), part.length});
    }
    return result;
  }
  for (const ByteRange& gap : gaps) {
    for (const ReadSpanPtr& span : spans_) {
      const ByteRange part = Intersect(span->range, gap);
      if (!part.empty())
        std::memcpy(bytes.data() + (part.offset - range.offset), span->data() + (part.offset - span->range.offset),
                    part.length);
    }
  }
  result.pieces.push_back(iovec{bytes.data(), range.length});
  return result;
}

// ---- InodeDataImpl ----

void InodeDataImpl::Read(const std::shared_ptr<ReadAheadState>& read_ahead, ByteRange range,
                         Callback<ReadResult> done) {
  auto read = std::make_shared<FileRead>(shared_from_this(), read_ahead, range, std::move(done));
  bool settle = false;
  {
    MutexLock lock(mutex_);
    settle = extents_.HasUnstable(settle_through_age_);
  }
  if (!settle) return StartRead(read);
  // Somebody else has changed the data since some of our own was acknowledged: ours may be the older one there, and only
  // the servers know. Once it is stable it need not be kept, and so is not read over theirs any more.
  Request(FlushRequest{.sync = true,
                       .takes_error = false,
                       .done = [self = shared_from_this(), read](const Status&) { self->StartRead(read); }});
}

void InodeDataImpl::StartRead(const std::shared_ptr<FileRead>& read) {
  ReadPlan plan;
  Status status;
  bool at_hand = false;
  {
    MutexLock lock(mutex_);
    status = view_status_;
    if (status.ok()) at_hand = PlanReadLocked(*read, &plan);
  }
  if (!status.ok()) return read->Fail(status);
  if (at_hand) return read->Deliver();
  plan.view.settled = IsSettled(plan);

  SpanCache::Found found;
  if (plan.plan.use_cache) {
    found = core_->spans.Acquire(plan.cache_key, plan.plan.fetch);
  } else {
    found.spans = core_->spans.FindAll(plan.cache_key, plan.plan.fetch);
    if (found.spans.empty()) {
      // Random access: just these blocks, and nobody else will want them.
      ByteRange missing = plan.plan.fetch;
      while (!missing.empty()) {
        const ByteRange part{missing.offset, std::min(missing.length, SpanCache::kSpanBytesMax)};
        found.spans.push_back(core_->spans.MakePrivate(part));
        missing = {part.end(), missing.length - part.length};
      }
      found.to_fetch = found.spans;
    }
  }
  for (const ByteRange& ahead : plan.plan.ahead) {
    std::vector<ReadSpanPtr> more = core_->spans.Prefetch(plan.cache_key, ahead);
    found.to_fetch.insert(found.to_fetch.end(), more.begin(), more.end());
  }
  if (plan.plan.drop_before > 0) core_->spans.DropRead(plan.cache_key, plan.plan.drop_before);
  read->WaitFor(std::move(found.spans));
  for (const ReadSpanPtr& span : found.to_fetch) FetchSpan(plan, span);
  read->OnSpan();  // the one more that WaitFor counted
}

// Takes the snapshot that the read is made of. True if that is all it needs.
bool InodeDataImpl::PlanReadLocked(FileRead& read, ReadPlan* plan) {
  const uint64_t size = FileSize();
  const uint64_t end = read.range.offset < size
                           ? std::min(size, read.range.length > size - read.range.offset ? size : read.range.end())
                           : 0;
  read.range.length = end > read.range.offset ? end - read.range.offset : 0;
  if (read.range.empty()) return true;
  plan->view = view_;
  // A write that failed may have changed the bytes without anybody being told.
  plan->own_changes = !uncommitted_.empty() || extents_.unacknowledged_bytes() > 0 || error_count_ > 0;
  plan->cache_key = cache_key_;
  if (read.read_ahead != nullptr && read.attempts == 0) {
    plan->plan = PlanRead(*read.read_ahead, read.range, size, core_->read_ahead_limits);
  } else {
    plan->plan.fetch = read.range;
  }
  // Copied here, so that a write that reaches the servers and leaves the buffer while the base is being fetched is not
  // missed.
  read.overlaid = extents_.Overlaps(read.range) || !view_.data.valid();
  if (!read.overlaid) {
    plan->plan.fetch = ToBlocks(plan->plan.fetch, size);
    return false;
  }
  read.bytes = Buffer(read.range.length);
  read.gaps = extents_.CopyTo(read.range, read.bytes.data());
  if (!view_.data.valid()) {  // what was never written is a hole
    for (const ByteRange& gap : read.gaps)
      std::memset(read.bytes.data() + (gap.offset - read.range.offset), 0, gap.length);
    read.gaps.clear();
  }
  if (read.gaps.empty()) return true;
  plan->plan.fetch = ToBlocks({read.gaps.front().offset, read.gaps.back().end() - read.gaps.front().offset}, size);
  return false;
}

// Asked when the read begins: what changes from then on it may show or not.
bool InodeDataImpl::IsSettled(const ReadPlan& plan) const {
  const DataView& view = plan.view;
  if (plan.own_changes || view.truncate_floor_bytes || !core_->chunks.HasElasticTargets()) return false;
  MetadataGate::Use use(*core_->metadata);
  return use && use->KnowsContent(inode_, {.data = view.data,
                                           .data_generation = view.data_generation,
                                           .truncate_generation = view.truncate_generation});
}

void InodeDataImpl::FetchSpan(const ReadPlan& plan, const ReadSpanPtr& span) {
  const DataView& view = plan.view;
  const ByteRange blocks{span->range.offset, RoundUpToBlock(span->range.length)};
  const auto finish = [core = core_, key = plan.cache_key, span](const Status& status) {
    if (!status.ok()) core->spans.Remove(key, span);
    span->Complete(status);
  };
  const ChunkPiece first = PieceAt(view.layout, blocks.offset, blocks.length);
  if (first.length == blocks.length) {
    core_->chunks.Read(ChunkOf(view, first.chunk_index), first.chunk_offset, {span->data(), blocks.length}, finish);
    return;
  }
  const std::vector<ChunkPiece> pieces = SplitRange(view.layout, blocks);
  auto fetch = std::make_shared<SpanFetch>();
  fetch->pieces_left.store(static_cast<uint32_t>(pieces.size()));
  for (const ChunkPiece& piece : pieces) {
    const std::span<uint8_t> destination{span->data() + (piece.file_offset - blocks.offset), piece.length};
    core_->chunks.Read(ChunkOf(view, piece.chunk_index), piece.chunk_offset, destination,
                       [fetch, finish](const Status& status) {
                         Status first_error;
                         {
                           MutexLock lock(fetch->mutex);
                           if (fetch->status.ok()) fetch->status = status;
                           first_error = fetch->status;
                         }
                         if (fetch->pieces_left.fetch_sub(1) == 1) finish(first_error);
                       });
  }
}

void InodeDataImpl::RefreshForRead(const std::shared_ptr<FileRead>& read) {
  MetadataGate::Use use(*core_->metadata);
  if (!use) return read->Fail(Status(StatusCode::kCancelled, "the client is shutting down"));
  use->FetchAttributes(inode_, [self = shared_from_this(), read](const Result<Attributes>& attributes) {
    if (!attributes.ok()) return read->Fail(attributes.status());
    self->Adopt(*attributes);
    self->StartRead(read);
  });
}

}  // namespace tarn::client
