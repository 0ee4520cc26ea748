// fsck of a running metadata server, over gRPC: damage is planted into its store while it is down.
#include "metaserver/service/metadata_server.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "metaserver/state/keys.h"
#include "metaserver/state/records.h"
#include "metaserver/state/rocks_kv.h"
#include "proto/admin.grpc.pb.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;

class FsckServerTest : public ::testing::Test {
 protected:
  FsckServerTest() {
    std::string pattern = (fs::temp_directory_path() / "fsck_server_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~FsckServerTest() override {
    server_.reset();
    fs::remove_all(directory_);
  }

  void Start() {
    MetadataServerOptions options;
    options.directory = directory_ + "/meta";
    options.listen = "127.0.0.1:0";
    options.memory_bytes = 64 << 20;
    options.on_failure = [](const Status& status) { ADD_FAILURE() << status.ToString(); };
    auto started = MetadataServer::Start(options, &clock_, &random_);
    ASSERT_TRUE(started.ok()) << started.status().ToString();
    server_ = std::move(*started);
    while (!server_->leads()) std::this_thread::yield();
    admin_ = proto::AdminService::NewStub(
        grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials()));
  }

  uint64_t CreateVolume(const std::string& name) {
    proto::CreateVolumeRequest request;
    request.mutable_volume()->set_name(name);
    grpc::ClientContext call;
    proto::VolumeReply reply;
    const grpc::Status status = admin_->CreateVolume(&call, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply.volume().root();
  }

  // While the server is down.
  void Damage(const std::function<void(RocksKv*)>& damage) {
    server_.reset();
    auto store = RocksKv::Open(directory_ + "/meta/state", {});
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    damage(store->get());
    ASSERT_TRUE((*store)->Flush().ok());
  }

  // A directory that nothing points at.
  static void PutLostDirectory(RocksKv* store, uint64_t root, uint64_t number) {
    auto inode = *ReadInode(*store->View(), InodeId(root));
    ASSERT_TRUE(inode.has_value());
    inode->set_inode(number);
    inode->set_parent(root);
    ASSERT_TRUE(store->Write({.changes = {{InodeKey(InodeId(number)), EncodeInode(*inode)}}}).ok());
  }

  // How often each kind was found; the last event in `end`.
  std::map<std::string, int> Fsck(bool repair, proto::FsckEvent* end) {
    proto::FsckRequest request;
    request.set_repair(repair);
    request.set_skip_chunks(true);
    std::map<std::string, int> kinds;
    grpc::ClientContext call;
    const auto stream = admin_->Fsck(&call, request);
    proto::FsckEvent event;
    while (stream->Read(&event)) {
      for (const auto& finding : event.findings()) ++kinds[finding.kind()];
      if (event.end()) *end = event;
    }
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return kinds;
  }

  SystemClock clock_;
  SystemRandom random_;
  std::string directory_;
  std::unique_ptr<MetadataServer> server_;
  std::unique_ptr<proto::AdminService::Stub> admin_;
};

TEST_F(FsckServerTest, WhatIsLostInSeveralVolumesIsFoundAgainInEach) {
  Start();
  const uint64_t first = CreateVolume("first");
  const uint64_t second = CreateVolume("second");
  Damage([&](RocksKv* store) {
    PutLostDirectory(store, first, 1'000'001);
    PutLostDirectory(store, second, 1'000'002);
  });
  Start();
  proto::FsckEvent end;
  EXPECT_EQ(Fsck(false, &end)["lost-inode"], 2);
  EXPECT_EQ(end.repaired_total(), 0u);
  EXPECT_GT(end.remaining_total(), 0u);
  EXPECT_EQ(Fsck(true, &end)["lost-inode"], 2);
  EXPECT_EQ(end.remaining_total(), 0u);
  EXPECT_TRUE(Fsck(false, &end).empty());
  EXPECT_EQ(end.findings_total(), 0u);
}

TEST_F(FsckServerTest, DataThatNobodyKnowsIsNamedAndIsNotWrong) {
  Start();
  Damage([&](RocksKv* store) {
    proto::UnknownDataRecord record;
    record.set_data_id(77);
    auto* held = record.add_held();
    held->set_target(3);
    held->set_bytes(4096);
    ASSERT_TRUE(store->Write({.changes = {{UnknownDataKey(DataId(77)), Encode(record)}}}).ok());
  });
  Start();
  proto::FsckEvent end;
  EXPECT_EQ(Fsck(/*repair=*/true, &end), (std::map<std::string, int>{{"unknown-data", 1}}));
  EXPECT_EQ(end.findings_total(), 0u);
  EXPECT_EQ(end.remaining_total(), 0u);
}

}  // namespace
}  // namespace tarn::meta
