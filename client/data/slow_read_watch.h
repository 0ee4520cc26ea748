// Looks, from time to time, after the reads of one event loop that take long.
//
// A timer for each read would cost more than most reads; so they stand in a list, in the order in which they began, and
// one timer looks at its front. Touched by its loop's thread only.
#pragma once

#include <cstdint>
#include <list>
#include <memory>

#include "common/base/clock.h"
#include "common/rpc/event_loop.h"

namespace tarn::client {

class SlowRead {
 public:
  virtual ~SlowRead() = default;
  // Called again and again, some tens of ms after it was added and later, until it is removed.
  virtual void CheckSlow(int64_t now_ns) = 0;
};

class SlowReadWatch : public std::enable_shared_from_this<SlowReadWatch> {
 public:
  struct Entry {
    std::weak_ptr<SlowRead> read;
    int64_t since_ns = 0;
  };
  using Place = std::list<Entry>::iterator;

  // `loop` outlives the last answer that comes on it.
  SlowReadWatch(rpc::EventLoop* loop, std::shared_ptr<const Clock> clock) : loop_(loop), clock_(std::move(clock)) {}
  SlowReadWatch(const SlowReadWatch&) = delete;
  SlowReadWatch& operator=(const SlowReadWatch&) = delete;

  Place Add(std::weak_ptr<SlowRead> read);
  void Remove(Place place);

 private:
  void Schedule();
  void Tick();

  rpc::EventLoop* const loop_;
  const std::shared_ptr<const Clock> clock_;
  std::list<Entry> reads_;
  bool scheduled_ = false;
};

}  // namespace tarn::client
