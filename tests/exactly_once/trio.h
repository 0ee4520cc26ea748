// Three metadata servers and a chunk server, as processes in a temporary directory, which goes with them.
#pragma once

#include <signal.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/admin/admin_client.h"
#include "client/testing/server_process.h"

namespace tarn::testing {

// One thread. Ends the process, showing the logs, if the servers do not do what they should in time.
class Trio {
 public:
  // Empty strings: without fault points.
  struct Faults {
    std::string first;   // --fault of the first member
    std::string others;  // of the two others
    int64_t delay_ms = 1000;
  };

  // Returns when all three vote and the chunk server is registered.
  explicit Trio(const Faults& faults);
  ~Trio();
  Trio(const Trio&) = delete;
  Trio& operator=(const Trio&) = delete;

  // All three die and come back so; then the first one leads.
  void RestartWith(const Faults& faults);
  void KillFirst() { metaservers_[0]->Stop(SIGKILL); }
  // To the second member.
  void TransferLeadership();

  std::vector<std::string> addresses() const { return {addresses_.begin(), addresses_.end()}; }
  client::AdminClient& admin() { return *admin_; }
  // How many replies the first member has meddled with since the last restart, by operation.
  std::map<std::string, size_t> Planted() const;
  [[noreturn]] void GiveUp(const std::string& why) const;

 private:
  void StartMembers(const Faults& faults, bool anew);
  void WaitUntilServing();
  bool Lead(uint64_t member);
  std::string LogOf(size_t member) const;

  std::string directory_;
  int restarts_ = 0;
  std::array<std::string, 3> addresses_;
  std::array<std::unique_ptr<client::testing::ServerProcess>, 3> metaservers_;
  std::unique_ptr<client::testing::ServerProcess> chunkserver_;
  std::unique_ptr<client::AdminClient> admin_;
};

// Until it holds, for at most `seconds`.
bool Eventually(int seconds, const std::function<bool()>& condition);

}  // namespace tarn::testing
