// The birth and the end of inodes, common to the operations that make and remove names.
//
// One thread, that of the command.
#pragma once

#include <string_view>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/command_context.h"
#include "proto/types.pb.h"

namespace tarn::meta {

// A new inode's attributes: id, times, owner (the caller; in a set-group-id directory its group) and volume; one link.
// Writes nothing. A set-group-id bit of a file in such a directory is left to the caller's kernel, which knows the
// groups.
Result<proto::Attributes> NewInode(CommandContext* context, const proto::Attributes& parent, proto::FileType type,
                                   uint32_t mode);

// kExists if the directory has the name.
Status CheckNameFree(const CommandContext& context, const proto::Attributes& parent, std::string_view name);

// Gives a new inode its name, which is free: charges the volume, writes inode, dentry and parent. kTooManyLinks,
// kQuota.
Status AddNewEntry(CommandContext* context, proto::Attributes* parent, std::string_view name,
                   const proto::Attributes& child);

// A file lost its name in `directory`. Without any left it goes, or becomes an orphan: of the session, if that has it open, and not yet
// settled, if others may have.
Status DropLink(CommandContext* context, proto::Attributes* file, InodeId directory, bool held_open);

// Who may still use an inode without a name. The last holder's leave removes it.
inline constexpr SessionId kUnsettled{};  // nobody has been asked yet, or not everybody
void AddOrphanHolder(CommandContext* context, SessionId session, InodeId inode);
Status RemoveOrphanHolder(CommandContext* context, SessionId session, InodeId inode);

// The inode with its xattrs, data and share of the counters. Its names are the caller's matter.
Status RemoveInode(CommandContext* context, const proto::Attributes& inode);

}  // namespace tarn::meta
