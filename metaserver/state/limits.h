// Bounds of the namespace. They are part of the replicated behaviour: two servers with different bounds would answer
// one command differently, so a change needs a new log entry version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tarn::meta {

inline constexpr uint32_t kLogEntryVersion = 1;
inline constexpr uint32_t kStateFormatVersion = 1;

inline constexpr size_t kNameBytesMax = 255;            // NAME_MAX
inline constexpr size_t kSymlinkTargetBytesMax = 4095;  // PATH_MAX less the closing zero
inline constexpr size_t kPathBytesMax = 64 << 10;       // of LookupPath
inline constexpr uint32_t kFileLinksMax = 65'000;  // ext4's bound; directories are bounded by the counter's width only
inline constexpr uint32_t kDirectoryLinksMax = 0xffff'fff0;
inline constexpr uint32_t kDirectoryDepthMax = 1 << 20;  // of the walk to the root: more can only be a circle

inline constexpr size_t kXattrNameBytesMax = 255;        // XATTR_NAME_MAX
inline constexpr size_t kXattrValueBytesMax = 64 << 10;  // XATTR_SIZE_MAX
// Attributes that the server answers by itself; none of that name can be set.
inline constexpr std::string_view kServedXattrPrefix = "tarn.";
inline constexpr size_t kXattrListBytesMax = 64
                                             << 10;  // XATTR_LIST_MAX: all names of an inode, each with a closing zero

inline constexpr uint32_t kReadDirEntriesMax = 4096;
inline constexpr size_t kReadDirBytesMax = 1 << 20;

inline constexpr uint32_t kReservedDataIdsMax = 65'536;  // of one ReserveDataIds
inline constexpr uint64_t kUnknownDataMax = 1 << 20;  // data ids in quarantine
inline constexpr int kForcedPromotionsKept = 64;
inline constexpr uint32_t kPurgeStepsMax = 65'536;
inline constexpr uint32_t kPropagateStepsMax = 65'536;
inline constexpr size_t kVolumeNameBytesMax = 63;
inline constexpr int kVolumeParametersMax = 64;
inline constexpr size_t kVolumeParameterBytesMax = 4096;
inline constexpr size_t kClientNameBytesMax = 255;
inline constexpr size_t kClusterIdBytesMax = 64;
inline constexpr uint64_t kSessionResultsMax = 65'536;  // sequences a session may have unacknowledged
inline constexpr size_t kFileLocksMax = 1024;           // of a file in one space, waits included
inline constexpr uint64_t kSessionLockedMax = 16'384;   // (file, space) in which a session has a lock or waits
inline constexpr size_t kSessionLockWaitsMax = 1024;
inline constexpr size_t kDeadlockOwnersMax = 64;        // that the search for a circle of waits looks at
inline constexpr int kMetaserversMax = 15;
inline constexpr size_t kMapTargetsMax = 16'384;
inline constexpr size_t kMapGroupsMax = 262'144;
inline constexpr int kGroupMembersMax = 16;
inline constexpr uint32_t kReplicasMax = 3;
inline constexpr size_t kFencedSessionsMax = 65'536;

// Inode numbers below are not given out: 1 is what FUSE calls the root.
inline constexpr uint64_t kFirstInodeCounter = 16;

}  // namespace tarn::meta
