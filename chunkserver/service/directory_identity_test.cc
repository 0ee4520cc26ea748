#include "chunkserver/service/directory_identity.h"

#include <gtest/gtest.h>

#include <vector>

namespace tarn::chunk {
namespace {

struct Row {
  const char* directory;
  const char* cluster;  // null: no TARGET file
  uint64_t server;
  uint64_t target;
  uint8_t uuid;
};

struct Case {
  const char* what;
  std::vector<Row> rows;
  const char* refusal;  // null: agreed
  const char* cluster;
  uint64_t server;
};

TEST(AgreeOnServer, AllDirectoriesMustBeOfOneServer) {
  const std::vector<Case> cases = {
      {"all new", {{"/a", nullptr, 0, 0, 0}, {"/b", nullptr, 0, 0, 0}}, nullptr, "", 0},
      {"made, never registered", {{"/a", "", 0, 0, 1}, {"/b", "", 0, 0, 2}}, nullptr, "", 0},
      {"one server", {{"/a", "C", 3, 7, 1}, {"/b", "C", 3, 8, 2}}, nullptr, "C", 3},
      {"a new one joins", {{"/a", nullptr, 0, 0, 0}, {"/b", "C", 3, 8, 2}, {"/c", "", 0, 0, 3}}, nullptr, "C", 3},
      {"another cluster",
       {{"/a", "C", 3, 7, 1}, {"/b", "D", 3, 8, 2}},
       "/b belongs to another cluster than /a",
       "",
       0},
      {"another server",
       {{"/n", nullptr, 0, 0, 0}, {"/a", "C", 3, 7, 1}, {"/b", "C", 4, 8, 2}},
       "/b belongs to chunk server 4, /a to chunk server 3",
       "",
       0},
      {"a copy", {{"/a", "C", 3, 7, 1}, {"/b", "C", 3, 7, 1}}, "/b and /a are the same target: one is a copy", "", 0},
      {"a copy of an unregistered one",
       {{"/a", "", 0, 0, 1}, {"/b", "", 0, 0, 1}},
       "/b and /a are the same target: one is a copy",
       "",
       0},
  };
  for (const Case& each : cases) {
    std::vector<DirectoryIdentity> directories;
    for (const Row& row : each.rows) {
      DirectoryIdentity found{.directory = row.directory, .identity = {}, .unreadable = {}};
      if (row.cluster != nullptr) {
        found.identity = store::TargetIdentity{
            .uuid = {row.uuid}, .cluster_id = row.cluster, .server = ServerId(row.server), .target = TargetId(row.target)};
      }
      directories.push_back(found);
    }
    const Result<ServerIdentity> agreed = AgreeOnServer(directories);
    if (each.refusal != nullptr) {
      ASSERT_FALSE(agreed.ok()) << each.what;
      EXPECT_EQ(agreed.status().code(), StatusCode::kPermission) << each.what;
      EXPECT_EQ(agreed.status().message(), each.refusal) << each.what;
    } else {
      ASSERT_TRUE(agreed.ok()) << each.what << ": " << agreed.status().ToString();
      EXPECT_EQ(agreed->cluster_id, each.cluster) << each.what;
      EXPECT_EQ(agreed->server, ServerId(each.server)) << each.what;
    }
  }
}

}  // namespace
}  // namespace tarn::chunk
