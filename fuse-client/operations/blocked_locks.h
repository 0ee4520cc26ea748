// Lock requests that wait, by the kernel's number of the request, so that FUSE_INTERRUPT finds them.
//
// Not libfuse's list of requests: that costs every request two turns of one mutex, and only these wait for long. An
// interrupt may be read, on another loop, before its request has come this far: such numbers are remembered for a while
// (they are never used again).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>

#include "common/base/mutex.h"

namespace tarn::fuse {

// Thread-safe.
class BlockedLocks {
 public:
  // Cancels what the client library gave this ticket for.
  using Cancel = std::function<void(uint64_t ticket)>;
  explicit BlockedLocks(Cancel cancel) : cancel_(std::move(cancel)) {}
  BlockedLocks(const BlockedLocks&) = delete;
  BlockedLocks& operator=(const BlockedLocks&) = delete;

  // The request that this thread is about to handle: libfuse does not tell its number.
  static void SetCurrent(uint64_t request) { Current() = request; }
  static uint64_t current() { return Current(); }

  // Before the library is asked.
  void Begin(uint64_t request);
  // Once it was. Cancels at once if the interrupt was faster; does nothing if the request has ended.
  void SetTicket(uint64_t request, uint64_t ticket);
  void End(uint64_t request);
  void Interrupt(uint64_t request);

 private:
  static constexpr size_t kEarlyMax = 256;
  struct Blocked {
    uint64_t ticket = 0;  // 0: not known yet
    bool interrupted = false;
  };
  static uint64_t& Current() {
    thread_local uint64_t request = 0;
    return request;
  }

  const Cancel cancel_;
  Mutex mutex_;
  std::unordered_map<uint64_t, Blocked> blocked_ GUARDED_BY(mutex_);
  std::array<uint64_t, kEarlyMax> early_ GUARDED_BY(mutex_){};  // the last interrupts of unknown requests
  size_t early_next_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::fuse
