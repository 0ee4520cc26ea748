// A client of the run: several workers that write cells of their own, read anybody's, and commit; one session.
//
// A request is repeated under its sequence, at whoever the newest map calls the primary, until it is answered; copies of it may still be under
// way then. A session that was fenced gives up what it has under way and goes on as another one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "tests/sim/data/leader.h"
#include "tests/sim/data/net.h"
#include "tests/sim/data/oracle.h"
#include "tests/sim/data/server.h"

namespace tarn::sim_data {

inline constexpr uint32_t kWorkersPerClient = 3;

struct Counts {
  uint64_t writes = 0;
  uint64_t reads = 0;
  uint64_t commits = 0;
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
    std::map<TargetId, std::unique_ptr<Server>>* servers;
    std::function<void(uint32_t group, bool durable)> check_copies;  // after an acknowledgement
    Counts* counts;
  };
  Client(uint32_t number, const World& world);

  void Start();
  // Begins nothing new.
  void Finish() { finishing_ = true; }
  bool is_idle() const { return busy_ == 0; }
  uint64_t session() const { return session_; }
  // The session is fenced everywhere.
  void Reopen();

 private:
  struct Operation;
  using OperationPtr = std::shared_ptr<Operation>;

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
  uint64_t generation_ = 0;  // of the session
  std::shared_ptr<const proto::ClusterMap> map_;
  bool finishing_ = false;
  uint32_t busy_ = 0;
  std::map<uint32_t, uint64_t> last_sequence_;            // by group
  std::map<uint32_t, std::set<uint64_t>> under_way_;      // sequences
};

}  // namespace tarn::sim_data
