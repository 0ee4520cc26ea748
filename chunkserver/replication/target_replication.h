// The part of one target in its placement groups: orders writes as their primary, follows as a member, brings others up to date
// (docs/replication.md).
//
// Nothing here blocks but where it says so; the store is called on the executor's threads only. Answers come by callback, exactly once, on any
// thread. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/replication/environment.h"
#include "chunkserver/store/chunk_writer.h"
#include "chunkserver/store/replica_store.h"
#include "common/base/byte_range.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "proto/cluster.pb.h"
#include "proto/data.pb.h"

namespace tarn::replication {

// Groups with a member that has less room than this take no writes of clients.
inline constexpr uint64_t kMemberRoomBytesMin = 8u << 20;

struct ReplicationOptions {
  int64_t member_timeout_ms = 1'000;      // a member that does not acknowledge for this long is reported
  int64_t read_grant_ms = 500;
  int64_t grant_renewal_ms = 150;
  int64_t clock_margin_ms = 50;           // on top of a lease or grant, at whoever waits for its end
  uint64_t copy_bytes_per_second = 200u << 20;  // of this target as a source of copies; 0: not bounded
  uint32_t copies_in_flight = 4;          // chunks being compared or copied at a time
};

// What a change needs to live until it is answered: the payload and whatever holds its memory.
struct ClientWrite {
  std::shared_ptr<const proto::WriteChunkRequest> request;
  std::span<const uint8_t> payload;
  std::shared_ptr<void> holder;
};

struct ChangeAnswer {
  Status status;             // kStaleEpoch: with map_version; kUnavailable: no lease; kFenced; kNoSpace ...
  uint64_t map_version = 0;
  store::ChangeOutcome outcome;    // of a repeat, or of what was there already, with the stamp that the client is to name
  bool durable = false;
  std::vector<ByteRange> superseded{};  // of a write that is sent again: where later ones lie; nothing was applied
};
using ChangeCallback = std::function<void(const ChangeAnswer&)>;

struct ReadVerdict {
  StatusCode code = StatusCode::kOk;  // kOk: answer it. kAskPrimary, kStaleEpoch, kUnavailable (no lease, or not ready yet: try again)
  uint64_t map_version = 0;
};

// A request of a peer, to be answered once.
class PeerResponder {
 public:
  virtual ~PeerResponder() = default;
  virtual void Reply(const google::protobuf::MessageLite& reply, std::vector<uint8_t> payload = {}) = 0;
  virtual void Fail(const Status& status, uint64_t map_version = 0) = 0;
};

class TargetReplication {
 public:
  // Everything outlives it.
  static std::unique_ptr<TargetReplication> Create(const ReplicationOptions& options, TargetId target, store::ReplicaStore* store, PeerNetwork* network,
                                                   GroupAuthority* authority, Executor* executor);
  virtual ~TargetReplication() = default;
  TargetReplication(const TargetReplication&) = delete;
  TargetReplication& operator=(const TargetReplication&) = delete;

  // Maps may come in any order; older ones are passed over.
  virtual void AdoptMap(std::shared_ptr<const proto::ClusterMap> map) = 0;
  // The metadata leader answered a heartbeat or a registration that was sent at `sent_ns` (BoottimeNs).
  virtual void ExtendLease(int64_t sent_ns, int64_t lease_ms) = 0;
  // The incarnation of this server, for acknowledgements.
  virtual void SetIncarnation(Incarnation incarnation) = 0;

  // Hot: called on the connection's thread for every read, after the epoch was found current; takes no lock that is held for long.
  virtual ReadVerdict AdmitRead(GroupId group, Epoch epoch, ChunkId chunk) = 0;
  // For a member whose primary does not answer: the metadata leader has said, to a question asked after the read had come, that the epoch is
  // the group's present one. So everything acknowledged before the read came is here, grant or not.
  virtual ReadVerdict AdmitConfirmedRead(GroupId group, Epoch epoch, ChunkId chunk) = 0;
  virtual void Write(ClientWrite write, ChangeCallback done) = 0;
  virtual void Truncate(std::shared_ptr<const proto::TruncateChunkRequest> request, ChangeCallback done) = 0;
  // As CommitTargetRequest says. `not_primary` of the groups asked for.
  virtual void Commit(const std::vector<GroupId>& groups, std::function<void(Status, std::vector<GroupId> not_primary)> done) = 0;

  // kReplicate, kReconcile, kInventory, kChunkSums, kInstallChunk, kInstallWindows, kReadGrant, kConfirmChanges, and kCommitTarget with
  // this_target_only (which needs the lease: a new process must not vouch for what its predecessor lost). `payload` is alive as long as `holder`.
  virtual void HandlePeer(rpc::Method method, std::span<const uint8_t> message, std::span<const uint8_t> payload, std::shared_ptr<void> holder,
                          std::shared_ptr<PeerResponder> responder) = 0;

  // A chunk of this copy is damaged: brought back from another in-sync copy. kCorruption: there is none.
  virtual void RepairChunk(GroupId group, ChunkId chunk, std::function<void(Status)> done) = 0;

  virtual std::vector<proto::SyncProgress> Progress() = 0;
  // Of the newest map adopted.
  virtual uint64_t map_version() const = 0;
  // Fails what waits; nothing is begun any more. Callbacks of the executor and the network may still come and do nothing.
  virtual void Stop() = 0;

 protected:
  TargetReplication() = default;
};

}  // namespace tarn::replication
