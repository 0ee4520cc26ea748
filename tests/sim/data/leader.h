// The metadata servers of a run, of which one leads: the real state machine and what the real leader makes of it (group commit, the registry of
// chunk servers, the planner and its keeper, maintenance with sessions and fences, what operators order), over a log in simulated time.
//
// What is not replicated (when which server was heard of, what primaries report, sessions' leases) is each member's own, as in production, and is
// forgotten when another one leads. The members share one state, of which all of them are a prefix anyway.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "chunkserver/replication/group_view.h"
#include "metaserver/service/server_requests.h"
#include "metaserver/state/changes.h"
#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"
#include "proto/state.pb.h"
#include "tests/sim/data/net.h"

namespace tarn::meta {
class NodeAdmin;
class GroupAdmin;
class LapsedTargets;
}  // namespace tarn::meta

namespace tarn::sim_data {

inline constexpr int64_t kLeaseMs = 2'500;

// One thread.
class Leader {
 public:
  template <typename Reply>
  using Answer = std::function<void(const Result<Reply>&)>;

  explicit Leader(Bench* bench);
  ~Leader();
  Leader(const Leader&) = delete;
  Leader& operator=(const Leader&) = delete;

  // The first one leads.
  void Start();
  // The placement groups and volumes of the run, once all servers are registered.
  void Prepare(std::function<void()> prepared);
  // What it does by itself; every 100 ms.
  void Tick();

  // Nobody answers: who leads stands still, or nobody leads.
  bool is_silent() const;
  // For a while. Who leads then goes on as if nothing had been.
  void StandStill(int64_t length_ns);
  // Another one leads after a while; the one before may have crashed.
  void ChangeLeader(int64_t gap_ns);
  // Faults are over: it answers from now on.
  void Calm();

  // Requests, as they arrive; no answer from a silent one.
  void Register(const proto::RegisterServerRequest& request, Answer<proto::RegisterServerReply> answer);
  void Heartbeat(const proto::HeartbeatRequest& request, Answer<proto::HeartbeatReply> answer);
  void Report(const proto::ReportGroupsRequest& request, Answer<proto::ReportGroupsReply> answer);
  // Of a client: a session that has a lock, so that it is fenced before it is closed.
  void OpenSession(uint64_t nonce, Answer<uint64_t> answer);
  void RenewSession(uint64_t session);
  // It is taken for gone, whether it is heard of or not.
  void ExpireSession(uint64_t session);

  // What operators order; null while it is silent.
  const meta::NodeAdmin* nodes() const;
  const meta::GroupAdmin* groups_of_operators() const;
  // `claim` is kept until it is applied. Errors and refusals are passed over.
  void Submit(const Result<proto::Mutation>& mutation, std::shared_ptr<meta::LapsedTargets> claim = nullptr);

  // What is committed.
  std::shared_ptr<const proto::ClusterMap> map() const;
  const replication::GroupView& group(uint32_t id) const { return groups_[id - 1]; }
  const std::vector<replication::GroupView>& groups() const { return groups_; }
  // Those that clients use.
  const std::vector<uint32_t>& used_groups() const { return used_groups_; }
  bool IsUsed(uint32_t group) const;
  uint64_t epochs() const { return epochs_; }
  uint64_t changes_of_leader() const { return changes_; }
  // What the planner would do next, moves included; empty: nothing.
  std::string NextPlan() const;

  // After each entry that changed the map. `before` may lack what is new.
  std::function<void(const proto::ClusterMap& before, const proto::ClusterMap& after, const proto::LogEntry& entry)> on_change;
  std::function<void(uint64_t session)> on_session_closed;
  // Which process answers at an address, if any does; `answer` comes later or not at all.
  std::function<void(const std::string& address, std::function<void(uint64_t process)> answer)> ask_process;
  // For planted bugs: before an entry is applied.
  std::function<void(proto::LogEntry* entry)> tamper;

 private:
  struct Member;
  class Consumer;

  Member* Leading() const;
  std::unique_ptr<Member> MakeMember(uint64_t id);
  void Gained();
  void RegisterChecked(const proto::RegisterServerRequest& request, const meta::ServerRequests::Registration& checked, const Answer<proto::RegisterServerReply>& answer);
  void Lost();
  void Applied(const proto::LogEntry& entry, const std::vector<proto::MutationReply>& replies, const std::vector<meta::ChangeSet>& changes);
  void ReadGroups();
  void Propose(proto::Mutation mutation, std::function<void(const Status&, std::span<proto::MutationReply>)> done);
  void SubmitAll(std::vector<proto::Mutation> mutations, std::function<void(const Status&)> done);

  Bench* const bench_;
  struct Parts;
  const std::unique_ptr<Parts> parts_;
  std::shared_ptr<const proto::ClusterMap> map_;
  std::vector<replication::GroupView> groups_;  // by id - 1
  std::vector<uint32_t> used_groups_;
  uint64_t lock_inode_ = 0;
  uint64_t locks_taken_ = 0;
  uint64_t epochs_ = 0;
  uint64_t changes_ = 0;
};

}  // namespace tarn::sim_data
