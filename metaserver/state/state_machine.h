// The replicated state machine: the namespace, sessions, volumes and the cluster map.
//
// Deterministic: Apply(entry) depends on the state and the entry alone (the leader put time, ids and seeds into the
// commands) and does no I/O but the KvStore's. All commands of an entry, their remembered results and the count of
// applied entries go into one batch. Threads: Apply from one thread; everything else is thread-safe and sees whole
// entries only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/changes.h"
#include "metaserver/state/kv.h"
#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"
#include "proto/state.pb.h"

namespace tarn::meta {

class StateMachine {
 public:
  // Opens the state in `store` (empty: a new one), which outlives it. kCorruption or kNotSupported (format version) if
  // it cannot be read.
  static Result<std::unique_ptr<StateMachine>> Open(KvStore* store);
  virtual ~StateMachine() = default;

  // ---- One thread ----
  // One reply per command, in order. A Status is a failure of the store: the process must stop. A repeated (session,
  // sequence) gets the remembered reply and changes nothing.
  Result<std::vector<proto::MutationReply>> Apply(const proto::LogEntry& entry) { return ApplyEntry(entry, nullptr); }
  // Also tells what each command changed that may be cached; nothing for a failed or repeated one. Null: does not.
  virtual Result<std::vector<proto::MutationReply>> ApplyEntry(const proto::LogEntry& entry,
                                                               std::vector<ChangeSet>* changes) = 0;
  // The store holds another state than before (a checkpoint of another member): reads it as Open does.
  virtual Status Reload() = 0;

  // ---- Thread-safe: what the leader needs to fill commands ----
  virtual uint64_t applied_entries() const = 0;
  virtual proto::StateHeader header() const = 0;

  // ---- Thread-safe: reads ----
  virtual Status Lookup(const proto::LookupRequest& request, proto::LookupReply* reply) const = 0;
  virtual Status LookupPath(const proto::LookupPathRequest& request, proto::LookupReply* reply) const = 0;
  virtual Status GetAttr(const proto::GetAttrRequest& request, proto::GetAttrReply* reply) const = 0;
  virtual Status ReadDir(const proto::ReadDirRequest& request, proto::ReadDirReply* reply) const = 0;
  virtual Status GetXattr(const proto::GetXattrRequest& request, proto::GetXattrReply* reply) const = 0;
  virtual Status ListXattr(const proto::ListXattrRequest& request, proto::ListXattrReply* reply) const = 0;
  virtual Status TestLock(const proto::TestLockRequest& request, proto::TestLockReply* reply) const = 0;
  virtual Status LockWaits(const proto::LockWaitsRequest& request, proto::LockWaitsReply* reply) const = 0;
  // Holds or waits for any.
  virtual Result<bool> HasLocks(SessionId session) const = 0;
  virtual Status StatFs(const proto::StatFsRequest& request, proto::StatFsReply* reply) const = 0;
  virtual Status GetVolume(const proto::GetVolumeRequest& request, proto::GetVolumeReply* reply) const = 0;
  virtual Status ListVolumes(proto::ListVolumesReply* reply) const = 0;
  // Never null; an empty map has version 0.
  virtual std::shared_ptr<const proto::ClusterMap> cluster_map() const = 0;
  virtual Status ListSessions(std::vector<proto::SessionRecord>* sessions) const = 0;
  // Inodes without a name that wait for SettleOrphan.
  virtual Status ListUnsettledOrphans(std::vector<InodeId>* inodes) const = 0;
  // Dead data ids with this target pending, at most `count_max`, only those dead since before `before_ns`.
  virtual Status ListDeadData(TargetId target, int64_t before_ns, size_t count_max,
                              std::vector<DataId>* data_ids) const = 0;
  virtual Result<uint64_t> CountDeadData() const = 0;
  // A volume in which something waits to be removed in the background.
  virtual Result<std::optional<VolumeId>> NextVolumeToPurge() const = 0;
};

// How many data ids a command may use; the leader reserves this many when it fills LogCommand.data_id (ReserveDataIds:
// its count).
uint32_t DataIdsNeeded(const proto::Mutation& mutation);
bool NeedsInodeId(const proto::Mutation& mutation);

}  // namespace tarn::meta
