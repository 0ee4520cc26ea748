// What this mount's kernel is told with a time-out, and how that is taken back.
//
// A reply that carries time-outs is written while a Showing lives; Invalidate waits for the Showings there are and
// keeps new ones out while it notifies. So a reply either shows the state after a change, or is written before the
// notification that takes it back. What is still on its way through the kernel then is covered by the kernel's own
// versions (attributes of inodes it knows) or by its epoch (new names).
//
// Only INVAL_INODE without a range and INC_EPOCH are used: these wait for no lock of the kernel, whatever requests are
// unanswered (docs/ARCHITECTURE.md). A kernel or libfuse without epochs (before Linux 6.16) gets no time-outs for
// names, and none for attributes that come with a name: it asks, and is answered from the library's memory.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "client/filesystem.h"
#include "client/kernel_cache.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "fuse-client/operations/attributes.h"
#include "fuse-client/operations/node_ids.h"

namespace tarn::fuse {

// Thread-safe.
class KernelView final : public client::KernelCache {
 public:
  // `ungranted` is used with servers that do not tell of changes; with others a time-out is what is left of the lease,
  // at most `limits`.
  KernelView(client::Filesystem& filesystem, const Clock& clock, const NodeIds& nodes, const Timeouts& ungranted,
             const Timeouts& limits)
      : filesystem_(filesystem), clock_(clock), nodes_(nodes), ungranted_(ungranted), limits_(limits) {}

  // Notifications go there; nullptr: to nobody. Before the first request, and when the last was answered.
  void Attach(fuse_session* session) { session_.store(session, std::memory_order_release); }
  // The kernel's FUSE protocol is 7.`minor`.
  void SetProtocol(unsigned minor);

  // While it lives what is asked of it stays true. Write the reply, no more; never two at a time on one thread.
  class Showing {
   public:
    explicit Showing(KernelView& view) NO_THREAD_SAFETY_ANALYSIS;
    ~Showing() NO_THREAD_SAFETY_ANALYSIS;
    Showing(const Showing&) = delete;
    Showing& operator=(const Showing&) = delete;

    // `age_s`: how long ago the server was asked.
    double AttributesTimeout(const client::Attributes& attributes, double age_s = 0) const;
    Timeouts EntryTimeouts(InodeId parent, const std::string& name, const client::Attributes& attributes,
                           double age_s = 0) const;
    double AbsentTimeout(InodeId parent, const std::string& name) const;

   private:
    KernelView& view_;
    Mutex& stripe_;
  };

  // ---- KernelCache ----
  void Invalidate(const client::KernelChanges& changes) override NO_THREAD_SAFETY_ANALYSIS;

  // How often all names were made to be looked up again.
  uint64_t epochs() const { return epochs_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kStripes = 8;
  struct alignas(64) Stripe {
    Mutex mutex;
  };

  bool Granted() const { return filesystem_.freshness() == client::Filesystem::Freshness::kGranted; }
  double NameTimeout(InodeId parent, const std::string& name, InodeId inode, double limit_s);
  void LockAll() NO_THREAD_SAFETY_ANALYSIS;
  void UnlockAll() NO_THREAD_SAFETY_ANALYSIS;
  void NewEpoch();

  // Immutable after construction.
  client::Filesystem& filesystem_;
  const Clock& clock_;
  const NodeIds& nodes_;
  const Timeouts ungranted_;
  const Timeouts limits_;

  std::atomic<fuse_session*> session_{nullptr};
  std::atomic<bool> has_epochs_{false};
  std::atomic<int64_t> names_shown_until_ns_{0};
  std::atomic<int64_t> no_names_until_ns_{0};
  std::atomic<uint64_t> epochs_{0};
  std::array<Stripe, kStripes> stripes_;  // a Showing holds one, Invalidate all
};

}  // namespace tarn::fuse
