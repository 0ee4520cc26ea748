// Data ids reserved in advance: for files whose bytes are written before the file has a name, and for files that will be
// written soon, which so need no request of their own for an id.
//
// Reserved in batches, the next one before the last is used up. What was reserved long ago is not used any more: where
// new data goes may be another place by then. Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>

#include "client/types.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/random.h"

namespace tarn::client {

class ReservedDataIds {
 public:
  struct Reserved {
    DataId data;
    FileLayout layout;  // with a seed of its own
  };
  struct Batch {
    DataId first;
    uint32_t count = 0;
    FileLayout layout_template;
  };
  // Asks the metadata server for `count` ids (it may give fewer).
  using Reserve = std::function<void(uint32_t count, Callback<Batch> done)>;

  // `clock` and `random` outlive it, and so do the callbacks of `reserve`.
  ReservedDataIds(const Clock* clock, Random* random, Reserve reserve)
      : clock_(clock), random_(random), reserve_(std::move(reserve)) {}
  ReservedDataIds(const ReservedDataIds&) = delete;
  ReservedDataIds& operator=(const ReservedDataIds&) = delete;

  // At once if an id is there, else when the next batch is.
  void Take(Callback<Reserved> done);
  // Nothing if none is there; then some will soon be.
  std::optional<Reserved> TryTake();

  static constexpr int64_t kUsedForNs = 60'000'000'000;

 private:
  static constexpr uint32_t kBatchIds = 1024;
  static constexpr uint32_t kRefillBelowIds = 256;

  // Sets `*start` if StartReserve is due.
  std::optional<Reserved> TakeIfThere(bool* start) REQUIRES(mutex_);
  Reserved TakeOne() REQUIRES(mutex_);
  void StartReserve();
  void OnReserved(Result<Batch> result);

  // Immutable after construction.
  const Clock* const clock_;
  Random* const random_;
  const Reserve reserve_;

  Mutex mutex_;
  Batch current_ GUARDED_BY(mutex_);
  Batch next_ GUARDED_BY(mutex_);
  int64_t current_since_ns_ GUARDED_BY(mutex_) = 0;
  int64_t next_since_ns_ GUARDED_BY(mutex_) = 0;
  bool reserving_ GUARDED_BY(mutex_) = false;
  std::deque<Callback<Reserved>> waiting_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client
