// Which blocks of a chunk lie where: the extents and sums of its units, and what a change leaves dead.
//
// Units are loaded from the index one by one; an operation needs the units it touches and those of the records it displaces
// (UnitsNeededFor says which), since a record's header is dead once none of its blocks is mapped any more.
// No I/O, no locks: one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "chunkserver/store/format.h"

namespace tarn::store {

struct BlockRange {
  uint32_t first = 0;
  uint32_t end = 0;
  bool empty() const { return first >= end; }
};

class ExtentMap {
 public:
  struct Unit {
    UnitValue value;
    bool dirty = false;           // differs from the index
    bool indexing = false;        // a write of it to the index is under way
    bool rewrite_queued = false;  // waits for the background rewrite of units with many small extents
  };

  bool HasUnit(uint32_t unit) const { return units_.contains(unit); }
  // The first unit of [first_unit, end_unit) that is not loaded; end_unit if all are.
  uint32_t FirstMissingUnit(uint32_t first_unit, uint32_t end_unit) const;
  // A unit that is there already stays as it is.
  void InsertUnit(uint32_t unit, UnitValue value);
  std::map<uint32_t, Unit>& units() { return units_; }
  const std::map<uint32_t, Unit>& units() const { return units_; }
  // Makes the unit if need be, empty: for units that are known to hold nothing.
  Unit& UnitAt(uint32_t unit);

  // Blocks whose units must be loaded before `range` may be displaced. Its own units must be loaded.
  BlockRange BlocksNeededFor(BlockRange range) const;

  // What a change leaves dead.
  struct Dead {
    std::vector<DeadRange> ranges;
    std::vector<DeadRange> cuts;  // headers of truncations: still needed by a rebuild until all that they cut off is gone
  };
  // Maps [range.first, range.end) to `place`, one sum for each block. What of the displaced is dead goes to `dead`.
  void Place(BlockRange range, const RecordPlace& place, std::span<const uint64_t> sums, Dead* dead);
  // Unmaps every block of `range`.
  void Remove(BlockRange range, Dead* dead);

  // The extents that overlap `range`, cut to it, in order. Holes are what lies between.
  void Find(BlockRange range, std::vector<Extent>* extents) const;
  // nullptr: a hole.
  const Extent* FindBlock(uint32_t chunk_block) const;
  uint64_t SumOf(uint32_t chunk_block) const;
  // Appends the sums of `range`, 8 bytes each.
  void AppendSums(BlockRange range, std::string* sums) const;

  size_t memory_bytes() const { return memory_bytes_; }

 private:
  void SetExtents(Unit* unit, std::vector<Extent> extents, size_t sum_count);
  // Cuts the range out of its units; the pieces cut out.
  std::vector<Extent> Unmap(BlockRange range);
  bool IsReferenced(const RecordPlace& place) const;
  void CollectDead(const std::vector<Extent>& displaced, const RecordPlace* replaced_by, Dead* dead) const;

  std::map<uint32_t, Unit> units_;
  size_t memory_bytes_ = 0;
};

// Appends, joined with the last range if it continues it.
void AppendDead(const DeadRange& range, std::vector<DeadRange>* dead);

}  // namespace tarn::store
