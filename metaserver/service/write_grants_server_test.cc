// Write grants as clients meet them: a whole metadata server, and sessions that speak to it over sockets of their own.
#include "metaserver/service/metadata_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <future>
#include <mutex>
#include <thread>

#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "proto/admin.grpc.pb.h"
#include "proto/hello.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;
using rpc::Method;

// Long enough that nobody lapses by accident; the other for the test of just that.
constexpr int64_t kLeaseMs = 30'000;
constexpr int64_t kShortLeaseMs = 400;

// One client. Its keep-alives are its own business: without any it lapses after its lease.
class Writer {
 public:
  Writer(rpc::EventLoop* loop, const std::string& address, uint64_t nonce) {
    proto::HelloRequest hello;
    hello.set_protocol_version(1);
    hello.set_protocol_version_min(1);
    rpc::FrameClientOptions options;
    options.address = address;
    options.push_handler = [this](Method, std::span<const uint8_t> bytes) {
      std::unique_lock lock(mutex_);
      EXPECT_TRUE(pushes_.emplace_back().ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
      pushed_.notify_all();
    };
    client_ = rpc::FrameClient::Create(loop, options, hello);
    proto::Mutation open;
    open.mutable_open_session()->set_nonce(nonce);
    open.mutable_open_session()->set_caches(true);
    proto::MutationReply reply;
    EXPECT_EQ(Call(Method::kMutate, open, &reply).ToString(), "kOk");
    session_ = reply.session();
    Register();
  }
  ~Writer() { client_->Close(); }

  // In the present term, as a client that has these open.
  void Register(const std::vector<uint64_t>& open = {}) {
    proto::KeepAliveReply reply;
    do {
      proto::KeepAliveRequest request;
      request.set_session(session_);
      request.set_term(term_);
      request.set_lapses(lapses_);
      for (const uint64_t inode : open) request.add_open_inodes(inode);
      ASSERT_EQ(Call(Method::kKeepAlive, request, &reply).ToString(), "kOk");
      term_ = reply.term();
      lapses_ = reply.lapses();
      if (request.term() == reply.term() && request.lapses() == reply.lapses() && reply.term() != 0) return;
    } while (true);
  }

  Status Call(Method method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply) {
    return client_->CallAndWait(method, request, reply);
  }
  Result<proto::MutationReply> Mutate(proto::Mutation mutation) {
    mutation.set_session(session_);
    mutation.set_sequence(++sequence_);
    proto::MutationReply reply;
    const Status status = Call(Method::kMutate, mutation, &reply);
    if (!status.ok()) return status;
    return reply;
  }
  Result<proto::MutationReply> Create(uint64_t parent, const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_create()->set_parent(parent);
    mutation.mutable_create()->set_name(name);
    mutation.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
    mutation.mutable_create()->set_mode(0644);
    return Mutate(mutation);
  }
  std::future<Result<proto::MutateBatchReply>> Batch(std::vector<proto::Mutation> mutations) {
    proto::MutateBatchRequest request;
    for (proto::Mutation& mutation : mutations) {
      mutation.set_session(session_);
      mutation.set_sequence(++sequence_);
      *request.add_mutations() = std::move(mutation);
    }
    return Start<proto::MutateBatchReply>(Method::kMutateBatch, request);
  }
  // What a flush of buffered writes comes to here.
  Result<proto::MutationReply> Commit(uint64_t inode, uint64_t size) {
    proto::Mutation mutation;
    mutation.mutable_commit_write()->set_inode(inode);
    mutation.mutable_commit_write()->set_min_size_bytes(size);
    return Mutate(mutation);
  }
  std::future<Result<proto::AcquireWriteReply>> Acquire(uint64_t inode, bool append = false) {
    proto::AcquireWriteRequest request;
    request.set_session(session_);
    request.set_inode(inode);
    request.set_append(append);
    return Start<proto::AcquireWriteReply>(Method::kAcquireWrite, request);
  }
  std::future<Result<proto::GetAttrReply>> GetAttr(uint64_t inode, bool will_open = false) {
    proto::GetAttrRequest request;
    request.set_session(session_);
    request.set_inode(inode);
    request.set_will_open(will_open);
    return Start<proto::GetAttrReply>(Method::kGetAttr, request);
  }
  void Release(uint64_t inode, const std::vector<uint64_t>& more = {}) {
    proto::ReleaseWriteRequest request;
    request.set_session(session_);
    request.set_term(term_);
    request.set_inode(inode);
    for (const uint64_t each : more) request.add_more_inodes(each);
    proto::ReleaseWriteReply reply;
    EXPECT_EQ(Call(Method::kReleaseWrite, request, &reply).ToString(), "kOk");
  }

  // The next push, unless it is one about everything; it is not acknowledged yet.
  proto::InvalidatePush NextPush() {
    std::unique_lock lock(mutex_);
    if (!pushed_.wait_for(lock, std::chrono::seconds(20), [this] { return !pushes_.empty(); })) {
      ADD_FAILURE() << "no push came";
      proto::InvalidatePush none;
      none.add_items();
      return none;
    }
    proto::InvalidatePush push = std::move(pushes_.front());
    pushes_.pop_front();
    return push;
  }
  bool AnyPush() {
    std::unique_lock lock(mutex_);
    return !pushes_.empty();
  }
  void Acknowledge(const proto::InvalidatePush& push, const std::vector<uint64_t>& open = {}) {
    proto::AckPushRequest request;
    request.set_session(session_);
    request.set_term(push.term());
    request.add_pushes(push.push());
    for (const uint64_t inode : open) request.add_open_inodes(inode);
    proto::AckPushReply reply;
    EXPECT_EQ(Call(Method::kAckPush, request, &reply).ToString(), "kOk");
  }
  uint64_t session() const { return session_; }

 private:
  template <typename ReplyMessage>
  std::future<Result<ReplyMessage>> Start(Method method, const google::protobuf::MessageLite& request) {
    auto promise = std::make_shared<std::promise<Result<ReplyMessage>>>();
    client_->Call(method, request, {}, [promise](const rpc::Reply& reply) {
      ReplyMessage parsed;
      const Status status = rpc::ParseReply(reply, &parsed);
      promise->set_value(status.ok() ? Result<ReplyMessage>(std::move(parsed)) : Result<ReplyMessage>(status));
    });
    return promise->get_future();
  }

  // Not the project's Mutex: gRPC's headers define the same annotations.
  std::mutex mutex_;
  std::condition_variable pushed_;
  std::deque<proto::InvalidatePush> pushes_;
  std::shared_ptr<rpc::FrameClient> client_;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
  uint64_t term_ = 0;
  uint64_t lapses_ = 0;
};

class WriteGrantsServerTest : public ::testing::Test {
 protected:
  explicit WriteGrantsServerTest(int64_t lease_ms = kLeaseMs) : lease_ms_(lease_ms) {
    std::string pattern = (fs::temp_directory_path() / "write_grants_test.XXXXXX").string();
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
    root_ = reply.volume().root();
    a_ = NewWriter();
    b_ = NewWriter();
    file_ = a_->Create(root_, "f")->attributes().inode();
  }
  ~WriteGrantsServerTest() override {
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
  std::unique_ptr<Writer> NewWriter() {
    return std::make_unique<Writer>(loop_.get(), server_->address(), random_.NextNonZero());
  }
  template <typename T>
  static bool IsReady(const std::future<T>& future) {
    return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  // The other has the file in its cache, and is told.
  Result<proto::MutationReply> CommitBeside(Writer& writer, Writer& other, uint64_t size) {
    auto committed = std::async(std::launch::async, [&] { return writer.Commit(file_, size); });
    other.Acknowledge(other.NextPush(), {file_});
    return committed.get();
  }

  const int64_t lease_ms_;
  SystemClock clock_;
  SystemRandom random_;
  std::string directory_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<MetadataServer> server_;
  std::unique_ptr<Writer> a_, b_;
  uint64_t root_ = 0;
  uint64_t file_ = 0;
};

TEST_F(WriteGrantsServerTest, ReadElsewhereWaitsForWhatTheHolderHasBuffered) {
  const auto granted = a_->Acquire(file_).get();
  ASSERT_TRUE(granted.ok()) << granted.status().ToString();
  EXPECT_TRUE(granted->exclusive());
  EXPECT_EQ(granted->attributes().inode(), file_);
  auto read = b_->GetAttr(file_);
  const proto::InvalidatePush recall = a_->NextPush();
  ASSERT_EQ(recall.items_size(), 1);
  EXPECT_EQ(recall.items(0).inode(), file_);
  EXPECT_TRUE(recall.items(0).recall_write());
  EXPECT_FALSE(IsReady(read));
  ASSERT_TRUE(CommitBeside(*a_, *b_, 100).ok()) << "the holder's own commit is not recalled for";
  EXPECT_FALSE(IsReady(read));
  a_->Acknowledge(recall);
  const auto answer = read.get();
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->attributes().size_bytes(), 100u);
}

TEST_F(WriteGrantsServerTest, SecondWriterMakesBothShare) {
  (void)a_->GetAttr(file_, true).get();
  ASSERT_TRUE(a_->Acquire(file_).get()->exclusive());
  auto second = b_->Acquire(file_);
  a_->Acknowledge(a_->NextPush());  // the recall
  const proto::InvalidatePush asked = a_->NextPush();
  EXPECT_TRUE(asked.items(0).report_open());
  EXPECT_FALSE(IsReady(second));
  a_->Acknowledge(asked, {file_});
  EXPECT_FALSE(second.get()->exclusive());
  auto first = a_->Acquire(file_);
  const proto::InvalidatePush back = b_->NextPush();
  b_->Acknowledge(back, {file_});
  EXPECT_FALSE(first.get()->exclusive());
}

TEST_F(WriteGrantsServerTest, AppendersTakeTurns) {
  (void)a_->GetAttr(file_, true).get();
  (void)b_->GetAttr(file_, true).get();
  uint64_t size = 0;
  for (int round = 0; round < 4; ++round) {
    Writer& appender = round % 2 == 0 ? *a_ : *b_;
    Writer& other = round % 2 == 0 ? *b_ : *a_;
    auto acquired = appender.Acquire(file_, true);
    while (!IsReady(acquired)) {
      if (!other.AnyPush()) {
        std::this_thread::yield();
        continue;
      }
      const proto::InvalidatePush push = other.NextPush();
      // What it has buffered comes before it lets go.
      if (round > 0 && push.items(0).recall_write() && !push.items(0).report_open()) {
        size += 10;
        ASSERT_TRUE(CommitBeside(other, appender, size).ok());
      }
      other.Acknowledge(push, {file_});
    }
    const auto answer = acquired.get();
    ASSERT_TRUE(answer.ok()) << answer.status().ToString();
    EXPECT_TRUE(answer->exclusive());
    EXPECT_EQ(answer->attributes().size_bytes(), size) << "its place";
  }
  EXPECT_EQ(size, 30u);
}

TEST_F(WriteGrantsServerTest, ReleasedGrantsAreNotRecalled) {
  const uint64_t other = a_->Create(root_, "g")->attributes().inode();
  ASSERT_TRUE(a_->Acquire(file_).get()->exclusive());
  ASSERT_TRUE(a_->Acquire(other).get()->exclusive());
  a_->Release(file_, {other});
  EXPECT_TRUE(b_->GetAttr(file_).get().ok());
  EXPECT_TRUE(b_->GetAttr(other).get().ok());
  EXPECT_FALSE(a_->AnyPush());
}

TEST_F(WriteGrantsServerTest, CreateByAWriterBringsTheGrant) {
  ASSERT_TRUE(a_->Acquire(file_).get()->exclusive());
  const auto made = a_->Create(root_, "g");
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(made->write_granted());
  EXPECT_FALSE(b_->Create(root_, "h")->write_granted()) << "it has not written before";
  auto read = b_->GetAttr(made->attributes().inode());
  a_->Acknowledge(a_->NextPush());
  EXPECT_TRUE(read.get().ok());
}

proto::Mutation Replace(uint64_t parent, const std::string& name) {
  proto::Mutation mutation;
  mutation.mutable_create()->set_parent(parent);
  mutation.mutable_create()->set_name(name);
  mutation.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
  mutation.mutable_create()->set_data_id(1);
  mutation.mutable_create()->set_replace(true);
  return mutation;
}

proto::Mutation SetMode(uint64_t inode) {
  proto::Mutation mutation;
  mutation.mutable_set_attr()->set_inode(inode);
  mutation.mutable_set_attr()->set_mode(0600);
  return mutation;
}

proto::Mutation Link(uint64_t inode, uint64_t parent, const std::string& name) {
  proto::Mutation mutation;
  mutation.mutable_link()->set_inode(inode);
  mutation.mutable_link()->set_new_parent(parent);
  mutation.mutable_link()->set_new_name(name);
  return mutation;
}

TEST_F(WriteGrantsServerTest, BatchIsCarriedOutOnceTheHoldersHaveFlushed) {
  const uint64_t other = a_->Create(root_, "g")->attributes().inode();
  ASSERT_TRUE(a_->Acquire(file_).get()->exclusive());
  ASSERT_TRUE(a_->Acquire(other).get()->exclusive());
  auto batch = b_->Batch({SetMode(file_), SetMode(other)});
  const proto::InvalidatePush first = a_->NextPush();
  const proto::InvalidatePush second = a_->NextPush();
  EXPECT_TRUE(first.items(0).recall_write());
  EXPECT_TRUE(second.items(0).recall_write());
  EXPECT_NE(first.items(0).inode(), second.items(0).inode());
  ASSERT_TRUE(a_->Commit(file_, 100).ok());
  a_->Acknowledge(first);
  EXPECT_FALSE(IsReady(batch)) << "the other file's buffer is still not empty";
  EXPECT_EQ(a_->GetAttr(other).get()->attributes().mode(), 0644u) << "nor is anything carried out";
  ASSERT_TRUE(a_->Commit(other, 200).ok());
  a_->Acknowledge(second);
  a_->Acknowledge(a_->NextPush());  // of what the batch has changed
  const auto answer = batch.get();
  ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  ASSERT_EQ(answer->replies_size(), 2);
  EXPECT_EQ(answer->replies(0).attributes().size_bytes(), 100u);
  EXPECT_EQ(answer->replies(1).attributes().size_bytes(), 200u);
}

TEST_F(WriteGrantsServerTest, NewDataUnderAnOldNameTakesTheGrantOfTheOldFile) {
  ASSERT_TRUE(a_->Acquire(file_).get()->exclusive());
  auto batch = b_->Batch({Replace(root_, "f")});
  const proto::InvalidatePush recall = a_->NextPush();
  EXPECT_TRUE(recall.items(0).recall_write());
  EXPECT_EQ(recall.items(0).inode(), file_);
  EXPECT_FALSE(IsReady(batch));
  a_->Acknowledge(recall);
  // No chunk server: there is no layout that it could have.
  EXPECT_EQ(batch.get()->replies(0).status(), static_cast<uint32_t>(StatusCode::kInvalidArgument));
  ASSERT_TRUE(a_->Acquire(file_).get()->exclusive());
  auto single = std::async(std::launch::async, [&] { return b_->Mutate(Replace(root_, "f")); });
  a_->Acknowledge(a_->NextPush());
  EXPECT_EQ(single.get().status().code(), StatusCode::kInvalidArgument);
}

TEST_F(WriteGrantsServerTest, BatchAnswersWithSizesAsTheyAre) {
  ASSERT_TRUE(a_->Acquire(file_).get()->exclusive());
  auto batch = b_->Batch({Link(file_, root_, "g")});
  // It goes on without the grant, and is answered without old attributes.
  std::vector<proto::InvalidatePush> pushes = {a_->NextPush(), a_->NextPush()};
  EXPECT_FALSE(IsReady(batch));
  ASSERT_TRUE(a_->Commit(file_, 100).ok());
  for (const proto::InvalidatePush& push : pushes) a_->Acknowledge(push, {file_});
  const auto answer = batch.get();
  ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  EXPECT_EQ(answer->replies(0).attributes().size_bytes(), 100u);
}

TEST_F(WriteGrantsServerTest, RemovingOneOfTwoNamesShowsTheSizeAsItIs) {
  ASSERT_TRUE(b_->Mutate(Link(file_, root_, "g")).ok());
  ASSERT_TRUE(a_->Acquire(file_).get()->exclusive());
  auto removed = std::async(std::launch::async, [&] {
    proto::Mutation mutation;
    mutation.mutable_unlink()->set_parent(root_);
    mutation.mutable_unlink()->set_name("g");
    return b_->Mutate(mutation);
  });
  std::vector<proto::InvalidatePush> pushes = {a_->NextPush(), a_->NextPush()};
  ASSERT_TRUE(a_->Commit(file_, 100).ok());
  for (const proto::InvalidatePush& push : pushes) a_->Acknowledge(push, {file_});
  EXPECT_EQ(removed.get()->removed().size_bytes(), 100u);
}

class ShortLeaseTest : public WriteGrantsServerTest {
 protected:
  ShortLeaseTest() : WriteGrantsServerTest(kShortLeaseMs) {}
};

TEST_F(ShortLeaseTest, SilentHolderIsClosedAfterItsLease) {
  Result<proto::AcquireWriteReply> granted = Status(StatusCode::kResourceExhausted, "");
  while (granted.status().code() == StatusCode::kResourceExhausted) {  // it may have lapsed
    a_->Register();
    granted = a_->Acquire(file_).get();
  }
  ASSERT_TRUE(granted.ok() && granted->exclusive());
  auto read = b_->GetAttr(file_);
  ASSERT_TRUE(read.get().ok());
  EXPECT_EQ(a_->Commit(file_, 100).status().code(), StatusCode::kUnknownSession) << "too late";
  EXPECT_EQ(b_->GetAttr(file_).get()->attributes().size_bytes(), 0u);
  proto::GetClusterMapReply reply;
  ASSERT_TRUE(b_->Call(Method::kGetClusterMap, proto::GetClusterMapRequest(), &reply).ok());
  ASSERT_EQ(reply.map().fenced_sessions_size(), 1) << "nor may its writes change anything";
  EXPECT_EQ(reply.map().fenced_sessions(0).session(), a_->session());
}

TEST_F(WriteGrantsServerTest, UnknownSessionsAndOtherInodesAreRefused) {
  EXPECT_EQ(a_->Acquire(root_).get().status().code(), StatusCode::kInvalidArgument) << "a directory";
  EXPECT_EQ(a_->Acquire(file_ + 1000).get().status().code(), StatusCode::kStaleHandle);
  proto::AcquireWriteRequest request;
  request.set_session(a_->session() + 1000);
  request.set_inode(file_);
  proto::AcquireWriteReply reply;
  EXPECT_EQ(a_->Call(Method::kAcquireWrite, request, &reply).code(), StatusCode::kUnknownSession);
}

}  // namespace
}  // namespace tarn::meta
