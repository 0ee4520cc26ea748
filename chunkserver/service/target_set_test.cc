#include "chunkserver/service/target_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "chunkserver/service/service_fixture.h"

namespace tarn::chunk {
namespace {

using testing::HasSubstr;

class TargetSetTest : public TargetDirectories {
 protected:
  static void Register(TargetSet& set, uint64_t server, std::vector<uint64_t> ids, const std::string& cluster = "cluster") {
    std::vector<TargetId> targets(ids.begin(), ids.end());
    const Status adopted = set.Adopt({.cluster_id = cluster, .server = ServerId(server)}, targets);
    ASSERT_TRUE(adopted.ok()) << adopted.ToString();
  }
  // A registered, cleanly stopped server in these directories.
  void Make(const std::vector<std::string>& names, uint64_t server, std::vector<uint64_t> ids, const std::string& cluster = "cluster") {
    auto set = Open(names);
    Register(*set, server, std::move(ids), cluster);
    Close(std::move(set));
  }
  static proto::TargetReport ReportOf(const HostedTarget& target) {
    proto::TargetReport report;
    target.FillReport(&report);
    return report;
  }
};

TEST_F(TargetSetTest, DirectoriesKeepTheirIdsInAnyOrder) {
  Make({"a", "b"}, 3, {7, 8});
  const auto set = Open({"b", "a"});
  EXPECT_EQ(set->identity().server, ServerId(3));
  EXPECT_EQ(set->identity().cluster_id, "cluster");
  ASSERT_EQ(set->Reported().size(), 2u);
  EXPECT_EQ(set->Reported()[0]->id(), TargetId(8));
  EXPECT_EQ(set->Find(TargetId(7))->directory(), Directory("a"));
  EXPECT_EQ(set->Find(TargetId(9)), nullptr);
  EXPECT_EQ(set->Find(TargetId()), nullptr);
}

TEST_F(TargetSetTest, AnEmptyDirectoryJoinsTheServer) {
  Make({"a"}, 3, {7});
  auto set = Open({"new", "a"});
  EXPECT_EQ(set->identity().server, ServerId(3));
  EXPECT_EQ(set->Reported()[0]->id(), TargetId());
  Register(*set, 3, {9, 7});
  Close(std::move(set));
  EXPECT_EQ(Open({"new", "a"})->Reported()[0]->id(), TargetId(9));
}

TEST_F(TargetSetTest, AForeignDirectoryIsRefusedBeforeAnythingIsTouched) {
  Make({"a"}, 3, {7});
  Make({"other"}, 4, {8});
  const auto refused = TryOpen({"new", "a", "other"});
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.status().message(), HasSubstr(Directory("other")));
  EXPECT_FALSE(std::filesystem::exists(Directory("new")));
  EXPECT_TRUE(Open({"a"})->targets()[0]->store()->was_clean());
}

TEST_F(TargetSetTest, ARefusalLeavesTheOthersCleanOrUncleanAsTheyWere) {
  Make({"clean"}, 3, {7});
  {
    const auto killed = Open({"clean", "killed"});
    Register(*killed, 3, {7, 8});
  }
  Close(Open({"clean"}));  // was not clean, and nobody was told
  EXPECT_FALSE(Open({"clean"})->targets()[0]->store()->was_clean());
  Make({"clean"}, 3, {7});
  std::filesystem::create_directories(Directory("foreign"));
  std::ofstream(Directory("foreign") + "/notes.txt") << "mine";
  ASSERT_FALSE(TryOpen({"clean", "killed", "foreign"}).ok());
  const auto set = Open({"clean", "killed"});
  EXPECT_TRUE(set->targets()[0]->store()->was_clean());
  EXPECT_FALSE(set->targets()[1]->store()->was_clean());
}

TEST_F(TargetSetTest, ADiskThatFailsIsReportedAndStopsNobodyElse) {
  Make({"a", "b"}, 3, {7, 8});
  FailDisk("b");
  const auto set = Open({"a", "b", "new"});
  ASSERT_EQ(set->Reported().size(), 3u);
  EXPECT_EQ(ReportOf(*set->Reported()[0]).failure(), "");
  EXPECT_TRUE(ReportOf(*set->Reported()[0]).clean_shutdown());
  const proto::TargetReport failed = ReportOf(*set->Reported()[1]);
  EXPECT_EQ(failed.id(), 8u);
  EXPECT_THAT(failed.failure(), HasSubstr("Input/output error"));
  EXPECT_FALSE(failed.clean_shutdown());
  EXPECT_EQ(set->Find(TargetId(8))->store(), nullptr);
  Register(*set, 3, {7, 8, 9});
}

TEST_F(TargetSetTest, ANewTargetOnAFailedDiskIsNotReported) {
  FailDisk("bad");
  const auto set = Open({"a", "bad"});
  ASSERT_EQ(set->Reported().size(), 1u);
  EXPECT_EQ(set->Reported()[0]->directory(), Directory("a"));
}

TEST_F(TargetSetTest, WithoutAnyDiskThereIsNoServer) {
  FailDisk("a");
  const auto refused = TryOpen({"a"});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::kIoError);
}

TEST_F(TargetSetTest, ACrashThatNobodyWasToldOfIsToldByTheNextStart) {
  Make({"a"}, 3, {7});
  Open({"a"});         // a crash
  Close(Open({"a"}));  // stopped cleanly before it could register
  auto set = Open({"a"});
  EXPECT_FALSE(ReportOf(*set->Reported()[0]).clean_shutdown());
  Register(*set, 3, {7});
  EXPECT_TRUE(ReportOf(*set->Reported()[0]).clean_shutdown()) << "nothing was lost since";
  Close(std::move(set));
  EXPECT_TRUE(ReportOf(*Open({"a"})->Reported()[0]).clean_shutdown());
}

}  // namespace
}  // namespace tarn::chunk
