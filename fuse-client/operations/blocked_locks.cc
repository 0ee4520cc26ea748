#include "fuse-client/operations/blocked_locks.h"

#include <algorithm>

namespace tarn::fuse {

void BlockedLocks::Begin(uint64_t request) {
  MutexLock lock(mutex_);
  blocked_[request].interrupted = std::ranges::find(early_, request) != early_.end();
}

void BlockedLocks::SetTicket(uint64_t request, uint64_t ticket) {
  {
    MutexLock lock(mutex_);
    const auto found = blocked_.find(request);
    if (found == blocked_.end() || ticket == 0) return;
    found->second.ticket = ticket;
    if (!found->second.interrupted) return;
  }
  cancel_(ticket);
}

void BlockedLocks::End(uint64_t request) {
  MutexLock lock(mutex_);
  blocked_.erase(request);
}

void BlockedLocks::Interrupt(uint64_t request) {
  uint64_t ticket = 0;
  {
    MutexLock lock(mutex_);
    const auto found = blocked_.find(request);
    if (found == blocked_.end()) {
      early_[early_next_++ % kEarlyMax] = request;
      return;
    }
    found->second.interrupted = true;
    ticket = found->second.ticket;
  }
  if (ticket != 0) cancel_(ticket);
}

}  // namespace tarn::fuse
