// The leader's care for its group: the map knows where every member is, and the log's list of members follows the map.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "metaserver/service/service_context.h"

namespace tarn::meta {

// Step from one thread; never blocks, at most one change is under way.
class GroupKeeper {
 public:
  // The context outlives the last callback of its proposer and replicator, and so does this object.
  explicit GroupKeeper(ServiceContext* context) : context_(context) {}
  GroupKeeper(const GroupKeeper&) = delete;
  GroupKeeper& operator=(const GroupKeeper&) = delete;

  // Does nothing unless this member leads.
  void Step();

 private:
  bool RecordAddresses();
  void FollowMap();
  void Propose(proto::SetMetaserversOp op, std::string what);
  Replicator::Changed OnChanged(std::string what);

  ServiceContext* const context_;
  std::atomic<bool> busy_{false};
  int64_t not_before_ns_ = 0;  // Step's thread: after a change that failed
  std::atomic<bool> failed_{false};
  size_t warned_voters_ = 0;  // Step's thread
};

// What of the group an operator should know, with the reason. True: it serves, but would bear less than it should.
bool JudgeGroup(const std::vector<MemberProgress>& progress, std::vector<std::string>* problems);

}  // namespace tarn::meta
