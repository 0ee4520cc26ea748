// The newest cluster map this client has seen, and its renewal.
//
// A chunk server that answers kStaleEpoch names the version it knows; whoever met it waits here until the client has
// that version too. Any number of waiters share one fetch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "client/types.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/rpc/event_loop.h"
#include "proto/cluster.pb.h"

namespace tarn::client {

// Thread-safe.
class ClusterMapCache : public std::enable_shared_from_this<ClusterMapCache> {
 public:
  using MapPtr = std::shared_ptr<const proto::ClusterMap>;
  // Asks the metadata server for a map newer than `newer_than`; null if there is none.
  using Fetch = std::function<void(uint64_t newer_than, Callback<MapPtr> done)>;

  // `loop` and `clock` outlive it. `fetch` may be called until Close.
  static std::shared_ptr<ClusterMapCache> Create(rpc::EventLoop* loop, const Clock* clock, Fetch fetch,
                                                 int64_t retry_deadline_ms);

  // Never null; version 0 before the first fetch.
  MapPtr map() const;
  // Calls back when the map's version is at least `version`; 0: after a fetch that began after this call. Asks again
  // until the retry deadline, then kUnavailable.
  void Refresh(uint64_t version, StatusCallback done);
  // Somebody mentioned this version in passing: fetched in the background if it is news.
  void NoticeVersion(uint64_t version);
  // Waiters get kCancelled, as do later ones.
  void Close();

 private:
  struct Waiter {
    uint64_t version = 0;       // wanted; 0: whatever the fetch below brings
    uint64_t fetch_number = 0;  // satisfied, if version is 0, by this fetch or a later one
    int64_t deadline_ns = 0;
    StatusCallback done;
  };

  ClusterMapCache(rpc::EventLoop* loop, const Clock* clock, Fetch fetch, int64_t retry_deadline_ms);
  void StartFetch();
  void OnFetched(uint64_t fetch_number, Result<MapPtr> result);
  bool Satisfied(const Waiter& waiter, uint64_t fetch_number) const REQUIRES(mutex_);

  // Immutable after construction.
  rpc::EventLoop* const loop_;
  const Clock* const clock_;
  const Fetch fetch_;
  const int64_t retry_deadline_ms_;

  mutable Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;
  MapPtr map_ GUARDED_BY(mutex_);
  uint64_t fetches_started_ GUARDED_BY(mutex_) = 0;
  bool fetching_ GUARDED_BY(mutex_) = false;  // or about to, after a pause
  std::vector<Waiter> waiters_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client
