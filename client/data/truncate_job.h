// Carries out a shrink that the metadata server has committed: cuts every chunk that reaches beyond the new size, makes
// that durable, and reports it done. Internal to the data plane.
//
// Until then readers and writers carry the pending truncate with every request, so a half-done one is never seen; and
// once it is reported done nobody does any more, which is why the cuts must be on stable storage first.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "client/data/plane_core.h"
#include "client/types.h"
#include "common/base/mutex.h"

namespace tarn::client {

// Thread-safe: its steps follow one another, their parts run in parallel.
class TruncateJob : public std::enable_shared_from_this<TruncateJob> {
 public:
  // `attributes` show the truncate as pending.
  static void Start(std::shared_ptr<PlaneCore> core, const Attributes& attributes, StatusCallback done);

 private:
  TruncateJob(std::shared_ptr<PlaneCore> core, const Attributes& attributes, StatusCallback done);

  void List();
  void Cut();
  void Commit();
  void Report();
  // One part of the step under way is over; the last one goes on with `next`, or ends the job if any failed.
  void PartOver(const Status& status, void (TruncateJob::*next)());

  const std::shared_ptr<PlaneCore> core_;
  const Attributes attributes_;
  const uint64_t floor_;
  StatusCallback done_;

  Mutex mutex_;
  uint64_t parts_left_ GUARDED_BY(mutex_) = 0;
  Status status_ GUARDED_BY(mutex_);
  std::vector<uint32_t> chunks_ GUARDED_BY(mutex_);  // to be cut
  struct Cutter {
    Incarnation incarnation;
    std::vector<GroupId> groups;
  };
  std::map<TargetId, Cutter> not_durable_ GUARDED_BY(mutex_);  // who cut without making it durable
  bool forgotten_ GUARDED_BY(mutex_) = false;
  uint32_t rounds_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::client
