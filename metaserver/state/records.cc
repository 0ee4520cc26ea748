#include "metaserver/state/records.h"

#include <utility>

namespace tarn::meta {
namespace {

Status Damaged(std::string_view what) {
  return Status(StatusCode::kCorruption, "the record of " + std::string(what) + " cannot be parsed");
}

template <typename Message>
Result<Message> Parse(std::string_view value, std::string_view what) {
  Message message;
  if (!message.ParseFromArray(value.data(), static_cast<int>(value.size()))) return Damaged(what);
  return message;
}

template <typename Message>
Result<std::optional<Message>> Read(const KvView& view, const std::string& key, std::string_view what) {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, view.Get(key));
  if (!value) return std::optional<Message>();
  ASSIGN_OR_RETURN(Message message, Parse<Message>(*value, what));
  return std::optional<Message>(std::move(message));
}

// A value that is one number.
Result<std::optional<uint64_t>> ReadNumber(const KvView& view, const std::string& key, std::string_view what) {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, view.Get(key));
  if (!value) return std::optional<uint64_t>();
  const std::optional<uint64_t> number = DecodeU64(*value);
  if (!number) return Damaged(what);
  return number;
}

}  // namespace

Result<proto::Attributes> ParseInode(std::string_view value) {
  ASSIGN_OR_RETURN(proto::InodeRecord record, Parse<proto::InodeRecord>(value, "an inode"));
  return std::move(*record.mutable_attributes());
}

Result<proto::DentryRecord> ParseDentry(std::string_view value) {
  return Parse<proto::DentryRecord>(value, "a directory entry");
}

// An InodeRecord's bytes, without a copy of the attributes to make one.
std::string EncodeInode(const proto::Attributes& attributes) {
  constexpr char kTag = proto::InodeRecord::kAttributesFieldNumber << 3 | 2;
  size_t left = attributes.ByteSizeLong();
  std::string value;
  value.reserve(left + 4);
  value.push_back(kTag);
  for (; left >= 0x80; left >>= 7) value.push_back(static_cast<char>(left | 0x80));
  value.push_back(static_cast<char>(left));
  CHECK(attributes.AppendToString(&value), "records are far below protobuf's size limit");
  return value;
}

Result<std::optional<proto::Attributes>> ReadInode(const KvView& view, InodeId inode) {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, view.Get(InodeKey(inode)));
  if (!value) return std::optional<proto::Attributes>();
  ASSIGN_OR_RETURN(proto::Attributes attributes, ParseInode(*value));
  return std::optional<proto::Attributes>(std::move(attributes));
}

Result<std::optional<proto::DentryRecord>> ReadDentry(const KvView& view, InodeId parent, std::string_view name) {
  return Read<proto::DentryRecord>(view, DentryKey(parent, name), "a directory entry");
}

Result<std::optional<proto::SessionRecord>> ReadSession(const KvView& view, SessionId session) {
  return Read<proto::SessionRecord>(view, SessionKey(session), "a session");
}

Result<std::optional<proto::SessionResult>> ReadSessionResult(const KvView& view, SessionId session,
                                                              Sequence sequence) {
  return Read<proto::SessionResult>(view, SessionResultKey(session, sequence), "a remembered result");
}

Result<std::optional<SessionId>> ReadSessionOfNonce(const KvView& view, uint64_t nonce) {
  ASSIGN_OR_RETURN(const std::optional<uint64_t> session, ReadNumber(view, SessionNonceKey(nonce), "a session nonce"));
  if (!session) return std::optional<SessionId>();
  return std::optional<SessionId>(SessionId(*session));
}

Result<std::optional<proto::Volume>> ReadVolume(const KvView& view, VolumeId volume) {
  return Read<proto::Volume>(view, VolumeKey(volume), "a volume");
}

Result<std::optional<VolumeId>> ReadVolumeId(const KvView& view, std::string_view name) {
  ASSIGN_OR_RETURN(const std::optional<uint64_t> id, ReadNumber(view, VolumeNameKey(name), "a volume name"));
  if (!id) return std::optional<VolumeId>();
  return std::optional<VolumeId>(VolumeId(static_cast<uint32_t>(*id)));
}

Result<std::optional<VolumeCounters>> ReadVolumeCounters(const KvView& view, VolumeId volume) {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, view.Get(VolumeCountersKey(volume)));
  if (!value) return std::optional<VolumeCounters>();
  const std::optional<VolumeCounters> counters = DecodeVolumeCounters(*value);
  if (!counters) return Damaged("a volume's counters");
  return counters;
}

Result<std::optional<DirectorySize>> ReadDirectorySize(const KvView& view, InodeId directory) {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, view.Get(DirectorySizeKey(directory)));
  if (!value) return std::optional<DirectorySize>();
  const std::optional<DirectorySize> size = DecodeDirectorySize(*value);
  if (!size) return Damaged("a directory's size");
  return size;
}

Result<std::optional<InodeId>> ReadLinkedFileHome(const KvView& view, InodeId inode) {
  ASSIGN_OR_RETURN(const std::optional<uint64_t> home,
                   ReadNumber(view, LinkedFileHomeKey(inode), "which directory counts a file"));
  if (!home) return std::optional<InodeId>();
  return std::optional<InodeId>(InodeId(*home));
}

Result<std::optional<proto::DeadDataRecord>> ReadDeadData(const KvView& view, DataId data) {
  return Read<proto::DeadDataRecord>(view, DeadDataKey(data), "dead data");
}

Result<std::optional<proto::DataIdReservation>> ReadReservationOf(const KvView& view, DataId data) {
  std::optional<proto::DataIdReservation> found;
  bool damaged = false;
  RETURN_IF_ERROR(view.Scan(KindPrefix(KeyKind::kDataIdReservation), DataIdReservationKey(data),
                            [&](std::string_view, std::string_view value) {
                              proto::DataIdReservation reservation;
                              damaged = !reservation.ParseFromArray(value.data(), static_cast<int>(value.size()));
                              if (!damaged && reservation.first_data_id() <= data.value()) found = std::move(reservation);
                              return false;
                            }));
  if (damaged) return Damaged("a reservation of data ids");
  return found;
}

Result<std::optional<proto::UnknownDataRecord>> ReadUnknownData(const KvView& view, DataId data) {
  return Read<proto::UnknownDataRecord>(view, UnknownDataKey(data), "unknown data");
}

Result<uint64_t> ReadDeadDataCount(const KvView& view) {
  ASSIGN_OR_RETURN(const std::optional<uint64_t> count, ReadNumber(view, DeadDataCountKey(), "the dead data count"));
  return count.value_or(0);
}

Result<std::optional<proto::StateHeader>> ReadHeader(const KvView& view) {
  return Read<proto::StateHeader>(view, HeaderKey(), "the header");
}

Result<std::optional<proto::ClusterMap>> ReadClusterMap(const KvView& view) {
  return Read<proto::ClusterMap>(view, ClusterMapKey(), "the cluster map");
}

}  // namespace tarn::meta
