#include "metaserver/state/keys.h"

#include <xxhash.h>

namespace tarn::meta {
namespace {

template <typename Int>
void AppendBigEndian(std::string* key, Int number) {
  for (int shift = static_cast<int>(sizeof(Int)) * 8 - 8; shift >= 0; shift -= 8) {
    key->push_back(static_cast<char>(number >> shift & 0xff));
  }
}

uint64_t ReadBigEndian(std::string_view bytes) {
  uint64_t number = 0;
  for (const char byte : bytes) number = number << 8 | static_cast<unsigned char>(byte);
  return number;
}

bool IsKind(std::string_view key, KeyKind kind) { return !key.empty() && key[0] == static_cast<char>(kind); }

template <typename Int>
std::string OneId(KeyKind kind, Int id) {
  std::string key;
  key.reserve(1 + sizeof(Int));
  key.push_back(static_cast<char>(kind));
  AppendBigEndian(&key, id);
  return key;
}

std::string TwoIds(KeyKind kind, uint64_t first, uint64_t second, size_t more_bytes = 0) {
  std::string key;
  key.reserve(17 + more_bytes);
  key.push_back(static_cast<char>(kind));
  AppendBigEndian(&key, first);
  AppendBigEndian(&key, second);
  return key;
}

void AppendLittleEndian(std::string* value, uint64_t number) {
  for (int shift = 0; shift < 64; shift += 8) value->push_back(static_cast<char>(number >> shift & 0xff));
}

uint64_t ReadLittleEndian(std::string_view bytes) {
  uint64_t number = 0;
  for (size_t i = bytes.size(); i-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[i]);
  return number;
}

}  // namespace

std::string HeaderKey() { return KindPrefix(KeyKind::kHeader); }
std::string ClusterMapKey() { return KindPrefix(KeyKind::kClusterMap); }
std::string DeadDataCountKey() { return KindPrefix(KeyKind::kDeadDataCount); }
std::string InodeKey(InodeId inode) { return OneId(KeyKind::kInode, inode.value()); }

std::string DentryKey(InodeId parent, std::string_view name) {
  std::string key = TwoIds(KeyKind::kDentry, parent.value(), NameCookie(name), name.size());
  key.append(name);
  return key;
}

std::string XattrKey(InodeId inode, std::string_view name) {
  std::string key = OneId(KeyKind::kXattr, inode.value());
  key.append(name);
  return key;
}

std::string DirectorySizeKey(InodeId directory) { return OneId(KeyKind::kDirectorySize, directory.value()); }
std::string LinkedFileHomeKey(InodeId inode) { return OneId(KeyKind::kLinkedFileHome, inode.value()); }
std::string UnpropagatedKey(uint64_t place) { return OneId(KeyKind::kUnpropagated, place); }

std::string SessionKey(SessionId session) { return OneId(KeyKind::kSession, session.value()); }
std::string SessionNonceKey(uint64_t nonce) { return OneId(KeyKind::kSessionNonce, nonce); }
std::string SessionResultKey(SessionId session, Sequence sequence) {
  return TwoIds(KeyKind::kSessionResult, session.value(), sequence.value());
}
std::string OrphanKey(SessionId session, InodeId inode) {
  return TwoIds(KeyKind::kOrphan, session.value(), inode.value());
}
std::string OrphanHolderKey(InodeId inode, SessionId session) {
  return TwoIds(KeyKind::kOrphanHolder, inode.value(), session.value());
}

std::string FileLocksKey(InodeId inode, uint8_t space) {
  std::string key = OneId(KeyKind::kFileLocks, inode.value());
  key.push_back(static_cast<char>(space));
  return key;
}
std::string SessionLockCountKey(SessionId session) { return OneId(KeyKind::kSessionLocks, session.value()); }
std::string SessionLockKey(SessionId session, InodeId inode, uint8_t space) {
  std::string key = TwoIds(KeyKind::kSessionLocks, session.value(), inode.value(), 1);
  key.push_back(static_cast<char>(space));
  return key;
}
std::string LockWaitKey(SessionId session, Sequence sequence) {
  return TwoIds(KeyKind::kLockWait, session.value(), sequence.value());
}

std::string VolumeKey(VolumeId volume) { return OneId(KeyKind::kVolume, volume.value()); }

std::string VolumeNameKey(std::string_view name) {
  std::string key = KindPrefix(KeyKind::kVolumeName);
  key.append(name);
  return key;
}

std::string VolumeCountersKey(VolumeId volume) { return OneId(KeyKind::kVolumeCounters, volume.value()); }

std::string PurgeKey(VolumeId volume, InodeId inode) {
  std::string key = OneId(KeyKind::kPurge, volume.value());
  AppendBigEndian(&key, inode.value());
  return key;
}

std::string DeadDataKey(DataId data) { return OneId(KeyKind::kDeadData, data.value()); }

std::string DataIdReservationKey(DataId last) { return OneId(KeyKind::kDataIdReservation, last.value()); }
std::string UnknownDataKey(DataId data) { return OneId(KeyKind::kUnknownData, data.value()); }

std::string DeadDataOfTargetKey(TargetId target, int64_t dead_since_ns, DataId data) {
  std::string key = TwoIds(KeyKind::kDeadDataOfTarget, target.value(), static_cast<uint64_t>(dead_since_ns), 8);
  AppendBigEndian(&key, data.value());
  return key;
}

std::string KindPrefix(KeyKind kind) { return std::string(1, static_cast<char>(kind)); }
std::string DentryPrefix(InodeId parent) { return OneId(KeyKind::kDentry, parent.value()); }
std::string DentryAfterCookie(InodeId parent, uint64_t cookie) {
  return TwoIds(KeyKind::kDentry, parent.value(), cookie + 1);
}
std::string XattrPrefix(InodeId inode) { return OneId(KeyKind::kXattr, inode.value()); }
std::string SessionResultPrefix(SessionId session) { return OneId(KeyKind::kSessionResult, session.value()); }
std::string OrphanPrefix(SessionId session) { return OneId(KeyKind::kOrphan, session.value()); }
std::string OrphanHolderPrefix(InodeId inode) { return OneId(KeyKind::kOrphanHolder, inode.value()); }
std::string SessionLockPrefix(SessionId session) { return OneId(KeyKind::kSessionLocks, session.value()); }
std::string LockWaitPrefix(SessionId session) { return OneId(KeyKind::kLockWait, session.value()); }
std::string PurgePrefix(VolumeId volume) { return OneId(KeyKind::kPurge, volume.value()); }
std::string DeadDataOfTargetPrefix(TargetId target) { return OneId(KeyKind::kDeadDataOfTarget, target.value()); }

std::optional<DentryKeyParts> ParseDentryKey(std::string_view key) {
  if (!IsKind(key, KeyKind::kDentry) || key.size() <= 17) return std::nullopt;
  return DentryKeyParts{.parent = InodeId(ReadBigEndian(key.substr(1, 8))),
                        .cookie = ReadBigEndian(key.substr(9, 8)),
                        .name = key.substr(17)};
}

std::optional<std::string_view> ParseXattrKey(std::string_view key) {
  if (!IsKind(key, KeyKind::kXattr) || key.size() <= 9) return std::nullopt;
  return key.substr(9);
}

std::optional<VolumeId> VolumeOfPurgeKey(std::string_view key) {
  if (!IsKind(key, KeyKind::kPurge) || key.size() != 13) return std::nullopt;
  return VolumeId(static_cast<uint32_t>(ReadBigEndian(key.substr(1, 4))));
}

std::optional<SessionLockKeyParts> ParseSessionLockKey(std::string_view key) {
  if (!IsKind(key, KeyKind::kSessionLocks) || key.size() != 18) return std::nullopt;
  return SessionLockKeyParts{.inode = InodeId(ReadBigEndian(key.substr(9, 8))), .space = static_cast<uint8_t>(key[17])};
}

std::optional<uint64_t> ParseTrailingId(std::string_view key) {
  if (key.size() < 9) return std::nullopt;
  return ReadBigEndian(key.substr(key.size() - 8));
}

std::optional<DeadDataOfTargetKeyParts> ParseDeadDataOfTargetKey(std::string_view key) {
  if (!IsKind(key, KeyKind::kDeadDataOfTarget) || key.size() != 25) return std::nullopt;
  return DeadDataOfTargetKeyParts{.dead_since_ns = static_cast<int64_t>(ReadBigEndian(key.substr(9, 8))),
                                  .data = DataId(ReadBigEndian(key.substr(17, 8)))};
}

uint64_t NameCookie(std::string_view name) {
  const uint64_t cookie = XXH3_64bits(name.data(), name.size()) & kCookieMax;
  return cookie < kCookieMin ? cookie + kCookieMin : cookie;
}

std::string EncodeVolumeCounters(const VolumeCounters& counters) {
  std::string value;
  AppendLittleEndian(&value, counters.used_bytes);
  AppendLittleEndian(&value, counters.used_inodes);
  return value;
}

std::optional<VolumeCounters> DecodeVolumeCounters(std::string_view value) {
  if (value.size() != 16) return std::nullopt;
  return VolumeCounters{.used_bytes = ReadLittleEndian(value.substr(0, 8)),
                        .used_inodes = ReadLittleEndian(value.substr(8))};
}

std::string EncodeDirectorySize(const DirectorySize& size) {
  std::string value;
  value.reserve(56);
  for (const TreeSize& part : {size.total, size.unsent}) {
    for (const int64_t number : {part.bytes, part.files, part.directories}) {
      AppendLittleEndian(&value, static_cast<uint64_t>(number));
    }
  }
  AppendLittleEndian(&value, size.queued);
  return value;
}

std::optional<DirectorySize> DecodeDirectorySize(std::string_view value) {
  if (value.size() != 56) return std::nullopt;
  const auto number = [&](size_t index) { return static_cast<int64_t>(ReadLittleEndian(value.substr(index * 8, 8))); };
  return DirectorySize{.total = {number(0), number(1), number(2)},
                       .unsent = {number(3), number(4), number(5)},
                       .queued = static_cast<uint64_t>(number(6))};
}

std::string EncodeU64(uint64_t number) {
  std::string value;
  AppendLittleEndian(&value, number);
  return value;
}

std::optional<uint64_t> DecodeU64(std::string_view value) {
  if (value.size() != 8) return std::nullopt;
  return ReadLittleEndian(value);
}

}  // namespace tarn::meta
