// For tests of coherence: a real state machine, sessions with fake connections, a fake clock.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/service/granted_reads.h"
#include "metaserver/service/push_coordinator.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"
#include "proto/hello.pb.h"

namespace tarn::meta {

inline constexpr int64_t kLeaseMs = 5000;
inline constexpr int64_t kLapseMs = kLeaseMs + kLeaseMs / 8 + 1;

class FakePeer final : public rpc::Peer {
 public:
  const proto::HelloRequest& hello() const override { return hello_; }
  const std::string& address() const override { return address_; }
  bool connected() const override { return true; }
  void Push(rpc::Method method, const google::protobuf::MessageLite& message) override {
    EXPECT_EQ(method, rpc::Method::kInvalidate);
    MutexLock lock(mutex_);
    pushes_.push_back(static_cast<const proto::InvalidatePush&>(message));
  }
  std::vector<proto::InvalidatePush> Take() {
    MutexLock lock(mutex_);
    return std::exchange(pushes_, {});
  }

 private:
  const proto::HelloRequest hello_;
  const std::string address_ = "fake";
  Mutex mutex_;
  std::vector<proto::InvalidatePush> pushes_;
};

// "d16:a,b i17 data" and so on: what a push says, for comparing.
inline std::string Text(const proto::Invalidation& item) {
  std::string text;
  if (item.directory() != 0) {
    text += "d" + std::to_string(IdCounter(item.directory()));
    for (int i = 0; i < item.names_size(); ++i) text += (i == 0 ? ":" : ",") + item.names(i);
  }
  if (item.inode() != 0) text += (text.empty() ? "i" : " i") + std::to_string(IdCounter(item.inode()));
  if (item.data()) text += " data";
  if (item.removed()) text += " removed";
  if (item.report_open()) text += " report";
  if (item.recall_write()) text += " recall";
  if (item.drop()) text += text.empty() ? "drop" : " drop";
  if (item.shared()) text += " shared";
  return text;
}

inline std::vector<std::string> Texts(const std::vector<proto::InvalidatePush>& pushes) {
  std::vector<std::string> texts;
  for (const auto& push : pushes) {
    for (const auto& item : push.items()) texts.push_back(Text(item));
  }
  return texts;
}

struct Client {
  SessionId id;
  std::shared_ptr<FakePeer> peer = std::make_shared<FakePeer>();
  uint64_t sequence = 0;
};

struct Answer {
  proto::MutationReply reply;
  std::optional<Status> released;
  bool answered() const { return released.has_value() && released->ok(); }
};

class CoherenceTest : public ::testing::Test {
 protected:
  CoherenceTest() {
    driver_.SetUpCluster();
    root_ = driver_.root();
    coherence_.SetSettle([this](InodeId inode, std::vector<SessionId> holders, auto done) {
      settles_.push_back({inode, std::move(holders), std::move(done)});
    });
    Lead(7);
    a_ = Open();
    b_ = Open();
    c_ = Open();
  }

  void Lead(uint64_t term) {
    std::vector<proto::SessionRecord> records;
    ASSERT_TRUE(driver_.machine().ListSessions(&records).ok());
    std::vector<InodeId> orphans;
    ASSERT_TRUE(driver_.machine().ListUnsettledOrphans(&orphans).ok());
    std::vector<SessionId> sessions;
    for (const auto& record : records) sessions.emplace_back(record.id());
    keeper_.Reset(sessions);
    coherence_.BeginLeading(term, records, orphans);
  }

  Client Open(bool caches = true) {
    proto::Mutation mutation;
    mutation.mutable_open_session()->set_nonce(++nonce_);
    mutation.mutable_open_session()->set_caches(caches);
    Client client;
    client.id = SessionId(Apply(mutation)->reply.session());
    keeper_.Add(client.id);
    coherence_.Attach(client.id, client.peer);
    return client;
  }

  std::shared_ptr<Answer> Apply(const proto::Mutation& mutation, bool hold = false) {
    proto::LogEntry entry = driver_.Fill({mutation});
    entry.mutable_commands(0)->set_hold_removed(hold);
    return ApplyEntry(entry).front();
  }
  std::vector<std::shared_ptr<Answer>> ApplyEntry(const proto::LogEntry& entry) {
    std::vector<ChangeSet> changes;
    auto replies = driver_.machine().ApplyEntry(entry, coherence_.WantsChanges() ? &changes : nullptr);
    EXPECT_TRUE(replies.ok());
    coherence_.OnApplied(entry, *replies, changes);
    std::vector<std::shared_ptr<Answer>> answers;
    for (int i = 0; i < entry.commands_size(); ++i) {
      const proto::Mutation& mutation = entry.commands(i).mutation();
      auto answer = std::make_shared<Answer>();
      answer->reply = (*replies)[static_cast<size_t>(i)];
      const PushCoordinator::MutationId id(mutation.session(), mutation.sequence());
      coherence_.WhenAcknowledged({&id, 1}, [answer](const Status& status) {
        EXPECT_FALSE(answer->released.has_value()) << "answered twice";
        answer->released = status;
      });
      answers.push_back(std::move(answer));
    }
    return answers;
  }
  proto::Mutation Sign(Client& client, proto::Mutation mutation) {
    mutation.set_session(client.id.value());
    mutation.set_sequence(++client.sequence);
    return mutation;
  }
  std::shared_ptr<Answer> As(Client& client, const proto::Mutation& mutation, bool hold = false) {
    return Apply(Sign(client, mutation), hold);
  }

  // ---- Reads ----
  proto::LookupReply Lookup(const Client& client, uint64_t parent, const std::string& name) {
    proto::LookupRequest request;
    request.set_parent(parent);
    request.set_name(name);
    request.set_session(client.id.value());
    proto::LookupReply reply;
    EXPECT_TRUE(LookupGranted(driver_.machine(), &coherence_, request, &reply).ok());
    return reply;
  }
  proto::GetAttrReply GetAttr(const Client& client, uint64_t inode, bool will_open = false) {
    proto::GetAttrRequest request;
    request.set_inode(inode);
    request.set_session(client.id.value());
    request.set_will_open(will_open);
    proto::GetAttrReply reply;
    EXPECT_TRUE(GetAttrGranted(driver_.machine(), &coherence_, request, &reply).ok());
    return reply;
  }
  proto::ReadDirReply ReadDir(const Client& client, uint64_t directory) {
    proto::ReadDirRequest request;
    request.set_directory(directory);
    request.set_session(client.id.value());
    proto::ReadDirReply reply;
    EXPECT_TRUE(ReadDirGranted(driver_.machine(), &coherence_, request, &reply).ok());
    return reply;
  }

  // ---- Mutations ----
  static proto::Mutation Create(uint64_t parent, const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_create()->set_parent(parent);
    mutation.mutable_create()->set_name(name);
    mutation.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
    mutation.mutable_create()->set_mode(0644);
    return mutation;
  }
  static proto::Mutation Unlink(uint64_t parent, const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_unlink()->set_parent(parent);
    mutation.mutable_unlink()->set_name(name);
    return mutation;
  }
  static proto::Mutation Link(uint64_t inode, uint64_t parent, const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_link()->set_inode(inode);
    mutation.mutable_link()->set_new_parent(parent);
    mutation.mutable_link()->set_new_name(name);
    return mutation;
  }
  static proto::Mutation Rename(uint64_t parent, const std::string& name, uint64_t new_parent,
                                const std::string& new_name) {
    proto::Mutation mutation;
    mutation.mutable_rename()->set_parent(parent);
    mutation.mutable_rename()->set_name(name);
    mutation.mutable_rename()->set_new_parent(new_parent);
    mutation.mutable_rename()->set_new_name(new_name);
    return mutation;
  }
  static proto::Mutation Chmod(uint64_t inode, uint32_t mode) {
    proto::Mutation mutation;
    mutation.mutable_set_attr()->set_inode(inode);
    mutation.mutable_set_attr()->set_mode(mode);
    return mutation;
  }
  static proto::Mutation Truncate(uint64_t inode, uint64_t size) {
    proto::Mutation mutation;
    mutation.mutable_truncate()->set_inode(inode);
    mutation.mutable_truncate()->set_size_bytes(size);
    return mutation;
  }
  uint64_t Dir(const std::string& name) { return driver_.Mkdir(root_, name).attributes().inode(); }
  uint64_t File(uint64_t parent, const std::string& name) { return driver_.Create(parent, name).attributes().inode(); }

  // ---- Acknowledgements ----
  // Everything that came, saying that these are open.
  std::vector<std::string> AckAll(Client& client, const std::vector<uint64_t>& open = {}, uint64_t term = 7) {
    const auto pushes = client.peer->Take();
    proto::AckPushRequest ack;
    ack.set_session(client.id.value());
    ack.set_term(term);
    for (const auto& push : pushes) ack.add_pushes(push.push());
    for (const uint64_t inode : open) ack.add_open_inodes(inode);
    coherence_.Acknowledge(ack);
    return Texts(pushes);
  }
  void KeepAlive(Client& client, uint64_t term, std::optional<uint64_t> lapses = std::nullopt,
                 const std::vector<uint64_t>& open = {}, const std::vector<uint64_t>& written = {}) {
    const auto now = keeper_.TouchAndCount(client.id);
    ASSERT_TRUE(now.has_value());
    proto::KeepAliveRequest request;
    request.set_session(client.id.value());
    request.set_term(term);
    request.set_lapses(lapses.value_or(*now));
    for (const uint64_t inode : open) request.add_open_inodes(inode);
    for (const uint64_t inode : written) request.add_written_inodes(inode);
    coherence_.KeepAlive(request, *now);
  }
  // The proposals to settle, carried out.
  void RunSettles() {
    for (auto& settle : std::exchange(settles_, {})) {
      proto::Mutation mutation;
      mutation.mutable_settle_orphan()->set_inode(settle.inode.value());
      for (const SessionId holder : settle.holders) mutation.mutable_settle_orphan()->add_sessions(holder.value());
      EXPECT_EQ(Apply(mutation)->reply.status(), 0u);
      settle.done(Status::Ok());
    }
  }
  std::string D(uint64_t directory, const std::string& names) {
    return "d" + std::to_string(IdCounter(directory)) + ":" + names;
  }
  std::string I(uint64_t inode, const std::string& rest = "") {
    return "i" + std::to_string(IdCounter(inode)) + (rest.empty() ? "" : " " + rest);
  }

  struct SettleCall {
    InodeId inode;
    std::vector<SessionId> holders;
    std::function<void(const Status&)> done;
  };

  FakeClock clock_;
  SessionKeeper keeper_{&clock_, kLeaseMs};
  PushCoordinatorOptions options_{.interests = {}, .budget = {}, .pushes_per_session_max = 8};
  PushCoordinator coherence_{options_, &clock_, &keeper_};
  MemoryKv store_;
  StateDriver driver_{&store_};
  std::vector<SettleCall> settles_;
  uint64_t root_ = 0;
  uint64_t nonce_ = 100;
  Client a_, b_, c_;
};

}  // namespace tarn::meta
