#include "metaserver/service/rebalance_meter.h"

#include <algorithm>

namespace tarn::meta {

void RebalanceMeter::Update(int64_t now_ns, const RebalancePlan& plan, const std::vector<proto::SyncProgress>& syncs) {
  MutexLock lock(mutex_);
  if (moves_left_ == 0) {
    moves_done_ = 0;
    bytes_done_ = 0;
    began_ns_ = now_ns;
  }
  updated_ns_ = now_ns;
  std::map<std::pair<uint32_t, uint64_t>, uint64_t> under_way;
  bytes_left_ = 0;
  bytes_copied_ = 0;
  for (const GroupMove& move : plan.under_way) {
    under_way[{move.group, move.to}] = move.bytes;
    uint64_t copied = 0;
    for (const proto::SyncProgress& sync : syncs) {
      if (sync.group() == move.group && sync.target() == move.to) copied = std::min(sync.bytes_done(), move.bytes);
    }
    bytes_copied_ += copied;
    bytes_left_ += move.bytes - copied;
  }
  for (const auto& [move, bytes] : under_way_) {
    if (under_way.contains(move)) continue;
    ++moves_done_;
    bytes_done_ += bytes;
  }
  under_way_ = std::move(under_way);
  for (const GroupMove& move : plan.next) bytes_left_ += move.bytes;
  moves_left_ = static_cast<uint32_t>(plan.under_way.size() + plan.next.size());
}

proto::RebalanceProgress RebalanceMeter::Progress(uint64_t bytes_per_second) const {
  MutexLock lock(mutex_);
  proto::RebalanceProgress progress;
  if (moves_left_ == 0) return progress;
  progress.set_moves_left(moves_left_);
  progress.set_moves_done(moves_done_);
  progress.set_bytes_left(bytes_left_);
  progress.set_bytes_total(bytes_done_ + bytes_copied_ + bytes_left_);
  progress.set_bytes_per_second(bytes_per_second);
  // Moves take time of their own: where there is little to copy it is their number that tells.
  const auto seconds = static_cast<uint64_t>(std::max<int64_t>(0, updated_ns_ - began_ns_) / 1'000'000'000);
  const uint64_t by_moves = moves_done_ != 0 ? seconds * moves_left_ / moves_done_ : 0;
  const uint64_t by_bytes = bytes_per_second != 0 ? bytes_left_ / bytes_per_second : 0;
  progress.set_eta_seconds(std::max(by_moves, by_bytes));
  return progress;
}

}  // namespace tarn::meta
