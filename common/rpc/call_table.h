// The calls of one connection that wait for their reply.
//
// A request id is the index of a slot and, above it, how often the slot was used before: a late reply of a call that is gone finds
// nothing. Ids start above 0, which is the hello's. Not thread-safe: its owner guards it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/rpc/frame_client.h"

namespace tarn::rpc {

struct PendingCall {
  Method method = Method::kPing;
  int64_t deadline_ns = 0;
  std::span<uint8_t> payload_destination;
  bool has_borrowed_payload = false;
  ReplyCallback callback;
};

class CallTable {
 public:
  explicit CallTable(uint32_t calls_max) : calls_max_(calls_max) {}

  uint32_t size() const { return size_; }
  bool full() const { return size_ >= calls_max_; }

  // Only if not full.
  uint64_t Add(PendingCall call);
  // Null if there is none (any more). Valid until the next Add or Take.
  PendingCall* Find(uint64_t id);
  std::optional<PendingCall> Take(uint64_t id);
  std::vector<PendingCall> TakeAll();
  // The call whose payload is to be received at `destination`; looks through all of them.
  std::optional<uint64_t> FindByDestination(const uint8_t* destination) const;

  // The ids of the calls whose deadline is not after `now_ns`, and the earliest deadline of the others.
  struct Expiry {
    std::vector<uint64_t> expired;
    std::optional<int64_t> next_deadline_ns;
  };
  Expiry FindExpired(int64_t now_ns) const;

 private:
  struct Slot {
    uint32_t use = 1;
    std::optional<PendingCall> call;
  };

  uint64_t IdOf(uint32_t index) const { return uint64_t{slots_[index].use} << 32 | index; }
  // Null unless the slot holds the call with this id.
  Slot* SlotOf(uint64_t id);

  const uint32_t calls_max_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  uint32_t size_ = 0;
};

}  // namespace tarn::rpc
