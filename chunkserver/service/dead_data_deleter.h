// Deletes the data ids that the metadata server names as dead, and remembers which are durably gone until it has heard so.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "chunkserver/service/target_set.h"
#include "common/base/mutex.h"
#include "proto/cluster.pb.h"

namespace tarn::chunk {

// Thread-safe. The deleting runs on the targets' workers, one round for each target at a time, and may outlive the deleter.
class DeadDataDeleter {
 public:
  // `targets` outlives the last round.
  explicit DeadDataDeleter(const TargetSet* targets) : targets_(targets) {}
  DeadDataDeleter(const DeadDataDeleter&) = delete;
  DeadDataDeleter& operator=(const DeadDataDeleter&) = delete;

  // Does not block. What is passed over because the target is busy is named again by the next reply.
  void Delete(const proto::HeartbeatReply& reply);
  // Adds to the report of a target what is gone from it.
  void FillReport(proto::TargetReport* report);
  // The request with those reports has been answered.
  void Reported(const proto::HeartbeatRequest& request);

 private:
  struct Round {
    Mutex mutex;
    bool running GUARDED_BY(mutex) = false;
    std::vector<uint64_t> gone GUARDED_BY(mutex);
  };

  std::shared_ptr<Round> RoundOf(TargetId target);
  static void Run(store::ChunkStore* store, const std::vector<DataId>& dead, Round* round);

  const TargetSet* const targets_;
  Mutex mutex_;
  std::map<TargetId, std::shared_ptr<Round>> rounds_ GUARDED_BY(mutex_);
};

}  // namespace tarn::chunk
