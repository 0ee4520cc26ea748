#include "client/testing/server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <utility>

#include "common/base/check.h"
#include "common/base/clock.h"

namespace tarn::client::testing {
namespace {

constexpr int kServingPollMs = 20;
constexpr int64_t kServingDeadlineMs = 30'000;

}  // namespace

std::string ProgramDirectory() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path programs = self.parent_path().parent_path() / "bin";
  const bool there =
      std::filesystem::exists(programs / "tarn-metaserver") && std::filesystem::exists(programs / "tarn-chunkserver");
  return there ? programs.string() : std::string();
}

std::string FreeAddress() {
  UniqueFd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0, "no free port");
  socklen_t length = sizeof(address);
  CHECK(getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0, "no port");
  return "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
}

ServerProcess::ServerProcess(std::vector<std::string> command, std::string log_path)
    : command_(std::move(command)), log_path_(std::move(log_path)) {}

ServerProcess::~ServerProcess() { Stop(SIGKILL); }

void ServerProcess::Start() {
  CHECK(pid_ < 0, "a server is started once at a time");
  // All memory that the child needs is there before the fork: the test has threads.
  std::vector<char*> arguments;
  for (const std::string& word : command_) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  UniqueFd log(open(log_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  CHECK(log.valid(), "the log file cannot be written");
  const pid_t parent = getpid();
  pid_ = fork();
  CHECK(pid_ >= 0, "no more processes");
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    dup2(log.get(), STDOUT_FILENO);
    dup2(log.get(), STDERR_FILENO);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  pid_fd_.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
}

void ServerProcess::Stop(int signal_number) {
  if (pid_ < 0) return;
  kill(pid_, signal_number);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
  pid_fd_.Reset();
}

bool ServerProcess::EndsWithin(int timeout_ms) const {
  pollfd ended{pid_fd_.get(), POLLIN, 0};
  return poll(&ended, 1, timeout_ms) == 1;
}

ProcessCluster::ProcessCluster(int chunkservers, std::vector<std::string> metaserver_arguments) {
  std::string pattern = std::filesystem::temp_directory_path() / "tarn-client-e2e-XXXXXX";
  CHECK(mkdtemp(pattern.data()) != nullptr, "no temporary directory");
  directory_ = pattern;
  const std::string programs = ProgramDirectory();
  meta_address_ = FreeAddress();
  std::vector<std::string> command = {programs + "/tarn-metaserver", "--dir", directory_ + "/meta", "--listen",
                                      meta_address_};
  command.insert(command.end(), metaserver_arguments.begin(), metaserver_arguments.end());
  std::filesystem::create_directory(directory_ + "/meta");
  metaserver_ = std::make_unique<ServerProcess>(std::move(command), directory_ + "/meta.log");
  metaserver_->Start();
  for (int i = 0; i < chunkservers; ++i) {
    const std::string name = directory_ + "/chunk" + std::to_string(i);
    std::filesystem::create_directory(name);
    chunkservers_.push_back(
        std::make_unique<ServerProcess>(std::vector<std::string>{programs + "/tarn-chunkserver", "--dir", name,
                                                                 "--listen", FreeAddress(), "--meta", meta_address_},
                                        name + ".log"));
    chunkservers_.back()->Start();
  }
  Result<std::unique_ptr<AdminClient>> admin = AdminClient::Connect({meta_address_}, kServingDeadlineMs);
  if (!admin.ok()) GiveUp(admin.status().ToString());
  admin_ = *std::move(admin);
  WaitUntilServing();
}

ProcessCluster::~ProcessCluster() {
  chunkservers_.clear();
  metaserver_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void ProcessCluster::WaitUntilServing() {
  SystemClock clock;
  const int64_t deadline_ms = clock.MonotonicMs() + kServingDeadlineMs;
  while (clock.MonotonicMs() < deadline_ms) {
    const Result<ClusterStatus> status = admin_->GetStatus();
    if (status.ok() && status->health == "ok" && status->placement_groups > 0 &&
        status->chunkservers.size() == chunkservers_.size()) {
      return;
    }
    if (metaserver_->EndsWithin(kServingPollMs)) GiveUp("the metadata server ended");
  }
  GiveUp("the cluster does not serve");
}

void ProcessCluster::KillAndRestartAll() {
  metaserver_->Stop(SIGKILL);
  for (auto& chunkserver : chunkservers_) chunkserver->Stop(SIGKILL);
  metaserver_->Start();
  for (auto& chunkserver : chunkservers_) chunkserver->Start();
  WaitUntilServing();
}

void ProcessCluster::GiveUp(const std::string& why) const {
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    if (entry.path().extension() != ".log") continue;
    std::cerr << "---- " << entry.path() << "\n" << std::ifstream(entry.path()).rdbuf() << std::endl;
  }
  CHECK(false, why);
}

}  // namespace tarn::client::testing
