#include "client/reserved_data_ids.h"

#include <utility>
#include <vector>

namespace tarn::client {

void ReservedDataIds::Take(Callback<Reserved> done) {
  std::optional<Reserved> taken;
  bool start = false;
  {
    MutexLock lock(mutex_);
    taken = TakeIfThere(&start);
    if (!taken) waiting_.push_back(std::move(done));
  }
  if (start) StartReserve();
  if (taken) done(*taken);
}

std::optional<ReservedDataIds::Reserved> ReservedDataIds::TryTake() {
  std::optional<Reserved> taken;
  bool start = false;
  {
    MutexLock lock(mutex_);
    taken = TakeIfThere(&start);
  }
  if (start) StartReserve();
  return taken;
}

std::optional<ReservedDataIds::Reserved> ReservedDataIds::TakeIfThere(bool* start) {
  const int64_t oldest_ns = clock_->MonotonicNs() - kUsedForNs;
  if (current_since_ns_ < oldest_ns) current_.count = 0;
  if (next_since_ns_ < oldest_ns) next_.count = 0;
  std::optional<Reserved> taken;
  if (current_.count > 0 || next_.count > 0) taken = TakeOne();
  if (!reserving_ && next_.count == 0 && current_.count < kRefillBelowIds) *start = reserving_ = true;
  return taken;
}

ReservedDataIds::Reserved ReservedDataIds::TakeOne() {
  if (current_.count == 0) {
    current_ = std::exchange(next_, Batch());
    current_since_ns_ = next_since_ns_;
  }
  Reserved taken{current_.first, current_.layout_template};
  taken.layout.seed = random_->Next();
  current_.first = DataId(current_.first.value() + 1);
  --current_.count;
  return taken;
}

void ReservedDataIds::StartReserve() {
  reserve_(kBatchIds, [this](Result<Batch> result) { OnReserved(std::move(result)); });
}

void ReservedDataIds::OnReserved(Result<Batch> result) {
  if (result.ok() && (result->count == 0 || !result->first.valid())) {
    result = Status(StatusCode::kCorruption, "the metadata server reserved no data ids");
  }
  std::vector<std::pair<Callback<Reserved>, Reserved>> served;
  std::deque<Callback<Reserved>> failed;
  bool again = false;
  {
    MutexLock lock(mutex_);
    reserving_ = false;
    if (!result.ok()) {
      failed.swap(waiting_);
    } else {
      next_ = *result;
      next_since_ns_ = clock_->MonotonicNs();
      while (!waiting_.empty() && (current_.count > 0 || next_.count > 0)) {
        served.emplace_back(std::move(waiting_.front()), TakeOne());
        waiting_.pop_front();
      }
      // More waited than the batch had.
      if (!waiting_.empty()) again = reserving_ = true;
    }
  }
  for (auto& [done, reserved] : served) done(reserved);
  for (Callback<Reserved>& done : failed) done(result.status().WithContext("reserve data ids"));
  if (again) StartReserve();
}

}  // namespace tarn::client
