#include "client/data/slow_read_watch.h"

#include <utility>
#include <vector>

#include "client/data/hedge_policy.h"

namespace tarn::client {
namespace {

constexpr int64_t kTickMs = 10;

}  // namespace

SlowReadWatch::Place SlowReadWatch::Add(std::weak_ptr<SlowRead> read) {
  reads_.push_back(Entry{std::move(read), clock_->MonotonicNs()});
  if (!std::exchange(scheduled_, true)) Schedule();
  return std::prev(reads_.end());
}

void SlowReadWatch::Remove(Place place) { reads_.erase(place); }

void SlowReadWatch::Schedule() {
  loop_->PostAfter(kTickMs, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Tick();
  });
}

void SlowReadWatch::Tick() {
  const int64_t now_ns = clock_->MonotonicNs();
  std::vector<std::shared_ptr<SlowRead>> slow;
  for (auto it = reads_.begin(); it != reads_.end() && now_ns - it->since_ns >= HedgePolicy::kDelayMinNs;) {
    if (auto read = it->read.lock()) {
      slow.push_back(std::move(read));
      ++it;
    } else {
      it = reads_.erase(it);  // ended on another thread, when the client was closed
    }
  }
  for (const auto& read : slow) read->CheckSlow(now_ns);
  scheduled_ = !reads_.empty();
  if (scheduled_) Schedule();
}

}  // namespace tarn::client
