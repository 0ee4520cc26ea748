// Who waits for which acknowledgement, and what takes its place: leases, fail-over, orphans, bounds, threads.
#include <atomic>
#include <deque>
#include <thread>

#include "metaserver/service/coherence_fixture.h"

namespace tarn::meta {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// ---- Waiting ----

TEST_F(CoherenceTest, RepeatOfAWaitingMutationWaitsAsLong) {
  Lookup(b_, root_, "f");
  const auto mutation = Sign(a_, Create(root_, "f"));
  const auto first = Apply(mutation);
  const auto repeat = Apply(mutation);
  EXPECT_EQ(repeat->reply.attributes().inode(), first->reply.attributes().inode());
  EXPECT_FALSE(repeat->answered());
  EXPECT_THAT(AckAll(b_), ElementsAre(D(root_, "f")));
  EXPECT_TRUE(first->answered());
  EXPECT_TRUE(repeat->answered());
  EXPECT_TRUE(Apply(mutation)->answered()) << "later ones do not wait";
}

TEST_F(CoherenceTest, AcknowledgementOfAnotherTermOrTwiceChangesNothing) {
  Lookup(b_, root_, "f");
  const auto first = As(a_, Create(root_, "f"));
  proto::AckPushRequest ack;
  ack.set_session(b_.id.value());
  ack.set_term(6);
  ack.add_pushes(b_.peer->Take()[0].push());
  coherence_.Acknowledge(ack);
  EXPECT_FALSE(first->answered());
  ack.set_term(7);
  coherence_.Acknowledge(ack);
  EXPECT_TRUE(first->answered());
  const auto second = As(a_, Create(root_, "g"));
  coherence_.Acknowledge(ack);
  EXPECT_FALSE(second->answered());
}

TEST_F(CoherenceTest, UnacknowledgedPushesComeAgainOnANewConnection) {
  Lookup(b_, root_, "f");
  const auto answer = As(a_, Create(root_, "f"));
  b_.peer->Take();
  b_.peer = std::make_shared<FakePeer>();
  coherence_.Attach(b_.id, b_.peer);
  EXPECT_THAT(AckAll(b_), ElementsAre(D(root_, "f")));
  EXPECT_TRUE(answer->answered());
}

TEST_F(CoherenceTest, LapsedSessionIsNotWaitedForAndIsToldSo) {
  Lookup(b_, root_, "f");
  const auto answer = As(a_, Create(root_, "f"));
  clock_.AdvanceMs(kLapseMs - 1);
  coherence_.Tick();
  EXPECT_FALSE(answer->answered()) << "its lease and the margin are not over";
  clock_.AdvanceMs(1);
  coherence_.Tick();
  EXPECT_TRUE(answer->answered());
  EXPECT_EQ(keeper_.TouchAndCount(b_.id), 1u);
  EXPECT_EQ(coherence_.stats().interests, 0u);
  // Nothing is granted until it has registered anew, knowing of the lapse.
  EXPECT_EQ(Lookup(b_, root_, "f").grant().directory(), 0u);
  KeepAlive(b_, 7, 0);
  EXPECT_EQ(Lookup(b_, root_, "f").grant().directory(), 0u);
  KeepAlive(b_, 7, 1);
  EXPECT_EQ(Lookup(b_, root_, "f").grant().directory(), root_);
}

TEST_F(CoherenceTest, SessionThatIsHeardOfDoesNotLapse) {
  Lookup(b_, root_, "f");
  const auto answer = As(a_, Create(root_, "f"));
  for (int i = 0; i < 10; ++i) {
    clock_.AdvanceMs(kLeaseMs / 3);
    keeper_.Touch(b_.id);
    coherence_.Tick();
  }
  EXPECT_FALSE(answer->answered());
}

TEST_F(CoherenceTest, ClosedSessionIsNotWaitedFor) {
  Lookup(b_, root_, "f");
  const auto answer = As(a_, Create(root_, "f"));
  proto::Mutation close;
  close.mutable_close_session()->set_session(b_.id.value());
  close.mutable_close_session()->set_expired(true);
  Apply(close);
  EXPECT_TRUE(answer->answered());
  EXPECT_EQ(coherence_.stats().sessions, 2u);
}

TEST_F(CoherenceTest, SessionClosedInTheSameEntryIsNotWaitedFor) {
  Lookup(b_, root_, "f");
  proto::Mutation close;
  close.mutable_close_session()->set_session(b_.id.value());
  const auto answers = ApplyEntry(driver_.Fill({Sign(a_, Create(root_, "f")), close}));
  EXPECT_TRUE(answers[0]->answered());
}

TEST_F(CoherenceTest, ForgottenDirectoryIsNotPushed) {
  Lookup(b_, root_, "f");
  proto::ForgetRequest forget;
  forget.set_session(b_.id.value());
  forget.set_term(7);
  forget.add_directories(root_);
  coherence_.Forget(forget);
  EXPECT_TRUE(As(a_, Create(root_, "f"))->answered());
}

// ---- A new leader ----

TEST_F(CoherenceTest, NewLeaderWaitsForEverySessionToRegister) {
  coherence_.EndLeading();
  Lead(8);
  coherence_.Attach(a_.id, a_.peer);
  coherence_.Attach(b_.id, b_.peer);
  const auto answer = As(a_, Create(root_, "f"));
  EXPECT_FALSE(answer->answered());
  EXPECT_THAT(Texts(b_.peer->Take()), ElementsAre("drop"));
  KeepAlive(b_, 7);
  EXPECT_FALSE(answer->answered()) << "b still has what the old leader granted";
  KeepAlive(b_, 8);
  EXPECT_FALSE(answer->answered()) << "so may c";
  KeepAlive(c_, 8);
  EXPECT_TRUE(answer->answered()) << "a itself need not have registered";
}

TEST_F(CoherenceTest, OnlyAKeepAliveRegisters) {
  coherence_.EndLeading();
  Lead(8);
  coherence_.Attach(b_.id, b_.peer);
  EXPECT_EQ(Lookup(b_, root_, "f").grant().directory(), 0u);
  EXPECT_THAT(AckAll(b_, {}, 8), ElementsAre("drop"));
  EXPECT_EQ(Lookup(b_, root_, "f").grant().directory(), 0u) << "that does not say what it holds";
  KeepAlive(b_, 8);
  EXPECT_EQ(Lookup(b_, root_, "f").grant().directory(), root_);
}

TEST_F(CoherenceTest, NewLeaderWaitsAtMostOneLease) {
  coherence_.EndLeading();
  Lead(8);
  const auto answer = As(a_, Create(root_, "f"));
  clock_.AdvanceMs(kLapseMs);
  coherence_.Tick();
  EXPECT_TRUE(answer->answered());
}

TEST_F(CoherenceTest, RepeatAfterAFailOverWaitsForTheOldLeadersGrants) {
  Lookup(b_, root_, "f");
  const auto mutation = Sign(a_, Create(root_, "f"));
  const auto first = Apply(mutation);
  coherence_.EndLeading();
  ASSERT_TRUE(first->released.has_value());
  EXPECT_EQ(first->released->code(), StatusCode::kNotLeader);
  Lead(8);
  const auto repeat = Apply(mutation);
  EXPECT_EQ(repeat->reply.status(), 0u);
  EXPECT_FALSE(repeat->answered()) << "b may still say that there is no f";
  KeepAlive(b_, 8);
  KeepAlive(c_, 8);
  EXPECT_TRUE(repeat->answered());
}

TEST_F(CoherenceTest, LoneSessionNeverWaitsForItself) {
  for (const Client* client : {&b_, &c_}) {
    proto::Mutation close;
    close.mutable_close_session()->set_session(client->id.value());
    Apply(close);
  }
  coherence_.EndLeading();
  Lead(8);
  EXPECT_TRUE(As(a_, Create(root_, "f"))->answered());
}

// ---- Unlinked files that others have open ----

TEST_F(CoherenceTest, HeldRemovalGoesToThoseWhoHaveItOpen) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  Lookup(c_, root_, "f");
  AckAll(b_);
  ASSERT_TRUE(coherence_.PrepareRemoval(a_.id, InodeId(root_), InodeId(file)).hold);
  const auto answer = As(a_, Unlink(root_, "f"), true);
  AckAll(b_, {file});
  EXPECT_THAT(settles_, IsEmpty()) << "c has not answered";
  AckAll(c_);
  ASSERT_EQ(settles_.size(), 1u);
  EXPECT_THAT(settles_[0].holders, ElementsAre(b_.id));
  EXPECT_TRUE(answer->answered());
  RunSettles();
  EXPECT_EQ(driver_.AttrCode(file), StatusCode::kOk) << "b reads it by its id";
  proto::Mutation release;
  release.mutable_release_orphan()->set_inode(file);
  As(b_, release);
  EXPECT_EQ(driver_.AttrCode(file), StatusCode::kStaleHandle);
}

TEST_F(CoherenceTest, SessionThatReleasedBeforeTheSettlingHoldsNothing) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  Lookup(c_, root_, "f");
  AckAll(b_);
  As(a_, Unlink(root_, "f"), true);
  AckAll(b_, {file});
  // It is closed there while c is still asked; nothing else of b's tells that.
  proto::Mutation release;
  release.mutable_release_orphan()->set_inode(file);
  As(b_, release);
  driver_.Reopen();
  AckAll(c_, {file});
  ASSERT_EQ(settles_.size(), 1u);
  EXPECT_THAT(settles_[0].holders, ElementsAre(b_.id, c_.id));
  As(b_, release);
  RunSettles();
  EXPECT_EQ(driver_.AttrCode(file), StatusCode::kOk) << "c has it open";
  As(c_, release);
  EXPECT_EQ(driver_.AttrCode(file), StatusCode::kStaleHandle) << "nobody has";
}

TEST_F(CoherenceTest, HeldRemovalThatNobodyHasOpenIsFreed) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  As(a_, Unlink(root_, "f"), true);
  EXPECT_EQ(driver_.AttrCode(file), StatusCode::kOk);
  AckAll(b_);
  RunSettles();
  EXPECT_EQ(driver_.AttrCode(file), StatusCode::kStaleHandle);
  EXPECT_EQ(coherence_.stats().unsettled_orphans, 0u);
}

TEST_F(CoherenceTest, LapsedSessionMayComeBackForItsOpenFile) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  const auto answer = As(a_, Unlink(root_, "f"), true);
  clock_.AdvanceMs(kLapseMs);
  keeper_.Touch(a_.id);
  coherence_.Tick();
  EXPECT_TRUE(answer->answered());
  EXPECT_THAT(settles_, IsEmpty()) << "b is not closed";
  KeepAlive(b_, 7, 1, {file});
  // c lapsed as well, but has not been asked: it cached nothing.
  ASSERT_EQ(settles_.size(), 1u);
  EXPECT_THAT(settles_[0].holders, ElementsAre(b_.id));
}

TEST_F(CoherenceTest, ClosedSessionHoldsNothing) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  As(a_, Unlink(root_, "f"), true);
  proto::Mutation close;
  close.mutable_close_session()->set_session(b_.id.value());
  Apply(close);
  RunSettles();
  EXPECT_EQ(driver_.AttrCode(file), StatusCode::kStaleHandle);
}

TEST_F(CoherenceTest, SettlingThatFailedIsTriedAgain) {
  File(root_, "f");
  Lookup(b_, root_, "f");
  As(a_, Unlink(root_, "f"), true);
  AckAll(b_);
  ASSERT_EQ(settles_.size(), 1u);
  settles_[0].done(Status(StatusCode::kResourceExhausted, "full"));
  settles_.clear();
  coherence_.Tick();
  EXPECT_EQ(settles_.size(), 1u);
}

TEST_F(CoherenceTest, NewLeaderSettlesWhatIsLeft) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  As(a_, Unlink(root_, "f"), true);
  coherence_.EndLeading();
  Lead(8);
  KeepAlive(a_, 8);
  KeepAlive(b_, 8, 0, {file});
  EXPECT_THAT(settles_, IsEmpty());
  KeepAlive(c_, 8);
  ASSERT_EQ(settles_.size(), 1u);
  EXPECT_THAT(settles_[0].holders, ElementsAre(b_.id));
}

TEST_F(CoherenceTest, NothingNewIsGrantedWhileARemovalThatIsNotHeldIsOnItsWay) {
  const uint64_t file = File(root_, "f");
  auto removal = coherence_.PrepareRemoval(a_.id, InodeId(root_), InodeId(file));
  EXPECT_FALSE(removal.hold);
  EXPECT_EQ(Lookup(b_, root_, "f").grant().directory(), 0u);
  EXPECT_EQ(GetAttr(b_, file, true).grant().inode(), 0u);
  EXPECT_EQ(Lookup(a_, root_, "f").grant().directory(), root_) << "its own removal is no reason";
  removal.pending.reset();
  EXPECT_EQ(Lookup(b_, root_, "f").grant().directory(), root_);
}

// ---- Bounds ----

TEST_F(CoherenceTest, BusyDirectoryIsNotCachedForAWhile) {
  Lookup(b_, root_, "x");
  Lookup(c_, root_, "x");
  AckAll(b_);
  int changes = 0;
  for (; changes < 3000 && coherence_.stats().drops == 0; ++changes) {
    As(a_, Create(root_, "f" + std::to_string(changes)));
    if (coherence_.stats().drops != 0) break;
    AckAll(b_);
    AckAll(c_);
  }
  EXPECT_EQ(changes, 2000) << "a burst of 4000 pushes, two for each change";
  const auto waiting = As(a_, Create(root_, "waits"));
  EXPECT_EQ(Lookup(b_, root_, "x").grant().directory(), 0u);
  EXPECT_THAT(AckAll(b_), ElementsAre("d" + std::to_string(IdCounter(root_)) + " drop"));
  EXPECT_FALSE(waiting->answered()) << "c has not dropped it yet";
  EXPECT_THAT(AckAll(c_), ElementsAre("d" + std::to_string(IdCounter(root_)) + " drop"));
  EXPECT_TRUE(waiting->answered());
  EXPECT_TRUE(As(a_, Create(root_, "free"))->answered());
  EXPECT_EQ(Lookup(b_, root_, "x").grant().directory(), 0u);
  clock_.AdvanceMs(10'000);
  EXPECT_EQ(Lookup(b_, root_, "x").grant().directory(), root_);
}

TEST_F(CoherenceTest, OpenFilesOfADroppedDirectoryStayCovered) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  for (int i = 0; coherence_.stats().drops == 0; ++i) {
    As(a_, Chmod(root_, 0700 + (i & 7)));
    if (coherence_.stats().drops == 0) AckAll(b_);
  }
  AckAll(b_, {file});
  As(a_, Unlink(root_, "f"), true);
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file, "removed report")));
}

TEST_F(CoherenceTest, SessionThatDoesNotAcknowledgeLosesItsInterests) {
  Lookup(b_, root_, "x");
  std::vector<std::shared_ptr<Answer>> answers;
  for (int i = 0; i < 20; ++i) answers.push_back(As(a_, Create(root_, "f" + std::to_string(i))));
  EXPECT_EQ(coherence_.stats().unacknowledged_pushes, 9u);
  EXPECT_EQ(coherence_.stats().interests, 0u);
  for (const auto& answer : answers) EXPECT_FALSE(answer->answered());
  KeepAlive(b_, 7);
  EXPECT_FALSE(answers.back()->answered()) << "a keep-alive does not say that it has forgotten";
  EXPECT_THAT(AckAll(b_), Contains("drop"));
  for (const auto& answer : answers) EXPECT_TRUE(answer->answered());
}

TEST_F(CoherenceTest, ThousandReadersOfOneDirectoryCostNoPushes) {
  std::vector<Client> readers;
  for (int i = 0; i < 1000; ++i) readers.push_back(Open());
  for (int round = 0; round < 3; ++round) {
    for (const Client& reader : readers) EXPECT_EQ(Lookup(reader, root_, "x").grant().directory(), root_);
  }
  EXPECT_EQ(coherence_.stats().interests, 1000u);
  EXPECT_LE(coherence_.stats().pushes, 1u) << "that it is shared, to the first";
}

// ---- Threads ----

// Readers register, read and remember as a client would; a writer changes a file. Once a change is answered, no reader
// may still have the older value.
TEST_F(CoherenceTest, AnsweredChangeIsSeenByEveryReader) {
  constexpr int kChanges = 300;
  const uint64_t file = File(root_, "f");
  struct Reader {
    Client client;
    Mutex mutex;
    uint64_t pushes = 0;             // about the file
    std::optional<uint32_t> cached;  // mode
  };
  std::deque<Reader> readers(2);
  for (Reader& reader : readers) reader.client = Open();
  std::atomic<bool> done{false};
  const auto read = [&](Reader& reader) {
    while (!done) {
      for (const proto::InvalidatePush& push : reader.client.peer->Take()) {
        {
          MutexLock lock(reader.mutex);
          ++reader.pushes;
          reader.cached.reset();
        }
        proto::AckPushRequest ack;
        ack.set_session(reader.client.id.value());
        ack.set_term(7);
        ack.add_pushes(push.push());
        coherence_.Acknowledge(ack);
      }
      uint64_t seen = 0;
      {
        MutexLock lock(reader.mutex);
        if (reader.cached) {
          std::this_thread::yield();
          continue;
        }
        seen = reader.pushes;
      }
      const auto reply = Lookup(reader.client, root_, "f");
      MutexLock lock(reader.mutex);
      if (reply.grant().directory() != 0 && seen == reader.pushes) reader.cached = reply.attributes().mode();
    }
  };
  std::vector<std::thread> threads;
  for (Reader& reader : readers) threads.emplace_back([&] { read(reader); });
  for (uint32_t i = 1; i <= kChanges; ++i) {
    proto::LogEntry entry = driver_.Fill({Sign(a_, Chmod(file, i))});
    std::vector<ChangeSet> changes;
    const auto replies = driver_.machine().ApplyEntry(entry, &changes);
    coherence_.OnApplied(entry, *replies, changes);
    std::atomic<bool> answered{false};
    const PushCoordinator::MutationId id(a_.id, a_.sequence);
    coherence_.WhenAcknowledged({&id, 1}, [&](const Status&) { answered = true; });
    while (!answered) std::this_thread::yield();
    for (Reader& reader : readers) {
      MutexLock lock(reader.mutex);
      if (reader.cached) {
        ASSERT_EQ(*reader.cached, i);
      }
    }
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tarn::meta
