// One simulated metadata server: the parts of the real one over simulated disk, network, clock and state store.
//
// Real are the state machine, exactly-once, the applier, group commit, the session keeper, maintenance, and the service
// that answers requests; libraft's core beneath (sim_replicator.h). Left out are threads, sockets and gRPC.
//
// Fault model of a member. It crashes between two events, or at a write (to its log, its term or vote, its state) in
// the middle of one: from that write on nothing it does has an effect, and what it had not yet written is lost. The
// log's disk then keeps what log_disk.h says; the state falls back to the last flush or to any batch boundary after it.
// It restarts after a while, with a new process and the same disks. It can be stopped, between events or while it reads
// the state for an answer, and goes on later without having noticed: requests wait, its clocks go on. While it reads
// for an answer it can also be that only the answering thread stands still; or only the Raft thread does, and requests
// are answered by what was known before. A restart may find that its wall clock has
// jumped.
//
// Where the group changes (Plan::group_changes) a Member is a machine, which may run a server or none. The first begins a
// group of its own; others join as metadata_server.cc does it: an empty directory asks, with a nonce that it keeps, until
// it is given an id. A disk that is lost is replaced by an empty one, which joins anew: an old id never comes back. A
// server that is told that it was removed ends; it is started again, as a service manager would, until an operator takes
// it down. There the replicator is group_replicator.h.
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/rpc/frame.h"
#include "common/rpc/frame_server.h"
#include "metaserver/state/memory_kv.h"
#include "proto/cluster.pb.h"
#include "proto/member.pb.h"
#include "tests/sim/log_disk.h"
#include "tests/sim/network.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_replicator.h"

namespace tarn::sim {

class Member;
class ChunkServer;
class FileOracle;

std::string AddressOf(uint64_t member);
// 0: none.
uint64_t MemberOf(const std::string& address);

// What is answered to a request: the status of the frame, the message, and who is said to lead (0: nobody).
struct Answer {
  Status status;
  std::string message;
  uint64_t leader = 0;
};

// What an operator, or a server that wants to join, asks of a member (proto/member.proto), and what it is answered.
struct GroupQuestion {
  enum class Kind { kJoin, kRemove, kTransfer, kList };
  Kind kind = Kind::kList;
  proto::JoinGroupRequest join;
  proto::RemoveMemberRequest removal;
  uint64_t transfer_to = 0;
};
struct GroupAnswer {
  Status status;
  uint64_t leader = 0;  // the machine that is said to lead; 0: none
  proto::JoinGroupReply joined;
  proto::ListMembersReply list;
};

// What the members share.
struct Cluster {
  Scheduler* scheduler = nullptr;
  Network* network = nullptr;
  Oracle* oracle = nullptr;
  FileOracle* files = nullptr;
  const Plan* plan = nullptr;
  std::vector<std::unique_ptr<Member>>* members = nullptr;  // member 1 is the first
  std::vector<std::unique_ptr<ChunkServer>>* chunk_servers = nullptr;
  std::function<void(const std::string&)> violation;
  bool faults_ended = false;
  int reads_paused = 0;  // at this moment
  Dice* group_dice = nullptr;  // of what happens only where the group changes
};

class Member final : public ProcessPort {
 public:
  Member(Cluster* cluster, uint64_t id);
  ~Member() override;
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  uint64_t id() const { return id_; }
  // Of its directory in the group; 0: it has none yet. Where the group does not change it is that of the machine.
  uint64_t group_id() const { return group_id_; }
  void Start();
  // ---- Where the group changes ----
  // The first server of a new group.
  void BeginGroup();
  // A new server on an empty disk; what was there is gone for good. `replaces`: 0 or the group's id of another one.
  void Join(uint64_t nonce, uint64_t replaces);
  // Its disk is lost, or it is taken down for good.
  void Wipe();
  bool in_use() const { return !group_mode_ || group_id_ != 0 || joining_nonce_ != 0; }
  // Hands leadership over, if it leads, makes everything durable and ends; it is started again later.
  void StopGracefully();
  std::vector<meta::GroupMember> GroupMembers() const;
  // Of the map that it holds.
  std::vector<uint64_t> MapMembers() const;
  void ReceiveQuestion(const GroupQuestion& question, std::function<void(const GroupAnswer&)> answer);
  // Now, or at the end of the present event.
  void Crash();
  void StopFor(int64_t length_ns);
  // The Raft thread alone.
  void StallFor(int64_t length_ns);
  // It runs from now on, and no write is its last any more.
  void EndFaults();

  bool alive() const { return process_ != nullptr && !dead_; }
  bool HoldsLease() const;
  bool Leads() const;
  // Entries in its state; 0 if it is down.
  uint64_t applied() const;
  const meta::MemoryKv& state() const { return state_; }
  // Of the process, which has another after each crash.
  uint64_t life() const { return life_; }
  // Called once when the process of now has died.
  void WhenGone(std::function<void()> gone) { when_gone_.push_back(std::move(gone)); }

  // A message or request arrives. `answer` may never be called; `push` whenever the member has something to tell.
  void ReceiveMessage(uint64_t from_member, const std::string& message);
  void ReceiveRequest(rpc::Method method, uint64_t hello_session, const std::string& message,
                      std::function<void(Answer)> answer, std::function<void(std::string)> push = nullptr);
  // A frame of a connection to the process of that life. `handled`: its handler has returned.
  void ReceiveFrame(uint64_t life, std::shared_ptr<rpc::Peer> peer, rpc::Method method, const std::string& message,
                    std::function<void(Answer)> answer, std::function<void()> handled);
  // Of a chunk server, answered as ClusterServiceImpl does, which blocks and so cannot run here.
  void ReceiveRegistration(const proto::RegisterServerRequest& request,
                           std::function<void(const Status&, const proto::RegisterServerReply&)> answer);
  void ReceiveHeartbeat(const proto::HeartbeatRequest& request,
                        std::function<void(const Status&, const proto::HeartbeatReply&)> answer);

 private:
  struct Process;
  friend struct Process;

  // ProcessPort.
  void Post(int64_t delay_ns, std::function<void()> action) override;
  void PostToLoop(int64_t delay_ns, std::function<void()> action) override;
  void SendToMember(uint64_t member, std::string message) override;
  void AtWrite() override;
  bool dead() const override { return dead_; }
  void FetchCheckpoint(bool at_start, uint64_t at_least_entries) override;
  void Violation(const std::string& what) override { cluster_->violation(what); }

  // Runs the action now if the process of that life is there and not stopped, later if it is stopped.
  void Run(uint64_t life, std::function<void()> action);
  void RunOnLoop(uint64_t life, const std::function<void()>& action);
  void Schedule(int64_t delay_ns, std::function<void()> action, bool on_loop);
  void RunPosted(uint64_t life, uint64_t posted, bool on_loop);
  void Handle(const std::shared_ptr<rpc::Peer>& peer, rpc::Method method, const std::string& message,
              std::function<void(Answer)> answer, Buffer payload = Buffer());
  void CheckReadAnswer(rpc::Method method, const Answer& answer);
  void Bury();
  void Restart(int64_t delay_ns);
  void AskForCheckpoint(uint64_t at_least_entries);
  void AskToJoin(uint64_t nonce, uint64_t machine);
  void AnswerQuestion(const GroupQuestion& question, std::function<void(const GroupAnswer&)> answer);
  void SendInFrame(uint64_t member, const std::string& message);
  void OnGroupRefusal(uint64_t to, const Status& status);
  void TakeCheckpoint(const meta::MemoryKv::Contents& contents);
  void PauseInRead();
  void ScheduleMaintenance();

  Cluster* const cluster_;
  const uint64_t id_;
  const bool group_mode_;
  uint64_t group_id_ = 0;
  uint64_t joining_nonce_ = 0;  // of a directory that has no id yet
  uint64_t joining_replaces_ = 0;
  uint64_t bodies_ = 0;  // disks so far
  bool wiped_ = false;   // at its death
  SimClock clock_;
  LogDisk disk_;
  meta::MemoryKv state_;
  bool checkpoint_due_ = false;  // durable: the log begins behind the state, and that is known
  bool checkpoint_asked_ = false;
  uint64_t checkpoint_entries_ = 0;  // that it must hold at least

  std::unique_ptr<Process> process_;
  // What the process will do. It may hold things that refer to the process, so it goes with it, and first.
  std::map<uint64_t, std::function<void()>> posted_;
  uint64_t next_posted_ = 1;
  uint64_t life_ = 0;
  std::vector<std::function<void()>> when_gone_;
  bool dead_ = false;
  size_t unflushed_at_death_ = 0;
  int depth_ = 0;            // events of this member on the stack
  bool in_request_ = false;  // the innermost of them answers a request
  int64_t stopped_until_ns_ = 0;
  int64_t stalled_until_ns_ = 0;  // the Raft thread
};

}  // namespace tarn::sim
