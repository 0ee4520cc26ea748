#include "tests/sim/client_cache.h"

#include <utility>

#include "client/meta/convert.h"
#include "common/base/check.h"

namespace tarn::sim {
namespace {

constexpr uint64_t kCacheBytesMax = 1 << 20;

}  // namespace

ClientCache::ClientCache(Scheduler* scheduler, Plant plant, std::function<void()> keep_alive_now)
    : scheduler_(scheduler),
      plant_(plant),
      keep_alive_now_(std::move(keep_alive_now)),
      clock_(scheduler, 1.0, kSecond),
      random_(scheduler),
      cache_(&clock_, &random_, kCacheBytesMax) {}

void ClientCache::SetSession(uint64_t session) {
  session_ = session;
  registered_ = false;
  lapses_ = 0;
  cache_.Drop();
}

// ---- Keep-alives ----

ClientCache::Asked ClientCache::Prepare(proto::KeepAliveRequest* request) const {
  request->set_term(term_);
  request->set_lapses(lapses_);
  return {.term = term_, .lapses = lapses_, .sent_ns = clock_.MonotonicNs()};
}

void ClientCache::Register() {
  if (plant_ != Plant::kCacheAcrossTerms) cache_.Drop();
  keep_alive_now_();
}

void ClientCache::NoteTerm(uint64_t term) {
  if (term <= term_) return;
  term_ = term;
  lapses_ = 0;
  registered_ = false;
  Register();
}

void ClientCache::OnKeepAlive(const Asked& asked, const proto::KeepAliveReply& reply) {
  if (reply.term() == 0) return;
  if (reply.term() > term_ || (reply.term() == term_ && reply.lapses() > lapses_)) {
    term_ = reply.term();
    lapses_ = reply.lapses();
    registered_ = false;
    return Register();
  }
  if (asked.term != term_ || reply.term() != term_ || asked.lapses != lapses_) return;
  registered_ = true;
  if (!cache_.usable() && plant_ != Plant::kCacheAcrossTerms) cache_.Drop();
  const int64_t lease_ns = int64_t{reply.lease_ms()} * kMillisecond;
  cache_.Extend(reply.term(), asked.sent_ns + (plant_ == Plant::kCacheBeyondLease ? 20 * lease_ns : lease_ns));
}

// ---- Pushes ----

std::optional<proto::AckPushRequest> ClientCache::OnPush(const std::string& message) {
  proto::InvalidatePush push;
  CHECK(push.ParseFromString(message), "a push comes as it was sent");
  if (push.session() != session_) return std::nullopt;
  NoteTerm(push.term());
  if (push.term() < term_) return std::nullopt;
  const bool ignored = plant_ == Plant::kIgnorePush && scheduler_->dice().Chance(0.1);
  if (!ignored) cache_.Apply(push);
  proto::AckPushRequest acknowledgement;
  acknowledgement.set_session(push.session());
  acknowledgement.set_term(push.term());
  acknowledgement.add_pushes(push.push());
  return acknowledgement;
}

// ---- Replies ----

void ClientCache::OnLookup(uint64_t token, const proto::LookupRequest& request, const proto::LookupReply& reply) {
  if (!reply.has_grant()) return;
  NoteTerm(reply.grant().term());
  const auto admission = cache_.Admit(reply.grant(), token);
  const client::Attributes found = client::AttributesFromProto(reply.attributes());
  cache_.PutName(admission, request.name(), found.inode);
  if (found.inode.valid()) cache_.PutAttributes(admission, found);
}

void ClientCache::OnGetAttr(uint64_t token, const proto::GetAttrReply& reply) {
  if (!reply.has_grant()) return;
  NoteTerm(reply.grant().term());
  cache_.PutAttributes(cache_.Admit(reply.grant(), token), client::AttributesFromProto(reply.attributes()));
}

void ClientCache::NameChanged(uint64_t token, uint64_t parent, const std::string& name, uint64_t inode,
                              const proto::MutationReply& reply) {
  cache_.NameChanged(token, InodeId(parent), name, InodeId(inode));
  std::optional<client::Attributes> attributes;
  for (const proto::Attributes* each : {&reply.parent(), &reply.new_parent()}) {
    if (each->inode() == parent) attributes = client::AttributesFromProto(*each);
  }
  cache_.ParentChanged(token, InodeId(parent), attributes);
}

void ClientCache::OnNameRemoved(uint64_t token, const proto::MutationReply& reply) {
  if (reply.removed().inode() == 0) return;
  const client::Attributes removed = client::AttributesFromProto(reply.removed());
  cache_.AttributesChanged(token, removed, false);
  if (removed.type == client::FileType::kDirectory) cache_.ForgetDirectory(removed.inode);
}

// The attributes of what has this name, as far as that is known; else of everything.
void ClientCache::ForgetNamed(uint64_t parent, const std::string& name) {
  const auto known = FindName(parent, name);
  if (!known) return cache_.Drop();
  if (known->inode.valid()) cache_.ForgetAttributes(known->inode, false);
}

void ClientCache::OnRenamed(uint64_t token, const proto::RenameOp& op, const proto::MutationReply& reply) {
  const proto::Attributes& moved = reply.attributes();
  if (op.exchange()) {
    ForgetNamed(op.parent(), op.name());
    ForgetNamed(op.new_parent(), op.new_name());
    cache_.ForgetDirectory(InodeId(op.parent()));
    cache_.ForgetDirectory(InodeId(op.new_parent()));
  } else if (moved.type() != proto::FILE_TYPE_DIRECTORY && moved.nlink() != 1) {
    cache_.ForgetName(InodeId(op.parent()), op.name());
    cache_.ForgetName(InodeId(op.new_parent()), op.new_name());
  } else {
    NameChanged(token, op.parent(), op.name(), 0, reply);
    NameChanged(token, op.new_parent(), op.new_name(), moved.inode(), reply);
  }
  OnNameRemoved(token, reply);
}

// The outcome says that something is not as it was thought.
void ClientCache::ForgetNames(const proto::Mutation& mutation) {
  const auto forget = [this](uint64_t parent, const std::string& name) { cache_.ForgetName(InodeId(parent), name); };
  if (mutation.has_create()) forget(mutation.create().parent(), mutation.create().name());
  if (mutation.has_mkdir()) forget(mutation.mkdir().parent(), mutation.mkdir().name());
  if (mutation.has_link()) forget(mutation.link().new_parent(), mutation.link().new_name());
  if (mutation.has_unlink()) forget(mutation.unlink().parent(), mutation.unlink().name());
  if (mutation.has_rmdir()) forget(mutation.rmdir().parent(), mutation.rmdir().name());
  if (!mutation.has_rename()) return;
  forget(mutation.rename().parent(), mutation.rename().name());
  forget(mutation.rename().new_parent(), mutation.rename().new_name());
}

void ClientCache::OnMutated(uint64_t token, const proto::Mutation& mutation, StatusCode code,
                            const proto::MutationReply& reply) {
  if (code != StatusCode::kOk) return ForgetNames(mutation);
  const uint64_t inode = reply.attributes().inode();
  if (mutation.has_create()) {
    NameChanged(token, mutation.create().parent(), mutation.create().name(), inode, reply);
  } else if (mutation.has_mkdir()) {
    NameChanged(token, mutation.mkdir().parent(), mutation.mkdir().name(), inode, reply);
  } else if (mutation.has_link()) {
    NameChanged(token, mutation.link().new_parent(), mutation.link().new_name(), inode, reply);
  } else if (mutation.has_unlink()) {
    NameChanged(token, mutation.unlink().parent(), mutation.unlink().name(), 0, reply);
    OnNameRemoved(token, reply);
  } else if (mutation.has_rmdir()) {
    const auto known = FindName(mutation.rmdir().parent(), mutation.rmdir().name());
    if (known && known->inode.valid()) cache_.ForgetAttributes(known->inode, false);
    NameChanged(token, mutation.rmdir().parent(), mutation.rmdir().name(), 0, reply);
  } else if (mutation.has_rename()) {
    OnRenamed(token, mutation.rename(), reply);
  }
  if (inode != 0) cache_.AttributesChanged(token, client::AttributesFromProto(reply.attributes()), false);
}

// ---- Answers ----

proto::Attributes ClientCache::ToProto(const client::Attributes& attributes) {
  proto::Attributes result;
  result.set_inode(attributes.inode.value());
  result.set_type(client::FileTypeToProto(attributes.type));
  result.set_mode(attributes.mode);
  result.set_nlink(attributes.nlink);
  result.set_size_bytes(attributes.size_bytes);
  result.set_parent(attributes.parent.value());
  return result;
}

std::optional<proto::Attributes> ClientCache::FindAttributes(uint64_t inode) {
  const auto known = cache_.FindAttributes(InodeId(inode));
  if (!known) return std::nullopt;
  return ToProto(*known);
}

}  // namespace tarn::sim
