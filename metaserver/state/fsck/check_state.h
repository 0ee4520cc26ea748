// Checks a metadata state for damage: names and inodes, link counts, counters, directory sizes, orphans.
//
// It reads one consistent view from end to end, several times, in bounded memory: names are counted for a window of
// inode numbers at a time. What it finds goes to a listener together with the command that repairs it
// (ops/repair.cc), or an empty one if that needs a person. Nothing is changed here.
//
// Kinds of findings (docs/cli.md explains them): dangling-dentry, wrong-type, wrong-parent, wrong-link-count,
// lost-inode, cut-off-circle, wrong-entry-count, wrong-directory-size, wrong-counter, stale-orphan, unheld-inode, unreadable-record.
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/kv.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

struct FsckFinding {
  std::string kind;
  std::string what;        // names the object
  proto::RepairOp repair;  // one repair; none: there is no safe one
};

struct FsckProgress {
  uint64_t inodes_checked = 0;
  uint64_t dentries_checked = 0;
};

struct FsckListener {
  std::function<void(FsckFinding)> found;
  // Every some thousand records; false ends the check with kCancelled.
  std::function<bool(const FsckProgress&)> progress;
};

struct FsckOptions {
  std::optional<VolumeId> volume;               // only what belongs to it; counts of the whole state are left out then
  uint64_t window_inodes = uint64_t{16} << 20;  // 2 bytes each
};

// An error is the store's, or kCancelled.
Status CheckState(const KvView& view, const FsckOptions& options, const FsckListener& listener, FsckProgress* progress);

}  // namespace tarn::meta
