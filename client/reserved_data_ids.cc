#include "client/reserved_data_ids.h"

#include <utility>
#include <vector>

namespace tarn::client {

void ReservedDataIds::Take(Callback<Reserved> done) {
  Reserved taken;
  bool start = false;
  bool have = false;
  {
    MutexLock lock(mutex_);
    have = current_.count > 0 || next_.count > 0;
    if (have) {
      taken = TakeOne();
    } else {
      waiting_.push_back(std::move(done));
    }
    if (!reserving_ && next_.count == 0 && current_.count < kRefillBelowIds) start = reserving_ = true;
  }
  if (start) StartReserve();
  if (have) done(taken);
}

ReservedDataIds::Reserved ReservedDataIds::TakeOne() {
  if (current_.count == 0) current_ = std::exchange(next_, Batch());
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
