#include "common/rpc/call_table.h"

#include <algorithm>
#include <utility>

namespace tarn::rpc {

uint64_t CallTable::Add(PendingCall call) {
  CHECK(!full(), "the owner refuses calls past the bound");
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  slots_[index].call = std::move(call);
  ++size_;
  return IdOf(index);
}

CallTable::Slot* CallTable::SlotOf(uint64_t id) {
  const auto index = static_cast<uint32_t>(id);
  if (index >= slots_.size() || !slots_[index].call.has_value() || IdOf(index) != id) return nullptr;
  return &slots_[index];
}

PendingCall* CallTable::Find(uint64_t id) {
  Slot* const slot = SlotOf(id);
  return slot != nullptr ? &*slot->call : nullptr;
}

std::optional<PendingCall> CallTable::Take(uint64_t id) {
  Slot* const slot = SlotOf(id);
  if (slot == nullptr) return std::nullopt;
  std::optional<PendingCall> call = std::exchange(slot->call, std::nullopt);
  // Never 0, or slot 0 would come by the id of the hello.
  if (++slot->use == 0) slot->use = 1;
  free_.push_back(static_cast<uint32_t>(id));
  --size_;
  return call;
}

std::vector<PendingCall> CallTable::TakeAll() {
  std::vector<PendingCall> calls;
  calls.reserve(size_);
  for (uint32_t index = 0; index < slots_.size(); ++index) {
    if (slots_[index].call.has_value()) calls.push_back(std::move(*Take(IdOf(index))));
  }
  return calls;
}

std::optional<uint64_t> CallTable::FindByDestination(const uint8_t* destination) const {
  for (uint32_t index = 0; index < slots_.size(); ++index) {
    const std::optional<PendingCall>& call = slots_[index].call;
    if (call.has_value() && !call->payload_destination.empty() && call->payload_destination.data() == destination)
      return IdOf(index);
  }
  return std::nullopt;
}

CallTable::Expiry CallTable::FindExpired(int64_t now_ns) const {
  Expiry expiry;
  for (uint32_t index = 0; index < slots_.size(); ++index) {
    if (!slots_[index].call.has_value()) continue;
    const int64_t deadline = slots_[index].call->deadline_ns;
    if (deadline <= now_ns) {
      expiry.expired.push_back(IdOf(index));
    } else {
      expiry.next_deadline_ns = std::min(expiry.next_deadline_ns.value_or(deadline), deadline);
    }
  }
  return expiry;
}

}  // namespace tarn::rpc
