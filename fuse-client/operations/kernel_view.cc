#include "fuse-client/operations/kernel_view.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <thread>

namespace tarn::fuse {
namespace {

constexpr double kNsPerSecond = 1e9;
// With this protocol the kernel has epochs.
constexpr unsigned kEpochProtocolMinor = 44;
// A new epoch makes the kernel drop the pages of closed files. Where directories turn out to be shared, names get no
// time-outs for a while instead of a new epoch for each of them: a name without time-out costs a request that is
// answered from memory.
constexpr int64_t kPauseAfterEpochNs = 60'000'000'000;
// So many notifications without letting a reply through.
constexpr size_t kNotificationsAtOnce = 256;

}  // namespace

void KernelView::SetProtocol(unsigned minor) {
#if TARN_FUSE_MODERN
  has_epochs_.store(minor >= kEpochProtocolMinor, std::memory_order_release);
#else
  (void)minor;
  (void)kEpochProtocolMinor;
#endif
}

// ---- Showing ----

KernelView::Showing::Showing(KernelView& view)
    : view_(view), stripe_(view.stripes_[std::hash<std::thread::id>{}(std::this_thread::get_id()) % kStripes].mutex) {
  stripe_.Lock();
}

KernelView::Showing::~Showing() { stripe_.Unlock(); }

double KernelView::Showing::AttributesTimeout(const client::Attributes& attributes, double age_s) const {
  if (!view_.Granted()) return view_.ungranted_.After(age_s).attributes_s;
  return std::min(static_cast<double>(view_.filesystem_.ShowAttributes(attributes)) / kNsPerSecond,
                  view_.limits_.attributes_s);
}

Timeouts KernelView::Showing::EntryTimeouts(InodeId parent, const std::string& name,
                                            const client::Attributes& attributes, double age_s) const {
  if (!view_.Granted()) return view_.ungranted_.After(age_s);
  Timeouts timeouts{0, 0, 0};
  // Without epochs a reply that is on its way while its attributes change could not be taken back, if the kernel does
  // not know the inode yet.
  if (!view_.has_epochs_.load(std::memory_order_acquire)) return timeouts;
  timeouts.attributes_s = AttributesTimeout(attributes);
  timeouts.entry_s = view_.NameTimeout(parent, name, attributes.inode, view_.limits_.entry_s);
  return timeouts;
}

double KernelView::Showing::AbsentTimeout(InodeId parent, const std::string& name) const {
  if (!view_.Granted()) return view_.ungranted_.negative_s;
  return view_.NameTimeout(parent, name, InodeId(), view_.limits_.negative_s);
}

double KernelView::NameTimeout(InodeId parent, const std::string& name, InodeId inode, double limit_s) {
  if (limit_s <= 0 || !has_epochs_.load(std::memory_order_acquire)) return 0;
  const int64_t now_ns = clock_.MonotonicNs();
  if (now_ns < no_names_until_ns_.load(std::memory_order_acquire)) return 0;
  const int64_t valid_ns = filesystem_.ShowName(parent, name, inode);
  if (valid_ns <= 0) return 0;
  int64_t shown = names_shown_until_ns_.load();
  while (shown < now_ns + valid_ns && !names_shown_until_ns_.compare_exchange_weak(shown, now_ns + valid_ns)) {
  }
  return std::min(static_cast<double>(valid_ns) / kNsPerSecond, limit_s);
}

// ---- Taking back ----

void KernelView::LockAll() {
  for (Stripe& stripe : stripes_) stripe.mutex.Lock();
}

void KernelView::UnlockAll() {
  for (Stripe& stripe : stripes_) stripe.mutex.Unlock();
}

void KernelView::Invalidate(const client::KernelChanges& changes) {
  fuse_session* const session = session_.load(std::memory_order_acquire);
  if (session == nullptr) return;
  bool unknown = false;
  size_t done = 0;
  do {
    LockAll();
    const size_t end = std::min(changes.inodes.size(), done + kNotificationsAtOnce);
    for (; done < end; ++done) {
      const int error = fuse_lowlevel_notify_inval_inode(session, nodes_.ToNode(changes.inodes[done]), -1, 0);
      // The kernel may be about to learn of it from a reply that was written before.
      if (error == -ENOENT) unknown = true;
    }
    // Names without time-outs are looked up again in any case.
    const bool last = done == changes.inodes.size();
    if (last && (changes.names || unknown) && clock_.MonotonicNs() < names_shown_until_ns_.load()) NewEpoch();
    UnlockAll();
  } while (done < changes.inodes.size());
}

void KernelView::NewEpoch() {
#if TARN_FUSE_MODERN
  const int error = fuse_lowlevel_notify_increment_epoch(session_.load(std::memory_order_acquire));
  if (error != 0) {
    // Then names must not be shown with time-outs; those that were end by themselves.
    has_epochs_.store(false, std::memory_order_release);
    spdlog::error("the kernel does not take back names error={}", error);
    return;
  }
  epochs_.fetch_add(1, std::memory_order_relaxed);
  names_shown_until_ns_.store(0);
  no_names_until_ns_.store(clock_.MonotonicNs() + kPauseAfterEpochNs, std::memory_order_release);
#endif
}

}  // namespace tarn::fuse
