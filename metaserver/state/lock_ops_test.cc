// Locks as commands: exactly once, released with the session, deadlocks, bounds, and what a restart finds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/state/keys.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/lock_table.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using Outcome = proto::LockResult;
using testing::ElementsAre;

class LockOpsTest : public testing::Test {
 protected:
  LockOpsTest() {
    driver_.SetUpCluster();
    a_ = driver_.session();
    b_ = OpenSession(77);
    file_ = driver_.Create(driver_.root(), "f").attributes().inode();
    other_ = driver_.Create(driver_.root(), "g").attributes().inode();
    plain_ = Locks();
  }

  uint64_t OpenSession(uint64_t nonce) {
    proto::Mutation mutation;
    mutation.mutable_open_session()->set_nonce(nonce);
    return driver_.RunAsLeader(mutation).session();
  }
  static proto::Mutation Lock(uint64_t inode, uint64_t owner, bool exclusive, uint64_t first = 0,
                              uint64_t last = kLockLastMax) {
    proto::Mutation mutation;
    proto::LockOp* op = mutation.mutable_lock();
    op->set_inode(inode);
    op->mutable_lock()->set_owner(owner);
    op->mutable_lock()->set_exclusive(exclusive);
    op->mutable_lock()->set_first(first);
    op->mutable_lock()->set_last(last);
    return mutation;
  }
  static proto::Mutation Waiting(proto::Mutation mutation) {
    mutation.mutable_lock()->set_wait(true);
    return mutation;
  }
  static proto::Mutation Flock(proto::Mutation mutation) {
    mutation.mutable_lock()->set_space(proto::LOCK_SPACE_FLOCK);
    return mutation;
  }
  static proto::Mutation Unlock(uint64_t inode, uint64_t owner, uint64_t first = 0, uint64_t last = kLockLastMax) {
    proto::Mutation mutation = Lock(inode, owner, false, first, last);
    mutation.mutable_lock()->set_unlock(true);
    return mutation;
  }
  proto::Mutation Signed(uint64_t session, proto::Mutation mutation) {
    mutation.set_session(session);
    mutation.set_sequence(++sequences_[session] + 1000);
    return mutation;
  }
  // Applies it and keeps which waits ended.
  proto::MutationReply Apply(const proto::Mutation& mutation) {
    std::vector<ChangeSet> changes;
    const auto replies = driver_.machine().ApplyEntry(driver_.Fill({mutation}), &changes);
    EXPECT_TRUE(replies.ok());
    granted_ = changes[0].locks_granted;
    return (*replies)[0];
  }
  proto::MutationReply As(uint64_t session, const proto::Mutation& mutation) { return Apply(Signed(session, mutation)); }
  proto::LockResult::Outcome Try(uint64_t session, const proto::Mutation& mutation) {
    const proto::MutationReply reply = As(session, mutation);
    EXPECT_EQ(CodeOf(reply), StatusCode::kOk) << reply.message();
    return reply.lock().outcome();
  }
  void Close(uint64_t session) {
    proto::Mutation mutation;
    mutation.mutable_close_session()->set_session(session);
    mutation.mutable_close_session()->set_expired(true);
    EXPECT_EQ(CodeOf(Apply(mutation)), StatusCode::kOk);
  }
  // How many records of locks there are, of any kind.
  size_t Locks() {
    size_t count = 0;
    for (const auto& [key, value] : store_.Snapshot()) count += key[0] == 'F' || key[0] == 'J' || key[0] == 'Y' ? 1 : 0;
    return count;
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t a_ = 0;
  uint64_t b_ = 0;
  uint64_t file_ = 0;
  uint64_t other_ = 0;
  size_t plain_ = 0;
  std::map<uint64_t, uint64_t> sequences_;
  std::vector<std::pair<SessionId, Sequence>> granted_;
};

TEST_F(LockOpsTest, OwnersOfTwoSessionsExcludeEachOther) {
  EXPECT_EQ(plain_, 0u);  // a state of an earlier version has none of these records
  EXPECT_EQ(Try(a_, Lock(file_, 1, true, 0, 9)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(b_, Lock(file_, 1, true, 9, 20)), Outcome::OUTCOME_DENIED);
  EXPECT_EQ(Try(b_, Lock(file_, 1, true, 10, 20)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(b_, Flock(Lock(file_, 1, true))), Outcome::OUTCOME_GRANTED) << "another space";
  EXPECT_EQ(Try(b_, Lock(other_, 1, true)), Outcome::OUTCOME_GRANTED) << "another file";
  proto::TestLockRequest test;
  test.set_inode(file_);
  *test.mutable_lock() = Lock(file_, 1, false, 0, 100).lock().lock();
  test.mutable_lock()->set_session(a_);
  proto::TestLockReply reply;
  ASSERT_TRUE(driver_.machine().TestLock(test, &reply).ok());
  EXPECT_EQ(reply.lock().session(), b_);
  EXPECT_EQ(reply.lock().first(), 10u);
  EXPECT_EQ(reply.lock().last(), 20u);
  EXPECT_TRUE(reply.lock().exclusive());
}

TEST_F(LockOpsTest, ARepeatGetsItsFirstAnswerAndTakesNothing) {
  const proto::Mutation lock = Signed(a_, Lock(file_, 1, true));
  const proto::MutationReply first = Apply(lock);
  EXPECT_EQ(As(a_, Unlock(file_, 1)).lock().owner_is_done(), true);
  EXPECT_EQ(Apply(lock).SerializeAsString(), first.SerializeAsString());
  EXPECT_EQ(Try(b_, Lock(file_, 1, true)), Outcome::OUTCOME_GRANTED) << "the late repeat has locked nothing";
  const proto::Mutation denied = Signed(a_, Lock(file_, 1, true));
  EXPECT_EQ(Apply(denied).lock().outcome(), Outcome::OUTCOME_DENIED);
  EXPECT_EQ(Try(b_, Unlock(file_, 1)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Apply(denied).lock().outcome(), Outcome::OUTCOME_DENIED);
  const proto::Mutation waiting = Signed(a_, Waiting(Lock(file_, 1, true)));
  EXPECT_EQ(Apply(waiting).lock().outcome(), Outcome::OUTCOME_GRANTED);
}

TEST_F(LockOpsTest, WaitsAreGrantedByTheUnlockAndFound) {
  EXPECT_EQ(Try(a_, Lock(file_, 1, true)), Outcome::OUTCOME_GRANTED);
  const proto::MutationReply wait = As(b_, Waiting(Lock(file_, 5, true)));
  EXPECT_EQ(wait.lock().outcome(), Outcome::OUTCOME_WAITING);
  proto::LockWaitsRequest ask;
  ask.set_session(b_);
  ask.add_waits(wait.lock().wait());
  proto::LockWaitsReply waits;
  driver_.Reopen();
  ASSERT_TRUE(driver_.machine().LockWaits(ask, &waits).ok());
  EXPECT_THAT(waits.waiting(), ElementsAre(wait.lock().wait())) << "a new leader finds it";
  EXPECT_EQ(Try(a_, Unlock(file_, 1)), Outcome::OUTCOME_GRANTED);
  EXPECT_THAT(granted_, ElementsAre(std::pair(SessionId(b_), Sequence(wait.lock().wait()))));
  waits.Clear();
  ASSERT_TRUE(driver_.machine().LockWaits(ask, &waits).ok());
  EXPECT_EQ(waits.waiting_size(), 0);
  EXPECT_EQ(Try(a_, Lock(file_, 1, true)), Outcome::OUTCOME_DENIED);
}

TEST_F(LockOpsTest, ACancelledWaitLeavesNoLock) {
  EXPECT_EQ(Try(a_, Lock(file_, 1, true)), Outcome::OUTCOME_GRANTED);
  const uint64_t wait = As(b_, Waiting(Lock(file_, 5, true))).lock().wait();
  proto::Mutation cancel;
  cancel.mutable_cancel_lock()->set_wait(wait);
  const proto::MutationReply reply = As(b_, cancel);
  EXPECT_EQ(reply.lock().outcome(), Outcome::OUTCOME_DENIED);
  EXPECT_TRUE(reply.lock().owner_is_done());
  EXPECT_EQ(Try(a_, Unlock(file_, 1)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Locks(), 0u);
  // Granted before the cancel: it says so.
  EXPECT_EQ(Try(a_, Lock(file_, 1, true)), Outcome::OUTCOME_GRANTED);
  cancel.mutable_cancel_lock()->set_wait(As(b_, Waiting(Lock(file_, 5, true))).lock().wait());
  EXPECT_EQ(Try(a_, Unlock(file_, 1)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(b_, cancel), Outcome::OUTCOME_GRANTED);
}

TEST_F(LockOpsTest, TheEndOfASessionReleasesWhatItHasAndGrantsOthers) {
  EXPECT_EQ(Try(a_, Lock(file_, 1, true, 0, 9)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(a_, Lock(file_, 2, true, 20, 29)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(a_, Flock(Lock(other_, 3, true))), Outcome::OUTCOME_GRANTED);
  const uint64_t wait = As(b_, Waiting(Lock(file_, 5, false))).lock().wait();
  const uint64_t flock_wait = As(b_, Flock(Waiting(Lock(other_, 6, true)))).lock().wait();
  EXPECT_EQ(Try(b_, Lock(other_, 5, true)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(a_, Waiting(Lock(other_, 9, true))), Outcome::OUTCOME_WAITING);
  EXPECT_EQ(*driver_.machine().HasLocks(SessionId(a_)), true);
  Close(a_);
  EXPECT_THAT(granted_, testing::UnorderedElementsAre(std::pair(SessionId(b_), Sequence(wait)),
                                                      std::pair(SessionId(b_), Sequence(flock_wait))));
  EXPECT_EQ(*driver_.machine().HasLocks(SessionId(a_)), false);
  Close(b_);
  EXPECT_EQ(Locks(), 0u);
}

TEST_F(LockOpsTest, ACircleOfWaitsIsADeadlock) {
  const uint64_t c = OpenSession(78);
  EXPECT_EQ(Try(a_, Lock(file_, 1, true, 0, 0)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(b_, Lock(file_, 2, true, 1, 1)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(c, Lock(other_, 3, true)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(a_, Waiting(Lock(file_, 1, true, 1, 1))), Outcome::OUTCOME_WAITING);
  EXPECT_EQ(Try(b_, Waiting(Lock(other_, 2, false))), Outcome::OUTCOME_WAITING);
  EXPECT_EQ(CodeOf(As(c, Waiting(Lock(file_, 3, false, 0, 0)))), StatusCode::kDeadlock);
  EXPECT_EQ(Try(c, Lock(file_, 3, false, 0, 0)), Outcome::OUTCOME_DENIED) << "who does not wait closes no circle";
  EXPECT_EQ(Try(c, Waiting(Lock(file_, 4, false, 0, 0))), Outcome::OUTCOME_WAITING) << "another owner";
  EXPECT_EQ(Try(c, Unlock(other_, 3)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(granted_.size(), 1u);
}

TEST_F(LockOpsTest, TwoReadersThatUpgradeAreADeadlockButNotWithFlock) {
  EXPECT_EQ(Try(a_, Lock(file_, 1, false)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(b_, Lock(file_, 2, false)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(a_, Waiting(Lock(file_, 1, true))), Outcome::OUTCOME_WAITING);
  EXPECT_EQ(CodeOf(As(b_, Waiting(Lock(file_, 2, true)))), StatusCode::kDeadlock);
  EXPECT_EQ(Try(a_, Flock(Lock(file_, 1, false))), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(b_, Flock(Lock(file_, 2, false))), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(a_, Flock(Waiting(Lock(file_, 1, true)))), Outcome::OUTCOME_WAITING);
  EXPECT_EQ(Try(b_, Flock(Waiting(Lock(file_, 2, true)))), Outcome::OUTCOME_GRANTED)
      << "the other gave up its old lock before it waited";
  EXPECT_EQ(Try(b_, Flock(Unlock(file_, 2))), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(granted_.size(), 1u);
}

TEST_F(LockOpsTest, AFailedFlockConversionLosesTheOldLock) {
  EXPECT_EQ(Try(a_, Flock(Lock(file_, 1, false))), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Try(b_, Flock(Lock(file_, 2, false))), Outcome::OUTCOME_GRANTED);
  const proto::MutationReply reply = As(a_, Flock(Lock(file_, 1, true)));
  EXPECT_EQ(reply.lock().outcome(), Outcome::OUTCOME_DENIED);
  EXPECT_TRUE(reply.lock().owner_is_done());
  EXPECT_EQ(Try(b_, Flock(Lock(file_, 2, true))), Outcome::OUTCOME_GRANTED);
}

TEST_F(LockOpsTest, BoundsAndWrongRangesAreRefusedWithoutATrace) {
  EXPECT_EQ(CodeOf(As(a_, Lock(99'999, 1, true))), StatusCode::kStaleHandle);
  EXPECT_EQ(CodeOf(As(a_, Unlock(99'999, 1))), StatusCode::kOk);
  EXPECT_EQ(CodeOf(As(a_, Lock(file_, 1, true, 5, 4))), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(As(a_, Lock(file_, 1, true, 0, kLockLastMax + 1))), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(As(a_, Flock(Lock(file_, 1, true, 0, 5)))), StatusCode::kInvalidArgument);
  EXPECT_EQ(Locks(), 0u);
  EXPECT_EQ(Try(a_, Lock(file_, 1, true, 0, 0)), Outcome::OUTCOME_GRANTED);
  // As if it had been locked one after another.
  LockTable full;
  for (uint64_t i = 0; i < kFileLocksMax; ++i) {
    full.Set({.owner = {SessionId(a_), 1}, .exclusive = true, .first = 2 * i, .last = 2 * i});
  }
  ASSERT_TRUE(store_.Write({.changes = {{FileLocksKey(InodeId(file_), 0), full.Encode()}}}).ok());
  driver_.Reopen();
  EXPECT_EQ(CodeOf(As(b_, Lock(file_, 1, true, 2 * kFileLocksMax, 2 * kFileLocksMax))), StatusCode::kNoLocks);
  EXPECT_EQ(*driver_.machine().HasLocks(SessionId(b_)), false);
  EXPECT_EQ(Try(a_, Unlock(file_, 1)), Outcome::OUTCOME_GRANTED);
  EXPECT_EQ(Locks(), 0u);
}

}  // namespace
}  // namespace tarn::meta
