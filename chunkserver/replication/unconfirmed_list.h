// The changes that a member has taken and does not know to be on every in-sync member.
//
// Keyed by the primary's order number. Numbers of two primaries never lie in it together: a new primary's first step, reconciliation, ends
// with ForgetBefore on every member, and a target that begins to sync starts with an empty list.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <utility>

#include "chunkserver/store/replica_store.h"
#include "common/base/ids.h"

namespace tarn::replication {

// Not thread-safe: guarded by its replica's mutex.
class UnconfirmedList {
 public:
  struct Entry {
    ChunkId chunk;
    store::ChunkStamp stamp;
    Epoch epoch;  // under which it came
  };

  void Add(uint64_t order, const Entry& entry) {
    if (order <= confirmed_) return;
    const auto [place, is_new] = entries_.insert_or_assign(order, entry);
    if (is_new) ++chunks_[place->second.chunk];
  }
  // Everything up to `order` is confirmed.
  void Confirm(uint64_t order) {
    if (order <= confirmed_) return;
    confirmed_ = order;
    while (!entries_.empty() && entries_.begin()->first <= order) Erase(entries_.begin());
  }
  // A new primary has made all members equal.
  void ForgetBefore(Epoch epoch) {
    for (auto it = entries_.begin(); it != entries_.end();) it = it->second.epoch < epoch ? Erase(it) : std::next(it);
    confirmed_ = 0;
  }
  void Clear() {
    entries_.clear();
    chunks_.clear();
    confirmed_ = 0;
  }

  bool Contains(ChunkId chunk) const { return chunks_.contains(chunk); }
  size_t size() const { return entries_.size(); }
  const std::map<uint64_t, Entry>& entries() const { return entries_; }

 private:
  std::map<uint64_t, Entry>::iterator Erase(std::map<uint64_t, Entry>::iterator it) {
    const auto count = chunks_.find(it->second.chunk);
    if (--count->second == 0) chunks_.erase(count);
    return entries_.erase(it);
  }

  std::map<uint64_t, Entry> entries_;
  std::unordered_map<ChunkId, size_t> chunks_;
  uint64_t confirmed_ = 0;
};

}  // namespace tarn::replication
