// What the targets, as primaries, tell the metadata leader of their groups' members: gathered, and sent again until the leader has decided.
//
// A thread of its own sends, since a primary's writes wait for the answer. A report stands while the epoch that it is about does: the map of
// each answer says so, and is adopted at once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <tuple>

#include "chunkserver/replication/environment.h"
#include "chunkserver/service/cluster_view.h"
#include "chunkserver/service/leader_connection.h"
#include "chunkserver/service/target_set.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "proto/cluster.pb.h"

namespace tarn::chunk {

struct GroupReporterOptions {
  LeaderConnectionOptions leader;
  uint64_t incarnation = 0;
  std::function<void(uint64_t version)> want_map;  // see GroupAuthority::WantMap
};

// Thread-safe.
class GroupReporter final : public replication::GroupAuthority {
 public:
  // The pointers outlive it.
  GroupReporter(GroupReporterOptions options, const TargetSet* targets, ClusterView* view, rpc::EventLoop* loop, const Clock* clock);
  ~GroupReporter() override;
  GroupReporter(const GroupReporter&) = delete;
  GroupReporter& operator=(const GroupReporter&) = delete;

  void Report(const proto::GroupReport& report) override;
  void WantMap(uint64_t version) override { options_.want_map(version); }

  // Joins its thread; reports are dropped from then on. A call under way is waited for, some seconds at most.
  void Stop();

 private:
  using Key = std::tuple<uint32_t, uint64_t, int>;  // group, member, kind

  void Run();
  // kOk: answered; the reports that stand are still pending.
  Status Send();
  proto::ReportGroupsRequest MakeRequest();
  void ForgetDecided(const proto::ClusterMap& map);
  // False when stopping.
  bool WaitForReports();
  void Pause(int64_t pause_ms);

  const GroupReporterOptions options_;
  const TargetSet* const targets_;
  ClusterView* const view_;
  const Clock* const clock_;

  LeaderConnection leader_;  // the reporter's thread only

  Mutex mutex_;
  CondVar changed_;
  bool stop_ GUARDED_BY(mutex_) = false;
  bool has_new_ GUARDED_BY(mutex_) = false;  // since the last request
  std::map<Key, proto::GroupReport> pending_ GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace tarn::chunk
