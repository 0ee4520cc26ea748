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

// A file lost a name. Without any left it goes, or, if the session has it open, becomes an orphan of the session.
Status DropLink(CommandContext* context, proto::Attributes* file, bool held_open);

// The inode with its xattrs, data and share of the counters. Its names are the caller's matter.
Status RemoveInode(CommandContext* context, const proto::Attributes& inode);

}  // namespace tarn::meta
