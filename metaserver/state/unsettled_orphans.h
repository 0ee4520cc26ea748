// Unlinked inodes of which it is not known yet who has them open (inode_lifecycle.h, kUnsettled).
//
// The record says which sessions have closed the inode already: the settling may name them, because they had it open when
// they were asked, and passes them over. Its value: session ids, 8 bytes each, little-endian.
#pragma once

#include <span>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/command_context.h"

namespace tarn::meta {

// The session has closed the inode for good. No error if it does not hold it.
Status ReleaseOrphanHolder(CommandContext* context, SessionId session, InodeId inode);
// Those sessions hold it, as far as they are open and have not released it; it is settled. Settled already: nothing.
Status SettleOrphanHolders(CommandContext* context, InodeId inode, std::span<const SessionId> sessions);

}  // namespace tarn::meta
