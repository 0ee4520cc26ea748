// What this client remembers of the namespace: names (those that do not exist among them) and attributes, while the
// metadata server tells it of changes (docs/coherence.md).
//
// Three rules keep it true:
//   * nothing is answered once the session's lease, counted from when its keep-alive was sent, is over;
//   * a record is valid while the interest it came under lasts (Cover);
//   * each change, a push as well as one of this client's own, is stamped, and a reply to a request that was sent
//   before a change of its object
//     is not remembered: it may describe the state before.
// And it knows what the kernel was told with a time-out, so that exactly that is taken back. Nothing is forgotten here
// while the kernel may hold it: what is evicted is taken back, too.
//
// Bounded in bytes; what was not used lately goes first. Thread-safe; callbacks run without a lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/kernel_cache.h"
#include "client/meta/cache/directory_interests.h"
#include "client/meta/cache/inode_records.h"
#include "client/meta/cache/known_names.h"
#include "client/meta/cache/record_table.h"
#include "client/types.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "proto/coherence.pb.h"

namespace tarn::client {

struct NameRecord {
  struct Key {
    uint64_t high = 0;
    uint64_t low = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };
  Key key() const { return Key{high, low}; }
  void SetKey(const Key& key) {
    high = key.high;
    low = key.low;
  }
  static uint64_t HashOf(const Key& key) { return key.low; }

  uint64_t high;  // of a 128-bit hash of parent and name, under a key of this process
  uint64_t low;
  uint64_t inode;  // 0: there is no such name
  Cover cover;
  uint32_t link;
};
static_assert(sizeof(NameRecord) == 40);

class NamespaceCache {
 public:
  // `clock` and `random` outlive it.
  NamespaceCache(const Clock* clock, Random* random, uint64_t bytes_max);
  NamespaceCache(const NamespaceCache&) = delete;
  NamespaceCache& operator=(const NamespaceCache&) = delete;

  // Hears what the kernel must not believe any more, before the call that says so returns. Set before the first answer,
  // outlives the use.
  void SetKernel(KernelCache* kernel) { kernel_.store(kernel, std::memory_order_release); }

  // ---- The lease ----
  // Grants of this term and no other count, and answers are given until then. A lease that had run out: everything is
  // forgotten first. Term 0: the server grants nothing.
  void Extend(uint64_t term, int64_t until_ns);
  // The term or the session has ended: everything is forgotten, and taken back from the kernel; nothing is answered
  // until the next Extend.
  void Drop();
  uint64_t term() const { return term_.load(std::memory_order_acquire); }
  bool usable() const { return clock_->MonotonicNs() < until_ns_.load(std::memory_order_acquire); }

  // ---- Answers; nothing: ask the server ----
  std::optional<Attributes> FindAttributes(InodeId inode);
  struct FoundName {
    InodeId inode;                         // invalid: there is no such name
    std::optional<Attributes> attributes;  // if they are known as well
  };
  std::optional<FoundName> FindName(InodeId parent, std::string_view name);

  // ---- Replies ----
  // Taken before a request is sent.
  uint64_t Token() const { return stamps_.load(std::memory_order_acquire); }
  // What a reply may be remembered under.
  struct Admission {
    uint64_t token = 0;
    InodeId directory;
    std::optional<Cover> cover;  // of the directory
    InodeId inode;               // whose attributes come under an interest of their own
  };
  Admission Admit(const proto::CacheGrant& grant, uint64_t token);
  // What is remembered without a new grant: the client has known of its interest in the directory since `token`.
  Admission Held(InodeId directory, uint64_t token);
  // `inode` invalid: there is no such name.
  void PutName(const Admission& admission, std::string_view name, InodeId inode);
  void PutAttributes(const Admission& admission, const Attributes& attributes);

  // ---- This client's own changes ----
  // Around each change that makes a name (known_names.h): before it is sent, and when it was answered. `token`: as of
  // when it was sent. `directory`: the parent as it was directly after the change, if something was made and that is
  // known.
  void BeginMakingName(InodeId parent, std::string_view name);
  void EndMakingName(uint64_t token, InodeId parent, const std::optional<Attributes>& directory);

  // ---- This client's own changes, when their reply has come ----
  // `inode` as in PutName. The parent's own attributes are another matter: ParentChanged.
  void NameChanged(uint64_t token, InodeId parent, std::string_view name, InodeId inode);
  // A directory whose names this client changed. `attributes`: as they were after it, if that is known. Replies may come
  // in another order than the changes were made in: the newest attributes stay. The kernel knows of the change by itself.
  void ParentChanged(uint64_t token, InodeId parent, const std::optional<Attributes>& attributes);
  // `seen_by_kernel`: the kernel knows by itself what of its own is old.
  void AttributesChanged(uint64_t token, const Attributes& attributes, bool seen_by_kernel);
  // They changed, but how is not known.
  void ForgetAttributes(InodeId inode, bool seen_by_kernel);
  void ForgetName(InodeId parent, std::string_view name);
  // Anything of the directory may have changed.
  void ForgetDirectory(InodeId directory);

  // ---- Pushes ----
  // Gives the inodes that pushed names led to.
  std::vector<InodeId> Apply(const proto::InvalidatePush& push);

  // ---- The kernel (under its own lock, so that no change comes between this and the reply) ----
  // How long the kernel may believe the attributes that are about to be shown to it; 0 if they are not the ones
  // remembered.
  int64_t ShowAttributes(const Attributes& attributes);
  // The same for a name. `inode` invalid: that there is none.
  int64_t ShowName(InodeId parent, std::string_view name, InodeId inode);

  // The server tells of the inode, and nothing here needs it.
  void ForgetInterest(InodeId inode) { NoteForgotten(InodeId(), inode); }

  // Interests that were evicted and of which the server need not tell any more: grants of requests that were sent
  // before do not count for them.
  struct Forgotten {
    std::vector<InodeId> directories;
    std::vector<InodeId> inodes;
  };
  Forgotten TakeForgotten();

  struct Counters {
    uint64_t hits = 0;
    uint64_t misses = 0;
    uint64_t inodes = 0;
    uint64_t names = 0;
    uint64_t directories = 0;
    uint64_t bytes = 0;
    uint64_t pushes = 0;
  };
  Counters counters() const;

 private:
  static constexpr size_t kShards = 16;
  static constexpr size_t kStampsPerShard = 256;
  static constexpr size_t kForgottenMax = 16384;

  struct Shard {
    Shard(uint32_t inodes_max, uint32_t names_max) : inodes(inodes_max), names(names_max) {}
    mutable Mutex mutex;
    InodeRecords inodes GUARDED_BY(mutex);
    RecordTable<NameRecord> names GUARDED_BY(mutex);
    // The last changes of the inodes and names that fall here.
    std::array<uint64_t, kStampsPerShard> inode_stamps GUARDED_BY(mutex){};
    // Of those, the changes after which it is not known what the attributes are: by others.
    std::array<uint64_t, kStampsPerShard> foreign_stamps GUARDED_BY(mutex){};
    std::array<uint64_t, kStampsPerShard> name_stamps GUARDED_BY(mutex){};
  };

  Shard& ShardOf(InodeId inode) const {
    return *shards_[InodeRecord::HashOf(inode.value()) / kStampsPerShard % kShards];
  }
  Shard& ShardOf(const NameRecord::Key& key) const { return *shards_[key.high % kShards]; }
  static size_t StampIndex(InodeId inode) { return InodeRecord::HashOf(inode.value()) % kStampsPerShard; }
  static size_t StampIndex(const NameRecord::Key& key) { return key.high / kShards % kStampsPerShard; }
  NameRecord::Key KeyOf(InodeId parent, std::string_view name) const;

  uint64_t NextStamp() { return stamps_.fetch_add(1, std::memory_order_acq_rel) + 1; }
  uint32_t NowS() const;
  uint32_t UntilS() const;
  int64_t RemainingNs() const;

  // The cover under which an admission lets these attributes be remembered.
  std::optional<Cover> CoverOf(const Admission& admission, const Attributes& attributes);
  // The same for the reply of a change of this client.
  std::optional<Cover> CoverOfOwn(uint64_t token, const Attributes& attributes);
  std::optional<Cover> AdmitDirectory(InodeId directory, std::optional<bool> shared, uint64_t token);
  // Without a lock: tells of what was evicted.
  struct Evicted {
    KernelChanges shown;  // to be taken back from the kernel
    InodeId forgotten;    // the server need not tell of it
  };
  // `kernel_until_s`: what the kernel holds are these very attributes.
  void PutLocked(Shard& shard, const Attributes& attributes, Cover cover, uint32_t kernel_until_s, Evicted* evicted)
      REQUIRES(shard.mutex);
  void OnEvicted(const Evicted& evicted);
  void NoteForgotten(InodeId directory, InodeId inode);
  void EraseAttributes(InodeId inode, KernelChanges* changes);
  // The kernel's own change made them old; what it was told before stays noted.
  void VoidLocked(Shard& shard, InodeId inode) REQUIRES(shard.mutex);
  // What it led to.
  InodeId EraseName(InodeId parent, std::string_view name);
  void ApplyItem(const proto::Invalidation& item, KernelChanges* changes, std::vector<InodeId>* led_to);
  void EndDirectory(InodeId directory, KernelChanges* changes);
  void Clear(KernelChanges* changes);
  void TellKernel(const KernelChanges& changes);

  // Immutable after construction.
  const Clock* const clock_;
  const uint64_t hash_key_;
  std::vector<std::unique_ptr<Shard>> shards_;

  // Thread-safe.
  DirectoryInterests directories_;
  KnownNames known_names_;
  std::atomic<KernelCache*> kernel_{nullptr};
  std::atomic<uint64_t> stamps_{1};
  std::atomic<uint64_t> dropped_{0};  // the stamp of the last Clear
  std::atomic<uint64_t> term_{0};
  std::atomic<int64_t> until_ns_{0};
  std::atomic<uint32_t> names_shown_until_s_{0};
  mutable std::atomic<uint64_t> hits_{0};
  mutable std::atomic<uint64_t> misses_{0};
  std::atomic<uint64_t> pushes_{0};

  Mutex lease_mutex_;  // of Extend and Drop
  Mutex forgotten_mutex_;
  Forgotten forgotten_ GUARDED_BY(forgotten_mutex_);
};

}  // namespace tarn::client
