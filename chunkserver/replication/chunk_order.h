// The order of changes of each chunk: one holder of a chunk's turn at a time, the others wait in line without a thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>

#include "chunkserver/replication/environment.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"

namespace tarn::replication {

// Thread-safe. Owned by shared pointers: turns keep it alive.
class ChunkOrder : public std::enable_shared_from_this<ChunkOrder> {
 public:
  explicit ChunkOrder(Executor* executor) : executor_(executor) {}  // outlives it
  ChunkOrder(const ChunkOrder&) = delete;
  ChunkOrder& operator=(const ChunkOrder&) = delete;

  // Held until the last copy of the pointer is gone.
  class Turn {
   public:
    Turn(std::shared_ptr<ChunkOrder> order, ChunkId chunk) : order_(std::move(order)), chunk_(chunk) {}
    ~Turn() { order_->Release(chunk_); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    const std::shared_ptr<ChunkOrder> order_;
    const ChunkId chunk_;
  };
  using TurnPtr = std::shared_ptr<Turn>;
  using Task = std::function<void(TurnPtr)>;

  // Runs `task` on a thread of the executor once everybody before it has let go. Callers bound how many wait.
  void Acquire(ChunkId chunk, Task task);

 private:
  void Release(ChunkId chunk);
  void Start(ChunkId chunk, Task task);

  Executor* const executor_;
  Mutex mutex_;
  std::unordered_map<ChunkId, std::deque<Task>> lines_ GUARDED_BY(mutex_);  // an entry: somebody holds the turn
};

}  // namespace tarn::replication
