// Locks as clients meet them: a whole metadata server, and sessions that speak to it over sockets of their own.
#include "metaserver/service/metadata_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "proto/admin.grpc.pb.h"
#include "proto/hello.pb.h"
#include "proto/locks.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;
using rpc::Method;
using Outcome = proto::LockResult;

constexpr int64_t kLeaseMs = 30'000;
constexpr int64_t kShortLeaseMs = 300;
constexpr auto kPatience = std::chrono::seconds(30);

// One session; it may connect again, to another server.
class Locker {
 public:
  Locker(rpc::EventLoop* loop, uint64_t nonce) : loop_(loop), nonce_(nonce) {}
  ~Locker() {
    if (client_ != nullptr) client_->Close();
  }

  void Connect(const std::string& address) {
    if (client_ != nullptr) client_->Close();
    proto::HelloRequest hello;
    hello.set_protocol_version(1);
    hello.set_protocol_version_min(1);
    rpc::FrameClientOptions options;
    options.address = address;
    options.push_handler = [this](Method method, std::span<const uint8_t> bytes) {
      if (method != Method::kLocksGranted) return;
      proto::LocksGrantedPush push;
      EXPECT_TRUE(push.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
      EXPECT_EQ(push.session(), session_);
      const std::lock_guard lock(mutex_);
      granted_.insert(push.waits().begin(), push.waits().end());
      pushed_.notify_all();
    };
    client_ = rpc::FrameClient::Create(loop_, options, hello);
  }
  void Open() {
    proto::Mutation open;
    open.mutable_open_session()->set_nonce(nonce_);
    proto::MutationReply reply;
    EXPECT_EQ(Call(Method::kMutate, open, &reply).ToString(), "kOk");
    session_ = reply.session();
  }
  Status Call(Method method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply) {
    return client_->CallAndWait(method, request, reply);
  }
  proto::Mutation Sign(proto::Mutation mutation) {
    mutation.set_session(session_);
    mutation.set_sequence(++sequence_);
    return mutation;
  }
  Result<proto::MutationReply> Send(const proto::Mutation& mutation) {
    proto::MutationReply reply;
    const Status status = Call(Method::kMutate, mutation, &reply);
    if (!status.ok()) return status;
    return reply;
  }
  proto::LockResult Lock(uint64_t inode, bool wait, bool unlock = false) {
    const auto reply = Send(Sign(LockOp(inode, wait, unlock)));
    EXPECT_TRUE(reply.ok()) << reply.status().ToString();
    return reply.ok() ? reply->lock() : proto::LockResult();
  }
  static proto::Mutation LockOp(uint64_t inode, bool wait, bool unlock = false) {
    proto::Mutation mutation;
    proto::LockOp* op = mutation.mutable_lock();
    op->set_inode(inode);
    op->mutable_lock()->set_owner(1);
    op->mutable_lock()->set_exclusive(true);
    op->mutable_lock()->set_last((uint64_t{1} << 63) - 1);
    op->set_wait(wait);
    op->set_unlock(unlock);
    return mutation;
  }
  Status KeepAlive() {
    proto::KeepAliveRequest request;
    request.set_session(session_);
    proto::KeepAliveReply reply;
    return Call(Method::kKeepAlive, request, &reply);
  }
  // Those of the waits that go on.
  std::set<uint64_t> AskWaits(const std::set<uint64_t>& waits) {
    proto::LockWaitsRequest request;
    request.set_session(session_);
    for (const uint64_t wait : waits) request.add_waits(wait);
    proto::LockWaitsReply reply;
    EXPECT_EQ(Call(Method::kLockWaits, request, &reply).ToString(), "kOk");
    return {reply.waiting().begin(), reply.waiting().end()};
  }
  bool HearsOf(uint64_t wait) {
    std::unique_lock lock(mutex_);
    return pushed_.wait_for(lock, kPatience, [&] { return granted_.contains(wait); });
  }
  bool HasHeardOf(uint64_t wait) {
    const std::lock_guard lock(mutex_);
    return granted_.contains(wait);
  }
  uint64_t session() const { return session_; }

 private:
  rpc::EventLoop* const loop_;
  const uint64_t nonce_;
  std::shared_ptr<rpc::FrameClient> client_;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
  // Not the project's Mutex: gRPC's headers define the same annotations.
  std::mutex mutex_;
  std::condition_variable pushed_;
  std::set<uint64_t> granted_;
};

class LocksServerTest : public ::testing::Test {
 protected:
  explicit LocksServerTest(int64_t lease_ms = kLeaseMs) : lease_ms_(lease_ms) {
    std::string pattern = (fs::temp_directory_path() / "locks_server_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    loop_ = std::move(rpc::EventLoop::Start("test clients")).value();
    StartServer();
    grpc::ClientContext call;
    proto::CreateVolumeRequest request;
    request.mutable_volume()->set_name("v");
    proto::VolumeReply reply;
    const auto channel = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
    const grpc::Status made = proto::AdminService::NewStub(channel)->CreateVolume(&call, request, &reply);
    EXPECT_TRUE(made.ok()) << made.error_message();
    a_ = std::make_unique<Locker>(loop_.get(), random_.NextNonZero());
    b_ = std::make_unique<Locker>(loop_.get(), random_.NextNonZero());
    for (Locker* locker : {a_.get(), b_.get()}) {
      locker->Connect(server_->address());
      locker->Open();
    }
    proto::Mutation create;
    create.mutable_create()->set_parent(reply.volume().root());
    create.mutable_create()->set_name("f");
    create.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
    file_ = a_->Send(a_->Sign(create))->attributes().inode();
  }
  ~LocksServerTest() override {
    a_.reset();
    b_.reset();
    server_.reset();
    fs::remove_all(directory_);
  }

  void StartServer() {
    MetadataServerOptions options;
    options.directory = directory_ + "/meta";
    options.listen = "127.0.0.1:0";
    options.memory_bytes = 64 << 20;
    options.session_lease_ms = lease_ms_;
    options.on_failure = [](const Status& status) { ADD_FAILURE() << status.ToString(); };
    auto started = MetadataServer::Start(options, &clock_, &random_);
    ASSERT_TRUE(started.ok()) << started.status().ToString();
    server_ = std::move(*started);
    while (!server_->leads()) std::this_thread::yield();
  }
  void RestartServer() {
    server_.reset();
    StartServer();
    a_->Connect(server_->address());
    b_->Connect(server_->address());
  }

  const int64_t lease_ms_;
  SystemClock clock_;
  SystemRandom random_;
  std::string directory_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<MetadataServer> server_;
  std::unique_ptr<Locker> a_, b_;
  uint64_t file_ = 0;
};

TEST_F(LocksServerTest, AWaitIsGrantedByAPush) {
  EXPECT_EQ(a_->Lock(file_, false).outcome(), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(b_->Lock(file_, false).outcome(), Outcome::OUTCOME_DENIED);
  const proto::LockResult wait = b_->Lock(file_, true);
  EXPECT_EQ(wait.outcome(), Outcome::OUTCOME_WAITING);
  EXPECT_EQ(b_->AskWaits({wait.wait()}), std::set<uint64_t>{wait.wait()});
  EXPECT_FALSE(b_->HasHeardOf(wait.wait()));
  EXPECT_TRUE(a_->Lock(file_, false, /*unlock=*/true).owner_is_done());
  EXPECT_TRUE(b_->HearsOf(wait.wait()));
  EXPECT_EQ(a_->Lock(file_, false).outcome(), Outcome::OUTCOME_DENIED);
}

TEST_F(LocksServerTest, AnotherLeaderKnowsLocksAndWaits) {
  EXPECT_EQ(a_->Lock(file_, false).outcome(), Outcome::OUTCOME_GRANTED);
  const uint64_t wait = b_->Lock(file_, true).wait();
  RestartServer();
  EXPECT_EQ(b_->AskWaits({wait}), std::set<uint64_t>{wait});
  a_->Lock(file_, false, /*unlock=*/true);
  EXPECT_TRUE(b_->HearsOf(wait)) << "it has asked, so the new leader knows where it is";
  RestartServer();
  EXPECT_EQ(b_->AskWaits({wait}), std::set<uint64_t>{}) << "whoever heard of no push asks";
  EXPECT_EQ(a_->Lock(file_, false).outcome(), Outcome::OUTCOME_DENIED);
}

TEST_F(LocksServerTest, ARepeatWhoseAnswerWasLostLocksOnce) {
  const proto::Mutation lock = a_->Sign(Locker::LockOp(file_, false));
  EXPECT_EQ(a_->Send(lock)->lock().outcome(), Outcome::OUTCOME_GRANTED);
  RestartServer();
  EXPECT_EQ(a_->Send(lock)->lock().outcome(), Outcome::OUTCOME_GRANTED);
  EXPECT_TRUE(a_->Lock(file_, false, /*unlock=*/true).owner_is_done());
  EXPECT_EQ(b_->Lock(file_, false).outcome(), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(a_->Send(lock)->lock().outcome(), Outcome::OUTCOME_GRANTED) << "the first answer, however late";
  EXPECT_EQ(a_->Lock(file_, false).outcome(), Outcome::OUTCOME_DENIED) << "and no lock with it";
}

class ExpiredLocksTest : public LocksServerTest {
 protected:
  ExpiredLocksTest() : LocksServerTest(kShortLeaseMs) {}
};

TEST_F(ExpiredLocksTest, TheEndOfASessionReleasesItsLocks) {
  EXPECT_EQ(a_->Lock(file_, false).outcome(), Outcome::OUTCOME_GRANTED);
  const uint64_t wait = b_->Lock(file_, true).wait();
  // Only b is heard of from now on.
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!b_->HasHeardOf(wait) && std::chrono::steady_clock::now() < deadline) {
    ASSERT_EQ(b_->KeepAlive().ToString(), "kOk");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(b_->HasHeardOf(wait));
  EXPECT_EQ(a_->KeepAlive().code(), StatusCode::kUnknownSession);
  EXPECT_EQ(a_->Send(a_->Sign(Locker::LockOp(file_, false))).status().code(), StatusCode::kUnknownSession);
}

}  // namespace
}  // namespace tarn::meta
