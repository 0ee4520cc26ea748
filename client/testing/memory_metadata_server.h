// A metadata server with a small namespace in memory: enough of the rules for tests of the file system facade, none of
// the durability. It speaks the real protocol over a real socket.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/frame_server.h"
#include "proto/metadata.pb.h"

namespace tarn::client::testing {

// Thread-safe.
class MemoryMetadataServer {
 public:
  static constexpr uint64_t kRoot = 16;

  // A volume named "test" with an empty root directory.
  MemoryMetadataServer();
  ~MemoryMetadataServer();
  MemoryMetadataServer(const MemoryMetadataServer&) = delete;
  MemoryMetadataServer& operator=(const MemoryMetadataServer&) = delete;

  std::string address() const { return server_->address(); }

  // Changes what another client would change. `edit` gets the inode's attributes.
  void Edit(uint64_t inode, const std::function<void(proto::Attributes*)>& edit);
  proto::Attributes Get(uint64_t inode) const;
  bool Exists(uint64_t inode) const;
  bool IsOrphan(uint64_t inode) const;
  // Every mutation that was applied, in order.
  std::vector<proto::Mutation> mutations() const;
  // Until one was applied for which this is true; it is returned. For what a client sends without waiting for it.
  proto::Mutation WaitForMutation(const std::function<bool(const proto::Mutation&)>& matches);
  // From now on reads of sessions get grants (docs/coherence.md), as if nobody else used anything; pushes are the
  // test's business.
  void GrantInTerm(uint64_t term, uint32_t lease_ms = 600'000);
  void SetLapses(uint64_t lapses);
  // With grants: every session hears of every change of the others, and a change is answered when all have acknowledged
  // it.
  void PushToAll();
  // Sends a push to whoever was heard of last, and waits for its acknowledgement.
  proto::AckPushRequest PushAndWait(std::vector<proto::Invalidation> items);
  std::vector<proto::KeepAliveRequest> keep_alives() const;
  std::vector<proto::ForgetRequest> forgets() const;
  // Write grants: exclusive, unless told otherwise.
  void ShareWrites(bool shared);
  std::vector<proto::AcquireWriteRequest> acquires() const;
  std::vector<proto::ReleaseWriteRequest> releases() const;
  // Every method that was called but keep-alives and acknowledgements.
  uint64_t requests() const;

  // The next mutation for which `matches` is true fails with this status.
  void FailNext(std::function<bool(const proto::Mutation&)> matches, Status status);

 private:
  void Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder);
  Status Read(const rpc::Request& request, rpc::Responder* responder) REQUIRES(mutex_);
  Status ReadDir(const rpc::Request& request, rpc::Responder* responder) REQUIRES(mutex_);
  Status Apply(const proto::Mutation& mutation, proto::MutationReply* reply) REQUIRES(mutex_);
  Status Create(const proto::Mutation& mutation, proto::MutationReply* reply) REQUIRES(mutex_);
  Status Unlink(uint64_t parent, const std::string& name, bool held_open, proto::MutationReply* reply) REQUIRES(mutex_);
  Status Rename(const proto::RenameOp& op, proto::MutationReply* reply) REQUIRES(mutex_);
  Status Truncate(const proto::TruncateOp& op, proto::MutationReply* reply) REQUIRES(mutex_);
  Status CommitWrite(const proto::CommitWriteOp& op, proto::MutationReply* reply) REQUIRES(mutex_);
  Status SetAttr(const proto::SetAttrOp& op, proto::MutationReply* reply) REQUIRES(mutex_);
  Result<proto::Attributes*> Find(uint64_t inode) REQUIRES(mutex_);
  // Its names have changed: as it is now.
  const proto::Attributes& TouchDirectory(uint64_t directory) REQUIRES(mutex_);
  proto::Attributes* NewInode(proto::FileType type, uint32_t mode) REQUIRES(mutex_);

  void Grant(const proto::Attributes& attributes, uint64_t directory, uint64_t session, proto::CacheGrant* grant)
      REQUIRES(mutex_);
  void KeepAlive(const rpc::Request& request, rpc::Responder* responder) REQUIRES(mutex_);
  void Acknowledge(const proto::AckPushRequest& acknowledgement) REQUIRES(mutex_);
  // What a change that was just applied is pushed as.
  static std::vector<proto::Invalidation> ItemsOf(const proto::Mutation& mutation, const proto::MutationReply& reply);
  // Runs `answer` once all sessions but this one have acknowledged the items.
  void PushThenAnswer(uint64_t session, const std::vector<proto::Invalidation>& items, std::function<void()> answer)
      REQUIRES(mutex_);
  void FinishIfAcknowledged(uint64_t change) REQUIRES(mutex_);

  // A change that is applied, but not answered.
  struct PendingChange {
    std::set<uint64_t> unacknowledged;
    std::vector<uint64_t> removed;
    std::function<void()> answer;
  };

  mutable Mutex mutex_;
  CondVar acknowledged_;
  CondVar mutated_;
  bool push_to_all_ GUARDED_BY(mutex_) = false;
  bool shares_writes_ GUARDED_BY(mutex_) = false;
  std::vector<proto::AcquireWriteRequest> acquires_ GUARDED_BY(mutex_);
  std::vector<proto::ReleaseWriteRequest> releases_ GUARDED_BY(mutex_);
  uint64_t sessions_ GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::shared_ptr<rpc::Peer>> peers_ GUARDED_BY(mutex_);  // by session
  std::map<uint64_t, PendingChange> pending_ GUARDED_BY(mutex_);
  std::map<uint64_t, uint64_t> change_of_push_ GUARDED_BY(mutex_);
  uint64_t term_ GUARDED_BY(mutex_) = 0;
  uint32_t lease_ms_ GUARDED_BY(mutex_) = 600'000;
  uint64_t lapses_ GUARDED_BY(mutex_) = 0;
  uint64_t pushes_ GUARDED_BY(mutex_) = 0;
  uint64_t requests_ GUARDED_BY(mutex_) = 0;
  std::shared_ptr<rpc::Peer> peer_ GUARDED_BY(mutex_);
  std::map<uint64_t, proto::AckPushRequest> acknowledgements_ GUARDED_BY(mutex_);
  std::vector<proto::KeepAliveRequest> keep_alives_ GUARDED_BY(mutex_);
  std::vector<proto::ForgetRequest> forgets_ GUARDED_BY(mutex_);
  std::map<uint64_t, proto::Attributes> inodes_ GUARDED_BY(mutex_);
  std::map<std::pair<uint64_t, std::string>, uint64_t> names_ GUARDED_BY(mutex_);
  std::set<uint64_t> orphans_ GUARDED_BY(mutex_);
  uint64_t next_inode_ GUARDED_BY(mutex_) = kRoot + 1;
  uint64_t next_data_ GUARDED_BY(mutex_) = 1;
  int64_t now_ns_ GUARDED_BY(mutex_) = 1'000;
  std::vector<proto::Mutation> mutations_ GUARDED_BY(mutex_);
  std::vector<std::pair<std::function<bool(const proto::Mutation&)>, Status>> failures_ GUARDED_BY(mutex_);
  std::unique_ptr<rpc::FrameServer> server_;
};

}  // namespace tarn::client::testing
