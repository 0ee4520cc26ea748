// Each directory: whether its names lead somewhere, and whether its counts are those of its names.
#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/fsck/check_pass.h"
#include "metaserver/state/records.h"

namespace tarn::meta::fsck {
namespace {

// What the names of a directory come to.
struct Sum {
  int64_t entries = 0;
  int64_t subdirectories = 0;
  TreeSize size;
};

class DirectoryCheck {
 public:
  DirectoryCheck(CheckPass* pass, const proto::Attributes& directory) : pass_(pass), directory_(directory) {}
  Status Run();

 private:
  Status CheckName(const std::string& name, const proto::DentryRecord& dentry);
  Status CheckSubdirectory(const proto::Attributes& child);
  void CheckFileParent(const proto::Attributes& child);
  void WrongParent(const proto::Attributes& child);
  void CheckCounts();
  Status CheckSize();
  std::string Where(const std::string& name) const { return "'" + name + "' in " + InodeName(directory_); }
  proto::RepairOp RepairOf(const std::string& name, uint64_t inode) const {
    proto::RepairOp repair;
    proto::RepairOp::Dentry* dentry = repair.add_dentries();
    dentry->set_parent(directory_.inode());
    dentry->set_name(name);
    dentry->set_inode(inode);
    return repair;
  }

  CheckPass* const pass_;
  const proto::Attributes& directory_;
  Sum sum_;
};

void DirectoryCheck::WrongParent(const proto::Attributes& child) {
  proto::RepairOp repair;
  *repair.add_inodes() = AsFound(child);
  repair.mutable_inodes(0)->set_parent(directory_.inode());
  pass_->Found("wrong-parent",
               InodeName(child) + " lies in directory " + std::to_string(directory_.inode()) + " and says " +
                   std::to_string(child.parent()),
               std::move(repair));
}

Status DirectoryCheck::CheckSubdirectory(const proto::Attributes& child) {
  if (child.parent() != directory_.inode()) WrongParent(child);
  ASSIGN_OR_RETURN(const auto size, ReadDirectorySize(pass_->view, InodeId(child.inode())));
  sum_.size = sum_.size + HeardOf(size.value_or(DirectorySize()));
  return Status::Ok();
}

void DirectoryCheck::CheckFileParent(const proto::Attributes& child) {
  if (child.parent() == directory_.inode()) {
    sum_.size = sum_.size + OwnSize(child);
  } else if (child.parent() != 0 && child.nlink() == 1) {
    WrongParent(child);
  }
}

Status DirectoryCheck::CheckName(const std::string& name, const proto::DentryRecord& dentry) {
  ++sum_.entries;
  if (dentry.type() == proto::FILE_TYPE_DIRECTORY) ++sum_.subdirectories;
  ASSIGN_OR_RETURN(const Pointed pointed, ReadPointed(pass_->view, InodeId(dentry.inode())));
  if (pointed.unreadable) return Status::Ok();
  const auto& child = pointed.inode;
  if (!child) {
    pass_->Found("dangling-dentry",
                 Where(name) + " points at inode " + std::to_string(dentry.inode()) + ", which does not exist",
                 RepairOf(name, dentry.inode()));
    return Status::Ok();
  }
  if (child->type() != dentry.type()) {
    pass_->Found("wrong-type", Where(name) + " says another type than " + InodeName(*child),
                 RepairOf(name, dentry.inode()));
  }
  if (child->type() == proto::FILE_TYPE_DIRECTORY) return CheckSubdirectory(*child);
  CheckFileParent(*child);
  return Status::Ok();
}

void DirectoryCheck::CheckCounts() {
  const int64_t links = directory_.nlink() == 0 ? 0 : sum_.subdirectories + 2;  // 0: the top of a removed tree
  const auto entries = static_cast<int64_t>(directory_.size_bytes());
  const bool is_purged = pass_->purged.contains(directory_.inode());
  if (is_purged || (entries == sum_.entries && directory_.nlink() == links)) return;
  proto::RepairOp repair;
  proto::RepairOp::Directory* counts = repair.add_directories();
  counts->set_inode(directory_.inode());
  counts->set_entries(sum_.entries - entries);
  counts->set_subdirectories(links - static_cast<int64_t>(directory_.nlink()));
  pass_->Found("wrong-entry-count",
               InodeName(directory_) + " has " + std::to_string(sum_.entries) + " names, " +
                   std::to_string(sum_.subdirectories) + " of directories, and counts " + std::to_string(entries) +
                   " and " + std::to_string(directory_.nlink()) + " links",
               std::move(repair));
}

Status DirectoryCheck::CheckSize() {
  ASSIGN_OR_RETURN(const auto size, ReadDirectorySize(pass_->view, InodeId(directory_.inode())));
  if (!size && pass_->purged.contains(directory_.inode())) return Status::Ok();
  if (const auto more = pass_->counted.find(directory_.inode()); more != pass_->counted.end()) {
    sum_.size = sum_.size + more->second;
  }
  if (size && size->total == sum_.size) return Status::Ok();
  proto::RepairOp repair;
  proto::RepairOp::Directory* counts = repair.add_directories();
  counts->set_inode(directory_.inode());
  std::string recorded = "none";
  if (size) {
    const TreeSize difference = sum_.size - size->total;
    counts->set_bytes(difference.bytes);
    counts->set_files(difference.files);
    counts->set_directories(difference.directories);
    recorded = std::to_string(size->total.bytes) + " bytes in " + std::to_string(size->total.files) + " files and " +
               std::to_string(size->total.directories) + " directories";
  } else {
    counts->set_start_size(true);  // the next check finds the difference
  }
  pass_->Found("wrong-directory-size",
               InodeName(directory_) + " holds " + std::to_string(sum_.size.bytes) + " bytes in " +
                   std::to_string(sum_.size.files) + " files and " + std::to_string(sum_.size.directories) +
                   " directories; recorded: " + recorded,
               std::move(repair));
  return Status::Ok();
}

Status DirectoryCheck::Run() {
  Status problem;
  RETURN_IF_ERROR(
      pass_->Scan(DentryPrefix(InodeId(directory_.inode())), [&](std::string_view key, std::string_view value) {
        const auto parts = ParseDentryKey(key);
        const auto dentry = ParseDentry(value);
        if (!parts || !dentry.ok()) return true;  // CheckLinks has named it
        problem = CheckName(std::string(parts->name), *dentry);
        return problem.ok();
      }));
  RETURN_IF_ERROR(problem);
  CheckCounts();
  return CheckSize();
}

}  // namespace

Status CheckDirectories(CheckPass* pass) {
  Status problem;
  RETURN_IF_ERROR(pass->Scan(KindPrefix(KeyKind::kInode), [&](std::string_view, std::string_view value) {
    const auto inode = ParseInode(value);
    if (!inode.ok() || inode->type() != proto::FILE_TYPE_DIRECTORY || !pass->wants(*inode)) return true;
    problem = DirectoryCheck(pass, *inode).Run();
    return problem.ok();
  }));
  return problem;
}

}  // namespace tarn::meta::fsck
