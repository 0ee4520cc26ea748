// Data ids reserved in advance, for files whose bytes are written before the file has a name.
//
// Reserved in batches, the next one before the last is used up. Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "client/types.h"
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

  // `random` outlives it, and so do the callbacks of `reserve`.
  ReservedDataIds(Random* random, Reserve reserve) : random_(random), reserve_(std::move(reserve)) {}
  ReservedDataIds(const ReservedDataIds&) = delete;
  ReservedDataIds& operator=(const ReservedDataIds&) = delete;

  // At once if an id is there, else when the next batch is.
  void Take(Callback<Reserved> done);

 private:
  static constexpr uint32_t kBatchIds = 1024;
  static constexpr uint32_t kRefillBelowIds = 256;

  Reserved TakeOne() REQUIRES(mutex_);
  void StartReserve();
  void OnReserved(Result<Batch> result);

  // Immutable after construction.
  Random* const random_;
  const Reserve reserve_;

  Mutex mutex_;
  Batch current_ GUARDED_BY(mutex_);
  Batch next_ GUARDED_BY(mutex_);
  bool reserving_ GUARDED_BY(mutex_) = false;
  std::deque<Callback<Reserved>> waiting_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client
