// Locks of a client whose session expires just when it gives them back, or takes more.
#include "client/locks.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <utility>

#include "client/blocking.h"
#include "client/filesystem_impl.h"
#include "client/testing/memory_data_plane.h"
#include "client/testing/scripted_metadata_server.h"

namespace tarn::client {
namespace {

using testing::ReceivedRequest;

constexpr uint64_t kOwner = 3;

class LocksTest : public ::testing::Test {
 protected:
  LocksTest() : loop_(*rpc::EventLoop::Start("test-loop")) {
    MetadataChannelOptions options;
    options.addresses = {server_.address()};
    options.backoff_max_ms = options.failover_backoff_max_ms = 20;
    metadata_ = std::make_unique<MetadataClient>(loop_.get(), &clock_, &random_, options);
    std::promise<Status> opened;
    metadata_->OpenSession(VolumeId(1), [&](Status status) { opened.set_value(std::move(status)); });
    server_.AnswerOpenSession(7);
    CHECK(opened.get_future().get().ok(), "a session");
    locks_ = Locks::Create(metadata_.get());
    data_plane_ = std::make_unique<testing::MemoryDataPlane>(metadata_.get());
    handle_ = NewHandle();
  }
  // Nobody answers the session's end.
  void TearDown() override {
    locks_->Close();
    metadata_->Shutdown(1);
  }

  std::shared_ptr<FileHandle> NewHandle() {
    Attributes attributes;
    attributes.inode = InodeId(42);
    return std::make_shared<FileHandle>(std::make_shared<OpenInode>(attributes, data_plane_->Attach(attributes), nullptr), OpenFlags(), false, nullptr);
  }
  static FileLock Range(LockSpace space, uint64_t first = 0, uint64_t last = kLockLastMax) {
    FileLock lock;
    lock.space = space;
    lock.owner = kOwner;
    lock.exclusive = true;
    lock.first = first;
    lock.last = last;
    return lock;
  }

  using Answer = std::future<Status>;
  static std::pair<Answer, StatusCallback> MakeAnswer() {
    auto promise = std::make_shared<std::promise<Status>>();
    return {promise->get_future(), [promise](Status status) { promise->set_value(std::move(status)); }};
  }
  Answer Lock(const FileLock& lock) {
    auto [answer, callback] = MakeAnswer();
    locks_->Lock(handle_, lock, /*wait=*/false, callback);
    return std::move(answer);
  }
  static void Grant(ReceivedRequest request, bool owner_is_done = false) {
    proto::MutationReply reply;
    reply.mutable_lock()->set_session(request.mutation().session());
    reply.mutable_lock()->set_owner_is_done(owner_is_done);
    request.responder->Reply(reply);
  }
  // The session is over when the request comes: it goes on under session 8.
  ReceivedRequest ExpireAt(ReceivedRequest request) {
    request.responder->Fail(Status(StatusCode::kUnknownSession, "it has expired"));
    server_.AnswerOpenSession(8);
    return server_.Next();
  }
  // Every answer that was given before has been taken.
  void Settle() {
    auto answer = std::make_shared<std::promise<void>>();
    metadata_->GetAttributes(InodeId(42), [answer](const Result<Attributes>&) { answer->set_value(); });
    server_.Next().responder->Reply(proto::GetAttrReply());
    answer->get_future().wait();
  }
  void TakeTheLock(LockSpace space) {
    Answer locked = Lock(Range(space));
    Grant(server_.Next());
    ASSERT_TRUE(locked.get().ok());
  }
  // The owner has nothing any more, and may lock like anybody else.
  void ExpectToLockAfresh(LockSpace space) {
    Answer locked = Lock(Range(space));
    ReceivedRequest request = server_.Next();
    EXPECT_FALSE(request.mutation().lock().unlock());
    Grant(std::move(request));
    EXPECT_EQ(locked.get().ToString(), "kOk");
  }

  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<rpc::EventLoop> loop_;
  testing::ScriptedMetadataServer server_;
  std::unique_ptr<MetadataClient> metadata_;
  std::shared_ptr<Locks> locks_;
  std::unique_ptr<testing::MemoryDataPlane> data_plane_;
  std::shared_ptr<FileHandle> handle_;
};

TEST_F(LocksTest, CloseWhileTheSessionExpiresLeavesNothingBehind) {
  TakeTheLock(LockSpace::kPosix);
  auto [closed, callback] = MakeAnswer();
  locks_->ReleaseOwner(InodeId(42), kOwner, callback);
  Grant(ExpireAt(server_.Next()), /*owner_is_done=*/true);
  EXPECT_TRUE(closed.get().ok());
  EXPECT_FALSE(locks_->LostBy(handle_->locks));
  ExpectToLockAfresh(LockSpace::kPosix);
}

TEST_F(LocksTest, LastCloseWhileTheSessionExpiresLeavesNothingBehind) {
  TakeTheLock(LockSpace::kFlock);
  locks_->ReleaseHandle(*handle_);
  Grant(ExpireAt(server_.Next()), /*owner_is_done=*/true);
  // The kernel gives its number to another open file.
  handle_ = NewHandle();
  Settle();
  ExpectToLockAfresh(LockSpace::kFlock);
}

TEST_F(LocksTest, CloseInDoubtWhileTheSessionExpiresLeavesNothingBehind) {
  TakeTheLock(LockSpace::kPosix);
  auto [closed, callback] = MakeAnswer();
  locks_->ReleaseOwner(InodeId(42), kOwner, callback);
  server_.Next().responder->Fail(Status(StatusCode::kUnavailable, "the answer is lost"));
  ReceivedRequest again = server_.Next();
  again.responder->Fail(Status(StatusCode::kUnknownSession, "it has expired"));
  EXPECT_TRUE(closed.get().ok());
  server_.AnswerOpenSession(8);
  ExpectToLockAfresh(LockSpace::kPosix);
}

TEST_F(LocksTest, UnlockWhileTheSessionExpiresSaysSoOnce) {
  TakeTheLock(LockSpace::kFlock);
  auto [unlocked, callback] = MakeAnswer();
  locks_->Unlock(handle_, Range(LockSpace::kFlock), callback);
  Grant(ExpireAt(server_.Next()), /*owner_is_done=*/true);
  EXPECT_EQ(unlocked.get().code(), StatusCode::kIoError);
  ExpectToLockAfresh(LockSpace::kFlock);
}

TEST_F(LocksTest, LockThatComesAfterTheLossIsGivenBack) {
  TakeTheLock(LockSpace::kPosix);
  Answer more = Lock(Range(LockSpace::kPosix, 100, 199));
  Grant(ExpireAt(server_.Next()));
  // What it had is gone: it must hear of that, and nobody would ever unlock what it does not know to have.
  EXPECT_EQ(more.get().code(), StatusCode::kIoError);
  ReceivedRequest back = server_.Next();
  EXPECT_TRUE(back.mutation().lock().unlock());
  EXPECT_EQ(back.mutation().lock().lock().first(), 100u);
  EXPECT_EQ(back.mutation().session(), 8u);
  Grant(std::move(back));
  // It goes on hearing of it until it lets go.
  EXPECT_TRUE(locks_->LostBy(handle_->locks));
  EXPECT_EQ(Lock(Range(LockSpace::kPosix, 0, 9)).get().code(), StatusCode::kIoError);
}

}  // namespace
}  // namespace tarn::client
