#include "metaserver/service/repair_meter.h"

#include <algorithm>

namespace tarn::meta {
namespace {

constexpr int64_t kWindowNs = 10'000'000'000;

}  // namespace

void RepairMeter::Update(int64_t now_ns, const std::vector<proto::SyncProgress>& syncs) {
  MutexLock lock(mutex_);
  std::map<std::pair<uint32_t, uint64_t>, uint64_t> done;
  uint64_t bytes = 0;
  for (const proto::SyncProgress& sync : syncs) {
    const std::pair key(sync.group(), sync.target());
    done[key] = sync.bytes_done();
    // A pass that began anew counts from zero.
    const auto before = done_.find(key);
    const uint64_t known = before != done_.end() ? before->second : 0;
    if (sync.bytes_done() > known) bytes += sync.bytes_done() - known;
  }
  done_ = std::move(done);
  steps_.push_back({now_ns, bytes});
  while (steps_.size() > 2 && now_ns - steps_.front().at_ns > kWindowNs) steps_.pop_front();
}

void RepairMeter::FillRate(proto::RepairProgress* repair) const {
  MutexLock lock(mutex_);
  if (steps_.size() < 2) return;
  uint64_t bytes = 0;
  for (size_t i = 1; i < steps_.size(); ++i) bytes += steps_[i].bytes;
  const int64_t span_ns = steps_.back().at_ns - steps_.front().at_ns;
  if (span_ns <= 0) return;
  const auto rate = static_cast<uint64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(span_ns));
  repair->set_bytes_per_second(rate);
  if (rate == 0 || repair->bytes_total() <= repair->bytes_done()) return;
  repair->set_eta_seconds(std::max<uint64_t>(1, (repair->bytes_total() - repair->bytes_done()) / rate));
}

}  // namespace tarn::meta
