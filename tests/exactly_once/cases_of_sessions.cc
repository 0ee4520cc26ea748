#include <algorithm>
#include <optional>
#include <utility>

#include "proto/locks.pb.h"
#include "tests/exactly_once/cases.h"

namespace tarn::testing {
namespace {

using proto::LockResult;
using proto::Mutation;

// ---- Sessions ----

// The actor has none before.
class OpenSessionCase final : public Case {
 public:
  OpenSessionCase() : Case("open_session") {}
  void Act(Cast& cast) override { opened_ = cast.other->OpenSession(); }
  std::string Check(Cast& cast) override {
    if (!opened_.ok()) return opened_.ToString();
    return cast.other->session() == 0 ? "there is no session" : "";
  }
  int sessions_gained() const override { return 1; }

 private:
  Status opened_;
};

class CloseSessionCase final : public Case {
 public:
  CloseSessionCase() : Case("close_session") {}
  void Prepare(Cast& cast) override {
    CHECK(cast.other->OpenSession().ok(), "a session");
    session_ = cast.other->session();
  }
  void Act(Cast& cast) override { cast.other->Close(); }
  std::string Check(Cast& cast) override {
    proto::LockWaitsRequest request;
    request.set_session(session_);
    const auto known = cast.actor->Read<proto::LockWaitsReply>(rpc::Method::kLockWaits, request);
    return known.status().code() == StatusCode::kUnknownSession ? "" : "the session is still there: " + known.status().ToString();
  }

 private:
  uint64_t session_ = 0;
};

// ---- Locks ----

Mutation LockOf(uint64_t inode, uint64_t owner) {
  Mutation mutation;
  proto::LockOp* const lock = mutation.mutable_lock();
  lock->set_inode(inode);
  lock->set_space(proto::LOCK_SPACE_FLOCK);
  lock->mutable_lock()->set_owner(owner);
  lock->mutable_lock()->set_exclusive(true);
  lock->mutable_lock()->set_last(INT64_MAX);
  return mutation;
}

Mutation UnlockOf(uint64_t inode, uint64_t owner) {
  Mutation mutation = LockOf(inode, owner);
  mutation.mutable_lock()->set_unlock(true);
  return mutation;
}

// The session that holds the lock; 0: nobody.
uint64_t HolderOf(Actor& actor, uint64_t inode) {
  proto::TestLockRequest request;
  request.set_inode(inode);
  request.set_space(proto::LOCK_SPACE_FLOCK);
  request.mutable_lock()->set_owner(999);
  request.mutable_lock()->set_exclusive(true);
  request.mutable_lock()->set_last(INT64_MAX);
  const auto reply = actor.Read<proto::TestLockReply>(rpc::Method::kTestLock, request);
  CHECK(reply.ok(), reply.status().ToString());
  return reply->lock().session();
}

class LockCase : public Case {
 public:
  enum class Kind { kLock, kUnlock, kWait, kCancel };
  explicit LockCase(Kind kind) : Case(kind == Kind::kCancel ? "cancel_lock" : "lock"), kind_(kind) {}

  void Prepare(Cast& cast) override {
    Mutation create;
    create.mutable_create()->set_parent(cast.actor->directory());
    create.mutable_create()->set_name("file");
    create.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
    inode_ = cast.actor->Must(create).attributes().inode();
    if (kind_ == Kind::kUnlock) cast.actor->Must(LockOf(inode_, kOwner));
    if (kind_ == Kind::kLock || kind_ == Kind::kUnlock) return;
    CHECK(cast.other->OpenSession().ok(), "a session");
    cast.other->Must(LockOf(inode_, kOwner));
    if (kind_ == Kind::kWait) return;
    const auto waits = cast.actor->Must(WaitOf());
    CHECK(waits.lock().outcome() == LockResult::OUTCOME_WAITING, "another session has the lock");
    wait_ = waits.lock().wait();
  }
  void Act(Cast& cast) override {
    Mutation mutation;
    if (kind_ == Kind::kLock) mutation = LockOf(inode_, kOwner);
    if (kind_ == Kind::kUnlock) mutation = UnlockOf(inode_, kOwner);
    if (kind_ == Kind::kWait) mutation = WaitOf();
    if (kind_ == Kind::kCancel) mutation.mutable_cancel_lock()->set_wait(wait_);
    reply_ = cast.actor->Mutate(mutation);
  }
  std::string Check(Cast& cast) override {
    if (!reply_->ok()) return reply_->status().ToString();
    const LockResult::Outcome outcome = (*reply_)->lock().outcome();
    switch (kind_) {
      case Kind::kLock:
        if (outcome != LockResult::OUTCOME_GRANTED) return "its own lock is in its way";
        return HolderOf(*cast.actor, inode_) == cast.actor->session() ? "" : "it does not have the lock";
      case Kind::kUnlock:
        if (outcome != LockResult::OUTCOME_GRANTED) return "it was not unlocked";
        return HolderOf(*cast.actor, inode_) == 0 ? "" : "somebody has the lock";
      case Kind::kWait:
        if (outcome != LockResult::OUTCOME_WAITING) return "it does not wait";
        // There is one wait, and it gets the lock.
        cast.other->Must(UnlockOf(inode_, kOwner));
        if (HolderOf(*cast.actor, inode_) != cast.actor->session()) return "the wait did not get the lock";
        cast.actor->Must(UnlockOf(inode_, kOwner));
        return HolderOf(*cast.actor, inode_) == 0 ? "" : "there was a second wait";
      case Kind::kCancel:
        // A cancel that is carried out again finds no wait, as if the lock had been granted.
        if (outcome != LockResult::OUTCOME_DENIED) return "it says that the lock was granted";
        cast.other->Must(UnlockOf(inode_, kOwner));
        return HolderOf(*cast.actor, inode_) == 0 ? "" : "the wait was still there";
    }
    return "";
  }

 private:
  static constexpr uint64_t kOwner = 7;
  Mutation WaitOf() const {
    Mutation mutation = LockOf(inode_, kOwner);
    mutation.mutable_lock()->set_wait(true);
    return mutation;
  }

  const Kind kind_;
  uint64_t inode_ = 0;
  uint64_t wait_ = 0;
  std::optional<Result<proto::MutationReply>> reply_;
};

// ---- Volumes ----

class VolumeCase : public Case {
 public:
  explicit VolumeCase(std::string operation) : Case(std::move(operation)), name_("volume-" + this->operation()) {}
  void Prepare(Cast& cast) override {
    if (operation() != "create_volume") CHECK(Create(cast).ok(), "a volume");
  }
  void Act(Cast& cast) override {
    if (operation() == "create_volume") {
      const auto made = Create(cast);
      done_ = made.status();
      if (made.ok()) id_ = made->id;
    } else if (operation() == "resize_volume") {
      done_ = cast.admin->ResizeVolume(name_, uint64_t{1} << 40, std::nullopt).status();
    } else {
      done_ = cast.admin->DeleteVolume(name_, /*recursive=*/false);
    }
  }
  std::string Check(Cast& cast) override {
    if (!done_.ok()) return done_.ToString();
    const auto volumes = cast.admin->ListVolumes();
    if (!volumes.ok()) return volumes.status().ToString();
    const auto found = std::ranges::find(*volumes, name_, &client::VolumeInfo::name);
    if (operation() == "delete_volume") return found == volumes->end() ? "" : "it is still there";
    if (found == volumes->end()) return "it is not there";
    if (operation() == "create_volume") return found->id == id_ ? "" : "it is another one than the answer says";
    return found->quota_bytes == uint64_t{1} << 40 ? "" : "it has another size";
  }

 private:
  Result<client::VolumeInfo> Create(Cast& cast) {
    client::VolumeRequest request;
    request.name = name_;
    return cast.admin->CreateVolume(request);
  }

  const std::string name_;
  Status done_;
  VolumeId id_;
};

}  // namespace

std::vector<CasePtr> SessionCases() {
  std::vector<CasePtr> cases;
  cases.push_back(std::make_unique<OpenSessionCase>());
  cases.push_back(std::make_unique<CloseSessionCase>());
  for (const auto kind : {LockCase::Kind::kLock, LockCase::Kind::kUnlock, LockCase::Kind::kWait, LockCase::Kind::kCancel})
    cases.push_back(std::make_unique<LockCase>(kind));
  for (const char* operation : {"create_volume", "resize_volume", "delete_volume"}) cases.push_back(std::make_unique<VolumeCase>(operation));
  return cases;
}

}  // namespace tarn::testing
