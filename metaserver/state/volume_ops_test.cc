// Volumes: making, resizing, deleting and purging them, and statfs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

class VolumeOpsTest : public testing::Test {
 protected:
  VolumeOpsTest() {
    driver_.SetUpCluster();
    root_ = driver_.root();
  }

  static proto::Mutation Make(const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_create_volume()->mutable_volume()->set_name(name);
    return mutation;
  }
  proto::MutationReply Delete(const std::string& name, bool recursive) {
    proto::Mutation mutation;
    mutation.mutable_delete_volume()->set_name(name);
    mutation.mutable_delete_volume()->set_recursive(recursive);
    return driver_.RunAsLeader(mutation);
  }
  proto::MutationReply Purge(uint32_t volume, uint32_t steps_max) {
    proto::Mutation mutation;
    mutation.mutable_purge()->set_volume(volume);
    mutation.mutable_purge()->set_steps_max(steps_max);
    return driver_.RunAsLeader(mutation);
  }
  std::vector<proto::Volume> Volumes() {
    proto::ListVolumesReply reply;
    EXPECT_TRUE(driver_.machine().ListVolumes(&reply).ok());
    return {reply.volumes().begin(), reply.volumes().end()};
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t root_ = 0;
};

TEST_F(VolumeOpsTest, NewVolumeHasARootAndDefaults) {
  proto::Mutation mutation = Make("data.set_1-a");
  mutation.mutable_caller()->set_uid(1000);
  mutation.mutable_create_volume()->mutable_volume()->set_quota_bytes(5);
  for (const char* key : {"b", "a"}) {
    mutation.mutable_create_volume()->mutable_volume()->add_parameters()->set_key(key);
  }
  const proto::MutationReply reply = driver_.RunAsLeader(mutation);
  ASSERT_EQ(CodeOf(reply), StatusCode::kOk) << reply.message();
  const proto::Volume& volume = reply.volume();
  EXPECT_EQ(volume.id(), 2u);
  EXPECT_EQ(volume.replicas(), 1u);
  EXPECT_EQ(volume.stripe_unit_bytes(), 1u << 20);
  EXPECT_EQ(volume.stripe_width(), 8u);
  EXPECT_EQ(volume.chunk_size_bytes(), 64u << 20);
  EXPECT_EQ(volume.quota_bytes(), 5u);
  EXPECT_EQ(volume.created_ns(), driver_.now_ns());
  EXPECT_EQ(volume.parameters(0).key(), "a");
  const proto::Attributes root = driver_.Attr(volume.root());
  EXPECT_EQ(root.type(), proto::FILE_TYPE_DIRECTORY);
  EXPECT_EQ(root.mode(), 0755u);
  EXPECT_EQ(root.uid(), 1000u);
  EXPECT_EQ(root.parent(), root.inode());
  EXPECT_EQ(root.volume(), volume.id());
  proto::GetVolumeRequest request;
  request.set_name("data.set_1-a");
  proto::GetVolumeReply found;
  ASSERT_TRUE(driver_.machine().GetVolume(request, &found).ok());
  EXPECT_EQ(found.volume().SerializeAsString(), volume.SerializeAsString());
  EXPECT_EQ(found.root().SerializeAsString(), root.SerializeAsString());
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kExists);
  EXPECT_EQ(Volumes().size(), 2u);
}

TEST_F(VolumeOpsTest, BadVolumesAreRefused) {
  for (const std::string name : {"", "-a", ".a", "A", "a b", "a/b", "\xc3\xa4"}) {
    EXPECT_EQ(CodeOf(driver_.RunAsLeader(Make(name))), StatusCode::kInvalidArgument) << name;
  }
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(Make(std::string(64, 'a')))), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(Make(std::string(63, 'a')))), StatusCode::kOk);
  proto::Mutation replicas = Make("r");
  replicas.mutable_create_volume()->mutable_volume()->set_replicas(4);
  const proto::MutationReply reply = driver_.RunAsLeader(replicas);
  EXPECT_EQ(CodeOf(reply), StatusCode::kInvalidArgument);
  EXPECT_EQ(reply.message(), "a volume has from 1 to 3 copies, not 4");
  proto::Mutation layout = Make("l");
  layout.mutable_create_volume()->mutable_volume()->set_stripe_unit_bytes(5000);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(layout)), StatusCode::kInvalidArgument);
  proto::Mutation twice = Make("p");
  for (int i = 0; i < 2; ++i) twice.mutable_create_volume()->mutable_volume()->add_parameters()->set_key("same");
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(twice)), StatusCode::kInvalidArgument);
}

TEST_F(VolumeOpsTest, ResizeChangesWhatIsGiven) {
  proto::Mutation mutation;
  mutation.mutable_resize_volume()->set_name("v");
  mutation.mutable_resize_volume()->set_quota_bytes(100);
  EXPECT_EQ(driver_.RunAsLeader(mutation).volume().quota_bytes(), 100u);
  mutation.mutable_resize_volume()->clear_quota_bytes();
  mutation.mutable_resize_volume()->set_quota_inodes(7);
  EXPECT_EQ(driver_.RunAsLeader(mutation).volume().quota_inodes(), 7u);
  EXPECT_EQ(driver_.VolumeNow().quota_bytes(), 100u);
  mutation.mutable_resize_volume()->set_name("none");
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kNotFound);
}

TEST_F(VolumeOpsTest, StatFsShowsQuotaOrPool) {
  driver_.CreateWithData(root_, "f", 1000);
  proto::StatFsRequest request;
  request.set_volume(driver_.volume());
  proto::StatFsReply reply;
  ASSERT_TRUE(driver_.machine().StatFs(request, &reply).ok());
  EXPECT_EQ(reply.total_bytes(), 3ull << 30);
  EXPECT_EQ(reply.free_bytes(), 3ull << 29);
  EXPECT_EQ(reply.total_inodes() - reply.free_inodes(), 1u);
  proto::Mutation mutation;
  mutation.mutable_resize_volume()->set_name("v");
  mutation.mutable_resize_volume()->set_quota_bytes(4000);
  mutation.mutable_resize_volume()->set_quota_inodes(10);
  driver_.RunAsLeader(mutation);
  ASSERT_TRUE(driver_.machine().StatFs(request, &reply).ok());
  EXPECT_EQ(reply.total_bytes(), 4000u);
  EXPECT_EQ(reply.free_bytes(), 3000u);
  EXPECT_EQ(reply.total_inodes(), 10u);
  EXPECT_EQ(reply.free_inodes(), 9u);
  request.set_volume(99);
  EXPECT_EQ(driver_.machine().StatFs(request, &reply).code(), StatusCode::kNotFound);
}

TEST_F(VolumeOpsTest, DeleteNeedsAnEmptyVolumeUnlessRecursive) {
  driver_.Create(root_, "f");
  EXPECT_EQ(CodeOf(Delete("v", false)), StatusCode::kNotEmpty);
  EXPECT_EQ(CodeOf(Delete("none", true)), StatusCode::kNotFound);
  EXPECT_EQ(CodeOf(Purge(driver_.volume(), 0)), StatusCode::kInvalidArgument);
  EXPECT_EQ(Purge(driver_.volume(), 10).purged(), 0u);  // nothing waits there
  EXPECT_EQ(CodeOf(Delete("v", true)), StatusCode::kOk);
  EXPECT_EQ(CodeOf(Delete("v", true)), StatusCode::kNotFound);
  ASSERT_EQ(Volumes().size(), 1u);
  EXPECT_TRUE(Volumes()[0].deleting());
  // Its name is free at once; the old tree takes nothing new.
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(Make("v"))), StatusCode::kOk);
  EXPECT_EQ(CodeOf(driver_.Create(root_, "g")), StatusCode::kNotFound);
}

TEST_F(VolumeOpsTest, PurgeRemovesATreeStepByStep) {
  const auto empty = store_.Snapshot();
  uint64_t parent = root_;
  for (int depth = 0; depth < 50; ++depth) {
    const std::string name = "d" + std::to_string(depth);
    driver_.CreateWithData(parent, "f", 10);
    driver_.Symlink(parent, "l", "x");
    parent = driver_.Mkdir(parent, name).attributes().inode();
  }
  proto::Attributes file;
  ASSERT_EQ(driver_.Lookup(root_, "f", &file), StatusCode::kOk);
  driver_.Link(file.inode(), parent, "second name");
  const proto::Attributes held = driver_.CreateWithData(root_, "held", 10);
  driver_.Unlink(root_, "held", true);
  ASSERT_EQ(CodeOf(Delete("v", true)), StatusCode::kOk);
  uint32_t total = 0;
  uint32_t purged = 7;
  while (purged == 7) {
    purged = Purge(driver_.volume(), 7).purged();
    total += purged;
  }
  EXPECT_EQ(total, 50u * 3 + 1 + 51);  // names, then directories
  EXPECT_TRUE(Volumes().empty());
  EXPECT_EQ(Purge(driver_.volume(), 7).purged(), 0u);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 50u);
  // What a session holds open stays readable, and goes with the session.
  EXPECT_EQ(driver_.Attr(held.inode()).nlink(), 0u);
  proto::Mutation close;
  close.mutable_close_session()->set_session(driver_.session());
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(close)), StatusCode::kOk);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 51u);
  proto::Mutation propagate;
  propagate.mutable_propagate_counters()->set_steps_max(1000);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(propagate)), StatusCode::kOk);
  for (const auto& [key, value] : store_.Snapshot()) {
    EXPECT_TRUE(std::string_view("ABCGQ").find(key[0]) != std::string_view::npos) << key;
  }
}

}  // namespace
}  // namespace tarn::meta
