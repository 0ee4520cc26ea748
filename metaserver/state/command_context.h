// What an operation sees and may change while its command is applied.
//
// One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/changes.h"
#include "metaserver/state/records.h"
#include "metaserver/state/transaction.h"
#include "proto/cluster.pb.h"
#include "proto/state.pb.h"

namespace tarn::meta {

// The state as the log entry being applied leaves it so far.
struct EntryState {
  EntryState(const KvStore* store, proto::StateHeader entry_header, std::shared_ptr<const proto::ClusterMap> entry_map,
             bool refuses_growth = false)
      : no_growth(refuses_growth), transaction(store), header(std::move(entry_header)), map(std::move(entry_map)) {}

  // Before each command.
  void SetSavepoint() {
    transaction.SetSavepoint();
    saved_header_ = header;
    saved_map_ = map;
    changes.Clear();
  }
  void RollbackToSavepoint() {
    transaction.RollbackToSavepoint();
    header = saved_header_;
    map = saved_map_;
    changes.Clear();
  }

  const bool no_growth;  // LogEntry.no_growth
  Transaction transaction;
  proto::StateHeader header;
  std::shared_ptr<const proto::ClusterMap> map;
  ChangeSet changes;  // of the command being applied

 private:
  proto::StateHeader saved_header_;
  std::shared_ptr<const proto::ClusterMap> saved_map_;
};

// Errors of an operation are never kCorruption or kIoError: those are the store's and end the process.
class CommandContext {
 public:
  // Both outlive the context. `now_ns` is the command's time, never before that of an earlier command.
  CommandContext(EntryState* state, const proto::LogCommand* command, int64_t now_ns)
      : state_(state), command_(command), now_ns_(now_ns) {}
  CommandContext(const CommandContext&) = delete;
  CommandContext& operator=(const CommandContext&) = delete;

  int64_t now_ns() const { return now_ns_; }
  // What loses its last name waits until those who may have it open have been asked.
  bool hold_removed() const { return command_->hold_removed(); }
  bool no_growth() const { return state_->no_growth; }
  uint64_t random_seed() const { return command_->random_seed(); }
  const proto::Caller& caller() const { return command_->mutation().caller(); }
  SessionId session() const { return SessionId(command_->mutation().session()); }
  Sequence sequence() const { return Sequence(command_->mutation().sequence()); }
  const KvView& view() const { return state_->transaction; }
  const proto::ClusterMap& map() const { return *state_->map; }
  proto::StateHeader& header() { return state_->header; }
  Transaction& transaction() { return state_->transaction; }

  // Makes this the cluster map, one version newer than the present one and than what it says itself.
  void ReplaceMap(proto::ClusterMap map);

  // ---- Ids that the leader chose ----
  Result<InodeId> TakeInodeId();
  // Ids [result, result + count).
  Result<DataId> TakeDataIds(uint32_t count);

  // ---- Inodes and entries ----
  // kStaleHandle if it is gone.
  Result<proto::Attributes> Inode(InodeId inode) const;
  // An inode that names can be made in: kNotFound if it was removed, kNotDirectory.
  Result<proto::Attributes> Directory(InodeId inode) const;
  Result<std::optional<proto::Attributes>> FindChild(InodeId parent, std::string_view name) const;
  // kNotFound if there is none.
  Result<proto::Attributes> Child(InodeId parent, std::string_view name) const;

  // Notes the change for those who have cached what is changed.
  void PutInode(const proto::Attributes& attributes);
  // One that nobody can know yet.
  void PutNewInode(const proto::Attributes& attributes);
  void PutDentry(InodeId parent, std::string_view name, const proto::Attributes& child);
  // Where there is none.
  void PutNewDentry(InodeId parent, std::string_view name, const proto::Attributes& child);
  void DeleteDentry(InodeId parent, std::string_view name);

  // ---- Notes beyond what the calls above note by themselves ----
  // Any of the directory's names may have changed.
  void NoteAllNames(InodeId directory);
  // Before the inode loses its place: it moves from `directory`, or gets a second link.
  void NoteLeaves(InodeId directory, InodeId inode);
  // It lost its last name; its attributes are as before that.
  void NoteRemoved(const proto::Attributes& inode);
  void NoteLockGranted(SessionId session, Sequence wait) { state_->changes.locks_granted.emplace_back(session, wait); }
  void NoteHeldOrphan(InodeId inode) { state_->changes.held_orphans.push_back(inode); }
  void NoteReleasedOrphan(InodeId inode) { state_->changes.released_orphans.push_back(inode); }

  // The attributes changed: ctime and change counter. The caller puts the inode.
  void Touch(proto::Attributes* attributes) const;
  // Its entries changed: times, size (the count of entries) and, for subdirectories, links. The caller puts the inode.
  void TouchDirectory(proto::Attributes* directory, int entries_delta, int subdirectories_delta) const;

  // ---- Volumes ----
  // Adds to the volume's counters. Growth is refused with kQuota beyond the quota and with kNotFound in a volume that
  // is being deleted.
  Status Charge(VolumeId volume, int64_t bytes_delta, int64_t inodes_delta);

  // ---- What is removed in the background ----
  // The directory has no name any more; with what is below there are about so many inodes.
  void QueuePurge(VolumeId volume, InodeId directory, uint64_t inodes);
  // So much of it is gone.
  void CountPurged(uint64_t directories, uint64_t inodes);

 private:
  EntryState* const state_;
  const proto::LogCommand* const command_;
  const int64_t now_ns_;
};

}  // namespace tarn::meta
