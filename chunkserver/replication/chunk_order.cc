#include "chunkserver/replication/chunk_order.h"

#include <utility>

namespace tarn::replication {

void ChunkOrder::Acquire(ChunkId chunk, Task task) {
  {
    MutexLock lock(mutex_);
    const auto [line, is_free] = lines_.try_emplace(chunk);
    if (!is_free) {
      line->second.push_back(std::move(task));
      return;
    }
  }
  Start(chunk, std::move(task));
}

void ChunkOrder::Start(ChunkId chunk, Task task) {
  executor_->Run([task = std::move(task), turn = std::make_shared<Turn>(shared_from_this(), chunk)]() mutable { task(std::move(turn)); });
}

void ChunkOrder::Release(ChunkId chunk) {
  Task next;
  {
    MutexLock lock(mutex_);
    const auto line = lines_.find(chunk);
    if (line->second.empty()) {
      lines_.erase(line);
      return;
    }
    next = std::move(line->second.front());
    line->second.pop_front();
  }
  Start(chunk, std::move(next));
}

}  // namespace tarn::replication
