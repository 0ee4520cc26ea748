#include "client/meta/cluster_map_cache.h"

#include <string>
#include <utility>

namespace tarn::client {
namespace {

// Between fetches that brought nothing new while somebody still waits.
constexpr int64_t kRefetchPauseMs = 20;

}  // namespace

std::shared_ptr<ClusterMapCache> ClusterMapCache::Create(rpc::EventLoop* loop, const Clock* clock, Fetch fetch,
                                                         int64_t retry_deadline_ms) {
  return std::shared_ptr<ClusterMapCache>(new ClusterMapCache(loop, clock, std::move(fetch), retry_deadline_ms));
}

ClusterMapCache::ClusterMapCache(rpc::EventLoop* loop, const Clock* clock, Fetch fetch, int64_t retry_deadline_ms)
    : loop_(loop),
      clock_(clock),
      fetch_(std::move(fetch)),
      retry_deadline_ms_(retry_deadline_ms),
      map_(std::make_shared<const proto::ClusterMap>()) {}

ClusterMapCache::MapPtr ClusterMapCache::map() const {
  MutexLock lock(mutex_);
  return map_;
}

void ClusterMapCache::Refresh(uint64_t version, StatusCallback done) {
  bool start = false;
  Status answer;
  bool answered = true;
  {
    MutexLock lock(mutex_);
    if (closed_) {
      answer = Status(StatusCode::kCancelled, "the client is shutting down");
    } else if (version == 0 || map_->version() < version) {
      Waiter waiter;
      waiter.version = version;
      // A fetch under way may have read the map before this call.
      waiter.fetch_number = fetches_started_ + 1;
      waiter.deadline_ns = clock_->MonotonicNs() + retry_deadline_ms_ * 1'000'000;
      waiter.done = std::move(done);
      waiters_.push_back(std::move(waiter));
      answered = false;
      start = !fetching_;
      fetching_ = true;
    }
  }
  if (answered) done(std::move(answer));
  if (start) StartFetch();
}

void ClusterMapCache::NoticeVersion(uint64_t version) {
  bool start = false;
  {
    MutexLock lock(mutex_);
    if (!closed_ && !fetching_ && map_->version() < version) start = fetching_ = true;
  }
  if (start) StartFetch();
}

void ClusterMapCache::StartFetch() {
  uint64_t newer_than = 0;
  uint64_t number = 0;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    newer_than = map_->version();
    number = ++fetches_started_;
  }
  fetch_(newer_than,
         [self = shared_from_this(), number](Result<MapPtr> result) { self->OnFetched(number, std::move(result)); });
}

bool ClusterMapCache::Satisfied(const Waiter& waiter, uint64_t fetch_number) const {
  if (waiter.version == 0) return fetch_number >= waiter.fetch_number;
  return map_->version() >= waiter.version;
}

void ClusterMapCache::OnFetched(uint64_t fetch_number, Result<MapPtr> result) {
  std::vector<std::pair<StatusCallback, Status>> answers;
  bool again = false;
  {
    MutexLock lock(mutex_);
    if (result.ok() && *result != nullptr && (*result)->version() > map_->version()) map_ = *result;
    const int64_t now = clock_->MonotonicNs();
    std::vector<Waiter> remaining;
    for (Waiter& waiter : waiters_) {
      if (result.ok() && Satisfied(waiter, fetch_number)) {
        answers.emplace_back(std::move(waiter.done), Status::Ok());
      } else if (!result.ok()) {
        // The channel below has already retried for as long as is reasonable.
        answers.emplace_back(std::move(waiter.done), result.status().WithContext("fetch the cluster map"));
      } else if (now >= waiter.deadline_ns) {
        answers.emplace_back(std::move(waiter.done),
                             Status(StatusCode::kUnavailable, "cluster map version " + std::to_string(waiter.version) +
                                                                  " was announced but is not to be had (have version " +
                                                                  std::to_string(map_->version()) + ")"));
      } else {
        remaining.push_back(std::move(waiter));
      }
    }
    waiters_ = std::move(remaining);
    fetching_ = again = !waiters_.empty() && !closed_;
  }
  for (auto& [done, status] : answers) done(std::move(status));
  if (!again) return;
  loop_->PostAfter(kRefetchPauseMs, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->StartFetch();
  });
}

void ClusterMapCache::Close() {
  std::vector<Waiter> waiters;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    waiters.swap(waiters_);
  }
  for (Waiter& waiter : waiters) waiter.done(Status(StatusCode::kCancelled, "the client is shutting down"));
}

}  // namespace tarn::client
