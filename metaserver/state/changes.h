// What a command changed that somebody may have cached: noted by CommandContext while the command writes, so that no
// operation can forget it (docs/coherence.md). Names and attributes only; not part of the state.
//
// Value types.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"

namespace tarn::meta {

struct ChangedName {
  InodeId directory;
  std::string name;  // empty: any of the directory's names
};

struct ChangedInode {
  InodeId inode;
  // Whose watchers have the attributes as well: the directory of an inode that is no directory and has one link.
  InodeId directory;
  // Likewise, but from now on they do not hear of the inode any more: it moved, or has a second link.
  InodeId left_directory;
  bool removed = false;  // it lost its last name
};

struct ChangeSet {
  std::vector<ChangedName> names;
  std::vector<ChangedInode> inodes;
  std::vector<InodeId> held_orphans;  // removed ones that wait for SettleOrphan
  std::vector<InodeId> released_orphans;  // that the session does not hold any more; nothing that is shown changes
  std::vector<std::pair<SessionId, Sequence>> locks_granted;  // waits that have ended; nobody caches those

  // Of what may be cached.
  bool empty() const { return names.empty() && inodes.empty() && held_orphans.empty(); }
  void Clear() {
    names.clear();
    inodes.clear();
    held_orphans.clear();
    released_orphans.clear();
    locks_granted.clear();
  }
  // The entry of the inode: a new one, or the one it has.
  ChangedInode& Inode(InodeId inode) {
    for (ChangedInode& changed : inodes) {
      if (changed.inode == inode) return changed;
    }
    inodes.emplace_back().inode = inode;
    return inodes.back();
  }
};

}  // namespace tarn::meta
