// A mutation is done once, whatever becomes of its reply: dropped, late or repeated by real servers, also when the leader
// dies or hands over between the commit and the repeat. Every operation that a client may send has a case; one that has
// none fails the first test.
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "client/admin/admin_client.h"
#include "client/testing/server_process.h"
#include "common/rpc/event_loop.h"
#include "tests/exactly_once/actor.h"
#include "tests/exactly_once/cases.h"
#include "tests/exactly_once/trio.h"

namespace tarn::testing {
namespace {

enum class End { kNone, kLeaderDies, kLeaderHandsOver };

struct Weather {
  const char* name;
  const char* first;   // what becomes of replies of the member that leads at first; "": nothing
  const char* others;  // of the two others
  End end;
  int64_t delay_ms;
  int64_t call_timeout_ms;  // of the clients: when they ask again by themselves
};

// A client that asks again by itself does so before a late reply comes. Where the leader goes, nobody asks again before that.
constexpr Weather kWeathers[] = {
    {"Drop", "drop", "drop", End::kNone, 1000, 300},
    {"Delay", "delay", "delay", End::kNone, 700, 300},
    {"Repeat", "repeat", "repeat", End::kNone, 50, 5000},
    {"DropAndTheLeaderDies", "drop", "", End::kLeaderDies, 3000, 10'000},
    {"DropAndTheLeaderDiesAndDropAgain", "drop", "drop", End::kLeaderDies, 3000, 2'000},
    {"DropAndTheLeaderDiesThenDelay", "drop", "delay", End::kLeaderDies, 3000, 2'000},
    {"DropAndTheLeaderDiesThenRepeat", "drop", "repeat", End::kLeaderDies, 3000, 10'000},
    {"DelayAndTheLeaderHandsOver", "delay", "", End::kLeaderHandsOver, 2000, 10'000},
    {"DelayAndTheLeaderHandsOverThenRepeat", "delay", "repeat", End::kLeaderHandsOver, 2000, 1'500},
    {"DropAndTheLeaderHandsOver", "drop", "", End::kLeaderHandsOver, 3000, 2'000},
    {"RepeatAndTheLeaderHandsOver", "repeat", "repeat", End::kLeaderHandsOver, 2000, 10'000},
};

std::vector<CasePtr> AllCases() {
  std::vector<CasePtr> cases = NamespaceCases();
  for (CasePtr& each : SessionCases()) cases.push_back(std::move(each));
  return cases;
}

std::set<std::string> CoveredOperations() {
  std::set<std::string> operations;
  for (const CasePtr& each : AllCases()) operations.insert(each->operation());
  return operations;
}

// The reply of each operation that has a case.
std::string FaultsOf(const std::string& what) {
  std::string faults;
  if (what.empty()) return faults;
  for (const std::string& operation : CoveredOperations())
    faults += (faults.empty() ? "meta." : ",meta.") + what + "_reply/" + operation + "=always";
  return faults;
}

// A case with its actors.
struct Scene {
  CasePtr play;
  std::unique_ptr<Actor> actor;
  std::unique_ptr<Actor> other;
  Cast cast;
};

class ExactlyOnce : public ::testing::TestWithParam<Weather> {
 protected:
  void SetUp() override {
    if (client::testing::ProgramDirectory().empty()) GTEST_SKIP() << "the servers are not built";
    loop_ = *rpc::EventLoop::Start("actors");
  }

  void SetTheScenes(Trio& trio) {
    ActorOptions options;
    options.addresses = trio.addresses();
    options.call_timeout_ms = GetParam().call_timeout_ms;
    client::VolumeRequest request;
    request.name = "stage";
    const auto volume = trio.admin().CreateVolume(request);
    ASSERT_TRUE(volume.ok()) << volume.status().ToString();
    for (CasePtr& play : AllCases()) {
      auto& scene = scenes_.emplace_back(std::make_unique<Scene>());
      scene->play = std::move(play);
      options.chatty = scenes_.size() % 2 == 0;
      scene->actor = std::make_unique<Actor>(loop_.get(), options);
      scene->other = std::make_unique<Actor>(loop_.get(), options);
      ASSERT_TRUE(scene->actor->OpenSession().ok());
      scene->actor->MakeDirectory(volume->root.value(), "case-" + std::to_string(scenes_.size()));
      scene->cast = {.actor = scene->actor.get(), .other = scene->other.get(), .admin = &trio.admin()};
      scene->play->Prepare(scene->cast);
      scene->actor->BeginToChat();
    }
  }
  void Act() {
    for (auto& scene : scenes_) threads_.emplace_back([&scene = *scene] { scene.play->Act(scene.cast); });
  }
  void JoinActs() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  // Those replies of which there is nothing to be seen yet.
  std::string NotYetMet(Trio& trio) const {
    std::map<std::string, size_t> wanted;
    for (const auto& scene : scenes_) {
      ++wanted[scene->play->operation()];
      if (scene->play->operation().ends_with("_volume")) ++wanted["open_session"];  // the tool's own, before
    }
    const std::map<std::string, size_t> planted = trio.Planted();
    std::string missing;
    for (const auto& [operation, count] : wanted) {
      const auto found = planted.find(operation);
      if (found == planted.end() || found->second < count) missing += operation + " ";
    }
    return missing;
  }
  // Sessions of the operator's tool end with its command, on the servers perhaps a little later.
  static uint64_t SessionsOf(Trio& trio) {
    const auto status = trio.admin().GetStatus();
    return status.ok() ? status->sessions : 0;
  }

  std::unique_ptr<rpc::EventLoop> loop_;
  std::vector<std::unique_ptr<Scene>> scenes_;
  std::vector<std::thread> threads_;
};

TEST_P(ExactlyOnce, EveryOperation) {
  const Weather& weather = GetParam();
  Trio trio({});
  ASSERT_NO_FATAL_FAILURE(SetTheScenes(trio));
  const uint64_t sessions_before = SessionsOf(trio);
  trio.RestartWith({.first = FaultsOf(weather.first), .others = FaultsOf(weather.others), .delay_ms = weather.delay_ms});

  Act();
  // Each was committed, and its first reply has met its fate.
  const bool all_met_it = Eventually(30, [&] { return NotYetMet(trio).empty(); });
  const std::string missing = NotYetMet(trio);
  if (weather.end == End::kLeaderDies) trio.KillFirst();
  if (weather.end == End::kLeaderHandsOver) trio.TransferLeadership();
  JoinActs();
  EXPECT_TRUE(all_met_it) << "nothing happened to replies of: " << missing;

  int64_t sessions = static_cast<int64_t>(sessions_before);
  for (auto& scene : scenes_) {
    EXPECT_EQ(scene->play->Check(scene->cast), "") << scene->play->operation();
    sessions += scene->play->sessions_gained();
    if (scene->play->operation() == "close_session") --sessions;
  }
  EXPECT_TRUE(Eventually(20, [&] { return SessionsOf(trio) == static_cast<uint64_t>(sessions); }))
      << SessionsOf(trio) << " sessions instead of " << sessions;
  // Link counts, entries, sizes, counters.
  std::string findings;
  client::FsckOptions metadata_only;
  metadata_only.skip_chunks = true;
  const Status checked = trio.admin().Fsck(metadata_only, [&](const client::FsckEvent& event) {
    for (const auto& finding : event.findings) findings += finding.kind + ": " + finding.what + "\n";
  });
  EXPECT_TRUE(checked.ok()) << checked.ToString();
  EXPECT_EQ(findings, "");
  scenes_.clear();
}

INSTANTIATE_TEST_SUITE_P(Replies, ExactlyOnce, ::testing::ValuesIn(kWeathers),
                         [](const ::testing::TestParamInfo<Weather>& weather) { return std::string(weather.param.name); });

// An operation is either one that no client may send, or it has a case.
TEST(ExactlyOnceCases, CoverEveryOperationOfAClient) {
  if (client::testing::ProgramDirectory().empty()) GTEST_SKIP() << "the servers are not built";
  client::testing::ProcessCluster cluster(/*chunkservers=*/1);
  const auto loop = *rpc::EventLoop::Start("operations");
  rpc::FrameClientOptions options;
  options.address = cluster.meta_address();
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_CLIENT);
  const auto connection = rpc::FrameClient::Create(loop.get(), options, hello);
  const std::set<std::string> covered = CoveredOperations();
  size_t found = 0;
  const google::protobuf::OneofDescriptor* const operations = proto::Mutation::descriptor()->FindOneofByName("op");
  for (int i = 0; i < operations->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* const operation = operations->field(i);
    if (covered.contains(operation->name())) {
      ++found;
      continue;
    }
    proto::Mutation mutation;
    mutation.set_session(1);
    mutation.set_sequence(1);
    mutation.GetReflection()->MutableMessage(&mutation, operation);
    const Status refused = connection->CallAndWait(rpc::Method::kMutate, mutation, nullptr, 10'000);
    EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << operation->name() << ": a client may send it, and it has no case here";
    EXPECT_NE(refused.message().find("clients do not send"), std::string::npos) << operation->name() << ": " << refused.ToString();
  }
  EXPECT_EQ(found, covered.size()) << "a case is about an operation that there is no more";
  connection->Close();
}

// Who joins or registers does it over gRPC, without a session, and is given an id.
TEST(Registrations, GiveOneIdAlthoughTheAnswersGetLost) {
  if (client::testing::ProgramDirectory().empty()) GTEST_SKIP() << "the servers are not built";
  Trio trio({.first = "meta.lose_reply/set_metaservers=always,meta.lose_reply/register_server=always", .others = "", .delay_ms = 0});
  const auto status = trio.admin().GetStatus();
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->metaservers.size(), 3u);
  for (const auto& member : status->metaservers) EXPECT_LE(member.id, 3u) << "an id was given and lost";
  EXPECT_EQ(status->chunkservers.size(), 1u);
  EXPECT_GE(trio.Planted()["set_metaservers"], 2u);
  EXPECT_GE(trio.Planted()["register_server"], 1u);
}

// An operator is told that a server has left although the answer that said so got lost; that it is gone already is an error
// only for who asks anew.
TEST(Removals, AreDoneOnceAlthoughTheAnswersGetLost) {
  if (client::testing::ProgramDirectory().empty()) GTEST_SKIP() << "the servers are not built";
  Trio trio({.first = "meta.lose_reply/set_metaservers=always", .others = "meta.lose_reply/set_metaservers=always", .delay_ms = 0});
  ASSERT_TRUE(Eventually(60, [&] { return trio.admin().TransferLeadership(1).ok(); }));
  const size_t lost_before = trio.Planted()["set_metaservers"];
  const Status removed = trio.admin().RemoveMetaserver(3);
  EXPECT_TRUE(removed.ok()) << removed.ToString();
  EXPECT_GT(trio.Planted()["set_metaservers"], lost_before) << "no answer was lost";
  const auto group = trio.admin().ListMetaservers();
  ASSERT_TRUE(group.ok()) << group.status().ToString();
  EXPECT_EQ(group->metaservers.size(), 2u);
  EXPECT_EQ(trio.admin().RemoveMetaserver(3).code(), StatusCode::kNotFound);
  EXPECT_EQ(trio.admin().RemoveMetaserver(9).code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace tarn::testing
