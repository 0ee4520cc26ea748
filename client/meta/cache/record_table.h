// A hash table of small records with a fixed bound, for caches: what is added when it is full replaces something that
// was not used lately (the clock algorithm). Records never move; a record costs its own size and three to six bytes.
//
// A Record is trivially copyable and has: `Key`, `Key key() const`, `static uint64_t HashOf(const Key&)` (well mixed),
// `void SetKey(const Key&)`, and `uint32_t link`, which belongs to the table. Thread-compatible.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace tarn::client {

template <typename Record>
class RecordTable {
 public:
  using Key = typename Record::Key;
  static_assert(std::is_trivially_copyable_v<Record>);

  // At least one.
  explicit RecordTable(uint32_t records_max)
      : records_max_(std::clamp(records_max, 1u, kIndexMask)), heads_(kHeadsMin, kNone) {}
  RecordTable(const RecordTable&) = delete;
  RecordTable& operator=(const RecordTable&) = delete;

  // Null if there is none. Counts as a use.
  Record* Find(const Key& key) {
    Record* const record = Peek(key);
    if (record != nullptr) record->link |= kReferenced;
    return record;
  }
  // The same without counting as a use.
  Record* Peek(const Key& key) {
    for (uint32_t index = heads_[HeadOf(key)]; index != kNone; index = At(index).link & kIndexMask) {
      if (At(index).key() == key) return &At(index);
    }
    return nullptr;
  }

  // The record of that key; a new one (zeroed but for its key) if there is none. `evict` sees what has to go for it.
  template <typename Evict>
  Record& Insert(const Key& key, Evict&& evict) {
    if (Record* const found = Find(key); found != nullptr) return *found;
    const uint32_t index = TakeIndex(evict);
    if (count_ > heads_.size() + heads_.size() / 2) Rehash(heads_.size() * 2);
    Record& record = At(index);
    record = Record{};
    record.SetKey(key);
    uint32_t& head = heads_[HeadOf(key)];
    record.link = head | kUsed;
    head = index;
    return record;
  }

  bool Erase(const Key& key) {
    for (uint32_t* from = &heads_[HeadOf(key)];;) {
      const uint32_t index = *from & kIndexMask;
      if (index == kNone) return false;
      Record& record = At(index);
      if (record.key() == key) {
        Unlink(from, record);
        free_.push_back(index);
        return true;
      }
      from = &record.link;
    }
  }

  // `visit` may not add or erase.
  template <typename Visit>
  void ForEach(Visit&& visit) {
    for (uint32_t index = 0; index < made_; ++index) {
      if ((At(index).link & kUsed) != 0) visit(At(index));
    }
  }

  void Clear() {
    heads_.assign(kHeadsMin, kNone);
    heads_.shrink_to_fit();
    slabs_.clear();
    free_.clear();
    free_.shrink_to_fit();
    made_ = count_ = hand_ = 0;
  }

  uint32_t size() const { return count_; }
  // Memory taken, the allocator's own aside.
  size_t bytes() const {
    return slabs_.size() * (sizeof(Slab) + sizeof(slabs_[0])) + heads_.size() * sizeof(heads_[0]) +
           free_.capacity() * sizeof(free_[0]);
  }

 private:
  static constexpr uint32_t kSlabRecords = 256;
  static constexpr uint32_t kHeadsMin = 16;
  // A link: the index of the next record of the chain, and two flags.
  static constexpr uint32_t kUsed = 1u << 31;
  static constexpr uint32_t kReferenced = 1u << 30;
  static constexpr uint32_t kIndexMask = kReferenced - 1;
  static constexpr uint32_t kNone = kIndexMask;
  using Slab = std::array<Record, kSlabRecords>;

  Record& At(uint32_t index) { return (*slabs_[index / kSlabRecords])[index % kSlabRecords]; }
  size_t HeadOf(const Key& key) const { return Record::HashOf(key) & (heads_.size() - 1); }

  // `from` is the link or head that points at the record.
  void Unlink(uint32_t* from, Record& record) {
    *from = (*from & ~kIndexMask) | (record.link & kIndexMask);
    record.link = kNone;
    --count_;
  }

  template <typename Evict>
  uint32_t TakeIndex(Evict&& evict) {
    if (count_ >= records_max_) EvictOne(evict);
    ++count_;
    if (!free_.empty()) {
      const uint32_t index = free_.back();
      free_.pop_back();
      return index;
    }
    if (made_ % kSlabRecords == 0) slabs_.push_back(std::make_unique<Slab>());
    return made_++;
  }

  template <typename Evict>
  void EvictOne(Evict&& evict) {
    while (true) {
      hand_ = hand_ + 1 < made_ ? hand_ + 1 : 0;
      Record& record = At(hand_);
      if ((record.link & kUsed) == 0) continue;
      if ((record.link & kReferenced) != 0) {
        record.link &= ~kReferenced;
        continue;
      }
      evict(record);
      Erase(record.key());
      return;
    }
  }

  void Rehash(size_t heads) {
    heads_.assign(heads, kNone);
    for (uint32_t index = 0; index < made_; ++index) {
      Record& record = At(index);
      if ((record.link & kUsed) == 0) continue;
      uint32_t& head = heads_[HeadOf(record.key())];
      record.link = (record.link & ~kIndexMask) | head;
      head = index;
    }
  }

  const uint32_t records_max_;
  std::vector<uint32_t> heads_;
  std::vector<std::unique_ptr<Slab>> slabs_;
  std::vector<uint32_t> free_;
  uint32_t made_ = 0;   // indexes ever given out
  uint32_t count_ = 0;  // records in use
  uint32_t hand_ = 0;
};

}  // namespace tarn::client
