// A simulated client: one session, some operations under way at once, and the retry rules of the client library
// (client/meta): a mutation is sent again, byte for byte the same, after a time-out, kNotLeader, kUnavailable or
// kResourceExhausted, to the member that is said to lead or to the next one; its sequence and what it acknowledges come
// from the library's own MutationWindow; a session that is gone is opened anew, and what was in doubt stays so.
//
// Fault model: a client gives up on an operation now and then, and later operations then acknowledge it; sends late
// copies of what is done (through the network); loses its session if its keep-alives do not arrive. One that caches
// (client_cache.h) does not give up on mutations: what became of them would not be pushed to it.
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/meta/mutation_window.h"
#include "tests/sim/client_cache.h"
#include "tests/sim/member.h"

namespace tarn::sim {

// What the clients have heard of, to name in their operations: like processes that share paths.
struct Hearsay {
  uint64_t root = 0;
  std::vector<uint64_t> directories;
  std::vector<uint64_t> files;
};

class Client {
 public:
  Client(Cluster* cluster, Hearsay* hearsay, uint64_t number)
      : cluster_(cluster), hearsay_(hearsay), endpoint_(kFirstClient + number) {
    if (number >= cluster->plan->caching_clients) return;
    cache_.emplace(cluster->scheduler, cluster->plan->plant, [this] { KeepAliveOnce(session_, nullptr); });
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void Start();
  // No new operations; those under way go on until they are answered.
  void Finish() { finishing_ = true; }
  bool idle() const { return under_way_ == 0; }
  uint64_t endpoint() const { return endpoint_; }

 private:
  // A request until it is answered for good or given up.
  struct Call {
    rpc::Method method = rpc::Method::kPing;
    std::string message;
    bool may_give_up = false;
    bool probes = false;  // the first attempt goes to any member
    bool in_doubt = false;
    uint32_t attempts = 0;
    uint64_t attempt = 0;  // the one whose answer counts
    // A status of kCancelled: given up.
    std::function<void(const Answer&, bool in_doubt)> done;
  };
  using CallPtr = std::shared_ptr<Call>;

  Dice& dice() { return cluster_->scheduler->dice(); }
  void Send(const CallPtr& call);
  void OnAnswer(const CallPtr& call, uint64_t member, const Answer& answer);
  void Retry(const CallPtr& call, int64_t delay_ns);
  void NextMember() { member_ = member_ % cluster_->plan->members + 1; }
  void Request(rpc::Method method, std::string message, bool may_give_up,
               std::function<void(const Answer&, bool)> done);

  void OpenSession();
  void OnOpened(const Answer& answer);
  void KeepAlive(uint64_t session);
  void KeepAliveOnce(uint64_t session, std::function<void()> then);
  void OnPush(uint64_t member, const std::string& message);
  void FindVolume();
  void MakeVolume();
  void LoseSession(uint64_t session);

  void ThinkThenAct();
  void Act();
  void Mutate(proto::Mutation mutation);
  void Read();
  bool ReadName();
  bool ReadAttributes();
  void LookUp(const proto::LookupRequest& request);
  void GetAttributes(uint64_t inode);
  void List();
  proto::Mutation DrawMutation();
  void DrawNewEntry(proto::Mutation* mutation);
  void DrawOldEntry(proto::Mutation* mutation);
  std::string Name() { return "n" + std::to_string(dice().Below(5)); }
  uint64_t Directory();
  uint64_t File();
  void Learn(const proto::Attributes& attributes);

  Cluster* const cluster_;
  Hearsay* const hearsay_;
  const uint64_t endpoint_;
  uint64_t member_ = 1;
  uint64_t next_attempt_ = 1;
  uint64_t session_ = 0;
  bool opening_ = false;
  client::MutationWindow window_;
  std::optional<ClientCache> cache_;
  uint32_t under_way_ = 0;
  uint32_t waiting_slots_ = 0;  // for a session
  bool finishing_ = false;
};

}  // namespace tarn::sim
