// The bytes of files as the namespace sees them: layouts for new ones, bounds, and what happens to those nobody points
// at any more.
//
// One thread, that of the command.
#pragma once

#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/command_context.h"
#include "proto/metadata.pb.h"
#include "proto/types.pb.h"

namespace tarn::meta {

// What new files of the volume get, over the newest group set of as many replicas; the seed is 0, to be chosen.
// kNoSpace if there is none.
Result<proto::Layout> LayoutForNewFile(const proto::ClusterMap& map, const proto::Volume& volume);

// A layout that a client sends: kInvalidArgument if it breaks a rule or names a group set that does not exist.
Status CheckLayout(const proto::ClusterMap& map, const proto::Layout& layout);

// kFileTooLarge above what the file's layout allows, or, for a file without data, what its volume's layout will allow.
Status CheckSizeFits(const CommandContext& context, const proto::Attributes& file, uint64_t size_bytes);

// A regular file that a size can be set on: kStaleHandle, kIsDirectory, kInvalidArgument.
Result<proto::Attributes> RegularFile(const CommandContext& context, InodeId inode);

// Sets the size and charges the volume. kFileTooLarge, kQuota.
Status Resize(CommandContext* context, proto::Attributes* file, uint64_t size_bytes);

// The file's data id, if it has one, is to be deleted from every target that may hold a part of it. Leaves the
// attributes as they are.
Status MakeDataDead(CommandContext* context, const proto::Attributes& file);
// The same for data of which only these targets are known to have some.
Status MakeUnknownDataDead(CommandContext* context, DataId data, uint64_t bytes, const std::vector<uint64_t>& targets);
// A target has deleted it, or is away for good. It is forgotten after a round of asking all members of its groups in
// which these did not change. No error if it is not known (any more).
Status DataReclaimedFrom(CommandContext* context, TargetId target, DataId data);

// What Linux does to a file that is written or given away: set-user-id goes, set-group-id where the group may execute.
void ClearSuidSgid(proto::Attributes* file);

}  // namespace tarn::meta
