// What the passes of a check share: the view, the small tables that fit into memory, the listener.
#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "metaserver/state/fsck/check_state.h"
#include "metaserver/state/keys.h"
#include "proto/types.pb.h"

namespace tarn::meta::fsck {

struct VolumeFacts {
  std::string name;
  uint64_t root = 0;
  bool deleting = false;
  VolumeCounters recorded;
  VolumeCounters found;
};

// One thread.
class CheckPass {
 public:
  CheckPass(const KvView& checked_view, const FsckOptions& fsck_options, const FsckListener& fsck_listener,
            FsckProgress* fsck_progress)
      : view(checked_view), options(fsck_options), listener(fsck_listener), progress(fsck_progress) {}

  const KvView& view;
  const FsckOptions& options;
  const FsckListener& listener;
  FsckProgress* const progress;

  // Tables: as many entries as there are volumes, orphans, directories being removed, files with several names.
  std::map<uint32_t, VolumeFacts> volumes;
  std::unordered_set<uint64_t> roots;
  std::unordered_set<uint64_t> purged;             // directories without a name, to be emptied
  std::unordered_set<uint64_t> orphans;            // inodes that a session holds
  std::unordered_map<uint64_t, TreeSize> counted;  // directory -> the files it counts whose record does not say so

  bool wants(const proto::Attributes& inode) const {
    return !options.volume || options.volume->value() == inode.volume();
  }
  void Found(std::string kind, std::string what, proto::RepairOp repair = {}) {
    listener.found({std::move(kind), std::move(what), std::move(repair)});
  }
  // One more record was read: false if the check is to end.
  bool GoOn() {
    constexpr uint64_t kRecordsPerReport = 16'384;
    if (++records_ % kRecordsPerReport == 0 && !listener.progress(*progress)) cancelled_ = true;
    return !cancelled_;
  }
  Status Ended() const { return cancelled_ ? Status(StatusCode::kCancelled, "the check was ended") : Status::Ok(); }
  // Scans that may be cancelled.
  Status Scan(const std::string& prefix, const std::function<bool(std::string_view, std::string_view)>& visit) {
    RETURN_IF_ERROR(view.Scan(
        prefix, {}, [&](std::string_view key, std::string_view value) { return GoOn() && visit(key, value); }));
    return Ended();
  }

 private:
  uint64_t records_ = 0;
  bool cancelled_ = false;
};

// An inode that a name or another record points at.
struct Pointed {
  std::optional<proto::Attributes> inode;
  bool unreadable = false;  // it is there, but cannot be parsed (CheckLinks names it)
};
Result<Pointed> ReadPointed(const KvView& view, InodeId inode);

std::string InodeName(const proto::Attributes& inode);
proto::RepairOp::Inode AsFound(const proto::Attributes& inode);

// Fills the tables; checks volumes, orphans and the lengths of queues.
Status CheckRecords(CheckPass* pass);
// Counts names of inodes; checks links, and inodes without a name. Fills `counted` and what volumes use.
Status CheckLinks(CheckPass* pass);
// Checks the names in each directory, its own counts and its recursive size.
Status CheckDirectories(CheckPass* pass);
// Checks that every directory can be reached.
Status CheckCircles(CheckPass* pass);
// What volumes use, as CheckLinks found it.
void CheckVolumeUse(CheckPass* pass);

}  // namespace tarn::meta::fsck
