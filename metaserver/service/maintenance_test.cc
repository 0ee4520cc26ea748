// What the leader does by itself, over a log that is told when to commit.
#include "metaserver/service/maintenance.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

// Keeps what is proposed.
class RecordingReplicator final : public Replicator {
 public:
  void Propose(std::string entry, Committed /*committed*/) override { entries.push_back(std::move(entry)); }
  bool HoldsLease() const override { return true; }
  uint64_t leader_member() const override { return 1; }
  uint64_t term() const override { return term_now; }
  std::vector<GroupMember> members() const override { return {}; }
  Result<std::vector<MemberProgress>> Progress() const override { return Status(StatusCode::kNotSupported, "not played"); }
  void AddMember(uint64_t, const std::string&, Changed) override {}
  void PromoteMember(uint64_t, Changed) override {}
  void RemoveMember(uint64_t, Changed) override {}
  void TransferLeadership(uint64_t, Changed) override {}
  void Stop() override {}

  uint64_t term_now = 1;
  std::vector<std::string> entries;
};

class MaintenanceTest : public ::testing::Test {
 protected:
  MaintenanceTest()
      : sessions_(&clock_, 1'000),
        coherence_(PushCoordinatorOptions(), &clock_, &sessions_),
        servers_(&clock_, 2'500),
        proposer_(ProposerOptions(), &replicator_, &clock_, &random_, [] { return std::vector<proto::MutationReply>(); }),
        maintenance_(&context_, MaintenanceOptions()) {
    proto::Mutation init;
    init.mutable_init_cluster()->set_cluster_id("c1");
    driver_.RunAsLeader(init);
    context_.clock = &clock_;
    context_.state = &driver_.machine();
    context_.replicator = &replicator_;
    context_.proposer = &proposer_;
    context_.sessions = &sessions_;
    context_.coherence = &coherence_;
    context_.locks = &locks_;
    context_.servers = &servers_;
    proposer_.BeginLeading(driver_.machine().header());
  }

  // That were proposed since the last call.
  std::vector<uint64_t> Closed() {
    std::vector<uint64_t> closed;
    for (const std::string& bytes : std::exchange(replicator_.entries, {})) {
      proto::LogEntry entry;
      EXPECT_TRUE(entry.ParseFromString(bytes));
      for (const proto::LogCommand& command : entry.commands()) {
        if (command.mutation().has_close_session()) closed.push_back(command.mutation().close_session().session());
      }
    }
    return closed;
  }

  FakeClock clock_;
  SeededRandom random_{7};
  MemoryKv store_;
  StateDriver driver_{&store_};
  RecordingReplicator replicator_;
  SessionKeeper sessions_;
  PushCoordinator coherence_;
  LockNotifier locks_;
  ServerRegistry servers_;
  Proposer proposer_;
  ServiceContext context_;
  Maintenance maintenance_;
};

TEST_F(MaintenanceTest, SessionThatAnEarlierLeaderHasFencedIsClosed) {
  maintenance_.Step();
  EXPECT_TRUE(Closed().empty());
  proto::Mutation open;
  open.mutable_open_session()->set_nonce(4711);
  const uint64_t session = driver_.RunAsLeader(open).session();
  proto::Mutation fence;
  fence.mutable_fence_sessions()->add_fenced(session);
  fence.mutable_fence_sessions()->add_fenced(session + 1);  // closed since
  driver_.RunAsLeader(fence);
  // Its client is heard of, so that its time is never up.
  sessions_.Reset({SessionId(session)});
  replicator_.term_now = 2;
  maintenance_.Step();
  EXPECT_EQ(Closed(), std::vector<uint64_t>{session});
}

}  // namespace
}  // namespace tarn::meta
