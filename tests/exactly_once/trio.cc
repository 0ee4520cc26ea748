#include "tests/exactly_once/trio.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <thread>
#include <utility>

#include "common/base/check.h"

namespace tarn::testing {
namespace {

using client::testing::FreeAddress;
using client::testing::ProgramDirectory;
using client::testing::ServerProcess;

constexpr int kPatienceSeconds = 60;

}  // namespace

bool Eventually(int seconds, const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));  // other processes tell nobody
  }
  return true;
}

Trio::Trio(const Faults& faults) {
  std::string pattern = std::filesystem::temp_directory_path() / "tarn-exactly-once-XXXXXX";
  CHECK(mkdtemp(pattern.data()) != nullptr, "no temporary directory");
  directory_ = pattern;
  for (std::string& address : addresses_) address = FreeAddress();
  for (size_t member = 0; member < 3; ++member) std::filesystem::create_directory(directory_ + "/meta" + std::to_string(member));
  std::filesystem::create_directory(directory_ + "/chunk");
  StartMembers(faults, /*anew=*/true);
  chunkserver_ = std::make_unique<ServerProcess>(
      std::vector<std::string>{ProgramDirectory() + "/tarn-chunkserver", "--dir", directory_ + "/chunk", "--listen", FreeAddress(), "--meta",
                               addresses_[0] + "," + addresses_[1] + "," + addresses_[2]},
      directory_ + "/chunk.log");
  chunkserver_->Start();
  auto admin = client::AdminClient::Connect(addresses(), kPatienceSeconds * 1000);
  if (!admin.ok()) GiveUp(admin.status().ToString());
  admin_ = *std::move(admin);
  WaitUntilServing();
}

Trio::~Trio() {
  admin_.reset();
  chunkserver_.reset();
  for (auto& metaserver : metaservers_) metaserver.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::string Trio::LogOf(size_t member) const {
  return directory_ + "/meta" + std::to_string(member) + "." + std::to_string(restarts_) + ".log";
}

void Trio::StartMembers(const Faults& faults, bool anew) {
  for (size_t member = 0; member < 3; ++member) {
    const std::string& fault = member == 0 ? faults.first : faults.others;
    std::vector<std::string> command = {ProgramDirectory() + "/tarn-metaserver", "--dir", directory_ + "/meta" + std::to_string(member), "--listen",
                                        addresses_[member]};
    if (anew && member != 0) command.insert(command.end(), {"--join", addresses_[0]});
    if (!fault.empty()) command.insert(command.end(), {"--allow-faults", "--fault", fault, "--fault-delay-ms", std::to_string(faults.delay_ms)});
    metaservers_[member] = std::make_unique<ServerProcess>(std::move(command), LogOf(member));
    metaservers_[member]->Start();
  }
}

void Trio::RestartWith(const Faults& faults) {
  for (auto& metaserver : metaservers_) metaserver->Stop(SIGKILL);
  ++restarts_;
  StartMembers(faults, /*anew=*/false);
  WaitUntilServing();
  if (!Eventually(kPatienceSeconds, [this] { return Lead(1); })) GiveUp("the first member does not take the lead");
}

void Trio::TransferLeadership() {
  if (!Eventually(kPatienceSeconds, [this] { return Lead(2); })) GiveUp("the second member does not take the lead");
}

bool Trio::Lead(uint64_t member) {
  const auto group = admin_->ListMetaservers();
  if (!group.ok()) return false;
  return group->leader == member || admin_->TransferLeadership(member).ok();
}

void Trio::WaitUntilServing() {
  const auto serves = [this] {
    for (const auto& metaserver : metaservers_) {
      if (metaserver->EndsWithin(0)) GiveUp("a metadata server ended");
    }
    const auto status = admin_->GetStatus();
    if (!status.ok() || status->health != "ok" || status->placement_groups == 0 || status->chunkservers.size() != 1) return false;
    const auto votes = [](const auto& member) { return member.role == "leader" || member.role == "follower"; };
    return std::ranges::count_if(status->metaservers, votes) == 3;
  };
  if (!Eventually(kPatienceSeconds, serves)) GiveUp("the cluster does not serve");
}

std::map<std::string, size_t> Trio::Planted() const {
  constexpr std::string_view kOperation = "operation=";
  std::map<std::string, size_t> counts;
  std::ifstream log(LogOf(0));
  for (std::string line; std::getline(log, line);) {
    if (line.find("planted: ") == std::string::npos) continue;
    const size_t begin = line.find(kOperation) + kOperation.size();
    ++counts[line.substr(begin, line.find(' ', begin) - begin)];
  }
  return counts;
}

void Trio::GiveUp(const std::string& why) const {
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    if (entry.path().extension() != ".log") continue;
    std::cerr << "---- " << entry.path() << "\n" << std::ifstream(entry.path()).rdbuf() << std::endl;
  }
  CHECK(false, why);
}

}  // namespace tarn::testing
