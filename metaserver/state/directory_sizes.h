// Recursive sizes of directories: what lies below each, kept up to date without ever walking a tree.
//
// A change of an entry is added at once to the size of the directory that counts it, and noted there as unsent. Later
// commands of the leader (PropagateCounters) carry what is unsent up, directory by directory. So the own entries of a
// directory always count, those further below as soon as the queue has come to them, and no change of an entry touches
// more than the directories it names. At every moment, for every directory d that can be reached:
//   size(d) = its files + for each subdirectory s: 1 directory + size(s) - unsent(s)
// which is what the parent has heard of s; fsck checks it without waiting for the queue. Attributes never change.
//
// A file counts in one directory: that of its name. One that has, or had, several names counts where the first one is,
// and in the volume's root once that name is gone (kLinkedFileHome). A file without any name counts nowhere.
// A directory that has lost its name with everything below it (RemoveTree) has no size any more.
//
// One thread, that of the command.
#pragma once

#include <optional>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/command_context.h"
#include "metaserver/state/keys.h"
#include "proto/types.pb.h"

namespace tarn::meta {

// What an entry counts by itself. Bytes are those of regular files; everything but directories is a file.
TreeSize OwnSize(const proto::Attributes& inode);

// ---- What operations tell ----
// A directory was made (a volume's root among them): it starts with nothing.
void StartDirectorySize(CommandContext* context, InodeId directory);
// `child`, new and with its name, lies in `parent`.
Status CountNewEntry(CommandContext* context, InodeId parent, const proto::Attributes& child);
// The file's size is about to change by `bytes_delta`.
Status CountResize(CommandContext* context, const proto::Attributes& file, int64_t bytes_delta);
// The file is about to get another name: from now on a record of its own says where it counts.
void CountAnotherName(CommandContext* context, const proto::Attributes& file);
// The file is about to lose its name in `directory`; nlink still counts that name.
Status CountNameGone(CommandContext* context, const proto::Attributes& file, InodeId directory);
// The entry is about to move; its attributes are those from before.
Status CountMove(CommandContext* context, const proto::Attributes& child, InodeId from, InodeId to);
// The directory, with whatever is below it, is about to lose its name in `parent`. Returns what it counted.
Result<TreeSize> CountDirectoryGone(CommandContext* context, InodeId directory, InodeId parent);

// ---- Reads and repair ----
// What the parent counts for this subdirectory.
TreeSize HeardOf(const DirectorySize& subdirectory);
// The directory that counts the file, which has a name; nullopt: its volume is gone.
Result<std::optional<InodeId>> CountedIn(const KvView& view, const proto::Attributes& file);
// Adds to the size of a directory, and to what is to be carried upwards. No effect on one that has no size.
Status AddToDirectory(CommandContext* context, InodeId directory, const TreeSize& delta);

}  // namespace tarn::meta
