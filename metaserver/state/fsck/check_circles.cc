// Directories that cannot be reached from a root although each has its name: circles.
//
// Upwards, every directory leads to a volume's root, to one that waits to be emptied, or to something whose damage the
// other passes name. Those found to do so are remembered, a bit each, for a window of inode numbers at a time, so that
// a way up is short. A way that comes back to where it was is a circle; it is believed only if names say so as well
// (a wrong `parent` is CheckDirectories' business).
#include <algorithm>
#include <unordered_set>
#include <vector>

#include "metaserver/state/fsck/check_pass.h"
#include "metaserver/state/records.h"

namespace tarn::meta::fsck {
namespace {

class CircleCheck {
 public:
  explicit CircleCheck(CheckPass* pass) : pass_(pass), leads_up_(std::max<uint64_t>(pass->options.window_inodes, 1)) {}

  // Directories with counters [first, first + window). Returns the highest counter met anywhere.
  Result<uint64_t> CheckWindow(uint64_t first);
  uint64_t window() const { return leads_up_.size(); }

 private:
  bool InWindow(uint64_t inode) const {
    return IdCounter(inode) >= first_ && IdCounter(inode) - first_ < leads_up_.size();
  }
  bool LeadsUp(uint64_t inode) const {
    return pass_->roots.contains(inode) || pass_->purged.contains(inode) || circles_.contains(inode) ||
           (InWindow(inode) && leads_up_[IdCounter(inode) - first_]);
  }
  Status GoUp(const proto::Attributes& directory);
  Status Report(const std::vector<uint64_t>& circle);
  Result<std::optional<std::string>> NameIn(uint64_t parent, uint64_t child);

  CheckPass* const pass_;
  std::vector<bool> leads_up_;
  std::unordered_set<uint64_t> circles_;  // directories in those that were reported
  uint64_t first_ = 0;
};

Result<std::optional<std::string>> CircleCheck::NameIn(uint64_t parent, uint64_t child) {
  std::optional<std::string> name;
  RETURN_IF_ERROR(pass_->Scan(DentryPrefix(InodeId(parent)), [&](std::string_view key, std::string_view value) {
    const auto parts = ParseDentryKey(key);
    const auto dentry = ParseDentry(value);
    if (parts && dentry.ok() && dentry->inode() == child) name = std::string(parts->name);
    return !name.has_value();
  }));
  return name;
}

// The circle is opened where its oldest directory has its name.
Status CircleCheck::Report(const std::vector<uint64_t>& circle) {
  const auto oldest = std::ranges::min_element(circle);
  proto::RepairOp repair;
  std::string volume;
  for (auto each = circle.begin(); each != circle.end(); ++each) {
    const uint64_t parent = each + 1 == circle.end() ? circle.front() : *(each + 1);
    ASSIGN_OR_RETURN(const auto name, NameIn(parent, *each));
    if (!name) return Status::Ok();
    if (each != oldest) continue;
    proto::RepairOp::Dentry* cut = repair.add_dentries();
    cut->set_parent(parent);
    cut->set_name(*name);
    cut->set_inode(*each);
    ASSIGN_OR_RETURN(const Pointed directory, ReadPointed(pass_->view, InodeId(*each)));
    if (!directory.inode) return Status::Ok();
    volume = std::to_string(directory.inode->volume());
  }
  circles_.insert(circle.begin(), circle.end());
  pass_->Found("cut-off-circle",
               std::to_string(circle.size()) + " directories of volume " + volume + " lie in one another, among them " +
                   std::to_string(*oldest) + ": no path leads there",
               std::move(repair));
  return Status::Ok();
}

Status CircleCheck::GoUp(const proto::Attributes& directory) {
  std::vector<uint64_t> way;
  std::unordered_set<uint64_t> seen;
  uint64_t at = directory.inode();
  uint64_t parent = directory.parent();
  while (!LeadsUp(at)) {
    if (!seen.insert(at).second) {
      way.erase(way.begin(), std::ranges::find(way, at));
      return Report(way);
    }
    way.push_back(at);
    if (!pass_->GoOn()) return pass_->Ended();
    at = parent;
    if (LeadsUp(at)) break;
    ASSIGN_OR_RETURN(const Pointed above, ReadPointed(pass_->view, InodeId(at)));
    if (!above.inode) break;  // a name in a directory that does not exist: CheckLinks names it
    parent = above.inode->parent();
  }
  for (const uint64_t passed : way) {
    if (InWindow(passed)) leads_up_[IdCounter(passed) - first_] = true;
  }
  return Status::Ok();
}

Result<uint64_t> CircleCheck::CheckWindow(uint64_t first) {
  first_ = first;
  leads_up_.assign(leads_up_.size(), false);
  uint64_t highest = 0;
  Status problem;
  RETURN_IF_ERROR(pass_->Scan(KindPrefix(KeyKind::kInode), [&](std::string_view key, std::string_view value) {
    const uint64_t id = ParseTrailingId(key).value_or(0);
    highest = std::max(highest, IdCounter(id));
    if (!InWindow(id)) return true;
    const auto inode = ParseInode(value);
    if (!inode.ok() || inode->type() != proto::FILE_TYPE_DIRECTORY || !pass_->wants(*inode)) return true;
    problem = GoUp(*inode);
    return problem.ok();
  }));
  RETURN_IF_ERROR(problem);
  return highest;
}

}  // namespace

Status CheckCircles(CheckPass* pass) {
  CircleCheck check(pass);
  uint64_t highest = 0;
  for (uint64_t first = 0; first <= highest; first += check.window()) {
    ASSIGN_OR_RETURN(highest, check.CheckWindow(first));
  }
  return Status::Ok();
}

}  // namespace tarn::meta::fsck
