// Real servers as child processes, for end-to-end tests. Each test has its own; all die with it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/admin/admin_client.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::client::testing {

// The directory of the programs beside the running test's; empty if there are none.
std::string ProgramDirectory();
// A loopback port that nobody listens on at the moment.
std::string FreeAddress();

// Thread-compatible.
class ServerProcess {
 public:
  // The command's standard output and error go to `log_path`, behind what is there.
  ServerProcess(std::vector<std::string> command, std::string log_path);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // The server dies with the thread that started it (PR_SET_PDEATHSIG), so call it on the test's own.
  void Start();
  // Sends the signal and waits for the end. Nothing if it does not run.
  void Stop(int signal_number);
  bool running() const { return pid_ > 0; }
  // Waits for at most `timeout_ms`; true if the process has ended.
  bool EndsWithin(int timeout_ms) const;

 private:
  const std::vector<std::string> command_;
  const std::string log_path_;
  pid_t pid_ = -1;
  UniqueFd pid_fd_;
};

// One metadata server and some chunk servers in a temporary directory, which goes with it.
class ProcessCluster {
 public:
  // Returns when the cluster serves. Ends the process, showing the logs, if it does not in time.
  explicit ProcessCluster(int chunkservers, std::vector<std::string> metaserver_arguments = {});
  ~ProcessCluster();
  ProcessCluster(const ProcessCluster&) = delete;
  ProcessCluster& operator=(const ProcessCluster&) = delete;

  const std::string& meta_address() const { return meta_address_; }
  ServerProcess& metaserver() { return *metaserver_; }
  ServerProcess& chunkserver(size_t index) { return *chunkservers_.at(index); }
  size_t chunkserver_count() const { return chunkservers_.size(); }
  AdminClient& admin() { return *admin_; }
  // Every process dies at once and comes back on the same directory.
  void KillAndRestartAll();
  void WaitUntilServing();
  const std::string& directory() const { return directory_; }

 private:
  [[noreturn]] void GiveUp(const std::string& why) const;

  std::string directory_;
  std::string meta_address_;
  std::unique_ptr<ServerProcess> metaserver_;
  std::vector<std::unique_ptr<ServerProcess>> chunkservers_;
  std::unique_ptr<AdminClient> admin_;
};

}  // namespace tarn::client::testing
