#include "chunkserver/elastic/unit_cache.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "common/checksum/block_sums.h"

namespace tarn::elastic {
namespace {

// Of a segment that goes, at most this share is written anew.
constexpr uint64_t kKeptShare = 4;

// The part of the range that lies in the unit, as [begin, end) within it.
std::pair<uint32_t, uint32_t> PartOf(Range range, uint32_t unit) {
  const uint64_t unit_begin = uint64_t{unit} * kUnitBytes;
  const uint64_t begin = std::max(range.offset, unit_begin) - unit_begin;
  const uint64_t end = std::min(range.end(), unit_begin + kUnitBytes) - unit_begin;
  return {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
}

}  // namespace

Result<std::unique_ptr<UnitCache>> UnitCache::Open(const std::string& directory, uint64_t budget_bytes) {
  ASSIGN_OR_RETURN(std::unique_ptr<UnitLog> log, UnitLog::Open(directory, budget_bytes));
  return std::unique_ptr<UnitCache>(new UnitCache(std::move(log)));
}

UnitCache::Unit* UnitCache::FindUnit(Chunk& chunk, uint32_t unit) {
  const auto found = std::ranges::lower_bound(chunk.units, unit, {}, [](const auto& each) { return each.first; });
  return found != chunk.units.end() && found->first == unit ? &found->second : nullptr;
}

Found UnitCache::Find(ChunkId id, Generation generation, Range range) {
  Found result;
  MutexLock lock(mutex_);
  auto found = chunks_.find(id);
  if (found != chunks_.end() && found->second.generation > generation) {
    result.refused = true;
    return result;
  }
  if (found != chunks_.end() && found->second.generation < generation) {
    EraseChunk(id);
    found = chunks_.end();
  }
  for (uint32_t unit = range.first_unit(); unit <= range.last_unit(); ++unit) {
    const Unit* const have = found != chunks_.end() ? FindUnit(found->second, unit) : nullptr;
    if (have != nullptr && have->place.bytes < kUnitBytes) break;  // the chunk ends here
    if (have != nullptr) continue;
    if (!result.missing.empty() && result.missing.back().first + result.missing.back().count == unit &&
        result.missing.back().count < kUnitsPerFetchMax) {
      ++result.missing.back().count;
    } else {
      result.missing.push_back({unit, 1});
    }
  }
  if (result.missing.empty()) AddPieces(found->second, range, &result.read);
  return result;
}

void UnitCache::AddPieces(Chunk& chunk, Range range, CachedRead* read) {
  read->data.chunk_bytes = chunk.chunk_bytes;
  read->data.version = chunk.version;
  auto held = std::make_shared<std::vector<SegmentPtr>>();
  for (uint32_t number = range.first_unit(); number <= range.last_unit(); ++number) {
    Unit& unit = *FindUnit(chunk, number);
    unit.was_read = true;
    auto [begin, end] = PartOf(range, number);
    end = std::min(end, unit.place.bytes);
    if (begin < end) {
      const int fd = unit.place.segment->file.get();
      read->data.pieces.push_back({fd, unit.place.offset + begin, end - begin});
      read->sums.push_back({fd, unit.place.sums_offset() + begin / kSumBlockBytes * kSumBytes,
                            static_cast<uint32_t>(PieceCount(begin, end - begin) * kSumBytes)});
      read->data.length += end - begin;
      held->push_back(unit.place.segment);
    }
    if (unit.place.bytes < kUnitBytes) break;
  }
  read->data.lease = std::move(held);
}

void UnitCache::Put(ChunkId chunk, Generation generation, UnitRun run, const Fetched& fetched) {
  for (uint32_t i = 0; i < run.count; ++i) {
    const uint64_t begin = std::min<uint64_t>(uint64_t{i} * kUnitBytes, fetched.bytes.size());
    const std::span<const uint8_t> bytes = fetched.bytes.subspan(begin, std::min<uint64_t>(kUnitBytes, fetched.bytes.size() - begin));
    const std::string_view sums = fetched.sums.substr(begin / kSumBlockBytes * kSumBytes, PieceCount(0, bytes.size()) * kSumBytes);
    std::vector<SegmentPtr> evicted;
    Store({chunk, generation, run.first + i}, bytes, sums, fetched.chunk_bytes, fetched.version, &evicted);
    WriteAnew(Evict(evicted));
    if (bytes.size() < kUnitBytes) break;  // says where the chunk ends
  }
}

void UnitCache::Store(const UnitKey& key, std::span<const uint8_t> bytes, std::string_view sums, uint64_t chunk_bytes, uint64_t version,
                      std::vector<SegmentPtr>* evicted) {
  const Result<UnitPlace> place = log_->Append(bytes, sums, evicted);
  if (place.ok()) {
    Insert(key, *place, chunk_bytes, version);
  } else if (place.status().code() != StatusCode::kNoSpace) {
    spdlog::warn("a unit is not kept: {}", place.status().ToString());
  }
}

void UnitCache::Insert(const UnitKey& key, const UnitPlace& place, uint64_t chunk_bytes, uint64_t version) {
  MutexLock lock(mutex_);
  if (place.segment->evicted) return;
  const auto found = chunks_.find(key.chunk);
  if (found != chunks_.end()) {
    const Chunk& known = found->second;
    if (known.generation > key.generation) return;
    // Units that were fetched at another version may be of another content.
    if (known.generation < key.generation || known.version != version) EraseChunk(key.chunk);
  }
  Chunk& chunk = chunks_[key.chunk];
  chunk.generation = key.generation;
  chunk.chunk_bytes = chunk_bytes;
  chunk.version = version;
  const auto at = std::ranges::lower_bound(chunk.units, key.unit, {}, [](const auto& each) { return each.first; });
  if (at != chunk.units.end() && at->first == key.unit) {
    cached_bytes_ -= at->second.place.bytes;
    at->second = Unit{place, false};
  } else {
    chunk.units.insert(at, {key.unit, Unit{place, false}});
    ++units_;
  }
  cached_bytes_ += place.bytes;
  place.segment->units.push_back(key);
}

void UnitCache::EraseChunk(ChunkId id) {
  const auto found = chunks_.find(id);
  if (found == chunks_.end()) return;
  for (const auto& [number, unit] : found->second.units) cached_bytes_ -= unit.place.bytes;
  units_ -= found->second.units.size();
  chunks_.erase(found);
}

void UnitCache::EraseUnit(const UnitKey& key, const Segment* segment) {
  const auto found = chunks_.find(key.chunk);
  if (found == chunks_.end() || found->second.generation != key.generation) return;
  Chunk& chunk = found->second;
  const auto at = std::ranges::lower_bound(chunk.units, key.unit, {}, [](const auto& each) { return each.first; });
  if (at == chunk.units.end() || at->first != key.unit || at->second.place.segment.get() != segment) return;
  cached_bytes_ -= at->second.place.bytes;
  --units_;
  chunk.units.erase(at);
  if (chunk.units.empty()) chunks_.erase(found);
}

std::vector<UnitCache::Kept> UnitCache::Evict(const std::vector<SegmentPtr>& evicted) {
  std::vector<Kept> kept;
  MutexLock lock(mutex_);
  for (const SegmentPtr& segment : evicted) {
    segment->evicted = true;
    uint64_t room = segment->bytes_max / kKeptShare;
    for (const UnitKey& key : std::exchange(segment->units, {})) {
      const auto found = chunks_.find(key.chunk);
      if (found == chunks_.end() || found->second.generation != key.generation) continue;
      const Unit* const unit = FindUnit(found->second, key.unit);
      if (unit == nullptr || unit->place.segment != segment) continue;
      if (unit->was_read && unit->place.bytes <= room) {
        room -= unit->place.bytes;
        kept.push_back({key, unit->place, found->second.chunk_bytes, found->second.version});
      } else {
        bytes_evicted_ += unit->place.bytes;
      }
      EraseUnit(key, segment.get());
    }
  }
  return kept;
}

// What is evicted by it is not copied in turn: it ends.
void UnitCache::WriteAnew(const std::vector<Kept>& kept) {
  std::vector<uint8_t> bytes;
  std::string sums;
  std::vector<SegmentPtr> evicted;
  for (const Kept& each : kept) {
    bytes.resize(each.place.bytes);
    if (!UnitLog::Read(each.place, bytes, &sums).ok()) continue;
    if (FindBadPiece(0, bytes, sums)) {
      ++bad_units_;
      continue;
    }
    Store(each.key, bytes, sums, each.chunk_bytes, each.version, &evicted);
  }
  for (const Kept& gone : Evict(evicted)) bytes_evicted_ += gone.place.bytes;
}

size_t UnitCache::DropBad(ChunkId id, Generation generation, Range range) {
  std::vector<std::pair<UnitKey, UnitPlace>> places;
  {
    MutexLock lock(mutex_);
    const auto found = chunks_.find(id);
    if (found == chunks_.end() || found->second.generation != generation) return 0;
    for (uint32_t unit = range.first_unit(); unit <= range.last_unit(); ++unit) {
      if (const Unit* const have = FindUnit(found->second, unit)) places.push_back({{id, generation, unit}, have->place});
    }
  }
  size_t dropped = 0;
  std::vector<uint8_t> bytes;
  std::string sums;
  for (const auto& [key, place] : places) {
    bytes.resize(place.bytes);
    if (UnitLog::Read(place, bytes, &sums).ok() && !FindBadPiece(0, bytes, sums)) continue;
    ++bad_units_;
    ++dropped;
    MutexLock lock(mutex_);
    EraseUnit(key, place.segment.get());
  }
  return dropped;
}

void UnitCache::Clear() {
  MutexLock lock(mutex_);
  chunks_.clear();
  cached_bytes_ = 0;
  units_ = 0;
}

UnitCache::Counters UnitCache::counters() const {
  MutexLock lock(mutex_);
  return {.cached_bytes = cached_bytes_, .units = units_, .bytes_evicted = bytes_evicted_, .bad_units = bad_units_};
}

}  // namespace tarn::elastic
