// The simulated network between endpoints (members and clients).
//
// Fault model. A message is lost, or arrives once, or twice; each copy after its own time: about the latency of the
// run, with a long tail; with some probability very late (up to seconds, so that it arrives in another term, after a
// restart of its receiver, or after its sender has forgotten it). On one link messages keep their order unless they are
// chosen to overtake. A partition blocks directed links, in some cases only those between members, so that clients reach
// both sides: what is sent over them meanwhile is lost, what is under way
// arrives. Connections (SendInOrder) are like TCP: they hide losses, and hold up what is sent over a cut link until it
// heals. A crashed receiver gets nothing; a restarted one gets what still arrives. Contents are never changed (frames
// and log records carry checksums, whose tests are elsewhere). One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/sim/plan.h"
#include "tests/sim/scheduler.h"

namespace tarn::sim {

// Members are 1..members; clients follow from kFirstClient, those that write files from kFirstFileClient, chunk servers
// from kFirstChunkServer; then an operator of the group.
using Endpoint = uint64_t;
inline constexpr Endpoint kFirstClient = 100;
inline constexpr Endpoint kFirstFileClient = 200;
inline constexpr Endpoint kFirstChunkServer = 300;
inline constexpr Endpoint kFirstOperator = 400;

class Network {
 public:
  Network(Scheduler* scheduler, const FaultPlan& faults, std::vector<Endpoint> endpoints)
      : scheduler_(scheduler), faults_(faults), endpoints_(std::move(endpoints)) {}
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // `deliver` runs once for each copy that arrives.
  void Send(Endpoint from, Endpoint to, std::string_view kind, const std::function<void()>& deliver);
  // One direction of a connection: what is sent over it comes in order and once; loss and cuts cost time only.
  class Stream {
    friend class Network;
    struct Frame {
      int64_t arrival_ns = 0;
      std::function<void()> deliver;
    };
    std::deque<Frame> frames;
    bool scheduled = false;
  };
  // The stream lives as long as what `deliver` holds.
  void SendInOrder(Stream* stream, Endpoint from, Endpoint to, std::string_view kind, std::function<void()> deliver);
  // Cuts some directed links until Heal or the next one. `leader` is cut off more often than others; 0: nobody is known
  // to lead.
  void Partition(Endpoint leader);
  void Heal() { blocked_.clear(); }
  // From now on messages are neither lost nor late.
  void EndFaults();

 private:
  int64_t TransitTime();
  void Pump(Stream* stream, Endpoint from, Endpoint to);
  Endpoint DrawLonely(Endpoint leader);

  Scheduler* const scheduler_;
  FaultPlan faults_;
  const std::vector<Endpoint> endpoints_;
  std::set<std::pair<Endpoint, Endpoint>> blocked_;
  std::map<std::pair<Endpoint, Endpoint>, int64_t> last_arrival_ns_;
};

}  // namespace tarn::sim
