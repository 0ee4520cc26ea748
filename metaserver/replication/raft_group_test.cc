// Three members and more in one process, over a network in memory that loses and delays messages or cuts members off.
// Elections take real time here, so time bounds are generous and nothing depends on who leads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <set>

#include "common/base/named_thread.h"
#include "common/base/posix_io.h"
#include "metaserver/replication/raft_envelope.h"
#include "metaserver/replication/raft_replicator.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;

constexpr auto kPatience = std::chrono::seconds(40);

// A condition that others bring about; looked at again at short intervals.
bool WaitUntil(const std::function<bool()>& condition) {
  Mutex mutex;
  CondVar never;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  MutexLock lock(mutex);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    never.WaitFor(lock, std::chrono::milliseconds(2));
  }
  return true;
}

// Goes with the system's clock and can jump ahead of it, as for a process that was stopped.
class JumpingClock final : public Clock {
 public:
  int64_t MonotonicNs() const override { return system_.MonotonicNs() + ahead_ns_.load(); }
  int64_t WallNs() const override { return system_.WallNs(); }
  void JumpMs(int64_t milliseconds) { ahead_ns_ += milliseconds * 1'000'000; }

 private:
  SystemClock system_;
  std::atomic<int64_t> ahead_ns_{0};
};

class Network {
 public:
  Network() {
    thread_ = StartNamedThread("network", [this] { Run(); });
  }
  ~Network() {
    {
      MutexLock lock(mutex_);
      stop_ = true;
      wake_.NotifyAll();
    }
    thread_.join();
  }

  void Attach(uint64_t member, RaftReplicator* replicator) {
    MutexLock lock(mutex_);
    while (delivering_ == member) idle_.Wait(lock);
    if (replicator != nullptr) {
      members_[member] = replicator;
    } else {
      members_.erase(member);
    }
  }
  void Send(uint64_t from, uint64_t to, std::string bytes) {
    MutexLock lock(mutex_);
    if (cut_.contains(from) || cut_.contains(to)) return;
    if (lose_orders_ > 0 && IsOrderToTakeOver(bytes)) {
      --lose_orders_;
      return;
    }
    if (loss_percent_ > 0 && random_.Next() % 100 < loss_percent_) return;
    queue_.push_back({from, to, std::move(bytes)});
    // Some overtake others.
    if (loss_percent_ > 0 && queue_.size() > 1 && random_.Next() % 4 == 0) {
      std::swap(queue_[queue_.size() - 1], queue_[queue_.size() - 2]);
    }
    wake_.NotifyAll();
  }
  void SetCut(uint64_t member, bool cut) {
    MutexLock lock(mutex_);
    if (cut) {
      cut_.insert(member);
    } else {
      cut_.erase(member);
    }
  }
  void SetLossPercent(uint64_t percent) {
    MutexLock lock(mutex_);
    loss_percent_ = percent;
  }

  void LoseOrdersToTakeOver(int count) {
    MutexLock lock(mutex_);
    lose_orders_ = count;
  }
  int orders_to_lose() {
    MutexLock lock(mutex_);
    return lose_orders_;
  }

 private:
  static bool IsOrderToTakeOver(std::string_view bytes) {
    constexpr char kTimeoutNow = 6;  // libraft's
    const auto body = OpenEnvelope(bytes);
    return body && body->size() > 2 && (*body)[2] == kTimeoutNow;
  }
  struct Packet {
    uint64_t from;
    uint64_t to;
    std::string bytes;
  };
  void Run() {
    MutexLock lock(mutex_);
    while (!stop_) {
      if (queue_.empty()) {
        wake_.Wait(lock);
        continue;
      }
      Packet packet = std::move(queue_.front());
      queue_.pop_front();
      const auto member = members_.find(packet.to);
      if (member == members_.end() || cut_.contains(packet.to) || cut_.contains(packet.from)) continue;
      RaftReplicator* replicator = member->second;
      delivering_ = packet.to;
      lock.Unlock();
      replicator->Receive(packet.from, "host" + std::to_string(packet.from) + ":1", std::move(packet.bytes));
      lock.Lock();
      delivering_ = 0;
      idle_.NotifyAll();
    }
  }

  SeededRandom random_{7};
  Mutex mutex_;
  CondVar wake_;
  CondVar idle_;
  std::deque<Packet> queue_ GUARDED_BY(mutex_);
  std::map<uint64_t, RaftReplicator*> members_ GUARDED_BY(mutex_);
  std::set<uint64_t> cut_ GUARDED_BY(mutex_);
  uint64_t loss_percent_ GUARDED_BY(mutex_) = 0;
  int lose_orders_ GUARDED_BY(mutex_) = 0;
  uint64_t delivering_ GUARDED_BY(mutex_) = 0;
  bool stop_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

class Transport final : public MessageTransport {
 public:
  Transport(Network* network, uint64_t self) : network_(network), self_(self) {}
  void Send(uint64_t to, const std::string& /*address*/, std::string message) override {
    network_->Send(self_, to, std::move(message));
  }

 private:
  Network* const network_;
  const uint64_t self_;
};

using CopyEntries = std::function<Result<std::vector<std::string>>(uint64_t member)>;

// A list of entries in memory that outlives its replicator: as if everything applied were durable.
class Entries final : public LogConsumer {
 public:
  explicit Entries(CopyEntries copy) : copy_(std::move(copy)) {}

  Status Apply(std::string_view entry, uint64_t number) override {
    MutexLock lock(mutex_);
    EXPECT_EQ(number, entries_.size() + 1);
    entries_.emplace_back(entry);
    return Status::Ok();
  }
  void LeadershipGained(uint64_t /*term*/) override {
    MutexLock lock(mutex_);
    EXPECT_FALSE(leads_);
    leads_ = true;
  }
  void LeadershipLost() override {
    MutexLock lock(mutex_);
    leads_ = false;
  }
  Status MakeDurable() override { return Status::Ok(); }
  Result<uint64_t> InstallCheckpoint(const CheckpointRequest& request) override {
    {
      MutexLock lock(mutex_);
      ++install_attempts_;
      if (refuse_installs_ > 0) {
        --refuse_installs_;
        return Status(StatusCode::kUnavailable, "planted");
      }
    }
    ASSIGN_OR_RETURN(std::vector<std::string> entries, copy_(request.leader));
    if (entries.size() < request.at_least_entries) return Status(StatusCode::kUnavailable, "too old");
    MutexLock lock(mutex_);
    entries_ = std::move(entries);
    ++installs_;
    return uint64_t{entries_.size()};
  }
  void MembersChanged(const std::vector<GroupMember>& members) override {
    MutexLock lock(mutex_);
    members_ = members;
  }
  void Failed(const Status& status) override { ADD_FAILURE() << status.ToString(); }

  std::vector<std::string> entries() {
    MutexLock lock(mutex_);
    return entries_;
  }
  int installs() {
    MutexLock lock(mutex_);
    return installs_;
  }
  int install_attempts() {
    MutexLock lock(mutex_);
    return install_attempts_;
  }
  void RefuseInstalls(int count) {
    MutexLock lock(mutex_);
    refuse_installs_ = count;
  }
  bool told_of(uint64_t member) {
    MutexLock lock(mutex_);
    for (const GroupMember& one : members_) {
      if (one.member == member) return true;
    }
    return false;
  }
  void Stopped() {
    MutexLock lock(mutex_);
    leads_ = false;
  }

 private:
  const CopyEntries copy_;
  Mutex mutex_;
  std::vector<std::string> entries_ GUARDED_BY(mutex_);
  std::vector<GroupMember> members_ GUARDED_BY(mutex_);
  int installs_ GUARDED_BY(mutex_) = 0;
  int install_attempts_ GUARDED_BY(mutex_) = 0;
  int refuse_installs_ GUARDED_BY(mutex_) = 0;
  bool leads_ GUARDED_BY(mutex_) = false;
};

struct Node {
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Entries> consumer;
  JumpingClock clock;
  SystemRandom random;
  std::unique_ptr<RaftReplicator> replicator;
};

class RaftGroup : public ::testing::Test {
 protected:
  RaftGroup() {
    std::string pattern = (fs::temp_directory_path() / "raft_group_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~RaftGroup() override {
    for (auto& [id, node] : nodes_) Stop(id);
    fs::remove_all(directory_);
  }

  std::string LogOf(uint64_t id) const { return directory_ + "/" + std::to_string(id); }
  static std::string AddressOf(uint64_t id) { return "host" + std::to_string(id) + ":1"; }

  void Make(uint64_t id) {
    ASSERT_TRUE(MakeDirectories(LogOf(id)).ok());
    ASSERT_TRUE(
        (id == 1 ? RaftReplicator::Bootstrap(LogOf(id), id, AddressOf(id)) : RaftReplicator::PrepareToJoin(LogOf(id)))
            .ok());
    Node& node = nodes_[id];
    node.transport = std::make_unique<Transport>(&network_, id);
    node.consumer = std::make_unique<Entries>([this](uint64_t member) { return CopyOf(member); });
  }
  void Start(uint64_t id) {
    Node& node = nodes_[id];
    RaftReplicatorOptions options = options_;
    options.directory = LogOf(id);
    options.member_id = id;
    options.address = AddressOf(id);
    options.transport = node.transport.get();
    options.clock = &node.clock;
    options.applied_entries = node.consumer->entries().size();
    auto opened = RaftReplicator::Open(options, node.consumer.get(), &node.random);
    ASSERT_EQ(opened.status().ToString(), "kOk");
    node.replicator = std::move(*opened);
    node.replicator->Start();
    network_.Attach(id, node.replicator.get());
  }
  void Stop(uint64_t id) {
    Node& node = nodes_[id];
    if (!node.replicator) return;
    // It may hand over to another one as long as it is attached.
    node.replicator->Stop();
    network_.Attach(id, nullptr);
    node.replicator.reset();
    node.consumer->Stopped();
  }
  // As a crash looks to the others.
  void Vanish(uint64_t id) {
    network_.SetCut(id, true);
    Stop(id);
    network_.SetCut(id, false);
  }
  void MakeGroup(int count) {
    Make(1);
    Start(1);
    for (int id = 2; id <= count; ++id) {
      Make(id);
      Start(id);
      ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.AddMember(id, AddressOf(id), done); }), "kOk");
      ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.PromoteMember(id, done); }), "kOk");
    }
  }

  Result<std::vector<std::string>> CopyOf(uint64_t member) {
    const auto node = nodes_.find(member);
    if (node == nodes_.end()) return Status(StatusCode::kUnavailable, "no such member");
    return node->second.consumer->entries();
  }

  // One that may serve; 0 after a long time without one.
  uint64_t Leader() {
    uint64_t leader = 0;
    WaitUntil([&] {
      for (auto& [id, node] : nodes_) {
        if (node.replicator && node.replicator->HoldsLease()) leader = id;
      }
      return leader != 0;
    });
    return leader;
  }
  RaftReplicator& At(uint64_t id) { return *nodes_.at(id).replicator; }

  Status ProposeAt(uint64_t id, const std::string& entry) {
    auto done = std::make_shared<std::promise<Status>>();
    At(id).Propose(entry, [done](const Status& status) { done->set_value(status); });
    return done->get_future().get();
  }
  // Proposes at whoever leads until one is acknowledged; the fate of earlier attempts is open.
  void Propose() {
    for (int attempt = 0; attempt < 1000; ++attempt) {
      const std::string entry = "entry " + std::to_string(++proposed_);
      const uint64_t leader = Leader();
      ASSERT_NE(leader, 0u);
      if (!ProposeAt(leader, entry).ok()) continue;
      acknowledged_.insert(entry);
      return;
    }
    FAIL() << "nothing is acknowledged any more";
  }
  // The status of a change that a leader was asked for.
  std::string Change(const std::function<void(RaftReplicator&, Replicator::Changed)>& change) {
    Status status;
    for (int attempt = 0; attempt < 20; ++attempt) {
      const uint64_t leader = Leader();
      if (leader == 0) return "no leader";
      auto done = std::make_shared<std::promise<Status>>();
      change(At(leader), [done](const Status& result) { done->set_value(result); });
      status = done->get_future().get();
      if (status.code() != StatusCode::kNotLeader && status.code() != StatusCode::kBusy) break;
    }
    return status.ok() ? "kOk" : StatusCodeName(status.code());
  }

  // All that run have the same entries, every acknowledged one once.
  void ExpectAgreement() {
    std::vector<std::string> entries;
    ASSERT_TRUE(WaitUntil([&] {
      bool equal = true;
      bool first = true;
      for (auto& [id, node] : nodes_) {
        if (!node.replicator) continue;
        const auto those = node.consumer->entries();
        if (first) entries = those;
        equal = equal && those == entries;
        first = false;
      }
      std::set<std::string> missing = acknowledged_;
      for (const std::string& entry : entries) missing.erase(entry);
      return equal && missing.empty();
    }));
    EXPECT_EQ(std::set<std::string>(entries.begin(), entries.end()).size(), entries.size()) << "applied twice";
  }

  RaftReplicatorOptions options_ = [] {
    RaftReplicatorOptions options;
    options.election_timeout_ms = 300;
    return options;
  }();
  std::string directory_;
  Network network_;
  std::map<uint64_t, Node> nodes_;
  int proposed_ = 0;
  std::set<std::string> acknowledged_;
};

TEST_F(RaftGroup, GrowsFromOneToThreeAndAgrees) {
  MakeGroup(3);
  for (int i = 0; i < 50; ++i) Propose();
  ExpectAgreement();
  const auto members = At(Leader()).members();
  ASSERT_EQ(members.size(), 3u);
  for (const GroupMember& member : members) {
    EXPECT_EQ(member.role, MemberRole::kVoter);
    EXPECT_EQ(member.address, AddressOf(member.member));
  }
  const auto progress = At(Leader()).Progress();
  ASSERT_TRUE(progress.ok());
  EXPECT_EQ(progress->size(), 3u);
}

TEST_F(RaftGroup, OneThatVanishesIsReplacedAsLeader) {
  MakeGroup(3);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 10; ++i) Propose();
    const uint64_t leader = Leader();
    Vanish(leader);
    for (int i = 0; i < 10; ++i) Propose();
    Start(leader);
  }
  ExpectAgreement();
}

TEST_F(RaftGroup, LeaderCutOffLosesTheLeaseBeforeAnotherOneServes) {
  MakeGroup(3);
  Propose();
  const uint64_t old_leader = Leader();
  network_.SetCut(old_leader, true);
  // At every moment at most one may serve.
  uint64_t leader = old_leader;
  ASSERT_TRUE(WaitUntil([&] {
    int holders = 0;
    for (auto& [id, node] : nodes_) {
      if (!node.replicator->HoldsLease()) continue;
      ++holders;
      leader = id;
    }
    EXPECT_LE(holders, 1);
    return holders == 1 && leader != old_leader;
  }));
  EXPECT_EQ(ProposeAt(leader, "entry of the new leader").ToString(), "kOk");
  network_.SetCut(old_leader, false);
  Propose();
  ExpectAgreement();
}

TEST_F(RaftGroup, ProposalsWithoutAMajorityAreNotAcknowledged) {
  MakeGroup(3);
  Propose();
  const uint64_t leader = Leader();
  for (uint64_t id = 1; id <= 3; ++id) network_.SetCut(id, id != leader);
  const Status status = ProposeAt(leader, "entry that nobody else has");
  EXPECT_EQ(status.code(), StatusCode::kNotLeader);
  EXPECT_FALSE(At(leader).HoldsLease());
  for (uint64_t id = 1; id <= 3; ++id) network_.SetCut(id, false);
  Propose();
  ExpectAgreement();
}

TEST_F(RaftGroup, AgreesOverANetworkThatLosesAndReorders) {
  MakeGroup(3);
  network_.SetLossPercent(10);
  for (int i = 0; i < 100; ++i) Propose();
  network_.SetLossPercent(0);
  Propose();
  ExpectAgreement();
}

TEST_F(RaftGroup, StoppedLeaderDoesNotServeWhenItWakes) {
  MakeGroup(3);
  Propose();
  const uint64_t leader = Leader();
  nodes_.at(leader).clock.JumpMs(250);  // 0.75 of 300, and a little
  EXPECT_FALSE(At(leader).HoldsLease());
  Propose();
  ExpectAgreement();
}

TEST_F(RaftGroup, IdleLeaderKeepsTheLease) {
  MakeGroup(3);
  Propose();
  const uint64_t leader = Leader();
  const uint64_t term = At(leader).term();
  int held = 0;
  int looks = 0;
  WaitUntil([&] {
    held += At(leader).HoldsLease() ? 1 : 0;
    return ++looks == 500;
  });
  if (At(leader).term() != term) GTEST_SKIP() << "the machine is too busy: another election";
  EXPECT_GT(held, 250);  // it may miss some
}

TEST_F(RaftGroup, LeadershipIsHandedOverOnRequest) {
  MakeGroup(3);
  Propose();
  const uint64_t from = Leader();
  const uint64_t to = from % 3 + 1;
  ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.TransferLeadership(to, done); }), "kOk");
  EXPECT_TRUE(WaitUntil([&] { return At(to).HoldsLease(); }));
  EXPECT_FALSE(At(from).HoldsLease());
  Propose();
  ExpectAgreement();
}

// They answer no other candidates for one election time-out.
TEST_F(RaftGroup, JustStartedMembersVoteInAHandOver) {
  options_.election_timeout_ms = 4000;
  MakeGroup(3);
  Propose();
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.TransferLeadership(2, done); }), "kOk");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4)) << "with the second order only";
  EXPECT_TRUE(WaitUntil([&] { return At(2).HoldsLease(); }));
}

TEST_F(RaftGroup, LostOrderToTakeOverIsGivenAgain) {
  MakeGroup(3);
  Propose();
  const uint64_t from = Leader();
  const uint64_t to = from % 3 + 1;
  network_.LoseOrdersToTakeOver(1);
  ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.TransferLeadership(to, done); }), "kOk");
  EXPECT_EQ(network_.orders_to_lose(), 0);
  EXPECT_TRUE(WaitUntil([&] { return At(to).HoldsLease(); }));
}

TEST_F(RaftGroup, FailedHandOverLeavesTheLeaderInPlace) {
  MakeGroup(3);
  Propose();
  const uint64_t from = Leader();
  network_.LoseOrdersToTakeOver(1000);
  EXPECT_NE(Change([&](RaftReplicator& leader, auto done) { leader.TransferLeadership(from % 3 + 1, done); }), "kOk");
  network_.LoseOrdersToTakeOver(0);
  Propose();
  ExpectAgreement();
}

TEST_F(RaftGroup, CleanStopHandsLeadershipOver) {
  MakeGroup(3);
  Propose();
  const uint64_t leader = Leader();
  const uint64_t term = At(leader).term();
  Stop(leader);
  const uint64_t next = Leader();
  EXPECT_NE(next, leader);
  EXPECT_GT(At(next).term(), term);
  Propose();
  Start(leader);
  ExpectAgreement();
}

TEST_F(RaftGroup, MemberFarBehindTakesOverACheckpoint) {
  options_.snapshot_entries_max = 20;
  options_.snapshot_trailing = 5;
  MakeGroup(3);
  Propose();
  uint64_t away = Leader() % 3 + 1;
  Vanish(away);
  for (int i = 0; i < 200; ++i) Propose();
  nodes_.at(away).consumer->RefuseInstalls(2);
  Start(away);
  Propose();
  ExpectAgreement();
  EXPECT_GE(nodes_.at(away).consumer->installs(), 1);
  EXPECT_GE(nodes_.at(away).consumer->install_attempts(), 3);
  // What it has then holds over a restart.
  Stop(away);
  Start(away);
  Propose();
  ExpectAgreement();
}

TEST_F(RaftGroup, NewMemberOfAnOldGroupBeginsWithACheckpoint) {
  options_.snapshot_entries_max = 20;
  options_.snapshot_trailing = 5;
  Make(1);
  Start(1);
  for (int i = 0; i < 100; ++i) Propose();
  Make(2);
  Start(2);
  EXPECT_TRUE(At(2).members().empty());
  ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.AddMember(2, AddressOf(2), done); }), "kOk");
  ASSERT_TRUE(WaitUntil([&] { return nodes_.at(2).consumer->entries().size() >= 100; }));
  EXPECT_GE(nodes_.at(2).consumer->installs(), 1);
  EXPECT_EQ(At(1).members()[1].role, MemberRole::kLearner);
  ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.PromoteMember(2, done); }), "kOk");
  Propose();
  ExpectAgreement();
}

TEST_F(RaftGroup, MemberIsReplaced) {
  MakeGroup(3);
  Propose();
  const uint64_t dead = Leader();
  Vanish(dead);
  Propose();
  Make(4);
  Start(4);
  ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.AddMember(4, AddressOf(4), done); }), "kOk");
  ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.PromoteMember(4, done); }), "kOk");
  ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.RemoveMember(dead, done); }), "kOk");
  Propose();
  ExpectAgreement();
  // It comes back, does not disturb the others and hears that it is out.
  Start(dead);
  EXPECT_TRUE(WaitUntil([&] { return !nodes_.at(dead).consumer->told_of(dead); }));
  Propose();
  Vanish(dead);
  ExpectAgreement();
}

TEST_F(RaftGroup, LeaderCanRemoveItself) {
  MakeGroup(3);
  Propose();
  const uint64_t leader = Leader();
  ASSERT_EQ(Change([&](RaftReplicator& at, auto done) { at.RemoveMember(leader, done); }), "kOk");
  EXPECT_TRUE(WaitUntil([&] { return !At(leader).HoldsLease(); }));
  Vanish(leader);
  Propose();
  ExpectAgreement();
  EXPECT_EQ(At(Leader()).members().size(), 2u);
}

// The only voter makes another one a voter, too, and dies before that one has heard of it: it needs the vote of a member
// that takes itself for a learner.
TEST_F(RaftGroup, LearnerVotesForOneThatKnowsItToBeAVoter) {
  MakeGroup(1);
  Make(2);
  Start(2);
  ASSERT_EQ(Change([&](RaftReplicator& leader, auto done) { leader.AddMember(2, AddressOf(2), done); }), "kOk");
  Propose();
  ExpectAgreement();
  ASSERT_TRUE(WaitUntil([&] { return nodes_[2].consumer->told_of(2); }));
  ASSERT_TRUE(WaitUntil([&] {
    const auto progress = At(1).Progress();
    return progress.ok() && progress->size() == 2 && (*progress)[1].lag_entries == 0;
  }));
  network_.SetCut(2, true);
  At(1).PromoteMember(2, [](const Status&) {});
  ASSERT_TRUE(WaitUntil([&] { return At(1).members()[1].role == MemberRole::kVoter; }));
  Vanish(1);
  Vanish(2);
  Start(1);
  Start(2);
  ASSERT_NE(Leader(), 0u);
  Propose();
  ExpectAgreement();
  ASSERT_TRUE(WaitUntil([&] { return At(2).members().size() == 2 && At(2).members()[1].role == MemberRole::kVoter; }));
}

TEST_F(RaftGroup, ChangesThatMakeNoSenseAreRefused) {
  MakeGroup(2);
  const auto change = [&](auto what) { return Change(what); };
  EXPECT_EQ(change([&](RaftReplicator& at, auto done) { at.AddMember(2, AddressOf(2), done); }), "kExists");
  EXPECT_EQ(change([&](RaftReplicator& at, auto done) { at.PromoteMember(2, done); }), "kExists");
  EXPECT_EQ(change([&](RaftReplicator& at, auto done) { at.PromoteMember(9, done); }), "kNotFound");
  EXPECT_EQ(change([&](RaftReplicator& at, auto done) { at.RemoveMember(9, done); }), "kNotFound");
  EXPECT_EQ(change([&](RaftReplicator& at, auto done) { at.TransferLeadership(9, done); }), "kNotFound");
  Propose();
  ExpectAgreement();
}

TEST_F(RaftGroup, MessagesThatAreNoneAreDropped) {
  MakeGroup(3);
  SystemRandom random;
  for (int i = 0; i < 200; ++i) {
    std::string bytes;
    for (uint64_t n = random.Next() % 80; n > 0; --n) bytes.push_back(static_cast<char>(random.Next()));
    At(i % 3 + 1).Receive(i % 4, "nowhere", bytes);
  }
  Propose();
  ExpectAgreement();
}

}  // namespace
}  // namespace tarn::meta
