#include "chunkserver/store/extent_map.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace tarn::store {
namespace {

// The part of `extent` within `range`; block_count 0 if there is none.
Extent CutTo(const Extent& extent, BlockRange range) {
  Extent cut = extent;
  cut.first_block = std::max(extent.first_block, range.first);
  const uint32_t end = std::min(extent.end_block(), range.end);
  cut.block_count = end > cut.first_block ? end - cut.first_block : 0;
  return cut;
}

DeadRange DataBlocks(const Extent& extent) {
  return DeadRange{extent.place.segment, static_cast<uint32_t>(extent.place.FilePosition(extent.first_block) / kBlockBytes),
                   extent.block_count};
}

size_t UnitMemoryBytes(const ExtentMap::Unit& unit) {
  constexpr size_t kNodeBytes = 64;  // of the std::map, with its allocation
  return kNodeBytes + sizeof(unit) + unit.value.extents.capacity() * sizeof(Extent) + unit.value.sums.capacity() * sizeof(uint64_t);
}

}  // namespace

ExtentMap::Unit& ExtentMap::UnitAt(uint32_t unit) {
  const auto [it, is_new] = units_.try_emplace(unit);
  if (is_new) memory_bytes_ += UnitMemoryBytes(it->second);
  return it->second;
}

// Sums of blocks that are not set yet are those of holes.
void ExtentMap::SetExtents(Unit* unit, std::vector<Extent> extents, size_t sum_count) {
  memory_bytes_ -= UnitMemoryBytes(*unit);
  unit->dirty = true;
  unit->value.extents = std::move(extents);
  unit->value.sums.resize(sum_count, ZeroBlockSum());
  memory_bytes_ += UnitMemoryBytes(*unit);
}

uint32_t ExtentMap::FirstMissingUnit(uint32_t first_unit, uint32_t end_unit) const {
  uint32_t unit = first_unit;
  for (auto it = units_.lower_bound(first_unit); unit < end_unit; ++it, ++unit) {
    if (it == units_.end() || it->first != unit) return unit;
  }
  return end_unit;
}

void ExtentMap::InsertUnit(uint32_t unit, UnitValue value) {
  const auto [it, is_new] = units_.try_emplace(unit);
  if (!is_new) return;
  it->second.value = std::move(value);
  memory_bytes_ += UnitMemoryBytes(it->second);
}

BlockRange ExtentMap::BlocksNeededFor(BlockRange range) const {
  std::vector<Extent> displaced;
  Find(range, &displaced);
  BlockRange needed = range;
  for (const Extent& extent : displaced) {
    needed.first = std::min(needed.first, extent.place.record_first_block);
    needed.end = std::max(needed.end, extent.place.record_first_block + extent.place.record_blocks);
  }
  return needed;
}

void ExtentMap::Place(BlockRange range, const RecordPlace& place, std::span<const uint64_t> sums, Dead* dead) {
  CHECK(!range.empty() && sums.size() == range.end - range.first, "one sum for each block");
  const std::vector<Extent> displaced = Unmap(range);
  for (uint32_t first = range.first; first < range.end;) {
    const uint32_t unit_number = UnitOfBlock(first);
    const uint32_t unit_begin = unit_number * kUnitBlocks;
    const uint32_t end = std::min(range.end, unit_begin + kUnitBlocks);
    Unit& unit = UnitAt(unit_number);
    std::vector<Extent> extents = unit.value.extents;
    const auto behind = std::find_if(extents.begin(), extents.end(), [&](const Extent& extent) { return extent.first_block >= end; });
    extents.insert(behind, Extent{.first_block = first, .block_count = end - first, .place = place});
    SetExtents(&unit, std::move(extents), std::max<size_t>(unit.value.sums.size(), end - unit_begin));
    std::copy_n(sums.begin() + (first - range.first), end - first, unit.value.sums.begin() + (first - unit_begin));
    first = end;
  }
  CollectDead(displaced, &place, dead);
}

void ExtentMap::Remove(BlockRange range, Dead* dead) {
  const std::vector<Extent> displaced = Unmap(range);
  CollectDead(displaced, nullptr, dead);
}

std::vector<Extent> ExtentMap::Unmap(BlockRange range) {
  std::vector<Extent> displaced;
  for (auto it = units_.lower_bound(UnitOfBlock(range.first)); it != units_.end() && it->first * kUnitBlocks < range.end; ++it) {
    Unit& unit = it->second;
    std::vector<Extent> kept;
    kept.reserve(unit.value.extents.size() + 1);
    const size_t displaced_before = displaced.size();
    for (const Extent& extent : unit.value.extents) {
      const Extent cut = CutTo(extent, range);
      if (cut.block_count == 0) {
        kept.push_back(extent);
        continue;
      }
      displaced.push_back(cut);
      const Extent before = CutTo(extent, BlockRange{extent.first_block, range.first});
      const Extent behind = CutTo(extent, BlockRange{range.end, extent.end_block()});
      if (before.block_count > 0) kept.push_back(before);
      if (behind.block_count > 0) kept.push_back(behind);
    }
    if (displaced.size() == displaced_before) continue;
    // The sums end with the last mapped block.
    const uint32_t unit_begin = it->first * kUnitBlocks;
    const uint32_t mapped_end = kept.empty() ? 0 : kept.back().end_block() - unit_begin;
    const uint32_t from = std::max(range.first, unit_begin) - unit_begin;
    const uint32_t to = std::min<uint32_t>(range.end - unit_begin, static_cast<uint32_t>(unit.value.sums.size()));
    for (uint32_t block = from; block < to; ++block) unit.value.sums[block] = ZeroBlockSum();
    SetExtents(&unit, std::move(kept), mapped_end);
  }
  return displaced;
}

bool ExtentMap::IsReferenced(const RecordPlace& place) const {
  const uint32_t end = place.record_first_block + place.record_blocks;
  for (auto it = units_.lower_bound(UnitOfBlock(place.record_first_block)); it != units_.end() && it->first * kUnitBlocks < end; ++it) {
    for (const Extent& extent : it->second.value.extents) {
      if (extent.place.SameRecord(place)) return true;
    }
  }
  return false;
}

void ExtentMap::CollectDead(const std::vector<Extent>& displaced, const RecordPlace* replaced_by, Dead* dead) const {
  std::vector<RecordPlace> judged;
  for (const Extent& extent : displaced) {
    // Placing a record over itself (replay) kills nothing.
    if (replaced_by != nullptr && extent.place.SameRecord(*replaced_by)) continue;
    const bool was_judged = std::any_of(judged.begin(), judged.end(), [&](const RecordPlace& place) { return place.SameRecord(extent.place); });
    if (!was_judged) judged.push_back(extent.place);
    if (!was_judged && !IsReferenced(extent.place)) {
      AppendDead(DeadRange{extent.place.segment, extent.place.header_block, extent.place.header_blocks},
                 extent.place.is_in_cut() ? &dead->cuts : &dead->ranges);
    }
    if (!extent.place.is_inline()) AppendDead(DataBlocks(extent), &dead->ranges);
  }
}

void ExtentMap::Find(BlockRange range, std::vector<Extent>* extents) const {
  for (auto it = units_.lower_bound(UnitOfBlock(range.first)); it != units_.end() && it->first * kUnitBlocks < range.end; ++it) {
    const std::vector<Extent>& all = it->second.value.extents;
    auto from = std::upper_bound(all.begin(), all.end(), range.first,
                                 [](uint32_t block, const Extent& extent) { return block < extent.end_block(); });
    for (; from != all.end() && from->first_block < range.end; ++from) extents->push_back(CutTo(*from, range));
  }
}

const Extent* ExtentMap::FindBlock(uint32_t chunk_block) const {
  const auto unit = units_.find(UnitOfBlock(chunk_block));
  if (unit == units_.end()) return nullptr;
  const std::vector<Extent>& all = unit->second.value.extents;
  const auto it = std::upper_bound(all.begin(), all.end(), chunk_block,
                                   [](uint32_t block, const Extent& extent) { return block < extent.end_block(); });
  return it != all.end() && it->first_block <= chunk_block ? &*it : nullptr;
}

uint64_t ExtentMap::SumOf(uint32_t chunk_block) const {
  const auto unit = units_.find(UnitOfBlock(chunk_block));
  if (unit == units_.end()) return ZeroBlockSum();
  const uint32_t position = chunk_block % kUnitBlocks;
  return position < unit->second.value.sums.size() ? unit->second.value.sums[position] : ZeroBlockSum();
}

void ExtentMap::AppendSums(BlockRange range, std::string* sums) const {
  for (uint32_t first = range.first; first < range.end;) {
    const uint32_t unit_begin = first / kUnitBlocks * kUnitBlocks;
    const uint32_t end = std::min(range.end, unit_begin + kUnitBlocks);
    const auto unit = units_.find(UnitOfBlock(first));
    const uint32_t mapped_end = unit == units_.end() ? first : unit_begin + static_cast<uint32_t>(unit->second.value.sums.size());
    const uint32_t copy_end = std::clamp(mapped_end, first, end);
    if (copy_end > first) {
      const uint64_t* from = unit->second.value.sums.data() + (first - unit_begin);
      sums->append(reinterpret_cast<const char*>(from), size_t{copy_end - first} * kSumBytes);
    }
    for (uint32_t block = copy_end; block < end; ++block) AppendSum(*sums, ZeroBlockSum());
    first = end;
  }
}

void AppendDead(const DeadRange& range, std::vector<DeadRange>* dead) {
  if (range.block_count == 0) return;
  if (!dead->empty()) {
    DeadRange& last = dead->back();
    if (last.segment == range.segment && last.first_block + last.block_count == range.first_block) {
      last.block_count += range.block_count;
      return;
    }
  }
  dead->push_back(range);
}

}  // namespace tarn::store
