#include "client/data/extent_map.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/base/check.h"

namespace tarn::client {
namespace {

constexpr uint64_t kBlockBytes = kWriteBufferBlockBytes;
constexpr size_t kExtentsPerSegmentMax = 64;

bool Touches(ByteRange a, ByteRange b) { return a.offset <= b.end() && b.offset <= a.end(); }

bool Covers(ByteRange outer, ByteRange inner) { return outer.offset <= inner.offset && inner.end() <= outer.end(); }

ByteRange Hull(ByteRange a, ByteRange b) {
  const uint64_t begin = std::min(a.offset, b.offset);
  return {begin, std::max(a.end(), b.end()) - begin};
}

void CopyIn(Extent& extent, uint64_t offset, std::span<const uint8_t> bytes) {
  std::memcpy(extent.slab->data() + (offset - extent.slab->window().offset), bytes.data(), bytes.size());
}

// `gaps` without `covered`. Both in file order.
void Subtract(std::vector<ByteRange>& gaps, ByteRange covered) {
  for (size_t i = 0; i < gaps.size();) {
    const ByteRange gap = gaps[i];
    if (!gap.Overlaps(covered)) {
      ++i;
      continue;
    }
    const ByteRange before{gap.offset, covered.offset > gap.offset ? covered.offset - gap.offset : 0};
    const ByteRange after{covered.end(), gap.end() > covered.end() ? gap.end() - covered.end() : 0};
    gaps.erase(gaps.begin() + static_cast<std::ptrdiff_t>(i));
    if (!before.empty()) gaps.insert(gaps.begin() + static_cast<std::ptrdiff_t>(i++), before);
    if (!after.empty()) gaps.insert(gaps.begin() + static_cast<std::ptrdiff_t>(i++), after);
  }
}

}  // namespace

// ---- Writing ----

uint64_t ExtentMap::LengthInSegment(uint64_t offset, uint64_t length) const {
  return std::min(length, (SegmentOf(offset) + 1) * buffer_->slab_bytes_max() - offset);
}

bool ExtentMap::Write(uint64_t offset, std::span<const uint8_t> bytes, Stamp now) {
  const ByteRange written{offset, bytes.size()};
  CHECK(!bytes.empty() && LengthInSegment(offset, bytes.size()) == bytes.size(), "a write lies within one segment");
  Segment& segment = segments_[SegmentOf(offset)];
  std::vector<ExtentPtr> merged = MergeCandidates(segment, written);
  ByteRange hull = written;
  for (const ExtentPtr& extent : merged) hull = Hull(hull, extent->range);

  ExtentPtr extent;
  if (merged.size() == 1 && Covers(merged[0]->slab->window(), hull)) {
    extent = merged[0];  // in place
    Unindex(extent);
    std::erase(segment, extent);
  } else {
    extent = MakeExtent(hull, PreferredSlabBytes(hull, !merged.empty()));
    if (extent == nullptr && !merged.empty()) {  // perhaps there is room for the new bytes alone
      merged.clear();
      hull = written;
      extent = MakeExtent(hull, bytes.size());
    }
    if (extent == nullptr) {
      if (segment.empty()) segments_.erase(SegmentOf(offset));
      return false;
    }
    extent->dirty_since_ns = now.monotonic_ns;
    for (const ExtentPtr& older : merged) {  // oldest first
      CopyIn(*extent, older->range.offset, older->bytes());
      extent->oldest_age = std::min(extent->oldest_age, older->oldest_age);
      extent->dirty_since_ns = std::min(extent->dirty_since_ns, older->dirty_since_ns);
      extent->want_send |= older->want_send;
    }
  }
  CopyIn(*extent, offset, bytes);
  extent->range = hull;
  Publish(segment, extent, now);
  for (const ExtentPtr& older : merged) {
    if (older != extent) Remove(older);
  }
  Index(extent);
  if (extent->want_send) Mark(extent);
  CutUnstable(extent);
  last_write_end_ = written.end();
  return true;
}

// Unsent extents that touch the written range and are covered by nothing newer that stays; oldest first.
std::vector<ExtentPtr> ExtentMap::MergeCandidates(const Segment& segment, ByteRange written) const {
  std::vector<ExtentPtr> merged;
  for (size_t i = segment.size(); i-- > 0;) {
    const ExtentPtr& extent = segment[i];
    if (extent->state != SlabState::kDirty || extent->stamps || !Touches(extent->range, written)) continue;
    bool hidden = false;
    for (size_t newer = i + 1; newer < segment.size() && !hidden; ++newer) {
      hidden = segment[newer]->range.Overlaps(extent->range) &&
               std::find(merged.begin(), merged.end(), segment[newer]) == merged.end();
    }
    if (!hidden) merged.insert(merged.begin(), extent);
  }
  return merged;
}

uint64_t ExtentMap::PreferredSlabBytes(ByteRange hull, bool merging) const {
  const uint64_t segment_bytes = buffer_->slab_bytes_max();
  const uint64_t window_begin = hull.offset / kBlockBytes * kBlockBytes;
  const uint64_t left = (SegmentOf(hull.offset) + 1) * segment_bytes - window_begin;
  // A stream that has filled segments before will fill this one as well; one that grows gets room to grow, so that
  // copying stays proportional to what is written.
  if (!merging && hull.offset > 0 && hull.offset == last_write_end_) return left;
  const uint64_t needed = hull.end() - window_begin;
  return std::min(merging ? needed * 2 : needed, left);
}

// Null if there is no room for the range; with less than the preferred size if need be.
ExtentPtr ExtentMap::MakeExtent(ByteRange range, uint64_t preferred_bytes) {
  const uint64_t window_begin = range.offset / kBlockBytes * kBlockBytes;
  const uint64_t needed = range.end() - window_begin;
  std::unique_ptr<Slab> slab = buffer_->Allocate(std::max(needed, preferred_bytes), identity_, window_begin);
  if (slab == nullptr && preferred_bytes > needed) slab = buffer_->Allocate(needed, identity_, window_begin);
  if (slab == nullptr) return nullptr;
  auto extent = std::make_shared<Extent>();
  extent->slab = std::move(slab);
  extent->oldest_age = std::numeric_limits<uint64_t>::max();
  return extent;
}

// Gives the extent its age and its place in the segment; its range is set.
void ExtentMap::Publish(Segment& segment, const ExtentPtr& extent, Stamp now) {
  extent->age = ++last_age_;
  extent->oldest_age = std::min(extent->oldest_age, extent->age);
  extent->mtime_ns = now.wall_ns;
  extent->slab->SetExtent(extent->range, extent->age, extent->mtime_ns);
  segment.push_back(extent);
}

void ExtentMap::CutUnstable(const ExtentPtr& newest) {
  const Segment segment = segments_[SegmentOf(newest->range.offset)];
  for (const ExtentPtr& extent : segment) {
    if (extent->state == SlabState::kUnstable && extent->range.Overlaps(newest->range)) CutOut(extent, newest);
    if (!newest->in_map) return;  // absorbed
  }
}

// Takes the bytes that `newer` hides out of an acknowledged extent. Returns the second part if two are left.
ExtentPtr ExtentMap::CutOut(const ExtentPtr& extent, const ExtentPtr& newer) {
  const ByteRange hole = Intersect(extent->range, newer->range);
  const uint64_t before = hole.offset - extent->range.offset;
  const uint64_t after = extent->range.end() - hole.end();
  if (before > 0 && after > 0) {
    ExtentPtr second = Split(extent, hole);
    if (second == nullptr) Absorb(extent, newer);
    return second;
  }
  if (before > 0 || after > 0) {
    Resize(extent, before > 0 ? ByteRange{extent->range.offset, before} : ByteRange{hole.end(), after});
    return nullptr;
  }
  if (!sync_waiting_) {
    Remove(extent);
    return nullptr;
  }
  unstable_bytes_ -= extent->range.length;
  std::erase(segments_[SegmentOf(extent->range.offset)], extent);
  extent->range.length = 0;
  extent->slab = nullptr;
  return nullptr;
}

// Null, with nothing changed, if there is no room for a copy of the second part.
ExtentPtr ExtentMap::Split(const ExtentPtr& extent, ByteRange hole) {
  const ByteRange tail{hole.end(), extent->range.end() - hole.end()};
  ExtentPtr second = MakeExtent(tail, 0);
  if (second == nullptr) return nullptr;
  CopyIn(*second, tail.offset, extent->bytes().subspan(tail.offset - extent->range.offset));
  second->range = tail;
  second->age = extent->age;
  second->oldest_age = extent->oldest_age;
  second->dirty_since_ns = extent->dirty_since_ns;
  second->mtime_ns = extent->mtime_ns;
  second->state = SlabState::kUnstable;
  second->acks = extent->acks;
  second->stamps = extent->stamps;
  second->sole_term = extent->sole_term;
  second->slab->SetExtent(tail, second->age, second->mtime_ns);
  second->slab->SetState(SlabState::kUnstable);
  Segment& segment = segments_[SegmentOf(tail.offset)];
  segment.insert(std::find(segment.begin(), segment.end(), extent), second);
  Index(second);
  Resize(extent, {extent->range.offset, hole.offset - extent->range.offset});
  return second;
}

namespace {

// What is left of the stamps once the bytes of `hole` have been written anew.
std::vector<PieceStamp> WithFresh(const std::vector<PieceStamp>& stamps, ByteRange hole) {
  std::vector<PieceStamp> pieces;
  for (const PieceStamp& piece : stamps) {
    const uint64_t end = piece.range.end();
    if (piece.range.offset < hole.offset) pieces.push_back({{piece.range.offset, std::min(end, hole.offset) - piece.range.offset}, piece.stamp, piece.fresh});
    const uint64_t begin = std::max(piece.range.offset, hole.end());
    if (begin < end) pieces.push_back({{begin, end - begin}, piece.stamp, piece.fresh});
  }
  pieces.push_back({hole, {}, true});
  return pieces;
}

}  // namespace

// Without room to split: the bytes of `newer`, which is unsent and lies inside the extent, go into it, and all of it is
// sent again, what had been acknowledged under its stamps.
void ExtentMap::Absorb(const ExtentPtr& extent, const ExtentPtr& newer) {
  CHECK(newer->state == SlabState::kDirty, "whatever overlaps an extent under way waits for it");
  CopyIn(*extent, newer->range.offset, newer->bytes());
  SetState(extent, SlabState::kDirty);
  extent->acks.clear();
  if (extent->stamps) extent->stamps = WithFresh(*extent->stamps, newer->range);
  Segment& segment = segments_[SegmentOf(extent->range.offset)];
  std::erase(segment, extent);
  segment.insert(std::find(segment.begin(), segment.end(), newer), extent);
  extent->age = newer->age;
  extent->mtime_ns = newer->mtime_ns;
  extent->slab->SetExtent(extent->range, extent->age, extent->mtime_ns);
  const bool hurry = newer->want_send || sync_waiting_;
  Remove(newer);
  if (hurry) Mark(extent);
}

void ExtentMap::Resize(const ExtentPtr& extent, ByteRange range) {
  Unindex(extent);
  extent->range = range;
  extent->slab->SetExtent(range, extent->age, extent->mtime_ns);
  Index(extent);
}

bool ExtentMap::FillsSegment(uint64_t offset) const {
  const auto found = segments_.find(SegmentOf(offset));
  if (found == segments_.end() || found->second.empty()) return false;
  return found->second.back()->range.end() == (found->first + 1) * buffer_->slab_bytes_max();
}

bool ExtentMap::IsCrowded(uint64_t offset) const {
  const auto found = segments_.find(SegmentOf(offset));
  return found != segments_.end() && found->second.size() > kExtentsPerSegmentMax;
}

// ---- Reading ----

bool ExtentMap::Overlaps(ByteRange range) const {
  if (range.empty() || segments_.empty()) return false;
  const auto last = segments_.upper_bound(SegmentOf(range.end() - 1));
  for (auto it = segments_.lower_bound(SegmentOf(range.offset)); it != last; ++it) {
    for (const ExtentPtr& extent : it->second) {
      if (extent->range.Overlaps(range)) return true;
    }
  }
  return false;
}

std::vector<ByteRange> ExtentMap::CopyTo(ByteRange range, uint8_t* destination) const {
  std::vector<ByteRange> gaps{range};
  if (range.empty()) return {};
  const auto last = segments_.upper_bound(SegmentOf(range.end() - 1));
  for (auto it = segments_.lower_bound(SegmentOf(range.offset)); it != last; ++it) {
    for (const ExtentPtr& extent : it->second) {
      const ByteRange part = Intersect(extent->range, range);
      if (part.empty()) continue;
      std::memcpy(destination + (part.offset - range.offset),
                  extent->bytes().data() + (part.offset - extent->range.offset), part.length);
      Subtract(gaps, part);
    }
  }
  return gaps;
}

// ---- Sending ----

void ExtentMap::WantSend(uint64_t age_max) {
  for (auto it = unacknowledged_.begin(); it != unacknowledged_.end() && it->first <= age_max; ++it) {
    if (it->second->state == SlabState::kDirty && !it->second->want_send) Mark(it->second);
  }
}

void ExtentMap::WantSendSegment(uint64_t offset) {
  const auto found = segments_.find(SegmentOf(offset));
  if (found == segments_.end()) return;
  for (const ExtentPtr& extent : found->second) {
    if (extent->state == SlabState::kDirty && !extent->want_send) Mark(extent);
  }
}

void ExtentMap::Mark(const ExtentPtr& extent) {
  extent->want_send = true;
  if (extent->queued) return;
  extent->queued = true;
  send_queue_.push_back(extent);
}

ExtentPtr ExtentMap::NextToSend() {
  while (!send_queue_.empty()) {
    const ExtentPtr extent = std::move(send_queue_.front());
    send_queue_.pop_front();
    extent->queued = false;
    if (!extent->in_map || extent->state != SlabState::kDirty || !extent->want_send) continue;
    if (Blocked(segments_[SegmentOf(extent->range.offset)], extent))
      continue;  // the end of the other send queues it again
    SetState(extent, SlabState::kSending);
    extent->want_send = false;
    extent->send_again = false;
    extent->all_durable = true;
    extent->failure = Status::Ok();
    extent->acks.clear();
    extent->new_stamps.clear();
    return extent;
  }
  return nullptr;
}

// Something older that overlaps has to reach the servers first.
bool ExtentMap::Blocked(const Segment& segment, const ExtentPtr& extent) {
  bool blocked = false;
  for (const ExtentPtr& older : segment) {
    if (older == extent) break;
    if (older->state == SlabState::kUnstable || !older->range.Overlaps(extent->range)) continue;
    blocked = true;
    if (older->state == SlabState::kDirty && !older->want_send) Mark(older);
  }
  return blocked;
}

void ExtentMap::Acknowledge(const ExtentPtr& extent) {
  SetState(extent, SlabState::kUnstable);
  const uint64_t index = SegmentOf(extent->range.offset);
  const Segment segment = segments_[index];
  std::vector<ExtentPtr> parts{extent};
  for (const ExtentPtr& newer : segment) {
    if (newer->age <= extent->age || !newer->in_map) continue;
    for (size_t i = 0; i < parts.size() && newer->in_map; ++i) {
      if (parts[i]->state != SlabState::kUnstable || !parts[i]->range.Overlaps(newer->range)) continue;
      if (ExtentPtr second = CutOut(parts[i], newer)) parts.push_back(std::move(second));
    }
  }
  RequeueSegment(index);
}

void ExtentMap::SendAgain(const ExtentPtr& extent) {
  if (extent->range.empty()) {  // what replaced its bytes will be sent
    Remove(extent);
    return;
  }
  SetState(extent, SlabState::kDirty);
  extent->acks.clear();
  Mark(extent);
  RequeueSegment(SegmentOf(extent->range.offset));
}

void ExtentMap::SendAnew(const ExtentPtr& extent) {
  extent->stamps.reset();
  SendAgain(extent);
}

void ExtentMap::Remove(const ExtentPtr& extent) {
  if (!extent->in_map) return;
  Unindex(extent);
  extent->in_map = false;
  const uint64_t index = SegmentOf(extent->range.offset);
  const auto found = segments_.find(index);
  if (found == segments_.end()) return;  // an extent of no bytes is in no segment
  std::erase(found->second, extent);
  if (found->second.empty()) {
    segments_.erase(found);
  } else {
    RequeueSegment(index);
  }
}

void ExtentMap::RequeueSegment(uint64_t segment) {
  const auto found = segments_.find(segment);
  if (found == segments_.end()) return;
  for (const ExtentPtr& extent : found->second) {
    if (extent->state == SlabState::kDirty && extent->want_send) Mark(extent);
  }
}

// ---- Truncation and change of data id ----

std::vector<ExtentPtr> ExtentMap::TruncateTo(uint64_t size) {
  std::vector<ExtentPtr> under_way;
  std::vector<ExtentPtr> cut;
  for (auto it = segments_.lower_bound(SegmentOf(size)); it != segments_.end(); ++it) {
    for (const ExtentPtr& extent : it->second) {
      if (extent->range.end() > size) cut.push_back(extent);
    }
  }
  for (const ExtentPtr& extent : cut) {
    if (extent->state == SlabState::kSending) under_way.push_back(extent);
    CutAt(extent, size);
  }
  return under_way;
}

void ExtentMap::CutAt(const ExtentPtr& extent, uint64_t size) {
  if (extent->range.offset >= size) {
    Remove(extent);
  } else if (extent->range.end() > size) {
    Resize(extent, {extent->range.offset, size - extent->range.offset});
  }
}

void ExtentMap::SetIdentity(const SlabIdentity& identity) {
  identity_ = identity;
  for (const auto* extents : {&unacknowledged_, &unstable_}) {
    for (const auto& [age, extent] : *extents) {
      if (extent->slab != nullptr) extent->slab->SetIdentity(identity);
    }
  }
}

// ---- Book-keeping ----

void ExtentMap::Index(const ExtentPtr& extent) {
  const bool unstable = extent->state == SlabState::kUnstable;
  (unstable ? unstable_ : unacknowledged_).emplace(extent->oldest_age, extent);
  (unstable ? unstable_bytes_ : unacknowledged_bytes_) += extent->range.length;
}

void ExtentMap::Unindex(const ExtentPtr& extent) {
  const bool unstable = extent->state == SlabState::kUnstable;
  auto& index = unstable ? unstable_ : unacknowledged_;
  auto it = index.find(extent->oldest_age);
  while (it != index.end() && it->second != extent) ++it;  // few share an age: parts of one extent
  CHECK(it != index.end(), "an extent is in the index of its state");
  index.erase(it);
  (unstable ? unstable_bytes_ : unacknowledged_bytes_) -= extent->range.length;
}

void ExtentMap::SetState(const ExtentPtr& extent, SlabState state) {
  Unindex(extent);
  extent->state = state;
  extent->slab->SetState(state);
  Index(extent);
}

bool ExtentMap::HasUnacknowledged(uint64_t age_max) const {
  return !unacknowledged_.empty() && unacknowledged_.begin()->first <= age_max;
}

bool ExtentMap::HasUnstable(uint64_t age_max) const {
  return !unstable_.empty() && unstable_.begin()->first <= age_max;
}

int64_t ExtentMap::oldest_dirty_ns() const {
  // The front answers for the oldest write, and times rise with ages.
  return unacknowledged_.empty() ? std::numeric_limits<int64_t>::max()
                                 : unacknowledged_.begin()->second->dirty_since_ns;
}

uint64_t ExtentMap::UnacknowledgedEnd() const {
  uint64_t end = 0;
  for (const auto& [age, extent] : unacknowledged_) end = std::max(end, extent->range.end());
  return end;
}

std::vector<ExtentPtr> ExtentMap::Unstable() const {
  std::vector<ExtentPtr> extents;
  extents.reserve(unstable_.size());
  for (const auto& [age, extent] : unstable_) extents.push_back(extent);
  return extents;
}

std::vector<ExtentPtr> ExtentMap::Unacknowledged() const {
  std::vector<ExtentPtr> extents;
  extents.reserve(unacknowledged_.size());
  for (const auto& [age, extent] : unacknowledged_) extents.push_back(extent);
  return extents;
}

}  // namespace tarn::client
