#include "metaserver/service/proposer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "common/base/ids.h"

namespace tarn::meta {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

// Keeps what is proposed until the test commits or refuses it.
class FakeReplicator final : public Replicator {
 public:
  void Propose(std::string entry, Committed committed) override {
    proto::LogEntry parsed;
    EXPECT_TRUE(parsed.ParseFromString(entry));
    entries.push_back(parsed);
    callbacks.push_back(std::move(committed));
  }
  bool HoldsLease() const override { return true; }
  uint64_t leader_member() const override { return 1; }
  uint64_t term() const override { return 1; }
  std::vector<GroupMember> members() const override { return {}; }
  Result<std::vector<MemberProgress>> Progress() const override { return std::vector<MemberProgress>(); }
  void AddMember(uint64_t, const std::string&, Changed) override {}
  void PromoteMember(uint64_t, Changed) override {}
  void RemoveMember(uint64_t, Changed) override {}
  void TransferLeadership(uint64_t, Changed) override {}
  void Stop() override {}

  std::vector<proto::LogEntry> entries;  // all that were proposed
  std::deque<Committed> callbacks;       // of those in flight
};

class ProposerTest : public ::testing::Test {
 protected:
  explicit ProposerTest(const ProposerOptions& options = {})
      : proposer_(options, &replicator_, &clock_, &random_, [this] { return std::exchange(replies_, {}); }) {
    header_.set_incarnation(3);
    header_.set_next_inode(100);
    header_.set_next_data_id(50);
  }

  static proto::Mutation Mkdir(const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_mkdir()->set_name(name);
    return mutation;
  }

  // Results are kept as "name status", in the order of the answers.
  void Submit(const std::vector<std::string>& names) {
    std::vector<proto::Mutation> mutations;
    for (const std::string& name : names) mutations.push_back(Mkdir(name));
    proposer_.Submit(
        std::move(mutations), [this, names](const Status& status, std::span<proto::MutationReply> replies) {
          for (size_t i = 0; i < names.size(); ++i) {
            answers_.push_back(names[i] + " " +
                               (status.ok() ? std::to_string(replies[i].status()) : StatusCodeName(status.code())));
          }
        });
  }

  void Commit(const std::vector<uint32_t>& statuses) {
    for (const uint32_t status : statuses) replies_.emplace_back().set_status(status);
    auto callback = std::move(replicator_.callbacks.front());
    replicator_.callbacks.pop_front();
    callback(Status::Ok());
  }

  static std::vector<std::string> Names(const proto::LogEntry& entry) {
    std::vector<std::string> names;
    for (const proto::LogCommand& command : entry.commands()) names.push_back(command.mutation().mkdir().name());
    return names;
  }

  FakeReplicator replicator_;
  FakeClock clock_;
  SeededRandom random_{1};
  proto::StateHeader header_;
  std::vector<proto::MutationReply> replies_;
  std::vector<std::string> answers_;
  Proposer proposer_;
};

TEST_F(ProposerTest, RefusesUntilItLeads) {
  Submit({"a"});
  EXPECT_THAT(answers_, ElementsAre("a kNotLeader"));
  proposer_.BeginLeading(header_);
  Submit({"b"});
  EXPECT_THAT(replicator_.entries, SizeIs(1));
}

TEST_F(ProposerTest, CommandsGetTimeIdsAndSeeds) {
  proposer_.BeginLeading(header_);
  Submit({"a", "b"});
  ASSERT_THAT(replicator_.entries, SizeIs(1));
  const proto::LogEntry& entry = replicator_.entries[0];
  EXPECT_EQ(entry.version(), 1u);
  ASSERT_EQ(entry.commands_size(), 2);
  EXPECT_EQ(entry.commands(0).inode(), ComposeId(0, 3, 100));
  EXPECT_EQ(entry.commands(1).inode(), ComposeId(0, 3, 101));
  EXPECT_EQ(entry.commands(0).time_ns(), clock_.WallNs());
  EXPECT_NE(entry.commands(0).random_seed(), entry.commands(1).random_seed());
}

TEST_F(ProposerTest, NumbersOfFuseAreNeverGiven) {
  header_.set_next_inode(0);
  proposer_.BeginLeading(header_);
  Submit({"a"});
  EXPECT_EQ(IdCounter(replicator_.entries[0].commands(0).inode()), 16u);
}

TEST_F(ProposerTest, DataIdsAreReservedInARow) {
  proposer_.BeginLeading(header_);
  for (int i = 0; i < 2; ++i) {
    std::vector<proto::Mutation> mutations(1);
    mutations[0].mutable_reserve_data_ids()->set_count(10);
    proposer_.Submit(std::move(mutations), [](const Status&, std::span<proto::MutationReply>) {});
  }
  EXPECT_EQ(replicator_.entries[0].commands(0).data_id(), ComposeId(0, 3, 50));
  EXPECT_EQ(replicator_.entries[1].commands(0).data_id(), ComposeId(0, 3, 60));
}

TEST_F(ProposerTest, AnswersComeAfterTheCommitInOrder) {
  proposer_.BeginLeading(header_);
  Submit({"a", "b"});
  Submit({"c"});
  EXPECT_TRUE(answers_.empty());
  Commit({0, 2});
  EXPECT_THAT(answers_, ElementsAre("a 0", "b 2"));
  Commit({7});
  EXPECT_THAT(answers_, ElementsAre("a 0", "b 2", "c 7"));
}

TEST_F(ProposerTest, WhatWaitsSharesTheNextEntry) {
  proposer_.BeginLeading(header_);
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g"}) Submit({name});
  ASSERT_THAT(replicator_.entries, SizeIs(4)) << "four entries are in flight";
  Commit({0});
  ASSERT_THAT(replicator_.entries, SizeIs(5));
  EXPECT_THAT(Names(replicator_.entries[4]), ElementsAre("e", "f", "g"));
  Commit({0});
  Commit({0});
  Commit({0});
  Commit({1, 2, 3});
  EXPECT_THAT(answers_, ElementsAre("a 0", "b 0", "c 0", "d 0", "e 1", "f 2", "g 3"));
}

TEST_F(ProposerTest, EntryThatWasNotCommittedFailsAllOfIt) {
  proposer_.BeginLeading(header_);
  Submit({"a", "b"});
  replicator_.callbacks.front()(Status(StatusCode::kNotLeader, "lost"));
  EXPECT_THAT(answers_, ElementsAre("a kUnavailable", "b kUnavailable")) << "the next leader may commit it";
}

TEST_F(ProposerTest, LosingLeadershipRefusesWhatWaits) {
  proposer_.BeginLeading(header_);
  for (const char* name : {"a", "b", "c", "d", "e"}) Submit({name});
  proposer_.EndLeading();
  EXPECT_THAT(answers_, ElementsAre("e kNotLeader"));
  Commit({0});
  EXPECT_THAT(replicator_.entries, SizeIs(4)) << "nothing follows";
}

TEST_F(ProposerTest, StopCancelsWhatWaits) {
  proposer_.BeginLeading(header_);
  for (const char* name : {"a", "b", "c", "d", "e"}) Submit({name});
  proposer_.Stop();
  Submit({"f"});
  EXPECT_THAT(answers_, ElementsAre("e kCancelled", "f kCancelled"));
}

TEST_F(ProposerTest, TooLargeABatchIsRefused) {
  proposer_.BeginLeading(header_);
  Submit(std::vector<std::string>(kBatchMutationsMax + 1, "a"));
  EXPECT_EQ(answers_.front(), "a kArgumentTooBig");
  answers_.clear();
  Submit({std::string(kBatchBytesMax, 'x')});
  EXPECT_TRUE(answers_.front().ends_with(" kArgumentTooBig"));
  EXPECT_TRUE(replicator_.entries.empty());
}

class SmallProposerTest : public ProposerTest {
 protected:
  SmallProposerTest()
      : ProposerTest({.entries_in_flight_max = 1,
                      .commands_per_entry_max = 3,
                      .entry_bytes_max = 1000,
                      .waiting_mutations_max = 6,
                      .waiting_bytes_max = 3000}) {
    proposer_.BeginLeading(header_);
  }
};

TEST_F(SmallProposerTest, EntriesAreBoundedByCommands) {
  Submit({"a"});
  for (const char* name : {"b", "c", "d", "e"}) Submit({name});
  Commit({0});
  EXPECT_THAT(Names(replicator_.entries[1]), ElementsAre("b", "c", "d"));
  Commit({0, 0, 0});
  EXPECT_THAT(Names(replicator_.entries[2]), ElementsAre("e"));
}

TEST_F(SmallProposerTest, EntriesAreBoundedByBytes) {
  Submit({"a"});
  Submit({std::string(600, 'b')});
  Submit({std::string(600, 'c')});
  Commit({0});
  EXPECT_EQ(replicator_.entries[1].commands_size(), 1);
}

TEST_F(SmallProposerTest, BatchAboveTheBoundIsAnEntryOfItsOwn) {
  Submit({"a"});
  Submit({"b", "c", "d", "e"});
  Submit({"f"});
  Commit({0});
  EXPECT_THAT(Names(replicator_.entries[1]), ElementsAre("b", "c", "d", "e"));
}

TEST_F(SmallProposerTest, FullQueueRefuses) {
  Submit({"a"});
  for (const char* name : {"b", "c", "d", "e", "f", "g"}) Submit({name});
  EXPECT_TRUE(answers_.empty());
  Submit({"h"});
  EXPECT_THAT(answers_, ElementsAre("h kResourceExhausted"));
  Commit({0});
  Submit({"i"});
  EXPECT_THAT(answers_, ElementsAre("h kResourceExhausted", "a 0"));
}

TEST_F(SmallProposerTest, ManyWaitingBytesRefuse) {
  Submit({"a"});
  Submit({std::string(2000, 'b')});
  Submit({std::string(2000, 'c')});
  EXPECT_EQ(answers_.size(), 1u);
  EXPECT_TRUE(answers_[0].ends_with(" kResourceExhausted"));
}

}  // namespace
}  // namespace tarn::meta
