#include "client/meta/cache/namespace_cache.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

namespace tarn::client {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
// The kernel counts a time-out from when it reads the reply: that much earlier it ends here.
constexpr int64_t kKernelDelayNs = 250'000'000;

// Records per byte of budget. A directory's slot comes to about a hundred bytes.
constexpr uint64_t kInodeBytes = sizeof(InodeRecord) + 6;
constexpr uint64_t kNameBytes = sizeof(NameRecord) + 6;
constexpr uint64_t kInodesPerDirectory = 8;
constexpr uint64_t kDirectoryBytes = 112;
constexpr uint64_t kBytesPerInode = kInodeBytes + kNameBytes + kDirectoryBytes / kInodesPerDirectory;

uint32_t RecordsPerShard(uint64_t bytes_max, size_t shards) {
  return static_cast<uint32_t>(std::clamp<uint64_t>(bytes_max / kBytesPerInode / shards, 64, 1u << 26));
}

}  // namespace

NamespaceCache::NamespaceCache(const Clock* clock, Random* random, uint64_t bytes_max)
    : clock_(clock),
      hash_key_(random->Next()),
      directories_(static_cast<uint32_t>(RecordsPerShard(bytes_max, kShards) * kShards / kInodesPerDirectory)) {
  const uint32_t records = RecordsPerShard(bytes_max, kShards);
  for (size_t i = 0; i < kShards; ++i) shards_.push_back(std::make_unique<Shard>(records, records));
}

NameRecord::Key NamespaceCache::KeyOf(InodeId parent, std::string_view name) const {
  const XXH128_hash_t hash =
      XXH3_128bits_withSeed(name.data(), name.size(), hash_key_ ^ (parent.value() * 0x9E3779B97F4A7C15ull));
  return NameRecord::Key{hash.high64, hash.low64};
}

uint32_t NamespaceCache::NowS() const { return static_cast<uint32_t>(clock_->MonotonicNs() / kNsPerSecond); }

uint32_t NamespaceCache::UntilS() const {
  return static_cast<uint32_t>(until_ns_.load(std::memory_order_acquire) / kNsPerSecond + 1);
}

int64_t NamespaceCache::RemainingNs() const {
  return std::max<int64_t>(0, until_ns_.load(std::memory_order_acquire) - clock_->MonotonicNs() - kKernelDelayNs);
}

// ---- The lease ----

void NamespaceCache::Extend(uint64_t term, int64_t until_ns) {
  MutexLock lock(lease_mutex_);
  // What was remembered under a lease that has run out stays dead: the server may have changed things without telling.
  if (!usable() || term != term_.load()) {
    KernelChanges changes;
    Clear(&changes);
    TellKernel(changes);
  }
  term_.store(term, std::memory_order_release);
  until_ns_.store(term != 0 ? std::max(until_ns, until_ns_.load()) : 0, std::memory_order_release);
}

void NamespaceCache::Drop() {
  MutexLock lock(lease_mutex_);
  until_ns_.store(0, std::memory_order_release);
  term_.store(0, std::memory_order_release);
  KernelChanges changes;
  Clear(&changes);
  TellKernel(changes);
}

void NamespaceCache::Clear(KernelChanges* changes) {
  const uint64_t stamp = NextStamp();
  dropped_.store(stamp, std::memory_order_release);
  directories_.Clear(stamp);
  known_names_.Clear();
  const uint32_t now_s = NowS();
  for (const std::unique_ptr<Shard>& shard : shards_) {
    MutexLock lock(shard->mutex);
    shard->inodes.ForEach([&](const InodeRecord& record) {
      if (record.kernel_until_s > now_s) changes->inodes.push_back(InodeId(record.inode));
    });
    shard->inodes.Clear();
    shard->names.Clear();
  }
  changes->names |= names_shown_until_s_.load() > now_s;
}

void NamespaceCache::TellKernel(const KernelChanges& changes) {
  KernelCache* const kernel = kernel_.load(std::memory_order_acquire);
  if (kernel != nullptr && !changes.empty()) kernel->Invalidate(changes);
}

// ---- Answers ----

std::optional<Attributes> NamespaceCache::FindAttributes(InodeId inode) {
  std::optional<Attributes> found;
  Cover cover;
  if (usable()) {
    Shard& shard = ShardOf(inode);
    MutexLock lock(shard.mutex);
    const InodeRecord* const record = shard.inodes.Find(inode);
    if (record != nullptr && directories_.Alive(record->cover)) {
      found = shard.inodes.Unpack(*record);
      cover = record->cover;
    }
  }
  (found ? hits_ : misses_).fetch_add(1, std::memory_order_relaxed);
  if (found && found->type != FileType::kDirectory) found->parent = directories_.DirectoryOf(cover);
  return found;
}

std::optional<NamespaceCache::FoundName> NamespaceCache::FindName(InodeId parent, std::string_view name) {
  std::optional<FoundName> found;
  if (usable()) {
    const NameRecord::Key key = KeyOf(parent, name);
    Shard& shard = ShardOf(key);
    MutexLock lock(shard.mutex);
    const NameRecord* const record = shard.names.Find(key);
    if (record != nullptr && directories_.Alive(record->cover)) {
      found = FoundName{InodeId(record->inode), {}};
    } else if (const std::optional<Cover> cover = known_names_.FindAbsent(parent, key.low);
               cover && directories_.Alive(*cover)) {
      found = FoundName{};
    }
  }
  if (!found) {
    misses_.fetch_add(1, std::memory_order_relaxed);
    return found;
  }
  if (found->inode.valid()) {
    found->attributes = FindAttributes(found->inode);
  } else {
    hits_.fetch_add(1, std::memory_order_relaxed);
  }
  return found;
}

// ---- Replies ----

std::optional<Cover> NamespaceCache::AdmitDirectory(InodeId directory, std::optional<bool> shared, uint64_t token) {
  InodeId evicted;
  const std::optional<Cover> cover = directories_.Admit(
      {.directory = directory, .shared = shared, .token = token, .stamp = NextStamp(), .now_s = NowS()}, &evicted);
  if (evicted.valid()) NoteForgotten(evicted, InodeId());
  return cover;
}

NamespaceCache::Admission NamespaceCache::Admit(const proto::CacheGrant& grant, uint64_t token) {
  Admission admission;
  admission.token = token;
  if (grant.term() == 0 || grant.term() != term() || !usable()) return admission;
  admission.inode = InodeId(grant.inode());
  if (grant.directory() == 0) return admission;
  admission.directory = InodeId(grant.directory());
  admission.cover = AdmitDirectory(admission.directory, grant.shared(), token);
  return admission;
}

NamespaceCache::Admission NamespaceCache::Held(InodeId directory, uint64_t token) {
  Admission admission;
  admission.token = token;
  if (!usable()) return admission;
  admission.directory = directory;
  admission.cover = directories_.Held(directory, token, /*whole=*/true);
  return admission;
}

void NamespaceCache::PutName(const Admission& admission, std::string_view name, InodeId inode) {
  if (!admission.cover) return;
  const NameRecord::Key key = KeyOf(admission.directory, name);
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  if (shard.name_stamps[StampIndex(key)] > admission.token ||
      dropped_.load(std::memory_order_acquire) > admission.token)
    return;
  NameRecord& record = shard.names.Insert(key, [](const NameRecord&) {});
  record.inode = inode.value();
  record.cover = *admission.cover;
}

std::optional<Cover> NamespaceCache::CoverOf(const Admission& admission, const Attributes& attributes) {
  if (attributes.type == FileType::kDirectory) {
    if (admission.cover && admission.directory == attributes.inode) return admission.cover;
    if (admission.inode == attributes.inode) return AdmitDirectory(attributes.inode, std::nullopt, admission.token);
    return directories_.Held(attributes.inode, admission.token, /*whole=*/false);
  }
  if (admission.inode == attributes.inode) return Cover{};
  if (attributes.nlink == 1 && admission.cover && attributes.parent == admission.directory) return admission.cover;
  return std::nullopt;
}

void NamespaceCache::PutAttributes(const Admission& admission, const Attributes& attributes) {
  const std::optional<Cover> cover = CoverOf(admission, attributes);
  if (!cover) return;
  Evicted evicted;
  {
    Shard& shard = ShardOf(attributes.inode);
    MutexLock lock(shard.mutex);
    if (shard.inode_stamps[StampIndex(attributes.inode)] > admission.token ||
        dropped_.load(std::memory_order_acquire) > admission.token)
      return;
    const InodeRecord* const known = shard.inodes.Find(attributes.inode);
    PutLocked(shard, attributes, *cover, known != nullptr ? known->kernel_until_s : 0, &evicted);
  }
  OnEvicted(evicted);
}

void NamespaceCache::PutLocked(Shard& shard, const Attributes& attributes, Cover cover, uint32_t kernel_until_s,
                               Evicted* evicted) {
  const uint32_t now_s = NowS();
  InodeRecord& record = shard.inodes.Put(attributes, cover, [&](const InodeRecord& old) {
    if (old.kernel_until_s > now_s) evicted->shown.inodes.push_back(InodeId(old.inode));
    if (old.cover.slot == Cover::kInodeItself) evicted->forgotten = InodeId(old.inode);
  });
  record.kernel_until_s = kernel_until_s;
  if (kernel_until_s <= now_s) return;
  directories_.NoteAttributesShown(cover, kernel_until_s);
  if (!directories_.Alive(cover))
    evicted->shown.inodes.push_back(attributes.inode);  // whoever ended it may not have seen the note
}

void NamespaceCache::OnEvicted(const Evicted& evicted) {
  TellKernel(evicted.shown);
  if (evicted.forgotten.valid()) NoteForgotten(InodeId(), evicted.forgotten);
}

void NamespaceCache::NoteForgotten(InodeId directory, InodeId inode) {
  MutexLock lock(forgotten_mutex_);
  if (forgotten_.directories.size() + forgotten_.inodes.size() >= kForgottenMax)
    return;  // the server may go on telling of it
  if (directory.valid()) forgotten_.directories.push_back(directory);
  if (inode.valid()) forgotten_.inodes.push_back(inode);
}

NamespaceCache::Forgotten NamespaceCache::TakeForgotten() {
  Forgotten forgotten;
  {
    MutexLock lock(forgotten_mutex_);
    forgotten = std::exchange(forgotten_, {});
  }
  const uint64_t stamp = NextStamp();
  std::erase_if(forgotten.directories, [&](InodeId directory) { return !directories_.Forget(directory, stamp); });
  std::erase_if(forgotten.inodes, [&](InodeId inode) {
    Shard& shard = ShardOf(inode);
    MutexLock lock(shard.mutex);
    if (shard.inodes.Find(inode) != nullptr) return true;
    shard.inode_stamps[StampIndex(inode)] = stamp;
    return false;
  });
  return forgotten;
}

// ---- Own changes ----

void NamespaceCache::BeginMakingName(InodeId parent, std::string_view name) {
  known_names_.BeginMaking(parent, KeyOf(parent, name).low);
}

void NamespaceCache::EndMakingName(uint64_t token, InodeId parent, const std::optional<Attributes>& directory) {
  // A directory's size is the number of its names.
  const std::optional<uint64_t> entries = directory ? std::optional(directory->size_bytes) : std::nullopt;
  known_names_.EndMaking(parent, entries, entries == 1 ? Held(parent, token).cover : std::nullopt);
}

void NamespaceCache::NameChanged(uint64_t token, InodeId parent, std::string_view name, InodeId inode) {
  const Admission admission = Held(parent, token);
  const NameRecord::Key key = KeyOf(parent, name);
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const bool current = shard.name_stamps[StampIndex(key)] <= token && dropped_.load(std::memory_order_acquire) <= token;
  if (admission.cover && current) {
    NameRecord& record = shard.names.Insert(key, [](const NameRecord&) {});
    record.inode = inode.value();
    record.cover = *admission.cover;
  } else {
    shard.names.Erase(key);
  }
  shard.name_stamps[StampIndex(key)] = NextStamp();
}

void NamespaceCache::ParentChanged(uint64_t token, InodeId parent, const std::optional<Attributes>& attributes) {
  if (!attributes || attributes->inode != parent) return ForgetAttributes(parent, /*seen_by_kernel=*/true);
  const std::optional<Cover> cover = CoverOfOwn(token, *attributes);
  Evicted evicted;
  {
    Shard& shard = ShardOf(parent);
    MutexLock lock(shard.mutex);
    const size_t index = StampIndex(parent);
    const InodeRecord* const known = shard.inodes.Find(parent);
    const bool known_valid = known != nullptr && directories_.Alive(known->cover);
    if (known_valid && shard.inodes.Unpack(*known).change >= attributes->change) return;
    const bool current =
        shard.foreign_stamps[index] <= token && dropped_.load(std::memory_order_acquire) <= token;
    // Without a record to compare with, a later change of this client may have come and gone.
    const bool newest = known_valid || shard.inode_stamps[index] <= token;
    if (cover && current && newest) {
      PutLocked(shard, *attributes, *cover, known != nullptr ? known->kernel_until_s : 0, &evicted);
    } else {
      VoidLocked(shard, parent);
    }
    shard.inode_stamps[index] = NextStamp();
  }
  OnEvicted(evicted);
}

std::optional<Cover> NamespaceCache::CoverOfOwn(uint64_t token, const Attributes& attributes) {
  if (!usable() || attributes.nlink == 0) return std::nullopt;
  if (attributes.type == FileType::kDirectory) return directories_.Held(attributes.inode, token, /*whole=*/false);
  if (attributes.nlink == 1 && attributes.parent.valid()) {
    if (const std::optional<Cover> cover = directories_.Held(attributes.parent, token, /*whole=*/true)) return cover;
  }
  return std::nullopt;
}

void NamespaceCache::AttributesChanged(uint64_t token, const Attributes& attributes, bool seen_by_kernel) {
  std::optional<Cover> cover = CoverOfOwn(token, attributes);
  Evicted evicted;
  {
    Shard& shard = ShardOf(attributes.inode);
    MutexLock lock(shard.mutex);
    uint64_t& stamp = shard.inode_stamps[StampIndex(attributes.inode)];
    const bool current = stamp <= token && dropped_.load(std::memory_order_acquire) <= token;
    InodeRecord* const known = shard.inodes.Find(attributes.inode);
    const uint32_t kernel_until_s = known != nullptr && known->kernel_until_s > NowS() ? known->kernel_until_s : 0;
    if (!cover && known != nullptr && known->cover == Cover{} && attributes.nlink > 0) cover = known->cover;
    // A later request may have been answered before this one, with what others have changed since.
    const bool newest = known == nullptr || !directories_.Alive(known->cover) || shard.inodes.Unpack(*known).change <= attributes.change;
    const bool kept = cover && current && newest;
    if (kernel_until_s > 0 && !seen_by_kernel) evicted.shown.inodes.push_back(attributes.inode);
    if (kept) {
      PutLocked(shard, attributes, *cover, seen_by_kernel ? kernel_until_s : 0, &evicted);
    } else if (kernel_until_s > 0 && seen_by_kernel) {
      known->cover = Cover{Cover::kNone, 0};
    } else {
      shard.inodes.Erase(attributes.inode);
    }
    stamp = NextStamp();
  }
  OnEvicted(evicted);
}

void NamespaceCache::VoidLocked(Shard& shard, InodeId inode) {
  InodeRecord* const known = shard.inodes.Find(inode);
  if (known != nullptr && known->kernel_until_s > NowS()) {
    known->cover = Cover{Cover::kNone, 0};
  } else if (known != nullptr) {
    shard.inodes.Erase(inode);
  }
}

void NamespaceCache::ForgetAttributes(InodeId inode, bool seen_by_kernel) {
  KernelChanges changes;
  if (seen_by_kernel) {
    Shard& shard = ShardOf(inode);
    MutexLock lock(shard.mutex);
    VoidLocked(shard, inode);
    shard.inode_stamps[StampIndex(inode)] = NextStamp();
  } else {
    EraseAttributes(inode, &changes);
  }
  TellKernel(changes);
}

void NamespaceCache::ForgetName(InodeId parent, std::string_view name) {
  const InodeId led_to = EraseName(parent, name);
  if (led_to.valid()) ForgetAttributes(led_to, /*seen_by_kernel=*/false);
  ForgetAttributes(parent, /*seen_by_kernel=*/true);
}

void NamespaceCache::ForgetDirectory(InodeId directory) {
  KernelChanges changes;
  EndDirectory(directory, &changes);
  TellKernel(changes);
}

// ---- Pushes ----

void NamespaceCache::EraseAttributes(InodeId inode, KernelChanges* changes) {
  Shard& shard = ShardOf(inode);
  MutexLock lock(shard.mutex);
  const InodeRecord* const record = shard.inodes.Find(inode);
  if (record != nullptr && record->kernel_until_s > NowS()) changes->inodes.push_back(inode);
  shard.inodes.Erase(inode);
  const uint64_t stamp = NextStamp();
  shard.inode_stamps[StampIndex(inode)] = stamp;
  shard.foreign_stamps[StampIndex(inode)] = stamp;
}

InodeId NamespaceCache::EraseName(InodeId parent, std::string_view name) {
  const NameRecord::Key key = KeyOf(parent, name);
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const NameRecord* const record = shard.names.Find(key);
  const InodeId inode(record != nullptr ? record->inode : 0);
  shard.names.Erase(key);
  shard.name_stamps[StampIndex(key)] = NextStamp();
  return inode;
}

// All that the directory covered is void by its generation; what of it the kernel was told is looked for only if there
// is any.
void NamespaceCache::EndDirectory(InodeId directory, KernelChanges* changes) {
  const DirectoryInterests::Shown shown = directories_.End(directory, NextStamp(), NowS());
  known_names_.ChangedByOthers(directory);
  EraseAttributes(directory, changes);
  changes->names |= shown.names;
  if (!shown.attributes) return;
  const uint32_t now_s = NowS();
  for (const std::unique_ptr<Shard>& shard : shards_) {
    std::vector<InodeId> ended;
    MutexLock lock(shard->mutex);
    shard->inodes.ForEach([&](const InodeRecord& record) {
      if (record.cover == shown.cover && record.kernel_until_s > now_s) ended.push_back(InodeId(record.inode));
    });
    for (const InodeId inode : ended) shard->inodes.Erase(inode);
    changes->inodes.insert(changes->inodes.end(), ended.begin(), ended.end());
  }
}

void NamespaceCache::ApplyItem(const proto::Invalidation& item, KernelChanges* changes,
                               std::vector<InodeId>* led_to) {
  const InodeId directory(item.directory());
  const InodeId inode(item.inode());
  if (!directory.valid() && !inode.valid()) {
    if (item.drop()) Clear(changes);
    return;
  }
  if (directory.valid() && item.names().empty() && item.shared() && !item.drop()) {
    changes->names |= directories_.MarkShared(directory, NextStamp(), NowS()).names;
  } else if (directory.valid() && (item.names().empty() || item.drop())) {
    EndDirectory(directory, changes);
  } else if (directory.valid()) {
    known_names_.ChangedByOthers(directory);
    for (const std::string& name : item.names()) {
      const InodeId child = EraseName(directory, name);
      if (!child.valid()) continue;
      EraseAttributes(child, changes);
      led_to->push_back(child);
    }
    EraseAttributes(directory, changes);
    changes->names |= directories_.MarkShared(directory, NextStamp(), NowS()).names;
  }
  if (inode.valid()) EraseAttributes(inode, changes);
}

std::vector<InodeId> NamespaceCache::Apply(const proto::InvalidatePush& push) {
  pushes_.fetch_add(1, std::memory_order_relaxed);
  KernelChanges changes;
  std::vector<InodeId> led_to;
  for (const proto::Invalidation& item : push.items()) ApplyItem(item, &changes, &led_to);
  TellKernel(changes);
  return led_to;
}

// ---- The kernel ----

int64_t NamespaceCache::ShowAttributes(const Attributes& attributes) {
  const int64_t remaining_ns = RemainingNs();
  if (remaining_ns == 0) return 0;
  Shard& shard = ShardOf(attributes.inode);
  MutexLock lock(shard.mutex);
  InodeRecord* const record = shard.inodes.Find(attributes.inode);
  if (record == nullptr || shard.inodes.Unpack(*record).change != attributes.change) return 0;
  const uint32_t until_s = UntilS();
  // Noted before it is looked whether the interest lasts: whoever ends it sees the note, or this sees the end.
  directories_.NoteAttributesShown(record->cover, until_s);
  if (!directories_.Alive(record->cover)) return 0;
  record->kernel_until_s = until_s;
  return remaining_ns;
}

int64_t NamespaceCache::ShowName(InodeId parent, std::string_view name, InodeId inode) {
  const int64_t remaining_ns = RemainingNs();
  if (remaining_ns == 0) return 0;
  const NameRecord::Key key = KeyOf(parent, name);
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const NameRecord* const record = shard.names.Find(key);
  if (record == nullptr || record->inode != inode.value() || !directories_.Alive(record->cover)) return 0;
  const uint32_t until_s = UntilS();
  uint32_t shown = names_shown_until_s_.load();
  while (shown < until_s && !names_shown_until_s_.compare_exchange_weak(shown, until_s)) {
  }
  return directories_.ShowName(record->cover, until_s) ? remaining_ns : 0;
}

NamespaceCache::Counters NamespaceCache::counters() const {
  Counters counters;
  counters.hits = hits_.load(std::memory_order_relaxed);
  counters.misses = misses_.load(std::memory_order_relaxed);
  counters.pushes = pushes_.load(std::memory_order_relaxed);
  counters.directories = directories_.size();
  counters.bytes = directories_.bytes();
  for (const std::unique_ptr<Shard>& shard : shards_) {
    MutexLock lock(shard->mutex);
    counters.inodes += shard->inodes.size();
    counters.names += shard->names.size();
    counters.bytes += shard->inodes.bytes() + shard->names.bytes() + sizeof(Shard);
  }
  return counters;
}

}  // namespace tarn::client
