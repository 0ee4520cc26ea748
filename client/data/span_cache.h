// Recently fetched and soon expected file bytes: spans by file, least recently used first out, within a budget of
// memory.
//
// A key stands for one state of one file's data; whoever changes the data invalidates the range, or drops the key.
// Spans of one key do not overlap. A span that is invalidated while its fetch is under way still serves those who wait
// for it already, nobody else. Thread-safe. Does no I/O: it says which spans are to be fetched.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "client/data/read_span.h"
#include "common/base/byte_range.h"
#include "common/base/mutex.h"

namespace tarn::client {

class SpanCache {
 public:
  static constexpr uint64_t kSpanBytesMax = 1 << 20;

  explicit SpanCache(uint64_t bytes_max) : bytes_max_(bytes_max), memory_(std::make_shared<SpanMemory>()) {}
  SpanCache(const SpanCache&) = delete;
  SpanCache& operator=(const SpanCache&) = delete;

  struct Found {
    std::vector<ReadSpanPtr> spans;     // in file order; together they cover the range
    std::vector<ReadSpanPtr> to_fetch;  // those among them that are new: the caller fetches and completes them
  };
  // Makes spans for what is missing. Where the budget is used up by spans under way, new ones are still made (a reader
  // waits for them).
  Found Acquire(uint64_t key, ByteRange range);
  // As Acquire, if all of the range is there or under way; otherwise nothing.
  std::vector<ReadSpanPtr> FindAll(uint64_t key, ByteRange range);
  // New spans for what is missing of the range, as far as the budget allows without dropping anything younger than what
  // was read.
  std::vector<ReadSpanPtr> Prefetch(uint64_t key, ByteRange range);
  // A span for one reader only.
  ReadSpanPtr MakePrivate(ByteRange range) { return std::make_shared<ReadSpan>(memory_, range); }

  // Lets go of spans that were read to their end and lie wholly before `offset`: a sequential reader is through with
  // them.
  void DropRead(uint64_t key, uint64_t offset);
  void Invalidate(uint64_t key, ByteRange range);
  void DropKey(uint64_t key);
  // Its fetch failed: the next reader tries again.
  void Remove(uint64_t key, const ReadSpanPtr& span);

  uint64_t bytes() const { return memory_->bytes(); }

 private:
  struct Position {
    uint64_t key = 0;
    uint64_t offset = 0;
    friend auto operator<=>(const Position&, const Position&) = default;
  };
  struct Entry {
    ReadSpanPtr span;
    std::list<Position>::iterator age;
    bool read = false;  // to its end
  };
  using Entries = std::map<Position, Entry>;
  struct Shard {
    Mutex mutex;
    Entries entries GUARDED_BY(mutex);
    std::list<Position> ages GUARDED_BY(mutex);  // least recently used first
  };
  static constexpr size_t kShards = 8;

  Shard& ShardOf(uint64_t key) { return shards_[key % kShards]; }
  Entries::iterator FirstTouching(Shard& shard, uint64_t key, uint64_t offset);
  Entries::iterator Erase(Shard& shard, Entries::iterator entry);
  void FillGap(Shard& shard, uint64_t key, ByteRange gap, uint64_t read_end, Found* found);
  void Use(Shard& shard, Entry& entry, uint64_t read_end);
  // Drops old spans until `bytes` more fit. False if they do not.
  bool MakeRoom(uint64_t key, uint64_t bytes);

  const uint64_t bytes_max_;
  const std::shared_ptr<SpanMemory> memory_;
  std::array<Shard, kShards> shards_;
};

}  // namespace tarn::client
