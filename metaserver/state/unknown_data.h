// Which data ids the state knows, and which it would know if they were anybody's (docs/replication.md, "Data that nobody
// knows").
//
// Pure functions and one thread's objects.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/kv.h"
#include "proto/state.pb.h"

namespace tarn::meta {

// The id was given by this cluster before the state that has this header: whoever knew it is in the state, or was. Of
// incarnations before a restore only what was given before the backup was made.
bool WasGiven(const proto::StateHeader& header, DataId data);
// Of all copies found.
uint64_t BytesOf(const proto::UnknownDataRecord& record);

// A set of data ids in a window [from, to), which shrinks from its end when there are too many of them.
class DataIdSet {
 public:
  // `bytes_max`: of memory, about.
  DataIdSet(DataId from, size_t bytes_max) : from_(from), blocks_max_(bytes_max / sizeof(Block) + 1) {}
  DataIdSet(const DataIdSet&) = delete;
  DataIdSet& operator=(const DataIdSet&) = delete;

  void Insert(DataId data);
  // Of an id in the window.
  bool Contains(DataId data) const;
  bool Covers(DataId data) const { return data >= from_ && (!to_.valid() || data < to_); }
  DataId from() const { return from_; }
  DataId to() const { return to_; }  // not valid: no end

 private:
  static constexpr int kBlockBits = 16;
  using Block = std::bitset<1 << kBlockBits>;

  const DataId from_;
  const size_t blocks_max_;
  DataId to_;
  std::map<uint64_t, std::unique_ptr<Block>> blocks_;  // by the ids' upper bits
};

// Every id that an inode, a dead record or a reservation has. `go_on` is asked every few thousand records; false: kCancelled.
Status CollectKnownData(const KvView& view, DataIdSet* known, const std::function<bool()>& go_on);

}  // namespace tarn::meta
