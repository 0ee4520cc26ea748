#include "metaserver/state/state_machine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/mutex.h"
#include "metaserver/state/command_context.h"
#include "metaserver/state/dispatch.h"
#include "metaserver/state/exactly_once.h"
#include "metaserver/state/file_locks.h"
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/namespace_reads.h"
#include "metaserver/state/recent_values.h"
#include "metaserver/state/records.h"

namespace tarn::meta {
namespace {

proto::StateHeader NewHeader() {
  proto::StateHeader header;
  header.set_format_version(kStateFormatVersion);
  header.set_next_inode(kFirstInodeCounter);
  header.set_next_data_id(1);
  header.set_next_session(1);
  header.set_next_server(1);
  header.set_next_target(1);
  header.set_next_group(1);
  header.set_next_group_set(1);
  header.set_next_volume(1);
  return header;
}

bool IsStoreFailure(const Status& status) {
  return status.code() == StatusCode::kCorruption || status.code() == StatusCode::kIoError;
}

// Runs one operation; what it did is taken back if it fails. An error is the store's.
Result<proto::MutationReply> RunCommandAlone(EntryState* state, const proto::LogCommand& command, int64_t now_ns) {
  state->SetSavepoint();
  CommandContext context(state, &command, now_ns);
  proto::MutationReply reply;
  const Status status = RunOperation(&context, command.mutation(), &reply);
  if (status.ok()) return reply;
  if (IsStoreFailure(status)) return status;
  state->RollbackToSavepoint();
  return ErrorReply(status);
}

Status CheckEmpty(const KvStore& store) {
  bool empty = true;
  RETURN_IF_ERROR(store.Scan({}, {}, [&](std::string_view, std::string_view) {
    empty = false;
    return false;
  }));
  return empty ? Status::Ok() : Status(StatusCode::kCorruption, "the store has keys but no header of a metadata state");
}

class StateMachineImpl final : public StateMachine {
 public:
  explicit StateMachineImpl(KvStore* store) : store_(store), recent_(store) {}

  Result<std::vector<proto::MutationReply>> ApplyEntry(const proto::LogEntry& entry,
                                                       std::vector<ChangeSet>* changes) override;
  Status Reload() override;

  uint64_t applied_entries() const override {
    MutexLock lock(mutex_);
    return header_.applied_entries();
  }
  proto::StateHeader header() const override {
    MutexLock lock(mutex_);
    return header_;
  }
  std::shared_ptr<const proto::ClusterMap> cluster_map() const override {
    MutexLock lock(mutex_);
    return map_;
  }

  Status Lookup(const proto::LookupRequest& request, proto::LookupReply* reply) const override {
    return LookupName(*store_, request, reply->mutable_attributes());
  }
  Status LookupPath(const proto::LookupPathRequest& request, proto::LookupReply* reply) const override {
    return LookupPathNames(*store_, request, reply->mutable_attributes());
  }
  Status GetAttr(const proto::GetAttrRequest& request, proto::GetAttrReply* reply) const override {
    return ReadAttributes(*store_, InodeId(request.inode()), reply->mutable_attributes());
  }
  Status ReadDir(const proto::ReadDirRequest& request, proto::ReadDirReply* reply) const override {
    return ListDirectory(*store_, request, reply);
  }
  Status GetXattr(const proto::GetXattrRequest& request, proto::GetXattrReply* reply) const override {
    return ReadXattr(*store_, request, reply);
  }
  Status ListXattr(const proto::ListXattrRequest& request, proto::ListXattrReply* reply) const override {
    return ListXattrs(*store_, InodeId(request.inode()), reply);
  }
  Status TestLock(const proto::TestLockRequest& request, proto::TestLockReply* reply) const override {
    return TestFileLock(*store_, request, reply);
  }
  Status LockWaits(const proto::LockWaitsRequest& request, proto::LockWaitsReply* reply) const override {
    return ListLockWaits(*store_, request, reply);
  }
  Result<bool> HasLocks(SessionId session) const override { return SessionHasLocks(*store_, session); }
  Status StatFs(const proto::StatFsRequest& request, proto::StatFsReply* reply) const override;
  Status GetVolume(const proto::GetVolumeRequest& request, proto::GetVolumeReply* reply) const override;
  Status ListVolumes(proto::ListVolumesReply* reply) const override { return ListAllVolumes(*store_, reply); }
  Status ListSessions(std::vector<proto::SessionRecord>* sessions) const override;
  Status ListUnsettledOrphans(std::vector<InodeId>* inodes) const override;
  Status ListDeadData(TargetId target, int64_t before_ns, size_t count_max,
                      std::vector<DataId>* data_ids) const override;
  Result<uint64_t> CountDeadData() const override { return ReadDeadDataCount(LatestView(store_)); }
  Result<std::optional<VolumeId>> NextVolumeToPurge() const override;

 private:
  Result<proto::MutationReply> ApplyCommand(EntryState* state, const proto::LogCommand& command);

  KvStore* const store_;
  // ---- Apply thread ----
  RecentValues recent_;
  NewestSequences newest_sequences_;

  mutable Mutex mutex_;
  proto::StateHeader header_ GUARDED_BY(mutex_);
  std::shared_ptr<const proto::ClusterMap> map_ GUARDED_BY(mutex_);
  mutable std::string last_purge_key_ GUARDED_BY(mutex_);
};

Status StateMachineImpl::Reload() {
  recent_.Forget();
  newest_sequences_.Forget();
  const LatestView latest(store_);
  ASSIGN_OR_RETURN(auto header, ReadHeader(latest));
  if (!header) RETURN_IF_ERROR(CheckEmpty(*store_));
  if (header && header->format_version() != kStateFormatVersion) {
    return Status(StatusCode::kNotSupported, "the metadata state has format version " +
                                                 std::to_string(header->format_version()) + ", this server knows " +
                                                 std::to_string(kStateFormatVersion));
  }
  ASSIGN_OR_RETURN(auto map, ReadClusterMap(latest));
  MutexLock lock(mutex_);
  header_ = header ? std::move(*header) : NewHeader();
  map_ = std::make_shared<const proto::ClusterMap>(map ? std::move(*map) : proto::ClusterMap());
  return Status::Ok();
}

Result<std::vector<proto::MutationReply>> StateMachineImpl::ApplyEntry(const proto::LogEntry& entry,
                                                                       std::vector<ChangeSet>* changes) {
  if (entry.version() != kLogEntryVersion) {
    return Status(StatusCode::kNotSupported, "log entry " + std::to_string(applied_entries() + 1) + " has version " +
                                                 std::to_string(entry.version()) + ", this server knows " +
                                                 std::to_string(kLogEntryVersion));
  }
  EntryState state(&recent_, header(), cluster_map(), entry.no_growth());
  std::vector<proto::MutationReply> replies;
  replies.reserve(static_cast<size_t>(entry.commands_size()));
  for (const proto::LogCommand& command : entry.commands()) {
    ASSIGN_OR_RETURN(proto::MutationReply reply, ApplyCommand(&state, command));
    replies.push_back(std::move(reply));
    if (changes != nullptr) changes->push_back(std::exchange(state.changes, {}));
    state.changes.Clear();
  }
  state.header.set_applied_entries(state.header.applied_entries() + 1);
  state.transaction.SetSavepoint();
  state.transaction.Put(HeaderKey(), Encode(state.header));
  RETURN_IF_ERROR(recent_.Write(std::move(state.transaction).TakeBatch()));
  MutexLock lock(mutex_);
  header_ = std::move(state.header);
  map_ = std::move(state.map);
  return replies;
}

Result<proto::MutationReply> StateMachineImpl::ApplyCommand(EntryState* state, const proto::LogCommand& command) {
  const int64_t now_ns = std::max(command.time_ns(), state->header.last_time_ns());
  state->header.set_last_time_ns(now_ns);
  const auto run = [&] { return RunCommandAlone(state, command, now_ns); };
  if (command.mutation().session() == 0) return run();
  return ApplyOnce(state, &newest_sequences_, command.mutation(), run);
}

Status StateMachineImpl::StatFs(const proto::StatFsRequest& request, proto::StatFsReply* reply) const {
  const LatestView latest(store_);
  const VolumeId id(request.volume());
  ASSIGN_OR_RETURN(const auto volume, ReadVolume(latest, id));
  ASSIGN_OR_RETURN(const auto counters, ReadVolumeCounters(latest, id));
  if (!volume || !counters) {
    return Status(StatusCode::kNotFound, "volume " + std::to_string(id.value()) + " does not exist");
  }
  uint64_t pool_free = 0;
  uint64_t pool_total = 0;
  for (const proto::Target& target : cluster_map()->targets()) {
    if (target.target_class() != proto::TARGET_CLASS_DURABLE || target.state() == proto::TARGET_STATE_RETIRED) continue;
    pool_total += target.capacity_bytes() / std::max(1u, volume->replicas());
    pool_free += target.available_bytes() / std::max(1u, volume->replicas());
  }
  const auto left = [](uint64_t quota, uint64_t used) { return quota > used ? quota - used : 0; };
  const bool bytes_bound = volume->quota_bytes() != 0;
  const uint64_t quota_left = left(volume->quota_bytes(), counters->used_bytes);
  reply->set_total_bytes(bytes_bound ? volume->quota_bytes() : pool_total);
  reply->set_free_bytes(bytes_bound ? std::min(quota_left, pool_free) : pool_free);
  reply->set_total_inodes(volume->quota_inodes() != 0 ? volume->quota_inodes() : kIdCounterMax);
  reply->set_free_inodes(left(reply->total_inodes(), counters->used_inodes));
  return Status::Ok();
}

Status StateMachineImpl::GetVolume(const proto::GetVolumeRequest& request, proto::GetVolumeReply* reply) const {
  RETURN_IF_ERROR(ReadVolumeByName(*store_, request.name(), reply->mutable_volume()));
  return ReadAttributes(*store_, InodeId(reply->volume().root()), reply->mutable_root());
}

Status StateMachineImpl::ListSessions(std::vector<proto::SessionRecord>* sessions) const {
  bool parsed = true;
  RETURN_IF_ERROR(
      store_->Scan(KindPrefix(KeyKind::kSession), {}, [&](std::string_view, std::string_view value) {
        parsed = sessions->emplace_back().ParseFromArray(value.data(), static_cast<int>(value.size()));
        return parsed;
      }));
  return parsed ? Status::Ok() : Status(StatusCode::kCorruption, "the record of a session cannot be parsed");
}

Status StateMachineImpl::ListUnsettledOrphans(std::vector<InodeId>* inodes) const {
  return store_->Scan(OrphanPrefix(kUnsettled), {}, [&](std::string_view key, std::string_view) {
    inodes->emplace_back(ParseTrailingId(key).value_or(0));
    return true;
  });
}

Status StateMachineImpl::ListDeadData(TargetId target, int64_t before_ns, size_t count_max,
                                      std::vector<DataId>* data_ids) const {
  if (count_max == 0) return Status::Ok();
  // In the order in which they died.
  return store_->Scan(DeadDataOfTargetPrefix(target), {}, [&](std::string_view key, std::string_view) {
    const auto parts = ParseDeadDataOfTargetKey(key);
    if (!parts || parts->dead_since_ns >= before_ns) return false;
    data_ids->push_back(parts->data);
    return data_ids->size() < count_max;
  });
}

Result<std::optional<VolumeId>> StateMachineImpl::NextVolumeToPurge() const {
  std::optional<VolumeId> volume;
  // Goes on where the last call found something: what lies before has been removed since, and would be passed over.
  std::string found;
  {
    MutexLock lock(mutex_);
    if (header_.purge_directories() != 0) found = last_purge_key_.empty() ? KindPrefix(KeyKind::kPurge) : last_purge_key_;
  }
  const auto visit = [&](std::string_view key, std::string_view) {
    volume = VolumeOfPurgeKey(key);
    found = key;
    return false;
  };
  if (!found.empty()) {
    RETURN_IF_ERROR(store_->Scan(KindPrefix(KeyKind::kPurge), std::string(found), visit));
    if (!volume) RETURN_IF_ERROR(store_->Scan(KindPrefix(KeyKind::kPurge), {}, visit));
    MutexLock lock(mutex_);
    last_purge_key_ = volume ? found : std::string();
  }
  if (volume) return volume;
  // A deleted one of which only the record is left.
  RETURN_IF_ERROR(store_->Scan(KindPrefix(KeyKind::kVolume), {}, [&](std::string_view, std::string_view value) {
    proto::Volume record;
    if (record.ParseFromArray(value.data(), static_cast<int>(value.size())) && record.deleting()) {
      volume = VolumeId(record.id());
    }
    return !volume;
  }));
  return volume;
}

}  // namespace

Result<std::unique_ptr<StateMachine>> StateMachine::Open(KvStore* store) {
  auto machine = std::make_unique<StateMachineImpl>(store);
  RETURN_IF_ERROR(machine->Reload());
  return std::unique_ptr<StateMachine>(std::move(machine));
}

uint32_t DataIdsNeeded(const proto::Mutation& mutation) {
  if (mutation.has_allocate_data()) return 1;
  if (!mutation.has_reserve_data_ids()) return 0;
  const uint32_t count = mutation.reserve_data_ids().count();
  return count <= kReservedDataIdsMax ? count : 0;  // refused when applied
}

bool NeedsInodeId(const proto::Mutation& mutation) {
  return mutation.has_create() || mutation.has_mkdir() || mutation.has_symlink() || mutation.has_create_volume() ||
         mutation.repair().lost_inodes_size() > 0 || mutation.repair().dentries_size() > 0;  // lost+found
}

}  // namespace tarn::meta
