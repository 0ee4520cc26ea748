// Typed reads of the metadata state's records (docs/formats.md, "Metadata state"), from a store or from a transaction.
//
// Errors are the storage's; a record that cannot be parsed is kCorruption. Pure functions of the view, thread-safe if
// it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/keys.h"
#include "metaserver/state/kv.h"
#include "proto/metadata.pb.h"
#include "proto/state.pb.h"

namespace tarn::meta {

Result<std::optional<proto::Attributes>> ReadInode(const KvView& view, InodeId inode);
Result<std::optional<proto::DentryRecord>> ReadDentry(const KvView& view, InodeId parent, std::string_view name);
Result<std::optional<proto::SessionRecord>> ReadSession(const KvView& view, SessionId session);
Result<std::optional<proto::SessionResult>> ReadSessionResult(const KvView& view, SessionId session, Sequence sequence);
Result<std::optional<SessionId>> ReadSessionOfNonce(const KvView& view, uint64_t nonce);
// Without its counters.
Result<std::optional<proto::Volume>> ReadVolume(const KvView& view, VolumeId volume);
Result<std::optional<VolumeId>> ReadVolumeId(const KvView& view, std::string_view name);
Result<std::optional<VolumeCounters>> ReadVolumeCounters(const KvView& view, VolumeId volume);
Result<std::optional<DirectorySize>> ReadDirectorySize(const KvView& view, InodeId directory);
Result<std::optional<InodeId>> ReadLinkedFileHome(const KvView& view, InodeId inode);
Result<std::optional<proto::DeadDataRecord>> ReadDeadData(const KvView& view, DataId data);
// The one that `data` belongs to.
Result<std::optional<proto::DataIdReservation>> ReadReservationOf(const KvView& view, DataId data);
Result<std::optional<proto::UnknownDataRecord>> ReadUnknownData(const KvView& view, DataId data);
Result<uint64_t> ReadDeadDataCount(const KvView& view);
Result<std::optional<proto::StateHeader>> ReadHeader(const KvView& view);
Result<std::optional<proto::ClusterMap>> ReadClusterMap(const KvView& view);

// Parses the value of an inode's or a dentry's record met in a scan.
Result<proto::Attributes> ParseInode(std::string_view value);
Result<proto::DentryRecord> ParseDentry(std::string_view value);

// The value of a record: protobuf's bytes.
template <typename Message>
std::string Encode(const Message& message) {
  std::string value;
  CHECK(message.SerializeToString(&value), "records are far below protobuf's size limit");
  return value;
}
std::string EncodeInode(const proto::Attributes& attributes);

}  // namespace tarn::meta
