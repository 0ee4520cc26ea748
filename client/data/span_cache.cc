#include "client/data/span_cache.h"

#include <algorithm>
#include <limits>

namespace tarn::client {
namespace {

constexpr uint64_t kBlockBytes = 4096;

}  // namespace

SpanCache::Found SpanCache::Acquire(uint64_t key, ByteRange range) {
  MakeRoom(key, range.length);
  Found found;
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  uint64_t position = range.offset / kBlockBytes * kBlockBytes;
  auto it = FirstTouching(shard, key, position);
  while (position < range.end()) {
    const bool inside = it != shard.entries.end() && it->first.key == key && it->first.offset < range.end();
    if (inside && it->first.offset <= position) {
      const uint64_t end = it->second.span->range.end();
      if (end % kBlockBytes != 0 && end < range.end()) {
        // It ended with the file, which has grown since.
        position = it->first.offset;
        it = Erase(shard, it);
        continue;
      }
      Use(shard, it->second, range.end());
      found.spans.push_back(it->second.span);
      position = end;
      ++it;
      continue;
    }
    const uint64_t gap_end = inside ? it->first.offset : range.end();
    FillGap(shard, key, {position, gap_end - position}, range.end(), &found);
    position = gap_end;
  }
  return found;
}

std::vector<ReadSpanPtr> SpanCache::FindAll(uint64_t key, ByteRange range) {
  std::vector<ReadSpanPtr> spans;
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  if (shard.entries.empty()) return spans;
  uint64_t position = range.offset;
  for (auto it = FirstTouching(shard, key, position); position < range.end(); ++it) {
    if (it == shard.entries.end() || it->first.key != key || it->first.offset > position) return {};
    spans.push_back(it->second.span);
    position = it->second.span->range.end();
    Use(shard, it->second, range.end());
  }
  return spans;
}

std::vector<ReadSpanPtr> SpanCache::Prefetch(uint64_t key, ByteRange range) {
  if (!MakeRoom(key, range.length)) return {};
  Found found;
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  uint64_t position = range.offset / kBlockBytes * kBlockBytes;
  auto it = FirstTouching(shard, key, position);
  while (position < range.end()) {
    const bool inside = it != shard.entries.end() && it->first.key == key && it->first.offset < range.end();
    const uint64_t gap_end = inside ? it->first.offset : range.end();
    if (position < gap_end && position % kBlockBytes == 0)
      FillGap(shard, key, {position, gap_end - position}, 0, &found);
    if (!inside) break;
    position = std::max(gap_end, it->second.span->range.end());
    ++it;
  }
  return std::move(found.to_fetch);
}

// The entry that holds `offset`, or else the first one after it.
SpanCache::Entries::iterator SpanCache::FirstTouching(Shard& shard, uint64_t key, uint64_t offset) {
  auto it = shard.entries.upper_bound({key, offset});
  if (it != shard.entries.begin()) {
    const auto before = std::prev(it);
    if (before->first.key == key && before->second.span->range.end() > offset) return before;
  }
  return it;
}

SpanCache::Entries::iterator SpanCache::Erase(Shard& shard, Entries::iterator entry) {
  shard.ages.erase(entry->second.age);
  return shard.entries.erase(entry);
}

// Spans end at multiples of their largest size, so that those of one file fit together.
void SpanCache::FillGap(Shard& shard, uint64_t key, ByteRange gap, uint64_t read_end, Found* found) {
  for (uint64_t position = gap.offset; position < gap.end();) {
    const uint64_t end = std::min(gap.end(), (position / kSpanBytesMax + 1) * kSpanBytesMax);
    auto span = std::make_shared<ReadSpan>(memory_, ByteRange{position, end - position});
    const auto age = shard.ages.insert(shard.ages.end(), Position{key, position});
    shard.entries.emplace(Position{key, position}, Entry{span, age, end <= read_end});
    found->spans.push_back(span);
    found->to_fetch.push_back(std::move(span));
    position = end;
  }
}

void SpanCache::Use(Shard& shard, Entry& entry, uint64_t read_end) {
  if (entry.span->range.end() <= read_end) entry.read = true;
  shard.ages.splice(shard.ages.end(), shard.ages, entry.age);
}

void SpanCache::DropRead(uint64_t key, uint64_t offset) {
  std::vector<ReadSpanPtr> dropped;  // freed after the lock is released
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  auto it = shard.entries.lower_bound({key, offset});
  while (it != shard.entries.begin()) {
    --it;
    if (it->first.key != key) return;
    if (it->second.span->range.end() > offset) continue;
    if (!it->second.read || !it->second.span->complete()) return;
    dropped.push_back(it->second.span);
    it = Erase(shard, it);
  }
}

void SpanCache::Invalidate(uint64_t key, ByteRange range) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  if (shard.entries.empty() || range.empty()) return;
  auto it = FirstTouching(shard, key, range.offset);
  while (it != shard.entries.end() && it->first.key == key && it->first.offset < range.end()) it = Erase(shard, it);
}

void SpanCache::DropKey(uint64_t key) { Invalidate(key, {0, std::numeric_limits<uint64_t>::max()}); }

void SpanCache::Remove(uint64_t key, const ReadSpanPtr& span) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto found = shard.entries.find({key, span->range.offset});
  if (found != shard.entries.end() && found->second.span == span) Erase(shard, found);
}

bool SpanCache::MakeRoom(uint64_t key, uint64_t bytes) {
  if (bytes > bytes_max_) return false;
  // First among its own neighbours, then everywhere.
  for (size_t i = 0; i < kShards && memory_->bytes() + bytes > bytes_max_; ++i) {
    std::vector<ReadSpanPtr> dropped;
    Shard& shard = shards_[(key + i) % kShards];
    MutexLock lock(shard.mutex);
    uint64_t freed = 0;
    for (auto age = shard.ages.begin(); age != shard.ages.end() && memory_->bytes() + bytes > bytes_max_ + freed;) {
      const auto entry = shard.entries.find(*age++);
      if (!entry->second.span->complete()) continue;
      freed += entry->second.span->buffer_bytes();
      dropped.push_back(entry->second.span);
      Erase(shard, entry);
    }
    lock.Unlock();
    dropped.clear();
  }
  return memory_->bytes() + bytes <= bytes_max_;
}

}  // namespace tarn::client
