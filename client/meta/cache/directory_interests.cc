#include "client/meta/cache/directory_interests.h"

#include <algorithm>
#include <utility>

namespace tarn::client {

DirectoryInterests::DirectoryInterests(uint32_t directories_max)
    : slots_max_(std::max(1u, directories_max)), chunks_((slots_max_ + kChunkSlots - 1) / kChunkSlots) {}

DirectoryInterests::~DirectoryInterests() {
  for (const std::atomic<Chunk*>& chunk : chunks_) delete chunk.load(std::memory_order_acquire);
}

std::optional<uint32_t> DirectoryInterests::TakeSlot(uint32_t now_s, InodeId* evicted) {
  if (free_.empty() && made_ < slots_max_) {
    if (made_ % kChunkSlots == 0) chunks_[made_ / kChunkSlots].store(new Chunk, std::memory_order_release);
    return made_++;
  }
  // Two rounds: the first takes away what marks a slot as used lately.
  for (uint32_t step = 0; free_.empty() && step < 2 * made_; ++step) {
    hand_ = hand_ + 1 < made_ ? hand_ + 1 : 0;
    Slot& slot = At(hand_);
    const Shown shown = ShownOf(slot, hand_, now_s);
    if (shown.names || shown.attributes || std::exchange(slot.referenced, false)) continue;
    *evicted = InodeId(slot.directory.load());
    Release(hand_);
  }
  if (free_.empty()) return std::nullopt;
  const uint32_t index = free_.back();
  free_.pop_back();
  return index;
}

void DirectoryInterests::Release(uint32_t index) {
  Slot& slot = At(index);
  slot.generation.fetch_add(1, std::memory_order_acq_rel);
  slots_.erase(InodeId(slot.directory.load()));
  slot.used = false;
  free_.push_back(index);
}

void DirectoryInterests::NoteShared(const Admission& admission, Slot* slot) {
  if (admission.shared && (*admission.shared || admission.token >= slot->shared_since))
    slot->shared.store(*admission.shared);
}

std::optional<Cover> DirectoryInterests::Admit(const Admission& admission, InodeId* evicted) {
  MutexLock lock(mutex_);
  if (StampOf(admission.directory) > admission.token) return std::nullopt;
  if (const auto found = slots_.find(admission.directory); found != slots_.end()) {
    Slot& slot = At(found->second);
    slot.referenced = true;
    NoteShared(admission, &slot);
    if (admission.shared && slot.whole_since == 0) slot.whole_since = admission.stamp;
    return Cover{found->second, slot.generation.load(std::memory_order_acquire)};
  }
  const std::optional<uint32_t> index = TakeSlot(admission.now_s, evicted);
  if (!index) return std::nullopt;
  Slot& slot = At(*index);
  slot.directory.store(admission.directory.value());
  slot.since = admission.stamp;
  slot.whole_since = admission.shared ? admission.stamp : 0;
  slot.used = slot.referenced = true;
  slot.shared.store(true);
  slot.shared_since = 0;
  NoteShared(admission, &slot);
  slot.names_shown_until_s.store(0);
  slot.attributes_shown_until_s.store(0);
  slots_.emplace(admission.directory, *index);
  return Cover{*index, slot.generation.load(std::memory_order_acquire)};
}

std::optional<Cover> DirectoryInterests::Held(InodeId directory, uint64_t token, bool whole) {
  MutexLock lock(mutex_);
  const auto found = slots_.find(directory);
  if (found == slots_.end()) return std::nullopt;
  Slot& slot = At(found->second);
  if (slot.since > token || (whole && (slot.whole_since == 0 || slot.whole_since > token))) return std::nullopt;
  slot.referenced = true;
  return Cover{found->second, slot.generation.load(std::memory_order_acquire)};
}

bool DirectoryInterests::Forget(InodeId directory, uint64_t stamp) {
  MutexLock lock(mutex_);
  if (slots_.contains(directory)) return false;
  StampOf(directory) = stamp;
  return true;
}

DirectoryInterests::Shown DirectoryInterests::ShownOf(const Slot& slot, uint32_t index, uint32_t now_s) {
  Shown shown;
  shown.known = true;
  shown.names = slot.names_shown_until_s.load() > now_s;
  shown.attributes = slot.attributes_shown_until_s.load() > now_s;
  shown.cover = Cover{index, slot.generation.load(std::memory_order_acquire)};
  return shown;
}

DirectoryInterests::Shown DirectoryInterests::End(InodeId directory, uint64_t stamp, uint32_t now_s) {
  MutexLock lock(mutex_);
  StampOf(directory) = stamp;
  const auto found = slots_.find(directory);
  if (found == slots_.end()) return {};
  // As in ShowName: first no more names are shown, then it is looked whether some were.
  At(found->second).shared.store(true);
  const Shown shown = ShownOf(At(found->second), found->second, now_s);
  Release(found->second);
  return shown;
}

DirectoryInterests::Shown DirectoryInterests::MarkShared(InodeId directory, uint64_t stamp, uint32_t now_s) {
  MutexLock lock(mutex_);
  const auto found = slots_.find(directory);
  if (found == slots_.end()) return {};
  Slot& slot = At(found->second);
  slot.shared.store(true);
  slot.shared_since = stamp;
  const Shown shown = ShownOf(slot, found->second, now_s);
  slot.names_shown_until_s.store(0);  // the caller sees to it
  return shown;
}

void DirectoryInterests::Clear(uint64_t stamp) {
  MutexLock lock(mutex_);
  stamps_.fill(stamp);
  for (uint32_t index = 0; index < made_; ++index) {
    if (At(index).used) Release(index);
  }
}

InodeId DirectoryInterests::DirectoryOf(Cover cover) const {
  if (cover.slot >= Cover::kNone) return InodeId();
  const InodeId directory(At(cover.slot).directory.load());
  return Alive(cover) ? directory : InodeId();
}

bool DirectoryInterests::ShowName(Cover cover, uint32_t until_s) {
  Slot& slot = At(cover.slot);
  if (slot.shared.load()) return false;
  // Noted first, then looked again: either this sees that the directory is shared, or whoever made it so sees the note.
  uint32_t shown = slot.names_shown_until_s.load();
  while (shown < until_s && !slot.names_shown_until_s.compare_exchange_weak(shown, until_s)) {
  }
  return !slot.shared.load() && Alive(cover);
}

void DirectoryInterests::NoteAttributesShown(Cover cover, uint32_t until_s) {
  if (cover.slot >= Cover::kNone) return;
  Slot& slot = At(cover.slot);
  uint32_t shown = slot.attributes_shown_until_s.load();
  while (shown < until_s && !slot.attributes_shown_until_s.compare_exchange_weak(shown, until_s)) {
  }
}

uint32_t DirectoryInterests::size() const {
  MutexLock lock(mutex_);
  return static_cast<uint32_t>(slots_.size());
}

size_t DirectoryInterests::bytes() const {
  constexpr size_t kNodeBytes = 40;
  MutexLock lock(mutex_);
  return (made_ + kChunkSlots - 1) / kChunkSlots * sizeof(Chunk) + slots_.size() * kNodeBytes;
}

}  // namespace tarn::client
