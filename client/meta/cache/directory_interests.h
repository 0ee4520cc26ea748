// The directories that this session is told of: their names, and the attributes of what they cover, may be cached while
// the interest lasts.
//
// An interest in the directory's own attributes only has a slot as well; it becomes one in all of it with the first
// grant that says so.
//
// A cached record points at its directory's slot and the slot's generation; when the interest ends the generation
// rises, and all records that point there are void at once.
//
// Thread-safe. Alive, ShowName and NoteAttributesShown take no lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/mutex.h"

namespace tarn::client {

// By which interest a cached record hears of changes.
struct Cover {
  static constexpr uint32_t kInodeItself = UINT32_MAX;
  static constexpr uint32_t kNone = UINT32_MAX - 1;  // not valid; kept because the kernel was told

  uint32_t slot = kInodeItself;
  uint32_t generation = 0;
  friend constexpr bool operator==(const Cover&, const Cover&) = default;
};

class DirectoryInterests {
 public:
  // At least one. All times are in whole seconds of one clock, rounded up.
  explicit DirectoryInterests(uint32_t directories_max);
  ~DirectoryInterests();
  DirectoryInterests(const DirectoryInterests&) = delete;
  DirectoryInterests& operator=(const DirectoryInterests&) = delete;

  bool Alive(Cover cover) const {
    if (cover.slot >= Cover::kNone) return cover.slot == Cover::kInodeItself;
    return At(cover.slot).generation.load(std::memory_order_acquire) == cover.generation;
  }

  struct Admission {
    InodeId directory;
    std::optional<bool> shared;  // nothing: the grant is of its own attributes only
    uint64_t token = 0;          // when the request was sent
    uint64_t stamp = 0;          // when its reply came
    uint32_t now_s = 0;
  };
  // A reply grants an interest. Nothing if the interest ended after the request was sent, or if there is no room (all
  // others were shown to the kernel lately). `*evicted` is the directory that had to go, if any.
  std::optional<Cover> Admit(const Admission& admission, InodeId* evicted);
  // The interest, if the client has known of it since `token`. `whole`: in names and children, not only its own
  // attributes.
  std::optional<Cover> Held(InodeId directory, uint64_t token, bool whole);

  // False if there is an interest; otherwise none that was asked for before `stamp` will be taken.
  bool Forget(InodeId directory, uint64_t stamp);

  struct Shown {
    bool known = false;
    bool names = false;       // the kernel may hold names of it with a time-out
    bool attributes = false;  // or attributes of what it covers
    Cover cover;              // as it was
  };
  // The interest ended at `stamp`.
  Shown End(InodeId directory, uint64_t stamp, uint32_t now_s);
  // Others use it as well: names are shown without a time-out until a reply to a later request says otherwise.
  Shown MarkShared(InodeId directory, uint64_t stamp, uint32_t now_s);
  // All end.
  void Clear(uint64_t stamp);

  // Invalid if the interest is over.
  InodeId DirectoryOf(Cover cover) const;

  // True if the kernel may believe a name of the directory until `until_s`.
  bool ShowName(Cover cover, uint32_t until_s);
  void NoteAttributesShown(Cover cover, uint32_t until_s);

  uint32_t size() const;
  size_t bytes() const;

 private:
  static constexpr uint32_t kChunkSlots = 256;
  static constexpr size_t kStamps = 1024;

  struct Slot {
    std::atomic<uint32_t> generation{1};
    std::atomic<uint32_t> names_shown_until_s{0};
    std::atomic<uint32_t> attributes_shown_until_s{0};
    std::atomic<uint64_t> directory{0};
    std::atomic<bool> shared{true};
    bool used = false;
    bool referenced = false;
    uint64_t shared_since = 0;
    uint64_t since = 0;        // when the client learned of it
    uint64_t whole_since = 0;  // the same of names and children; 0: not granted
  };
  using Chunk = std::array<Slot, kChunkSlots>;

  Slot& At(uint32_t slot) const {
    return (*chunks_[slot / kChunkSlots].load(std::memory_order_acquire))[slot % kChunkSlots];
  }
  uint64_t& StampOf(InodeId directory) REQUIRES(mutex_) { return stamps_[directory.value() % kStamps]; }
  std::optional<uint32_t> TakeSlot(uint32_t now_s, InodeId* evicted) REQUIRES(mutex_);
  void Release(uint32_t slot) REQUIRES(mutex_);
  static void NoteShared(const Admission& admission, Slot* slot);
  static Shown ShownOf(const Slot& slot, uint32_t index, uint32_t now_s);

  const uint32_t slots_max_;
  std::vector<std::atomic<Chunk*>> chunks_;  // filled as slots are needed, freed at the end

  mutable Mutex mutex_;
  std::unordered_map<InodeId, uint32_t> slots_ GUARDED_BY(mutex_);
  std::vector<uint32_t> free_ GUARDED_BY(mutex_);
  uint32_t made_ GUARDED_BY(mutex_) = 0;
  uint32_t hand_ GUARDED_BY(mutex_) = 0;
  std::array<uint64_t, kStamps> stamps_
      GUARDED_BY(mutex_){};  // when an interest of the directories that fall here ended last
};

}  // namespace tarn::client
