// A client of the run: several workers that write cells of their own, read anybody's, and commit; one session.
//
// A reader (plan.h) has one worker and stays with one member of one group as long as that answers. One worker more, of the first client, writes and
// cuts off the last cell of each chunk.
//
// Where clients share a cell of each chunk, one worker more of each writes there. What it wrote it keeps until a commit has covered it: it sends it
// again, as having been acknowledged, when it learns that the primary is another one, or a process that did not acknowledge it.
//
// A request is repeated under its sequence, at whoever the newest map calls the primary, until it is answered; copies of it may still be under
// way then. A session that the metadata server has closed (it was fenced before) gives up what it has under way, and the client goes on as another one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "tests/sim/data/fleet.h"
#include "tests/sim/data/leader.h"
#include "tests/sim/data/net.h"
#include "tests/sim/data/oracle.h"

namespace tarn::sim_data {

inline constexpr uint32_t kWorkersPerClient = 3;
inline constexpr uint32_t kSharingWorker = kWorkersPerClient + 1;

struct Counts {
  uint64_t writes = 0;
  uint64_t reads = 0;
  uint64_t commits = 0;
  uint64_t sent_again = 0;
  uint64_t given_way = 0;  // of these: later bytes lay there
  uint64_t given_up = 0;   // of these: what became of it was not known
};

// One thread.
class Client {
 public:
  // What it can see of the world.
  struct World {
    Bench* bench;
    Net* net;
    Leader* leader;
    Oracle* oracle;
    Fleet* fleet;
    std::function<void(uint32_t group, bool durable)> check_copies;  // after an acknowledgement
    std::map<std::pair<uint32_t, uint32_t>, uint64_t>* generations;  // of cuts, by group and chunk: what the metadata server has told everybody
    Counts* counts;
  };
  Client(uint32_t number, const World& world);

  void Start();
  // Its process is gone. Another one takes its place once the session is closed.
  void Die();
  // The metadata leader takes it for gone; it does not know.
  void StopRenewing() { is_renewing_ = false; }
  bool WritesTo(uint32_t group) const;
  // Begins nothing new.
  void Finish() { finishing_ = true; }
  bool is_idle() const { return session_ != 0 && is_renewing_ && busy_ == 0 && kept_.empty(); }
  uint64_t session() const { return session_; }  // 0: none yet
  bool is_dead() const { return is_dead_; }
  // The session is closed: chunk servers refuse its writes.
  void Closed();

 private:
  struct Operation;
  using OperationPtr = std::shared_ptr<Operation>;

  // What was acknowledged in a shared cell, and not committed.
  struct Kept {
    uint64_t number = 0;
    store::ChunkStamp stamp;
    TargetId target;
    uint64_t process = 0;
    bool is_outdated = false;  // it may be lost: to be sent again
  };
  struct ReadBegin {
    Oracle::ReadBegin own;
    Oracle::SharedBegin shared;
  };
  struct Acknowledgement {
    store::ChunkStamp stamp;
    TargetId target;
    uint64_t process = 0;
    bool durable = false;
    bool was_superseded = false;
    uint64_t losses = 0;
  };

  // Asks until it has one, then begins to work.
  void OpenSession();
  void Renew();
  uint32_t AnyGroup() const;
  bool is_reader() const { return number_ >= bench_->plan.clients; }
  uint32_t workers() const;
  void StartWorkers();
  void Choose(Operation* operation);
  void ChooseShared(Operation* operation);
  void Keep(const OperationPtr& operation, const Acknowledgement& acknowledgement, StatusCode code);
  void Covered(const OperationPtr& commit, const std::map<CellId, uint64_t>& covers, TargetId target, uint64_t process);
  Server* ServerFor(const OperationPtr& operation, const proto::PlacementGroup& group);
  template <typename Request>
  void FillChange(const OperationPtr& operation, uint64_t target, uint64_t epoch, Request* request) const;
  void SendCut(const OperationPtr& operation, Server* server, uint64_t epoch);
  // Of a write or a cut.
  replication::ChangeCallback Changed(const OperationPtr& operation, Server* server);
  void ReadHere(const OperationPtr& operation, Server* server, const ReadBegin& begin, StatusCode admitted, bool confirmed);
  uint64_t node() const { return kFirstClient + number_; }
  void Next(uint32_t worker);
  void Begin(const OperationPtr& operation);
  void Attempt(const OperationPtr& operation);
  void SendWrite(const OperationPtr& operation, Server* server, uint64_t epoch);
  void SendRead(const OperationPtr& operation, Server* server, uint64_t epoch);
  void SendCommit(const OperationPtr& operation, Server* server);
  void Answered(const OperationPtr& operation, StatusCode code);
  void End(const OperationPtr& operation);
  void FetchMap();

  const uint32_t number_;
  const World world_;
  Bench* const bench_;
  uint64_t session_ = 0;
  uint64_t sessions_asked_for_ = 0;
  uint64_t generation_ = 0;  // of the session
  bool is_renewing_ = false;
  bool is_dead_ = false;
  std::shared_ptr<const proto::ClusterMap> map_;
  bool finishing_ = false;
  uint64_t stays_with_ = 0;  // a reader: with this target
  uint32_t busy_ = 0;
  std::map<CellId, Kept> kept_;
  std::map<uint32_t, uint64_t> last_sequence_;            // by group
  std::map<uint32_t, std::set<uint64_t>> under_way_;      // sequences
};

}  // namespace tarn::sim_data
