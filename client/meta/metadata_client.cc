#include "client/meta/metadata_client.h"

#include <future>

#include "client/blocking.h"
#include "client/meta/convert.h"
#include "common/base/check.h"

namespace tarn::client {
namespace {

// For those who do not shut down in order; they need not wait long for the server.
constexpr int64_t kCloseDeadlineMs = 2'000;

}  // namespace

MetadataClient::MetadataClient(rpc::EventLoop* loop, const Clock* clock, Random* random,
                               const MetadataChannelOptions& options)
    : loop_(loop),
      clock_(clock),
      random_(random),
      channel_(MetadataChannel::Create(loop, clock, random, options)),
      map_(ClusterMapCache::Create(
          loop, clock,
          [this](uint64_t newer_than, Callback<ClusterMapCache::MapPtr> done) {
            FetchMap(newer_than, std::move(done));
          },
          options.retry_deadline_ms)),
      session_(MetadataSession::Create(loop, channel_, random, options.client_name,
                                       [map = map_](uint64_t version) { map->NoticeVersion(version); })) {
  channel_->SetPushHandler(
      [this](rpc::Method method, std::span<const uint8_t> message) { OnPush(method, message); });
  channel_->SetConnectListener([this, session = std::weak_ptr<MetadataSession>(session_)] {
    // It tells the server where pushes go from now on.
    if (const auto alive = session.lock(); coherence_ != nullptr && alive != nullptr) alive->KeepAliveNow();
    if (const auto listener = lock_listener()) listener->connected();
  });
}

void MetadataClient::SetLockListener(LockListener listener) {
  MutexLock lock(mutex_);
  lock_listener_ = std::make_shared<const LockListener>(std::move(listener));
}

std::shared_ptr<const MetadataClient::LockListener> MetadataClient::lock_listener() const {
  MutexLock lock(mutex_);
  return lock_listener_;
}

void MetadataClient::OnPush(rpc::Method method, std::span<const uint8_t> message) {
  if (method == rpc::Method::kInvalidate) {
    if (coherence_ != nullptr) coherence_->OnPush(message);
    return;
  }
  proto::LocksGrantedPush push;
  const auto listener = lock_listener();
  if (method != rpc::Method::kLocksGranted || listener == nullptr) return;
  if (!push.ParseFromArray(message.data(), static_cast<int>(message.size()))) return;  // is asked for in time
  listener->granted(SessionId(push.session()), std::vector<uint64_t>(push.waits().begin(), push.waits().end()));
}

void MetadataClient::EnableCaching(uint64_t cache_bytes_max) {
  coherence_ = std::make_unique<Coherence>(clock_, random_, channel_, cache_bytes_max);
  coherence_->SetSession(session_);
  session_->SetHooks(coherence_.get());
}

MetadataClient::~MetadataClient() { Shutdown(kCloseDeadlineMs); }

void MetadataClient::Shutdown(int64_t deadline_ms) {
  CHECK(!loop_->InLoopThread(), "shutting down waits for the loop");
  if (std::exchange(shut_down_, true)) return;
  // An error here is the server's loss: it lets the session expire.
  (void)WaitStatus([&](StatusCallback done) { session_->Close(deadline_ms, std::move(done)); });
  map_->Close();
  channel_->Close();
  // Two turns: failing the connections may itself have been posted.
  for (int turn = 0; turn < 2; ++turn) {
    (void)WaitStatus([&](StatusCallback done) { loop_->Post([done = std::move(done)] { done(Status::Ok()); }); });
  }
}

void MetadataClient::GetAttributes(InodeId inode, Callback<Attributes> done) {
  proto::GetAttrRequest request;
  request.set_inode(inode.value());
  Read<proto::GetAttrReply>(rpc::Method::kGetAttr, std::move(request),
                            [done = std::move(done)](Result<proto::GetAttrReply> reply) {
                              if (!reply.ok()) return done(reply.status());
                              done(AttributesFromProto(reply->attributes()));
                            });
}

void MetadataClient::MutateForAttributes(proto::Mutation mutation, Callback<Attributes> done) {
  Mutate(std::move(mutation), [done = std::move(done)](Result<proto::MutationReply> reply) {
    if (!reply.ok()) return done(reply.status());
    done(AttributesFromProto(reply->attributes()));
  });
}

void MetadataClient::AllocateData(InodeId inode, Callback<Attributes> done) {
  proto::Mutation mutation;
  mutation.mutable_allocate_data()->set_inode(inode.value());
  MutateForAttributes(std::move(mutation), std::move(done));
}

void MetadataClient::CommitWrite(const WriteCommit& commit, Callback<Attributes> done) {
  proto::Mutation mutation;
  proto::CommitWriteOp* op = mutation.mutable_commit_write();
  op->set_inode(commit.inode.value());
  op->set_data_id(commit.data.value());
  op->set_truncate_generation(commit.truncate_generation);
  op->set_min_size_bytes(commit.min_size_bytes);
  op->set_mtime_ns(commit.mtime_ns);
  op->set_clear_suid_sgid(commit.clear_suid_sgid);
  op->set_release_write(commit.release_write);
  MutateForAttributes(std::move(mutation), std::move(done));
}

void MetadataClient::EndTruncate(InodeId inode, uint64_t truncate_generation, Callback<Attributes> done) {
  proto::Mutation mutation;
  mutation.mutable_truncate_done()->set_inode(inode.value());
  mutation.mutable_truncate_done()->set_truncate_generation(truncate_generation);
  MutateForAttributes(std::move(mutation), std::move(done));
}

void MetadataClient::TruncateDone(InodeId inode, uint64_t truncate_generation, StatusCallback done) {
  EndTruncate(inode, truncate_generation,
              [done = std::move(done)](const Result<Attributes>& result) { done(result.status()); });
}

void MetadataClient::FetchMap(uint64_t newer_than, Callback<ClusterMapCache::MapPtr> done) {
  proto::GetClusterMapRequest request;
  request.set_newer_than(newer_than);
  Read<proto::GetClusterMapReply>(rpc::Method::kGetClusterMap, std::move(request),
                                  [this, done = std::move(done)](Result<proto::GetClusterMapReply> reply) {
                                    if (!reply.ok()) return done(reply.status());
                                    if (!reply->has_map()) return done(ClusterMapCache::MapPtr());
                                    std::vector<std::string> addresses;
                                    for (const proto::MetaserverMember& member : reply->map().metaservers())
                                      addresses.push_back(member.address());
                                    channel_->AddAddresses(addresses);
                                    done(std::make_shared<const proto::ClusterMap>(std::move(*reply->mutable_map())));
                                  });
}

}  // namespace tarn::client
