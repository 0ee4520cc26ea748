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
  proto::Attributes* NewInode(proto::FileType type, uint32_t mode) REQUIRES(mutex_);

  mutable Mutex mutex_;
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
