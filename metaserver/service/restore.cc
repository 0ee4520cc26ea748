#include "metaserver/service/restore.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "common/io/record_file.h"
#include "metaserver/replication/raft_replicator.h"
#include "metaserver/service/backup_format.h"
#include "metaserver/service/checkpoint_receiver.h"
#include "metaserver/service/data_directory.h"
#include "metaserver/service/restore_note.h"
#include "metaserver/state/restored_state.h"
#include "metaserver/state/rocks_kv.h"
#include "proto/admin.pb.h"

namespace tarn::meta {
namespace {

// A backup, piece by piece.
class BackupReader {
 public:
  static Result<BackupReader> Open(const std::string& path) {
    ASSIGN_OR_RETURN(RecordFileReader file, RecordFileReader::Open(path, kBackupMagic));
    BackupReader reader(path, std::move(file));
    ASSIGN_OR_RETURN(const auto first, reader.NextMessage());
    if (!first || !first->has_header()) return Status(StatusCode::kCorruption, path + ": no header");
    if (first->header().version() != kBackupVersion) {
      return Status(StatusCode::kNotSupported, path + ": backup version " + std::to_string(first->header().version()) +
                                                   ", this program knows " + std::to_string(kBackupVersion));
    }
    reader.header_ = first->header();
    return reader;
  }
  const proto::BackupHeader& header() const { return header_; }
  // nullopt after the last one.
  Result<std::optional<proto::CheckpointPiece>> Next() {
    ASSIGN_OR_RETURN(auto message, NextMessage());
    if (!message) return std::optional<proto::CheckpointPiece>();
    if (!message->has_piece()) return Status(StatusCode::kCorruption, path_ + ": a record that is no piece");
    return std::optional<proto::CheckpointPiece>(std::move(*message->mutable_piece()));
  }

 private:
  BackupReader(std::string path, RecordFileReader file) : path_(std::move(path)), file_(std::move(file)) {}
  Result<std::optional<proto::BackupPiece>> NextMessage() {
    ASSIGN_OR_RETURN(const auto record, file_.Next());
    if (!record) return std::optional<proto::BackupPiece>();
    std::optional<proto::BackupPiece> message(std::in_place);
    if (!message->ParseFromString(*record)) {
      return Status(StatusCode::kCorruption, path_ + ": a record that cannot be parsed");
    }
    return message;
  }

  std::string path_;
  RecordFileReader file_;
  proto::BackupHeader header_;
};

Result<proto::BackupHeader> CheckBackup(const std::string& path) {
  ASSIGN_OR_RETURN(BackupReader backup, BackupReader::Open(path));
  while (true) {
    ASSIGN_OR_RETURN(const auto piece, backup.Next());
    if (!piece) return backup.header();
  }
}

// That no restore of this backup has had before, as far as is known here.
Result<uint32_t> ChooseIncarnation(const RestoreOptions& options, const proto::BackupHeader& header) {
  if (options.incarnation != 0) return options.incarnation;
  ASSIGN_OR_RETURN(const uint32_t noted, ReadRestoreNote(options.backup));
  return std::max(header.incarnation(), noted) + 1;
}

Result<RestoreFacts> MakeState(const RestoreOptions& options, uint32_t incarnation, const std::string& state_path,
                               int64_t now_ns, uint64_t* bytes) {
  ASSIGN_OR_RETURN(BackupReader backup, BackupReader::Open(options.backup));
  ASSIGN_OR_RETURN(CheckpointReceiver receiver, CheckpointReceiver::Begin(state_path));
  while (true) {
    ASSIGN_OR_RETURN(const auto piece, backup.Next());
    if (!piece) break;
    RETURN_IF_ERROR(receiver.Accept(*piece));
  }
  RETURN_IF_ERROR(receiver.Finish());
  *bytes = receiver.received_bytes();
  RocksKvOptions store_options;
  store_options.memory_bytes = options.memory_bytes;
  ASSIGN_OR_RETURN(const auto store, RocksKv::Open(state_path, store_options));
  return MakeRestored(store.get(), backup.header().cluster_id(), incarnation, now_ns);
}

}  // namespace

Result<RestoreResult> RestoreBackup(const RestoreOptions& options, Clock* clock, Random* random) {
  ASSIGN_OR_RETURN(const proto::BackupHeader header, CheckBackup(options.backup));
  ASSIGN_OR_RETURN(DataDirectory directory, DataDirectory::Open(options.directory, random));
  if (!directory.is_new()) {
    return Status(StatusCode::kExists, options.directory + " is the directory of a metadata server already");
  }
  RestoreResult result;
  result.cluster_id = header.cluster_id();
  result.made_ns = header.made_ns();
  ASSIGN_OR_RETURN(const uint32_t incarnation, ChooseIncarnation(options, header));
  ASSIGN_OR_RETURN(const RestoreFacts facts,
                   MakeState(options, incarnation, directory.state_path(), clock->WallNs(), &result.bytes));
  // Before the directory counts: an incarnation may be noted in vain, but not used without a note.
  result.noted = WriteRestoreNote(options.backup, facts.incarnation);
  result.incarnation = facts.incarnation;
  result.applied_entries = facts.applied_entries;
  MetaserverIdentity identity;
  identity.cluster_id = header.cluster_id();
  identity.member_id = facts.member_id;
  identity.created_ns = clock->WallNs();
  RETURN_IF_ERROR(directory.Create(identity, [&](const std::string& log_path) {
    return RaftReplicator::Bootstrap(log_path, identity.member_id, options.address);
  }));
  return result;
}

}  // namespace tarn::meta
