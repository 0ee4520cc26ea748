#include "tests/exactly_once/actor.h"

#include <optional>
#include <utility>

#include "common/base/check.h"

namespace tarn::testing {
namespace {

constexpr int64_t kChatIntervalMs = 30;

}  // namespace

Actor::Actor(rpc::EventLoop* loop, const ActorOptions& options) : loop_(loop), chatty_(options.chatty) {
  client::MetadataChannelOptions channel;
  channel.addresses = options.addresses;
  channel.client_name = "exactly-once";
  channel.call_timeout_ms = options.call_timeout_ms;
  metadata_ = std::make_unique<client::MetadataClient>(loop_, &clock_, &random_, channel);
}

Actor::~Actor() {
  (void)client::WaitStatus([this](StatusCallback done) {
    loop_->Post([chats = chats_, done = std::move(done)] {
      *chats = false;
      done(Status::Ok());
    });
  });
  metadata_->Shutdown(1);
}

void Actor::MakeDirectory(uint64_t parent, const std::string& name) {
  proto::Mutation mutation;
  mutation.mutable_mkdir()->set_parent(parent);
  mutation.mutable_mkdir()->set_name(name);
  mutation.mutable_mkdir()->set_mode(0755);
  directory_ = Must(mutation).attributes().inode();
}

Result<proto::MutationReply> Actor::Mutate(const proto::Mutation& mutation) {
  return client::Wait<proto::MutationReply>(
      [&](client::Callback<proto::MutationReply> done) { metadata_->Mutate(mutation, std::move(done)); });
}

proto::MutationReply Actor::Must(const proto::Mutation& mutation) {
  auto reply = Mutate(mutation);
  CHECK(reply.ok(), mutation.ShortDebugString() + ": " + reply.status().ToString());
  return *std::move(reply);
}

std::optional<proto::Attributes> Actor::Get(uint64_t inode) {
  proto::GetAttrRequest request;
  request.set_inode(inode);
  auto reply = Read<proto::GetAttrReply>(rpc::Method::kGetAttr, request);
  if (reply.status().code() == StatusCode::kStaleHandle || reply.status().code() == StatusCode::kNotFound) return std::nullopt;
  CHECK(reply.ok(), reply.status().ToString());
  return reply->attributes();
}

std::optional<proto::Attributes> Actor::Find(const std::string& name) {
  proto::LookupRequest request;
  request.set_parent(directory_);
  request.set_name(name);
  auto reply = Read<proto::LookupReply>(rpc::Method::kLookup, request);
  if (reply.status().code() == StatusCode::kNotFound) return std::nullopt;
  CHECK(reply.ok(), reply.status().ToString());
  return reply->attributes();
}

void Actor::BeginToChat() {
  if (!chatty_) return;
  loop_->Post([this, chats = chats_] {
    *chats = true;
    ReadOnce();
  });
}

void Actor::ReadOnce() {
  if (!*chats_) return;
  metadata_->GetAttributes(InodeId(directory_), [](const Result<client::Attributes>&) {});
  loop_->PostAfter(kChatIntervalMs, [this, chats = chats_] {
    if (*chats) ReadOnce();
  });
}

}  // namespace tarn::testing
