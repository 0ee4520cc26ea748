// A group of metadata servers in this process, spoken to over their sockets: they join, follow, fall behind, move, are
// wiped and replaced.
// Before gRPC's: absl defines the same annotation macros, and a system header may do that without a warning.
#include "common/base/mutex.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "common/rpc/leader_hint.h"
#include "metaserver/service/metadata_server.h"
#include "metaserver/state/testing/temporary_directory.h"
#include "proto/admin.grpc.pb.h"
#include "proto/member.grpc.pb.h"

namespace tarn::meta {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);

class GroupTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(Start(1).ok()); }
  void TearDown() override {
    servers_.clear();
    EXPECT_EQ(TakeFailure(), "");
  }

  // Member `number` of this test, not of the group. Joins through those that run if its directory is new.
  Status Start(int number, const std::string& listen = "127.0.0.1:0") {
    MetadataServerOptions options;
    options.directory = Directory(number);
    options.listen = listen;
    options.memory_bytes = 64 << 20;
    options.election_timeout_ms = 200;
    options.snapshot_entries_max = 64;
    for (const auto& [other, server] : servers_) options.join.push_back(server->address());
    options.on_failure = [this](const Status& status) {
      const std::lock_guard lock(failure_mutex_);
      failure_ = status.ToString();
    };
    ASSIGN_OR_RETURN(servers_[number], MetadataServer::Start(options, &clock_, &random_));
    return Status::Ok();
  }
  void Stop(int number) { servers_.erase(number); }
  std::string Directory(int number) const { return directory_.path() + "/" + std::to_string(number); }

  std::string TakeFailure() {
    const std::lock_guard lock(failure_mutex_);
    return std::exchange(failure_, "");
  }

  // A condition that other threads bring about.
  static bool Eventually(const std::function<bool()>& condition) {
    std::mutex mutex;
    std::condition_variable never;
    std::unique_lock lock(mutex);
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      never.wait_for(lock, std::chrono::milliseconds(5));
    }
    return true;
  }
  // 0: none.
  int Leader() const {
    for (const auto& [number, server] : servers_) {
      if (server->leads()) return number;
    }
    return 0;
  }
  std::shared_ptr<grpc::Channel> ChannelTo(int number) const {
    return grpc::CreateChannel(servers_.at(number)->grpc_address(), grpc::InsecureChannelCredentials());
  }
  proto::ListMembersReply Members() const {
    proto::ListMembersReply reply;
    const int leader = Leader();
    if (leader == 0) return reply;
    grpc::ClientContext context;
    const grpc::Status status =
        proto::MemberService::NewStub(ChannelTo(leader))->ListMembers(&context, proto::ListMembersRequest(), &reply);
    if (!status.ok()) reply.Clear();
    return reply;
  }
  // Every member votes, and these are their ids.
  bool GroupBecomes(const std::set<uint64_t>& ids) const {
    return Eventually([&] {
      std::set<uint64_t> voters;
      const proto::ListMembersReply reply = Members();
      for (const proto::MetaserverMember& member : reply.members()) {
        if (member.role() == "leader" || member.role() == "follower") voters.insert(member.id());
      }
      return voters == ids && reply.members_size() == static_cast<int>(ids.size());
    });
  }
  std::string AddressOf(uint64_t id) const {
    const proto::ListMembersReply reply = Members();
    for (const proto::MetaserverMember& member : reply.members()) {
      if (member.id() == id) return member.address();
    }
    return {};
  }
  void CreateVolume(const std::string& name) {
    ASSERT_TRUE(Eventually([&] {
      const int leader = Leader();
      if (leader == 0) return false;
      proto::CreateVolumeRequest request;
      request.mutable_volume()->set_name(name);
      proto::VolumeReply reply;
      grpc::ClientContext context;
      return proto::AdminService::NewStub(ChannelTo(leader))->CreateVolume(&context, request, &reply).ok();
    }));
  }
  int CountVolumes() const {
    proto::ListVolumesReply reply;
    (void)Eventually([&] {
      const int leader = Leader();
      if (leader == 0) return false;
      grpc::ClientContext context;
      return proto::AdminService::NewStub(ChannelTo(leader))
          ->ListVolumes(&context, proto::ListVolumesRequest(), &reply)
          .ok();
    });
    return reply.volumes_size();
  }
  grpc::Status TransferTo(uint64_t id) {
    proto::TransferLeadershipRequest request;
    request.set_member(id);
    proto::TransferLeadershipReply reply;
    grpc::ClientContext context;
    return proto::MemberService::NewStub(ChannelTo(Leader()))->TransferLeadership(&context, request, &reply);
  }

  TemporaryDirectory directory_;
  SystemClock clock_;
  SystemRandom random_;
  std::mutex failure_mutex_;
  std::string failure_;
  std::map<int, std::unique_ptr<MetadataServer>> servers_;
};

TEST_F(GroupTest, ThreeBearTheLossOfAnyOne) {
  ASSERT_TRUE(Start(2).ok());
  ASSERT_TRUE(Start(3).ok());
  ASSERT_TRUE(GroupBecomes({1, 2, 3}));
  EXPECT_EQ(servers_[2]->cluster_id(), servers_[1]->cluster_id());
  CreateVolume("before");
  Stop(Leader());
  CreateVolume("after");
  EXPECT_EQ(CountVolumes(), 2);
}

TEST_F(GroupTest, FollowerNamesTheLeader) {
  ASSERT_TRUE(Start(2).ok());
  ASSERT_TRUE(GroupBecomes({1, 2}));
  const int leader = Leader();
  const int follower = leader == 1 ? 2 : 1;
  ASSERT_TRUE(Eventually([&] {
    proto::StatusReply reply;
    grpc::ClientContext context;
    const grpc::Status status =
        proto::AdminService::NewStub(ChannelTo(follower))->Status(&context, proto::StatusRequest(), &reply);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    return rpc::LeaderHint(status) == servers_[leader]->grpc_address();
  }));
}

TEST_F(GroupTest, MemberFarBehindTheLogGetsACheckpoint) {
  for (int i = 0; i < 400; ++i) CreateVolume("volume-" + std::to_string(i));
  ASSERT_TRUE(Start(2).ok());
  ASSERT_TRUE(GroupBecomes({1, 2}));
  CreateVolume("later");
  ASSERT_TRUE(TransferTo(2).ok());
  ASSERT_TRUE(Eventually([this] { return Leader() == 2; }));
  EXPECT_EQ(CountVolumes(), 401);
  // And it can start again from what it took over.
  Stop(2);
  ASSERT_TRUE(Start(2).ok());
  ASSERT_TRUE(GroupBecomes({1, 2}));
  EXPECT_EQ(CountVolumes(), 401);
}

TEST_F(GroupTest, MemberThatMovedIsFoundUnderItsOldNumber) {
  ASSERT_TRUE(Start(2).ok());
  ASSERT_TRUE(Start(3).ok());
  ASSERT_TRUE(GroupBecomes({1, 2, 3}));
  const uint64_t id = 3;
  const std::string before = AddressOf(id);
  Stop(3);
  ASSERT_TRUE(Start(3).ok());
  EXPECT_TRUE(Eventually([&] { return AddressOf(id) == servers_[3]->address(); })) << "was at " << before;
  EXPECT_TRUE(GroupBecomes({1, 2, 3}));
}

TEST_F(GroupTest, WipedMemberComesBackUnderANewNumberAndReplacesItself) {
  ASSERT_TRUE(Start(2).ok());
  ASSERT_TRUE(Start(3).ok());
  ASSERT_TRUE(GroupBecomes({1, 2, 3}));
  const std::string address = servers_[3]->address();
  Stop(3);
  std::filesystem::remove_all(Directory(3));
  ASSERT_TRUE(Start(3, address).ok());
  EXPECT_TRUE(GroupBecomes({1, 2, 4}));
  CreateVolume("after");
}

TEST_F(GroupTest, RemovedLeaderStepsAsideAndGoes) {
  ASSERT_TRUE(Start(2).ok());
  ASSERT_TRUE(Start(3).ok());
  ASSERT_TRUE(GroupBecomes({1, 2, 3}));
  const int leader = Leader();
  proto::RemoveMemberRequest request;
  request.set_member(static_cast<uint64_t>(leader));
  proto::RemoveMemberReply reply;
  grpc::ClientContext context;
  ASSERT_TRUE(proto::MemberService::NewStub(ChannelTo(leader))->RemoveMember(&context, request, &reply).ok());
  std::set<uint64_t> left{1, 2, 3};
  left.erase(static_cast<uint64_t>(leader));
  EXPECT_TRUE(GroupBecomes(left));
  EXPECT_TRUE(Eventually([this] { return TakeFailure().find("was removed from the group") != std::string::npos; }));
  Stop(leader);
  (void)TakeFailure();
  CreateVolume("after");
}

TEST_F(GroupTest, LastMemberCannotBeRemoved) {
  ASSERT_TRUE(GroupBecomes({1}));
  proto::RemoveMemberRequest request;
  request.set_member(1);
  proto::RemoveMemberReply reply;
  grpc::ClientContext context;
  const grpc::Status status = proto::MemberService::NewStub(ChannelTo(1))->RemoveMember(&context, request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

}  // namespace
}  // namespace tarn::meta
