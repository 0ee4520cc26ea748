// Link counts: how many names each inode has, against what it says.
//
// Names are counted for a window of inode numbers at a time, 2 bytes each, with one scan over all names per window.
#include <algorithm>
#include <limits>
#include <vector>

#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/fsck/check_pass.h"
#include "metaserver/state/records.h"

namespace tarn::meta::fsck {
namespace {

class LinkCheck {
 public:
  explicit LinkCheck(CheckPass* pass) : pass_(pass), names_(pass->options.window_inodes) {}

  // Checks the inodes with counters [first, first + window). Returns the highest counter met anywhere.
  Result<uint64_t> CheckWindow(uint64_t first);

 private:
  static constexpr uint16_t kNamesMax = std::numeric_limits<uint16_t>::max();  // above kFileLinksMax

  bool InWindow(uint64_t inode) const {
    return IdCounter(inode) >= first_ && IdCounter(inode) - first_ < names_.size();
  }
  Status CountNames();
  Status CheckParentExists(InodeId parent);
  Status CheckInode(const proto::Attributes& inode);
  Status NoteWhereCounted(const proto::Attributes& inode);
  void CheckDirectory(const proto::Attributes& inode, uint16_t names);
  void CheckFile(const proto::Attributes& inode, uint16_t names);

  CheckPass* const pass_;
  std::vector<uint16_t> names_;
  uint64_t first_ = 0;
};

Status LinkCheck::CheckParentExists(InodeId parent) {
  ASSIGN_OR_RETURN(const Pointed directory, ReadPointed(pass_->view, parent));
  if (directory.unreadable) return Status::Ok();
  if (directory.inode && directory.inode->type() == proto::FILE_TYPE_DIRECTORY) return Status::Ok();
  return pass_->Scan(DentryPrefix(parent), [&](std::string_view key, std::string_view value) {
    const auto parts = ParseDentryKey(key);
    const auto dentry = ParseDentry(value);
    proto::RepairOp repair;
    proto::RepairOp::Dentry* broken = repair.add_dentries();
    broken->set_parent(parent.value());
    broken->set_name(std::string(parts ? parts->name : ""));
    broken->set_inode(dentry.ok() ? dentry->inode() : 0);
    pass_->Found("dangling-dentry",
                 "'" + broken->name() + "' in directory " + std::to_string(parent.value()) + ", which does not exist",
                 std::move(repair));
    return true;
  });
}

Status LinkCheck::CountNames() {
  std::ranges::fill(names_, uint16_t{0});
  InodeId parent;
  std::vector<InodeId> parents;
  Status problem;
  RETURN_IF_ERROR(pass_->Scan(KindPrefix(KeyKind::kDentry), [&](std::string_view key, std::string_view value) {
    const auto parts = ParseDentryKey(key);
    const auto dentry = ParseDentry(value);
    if (!parts || !dentry.ok()) {
      if (first_ == 0)
        pass_->Found("unreadable-record", "a name, the key has " + std::to_string(key.size()) + " bytes");
      return true;
    }
    if (first_ == 0) {
      ++pass_->progress->dentries_checked;
      if (parts->parent != parent) problem = CheckParentExists(parts->parent);
      parent = parts->parent;
    }
    if (InWindow(dentry->inode())) {
      uint16_t& names = names_[IdCounter(dentry->inode()) - first_];
      if (names < kNamesMax) ++names;
    }
    return problem.ok();
  }));
  return problem;
}

void LinkCheck::CheckDirectory(const proto::Attributes& inode, uint16_t names) {
  const bool has_no_name = pass_->roots.contains(inode.inode()) || pass_->purged.contains(inode.inode());
  if (names == (has_no_name ? 0 : 1)) return;
  if (names == 0) {
    proto::RepairOp repair;
    *repair.add_lost_inodes() = AsFound(inode);
    return pass_->Found("lost-inode", InodeName(inode) + " has no name", std::move(repair));
  }
  pass_->Found("wrong-link-count", InodeName(inode) + " has " + std::to_string(names) + " names");
}

void LinkCheck::CheckFile(const proto::Attributes& inode, uint16_t names) {
  if (names == inode.nlink() && (names != 0 || pass_->orphans.contains(inode.inode()))) return;
  proto::RepairOp repair;
  if (names == 0 && inode.nlink() == 0) {
    *repair.add_unheld_inodes() = AsFound(inode);
    return pass_->Found("unheld-inode", InodeName(inode) + " has no name, and no session has it open",
                        std::move(repair));
  }
  if (names == 0 && !pass_->orphans.contains(inode.inode())) {
    *repair.add_lost_inodes() = AsFound(inode);
    return pass_->Found("lost-inode", InodeName(inode) + " has no name", std::move(repair));
  }
  *repair.add_inodes() = AsFound(inode);
  repair.mutable_inodes(0)->set_nlink(names);
  pass_->Found(
      "wrong-link-count",
      InodeName(inode) + " has " + std::to_string(names) + " names and counts " + std::to_string(inode.nlink()),
      std::move(repair));
}

Status LinkCheck::NoteWhereCounted(const proto::Attributes& inode) {
  if (inode.type() == proto::FILE_TYPE_DIRECTORY || inode.nlink() == 0 || inode.parent() != 0) return Status::Ok();
  ASSIGN_OR_RETURN(const auto home, CountedIn(pass_->view, inode));
  if (!home) return Status::Ok();
  TreeSize& counted = pass_->counted[home->value()];
  counted = counted + OwnSize(inode);
  return Status::Ok();
}

Status LinkCheck::CheckInode(const proto::Attributes& inode) {
  ++pass_->progress->inodes_checked;
  RETURN_IF_ERROR(NoteWhereCounted(inode));
  if (const auto volume = pass_->volumes.find(inode.volume()); volume != pass_->volumes.end()) {
    VolumeCounters& found = volume->second.found;
    if (inode.type() == proto::FILE_TYPE_REGULAR) found.used_bytes += inode.size_bytes();
    if (!pass_->roots.contains(inode.inode())) ++found.used_inodes;
  }
  if (!pass_->wants(inode)) return Status::Ok();
  const uint16_t names = names_[IdCounter(inode.inode()) - first_];
  if (inode.type() == proto::FILE_TYPE_DIRECTORY) {
    CheckDirectory(inode, names);
  } else {
    CheckFile(inode, names);
  }
  return Status::Ok();
}

Result<uint64_t> LinkCheck::CheckWindow(uint64_t first) {
  first_ = first;
  RETURN_IF_ERROR(CountNames());
  uint64_t highest = 0;
  Status problem;
  RETURN_IF_ERROR(pass_->Scan(KindPrefix(KeyKind::kInode), [&](std::string_view key, std::string_view value) {
    const uint64_t id = ParseTrailingId(key).value_or(0);
    highest = std::max(highest, IdCounter(id));
    if (!InWindow(id)) return true;
    const auto inode = ParseInode(value);
    if (!inode.ok() || inode->inode() != id) {
      pass_->Found("unreadable-record", "inode " + std::to_string(id));
      return true;
    }
    problem = CheckInode(*inode);
    return problem.ok();
  }));
  RETURN_IF_ERROR(problem);
  return highest;
}

}  // namespace

Status CheckLinks(CheckPass* pass) {
  LinkCheck check(pass);
  uint64_t highest = 0;
  for (uint64_t first = 0; first <= highest; first += pass->options.window_inodes) {
    ASSIGN_OR_RETURN(highest, check.CheckWindow(first));
  }
  return Status::Ok();
}

}  // namespace tarn::meta::fsck
