#include "metaserver/state/testing/namespace_workload.h"

namespace tarn::meta {

proto::Mutation NamespaceWorkload::Next() {
  proto::Mutation mutation;
  const uint64_t kind = Below(100);
  if (kind < 45) {
    MakeEntry(kind, &mutation);
  } else if (kind < 75) {
    ChangeEntry(kind, &mutation);
  } else {
    ChangeFile(kind, &mutation);
  }
  return mutation;
}

void NamespaceWorkload::MakeEntry(uint64_t kind, proto::Mutation* mutation) {
  if (kind < 20) {
    auto* op = mutation->mutable_create();
    op->set_parent(Directory());
    op->set_name(Name());
    op->set_type(proto::FILE_TYPE_REGULAR);
    op->set_mode(0644);
    op->set_exclusive(Below(2) == 0);
  } else if (kind < 32) {
    mutation->mutable_mkdir()->set_parent(Directory());
    mutation->mutable_mkdir()->set_name(Name());
  } else if (kind < 37) {
    mutation->mutable_symlink()->set_parent(Directory());
    mutation->mutable_symlink()->set_name(Name());
    mutation->mutable_symlink()->set_target("target");
  } else {
    mutation->mutable_link()->set_inode(File().inode());
    mutation->mutable_link()->set_new_parent(Directory());
    mutation->mutable_link()->set_new_name(Name());
  }
}

void NamespaceWorkload::ChangeEntry(uint64_t kind, proto::Mutation* mutation) {
  if (kind < 53) {
    mutation->mutable_unlink()->set_parent(Directory());
    mutation->mutable_unlink()->set_name(Name());
    mutation->mutable_unlink()->set_held_open(Below(4) == 0);
  } else if (kind < 58) {
    mutation->mutable_rmdir()->set_parent(Directory());
    mutation->mutable_rmdir()->set_name(Name());
  } else {
    auto* op = mutation->mutable_rename();
    op->set_parent(Directory());
    op->set_name(Name());
    op->set_new_parent(Below(2) == 0 ? op->parent() : Directory());
    op->set_new_name(Name());
    op->set_exchange(Below(5) == 0);
    op->set_no_replace(!op->exchange() && Below(5) == 0);
    op->set_replaced_held_open(Below(4) == 0);
  }
}

void NamespaceWorkload::ChangeFile(uint64_t kind, proto::Mutation* mutation) {
  const proto::Attributes file = File();
  if (kind < 80) {
    mutation->mutable_allocate_data()->set_inode(file.inode());
  } else if (kind < 87) {
    auto* op = mutation->mutable_commit_write();
    op->set_inode(file.inode());
    op->set_data_id(file.data_id());
    op->set_truncate_generation(file.truncate_generation());
    op->set_min_size_bytes(Below(10'000));
  } else if (kind < 91) {
    mutation->mutable_truncate()->set_inode(file.inode());
    mutation->mutable_truncate()->set_size_bytes(Below(3) == 0 ? 0 : Below(10'000));
  } else if (kind < 93) {
    mutation->mutable_truncate_done()->set_inode(file.inode());
    mutation->mutable_truncate_done()->set_truncate_generation(file.truncate_generation());
  } else if (kind < 95) {
    mutation->mutable_set_attr()->set_inode(file.inode());
    mutation->mutable_set_attr()->set_mode(static_cast<uint32_t>(Below(010000)));
  } else if (kind < 97) {
    mutation->mutable_set_xattr()->set_inode(file.inode());
    mutation->mutable_set_xattr()->set_name(Name());
    mutation->mutable_set_xattr()->set_value("value");
  } else if (kind < 98) {
    mutation->mutable_remove_xattr()->set_inode(file.inode());
    mutation->mutable_remove_xattr()->set_name(Name());
  } else {
    mutation->mutable_release_orphan()->set_inode(file.inode());
  }
}

// The first one, the root, stays; the others make room for new ones, so that many names are found.
void NamespaceWorkload::LearnDirectory(uint64_t inode) {
  if (directories_.size() < kDirectoriesMax) {
    directories_.push_back(inode);
  } else {
    directories_[1 + Below(kDirectoriesMax - 1)] = inode;
  }
}

void NamespaceWorkload::Learn(const proto::MutationReply& reply) {
  if (!reply.has_attributes()) return;
  const proto::Attributes& inode = reply.attributes();
  if (inode.type() == proto::FILE_TYPE_DIRECTORY && reply.created()) LearnDirectory(inode.inode());
  if (inode.type() != proto::FILE_TYPE_REGULAR) return;
  for (proto::Attributes& known : files_) {
    if (known.inode() != inode.inode()) continue;
    known = inode;
    return;
  }
  files_.push_back(inode);
}

}  // namespace tarn::meta
