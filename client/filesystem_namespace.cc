// FilesystemImpl: names. Each operation is one request; the state machine holds the POSIX rules.
#include <optional>
#include <utility>

#include "client/filesystem_impl.h"
#include "client/meta/convert.h"

namespace tarn::client {

namespace {

bool IsDots(const std::string& name) { return name == "." || name == ".."; }

Status NoSuchName(const std::string& name) { return Status(StatusCode::kNotFound, "there is no '" + name + "'"); }

}  // namespace

void FilesystemImpl::MakeAndShow(InodeId parent, const std::string& name, proto::Mutation mutation,
                                 Callback<Attributes> done) {
  MutateMaking(parent, name, std::move(mutation), [this, parent, name, token = CacheToken(),
                                                   done = std::move(done)](const Result<proto::MutationReply>& reply) {
    if (!reply.ok()) {
      CacheForgetName(parent, name);
      return done(reply.status());
    }
    const Attributes made = AttributesFromProto(reply->attributes());
    if (reply->write_granted()) {  // nobody here writes it
      write_releases_.Add(made.inode);
      write_releases_.SendQueued();
    }
    CacheName(token, parent, name, made.inode, *reply);
    CacheAttributes(token, made, /*seen_by_kernel=*/false);
    done(open_files_.Show(made));
  });
}

void FilesystemImpl::Lookup(InodeId parent, const std::string& name, Callback<Attributes> done) {
  const bool caches = cache_ != nullptr && !IsDots(name);
  if (caches) {
    const std::optional<NamespaceCache::FoundName> known = cache_->FindName(parent, name);
    if (known && !known->inode.valid()) return done(NoSuchName(name));
    if (known && known->attributes) return done(open_files_.Show(*known->attributes));
  }
  proto::LookupRequest request;
  request.set_parent(parent.value());
  request.set_name(name);
  if (caches) request.set_session(GrantSession());
  metadata_->Read<proto::LookupReply>(
      rpc::Method::kLookup, std::move(request),
      [this, caches, name, token = CacheToken(), done = std::move(done)](const Result<proto::LookupReply>& reply) {
        if (!reply.ok()) return done(reply.status());
        const Attributes attributes = AttributesFromProto(reply->attributes());
        if (caches && reply->has_grant()) {
          const NamespaceCache::Admission admission = Admit(reply->grant(), token);
          cache_->PutName(admission, name, attributes.inode);
          if (attributes.inode.valid()) cache_->PutAttributes(admission, attributes);
        }
        if (!attributes.inode.valid()) return done(NoSuchName(name));
        done(open_files_.Show(attributes));
      });
}

void FilesystemImpl::MakeNode(InodeId parent, const std::string& name, FileType type, uint32_t mode, uint64_t rdev,
                              Caller caller, Callback<Attributes> done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::CreateOp* op = mutation.mutable_create();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_type(FileTypeToProto(type));
  op->set_mode(mode);
  op->set_rdev(rdev);
  op->set_exclusive(true);
  MakeAndShow(parent, name, std::move(mutation), std::move(done));
}

void FilesystemImpl::MakeDirectory(InodeId parent, const std::string& name, uint32_t mode, Caller caller,
                                   Callback<Attributes> done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::MkdirOp* op = mutation.mutable_mkdir();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_mode(mode);
  MakeAndShow(parent, name, std::move(mutation), std::move(done));
}

void FilesystemImpl::MakeSymlink(InodeId parent, const std::string& name, const std::string& target, Caller caller,
                                 Callback<Attributes> done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::SymlinkOp* op = mutation.mutable_symlink();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_target(target);
  MakeAndShow(parent, name, std::move(mutation), std::move(done));
}

void FilesystemImpl::Link(InodeId inode, InodeId new_parent, const std::string& new_name, Caller caller,
                          Callback<Attributes> done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::LinkOp* op = mutation.mutable_link();
  op->set_inode(inode.value());
  op->set_new_parent(new_parent.value());
  op->set_new_name(new_name);
  MakeAndShow(new_parent, new_name, std::move(mutation), [this, inode, done = std::move(done)](Result<Attributes> linked) {
    if (linked.ok()) CoverLeft(inode);
    done(std::move(linked));
  });
}

// The name alone does not say which inode goes, so whenever any file is open the server is asked to keep the inode as
// an orphan of this session. If it turns out not to be one of the open files, it is let go at once. If no file is open,
// none is opened before the answer.
void FilesystemImpl::Unlink(InodeId parent, const std::string& name, Caller caller, StatusCallback done) {
  const bool held_open = open_files_.BeginRemoval();
  proto::Mutation mutation = MutationFor(caller);
  proto::UnlinkOp* op = mutation.mutable_unlink();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_held_open(held_open);
  metadata_->Mutate(std::move(mutation), [this, parent, name, held_open, token = CacheToken(),
                                          done = std::move(done)](const Result<proto::MutationReply>& reply) {
    if (reply.ok()) {
      CacheName(token, parent, name, InodeId(), *reply);
      AfterNameRemoved(token, *reply, held_open);
    } else {
      CacheForgetName(parent, name);
    }
    open_files_.EndRemoval(held_open);
    done(reply.status());
  });
}

void FilesystemImpl::RemoveDirectory(InodeId parent, const std::string& name, Caller caller, StatusCallback done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::RmdirOp* op = mutation.mutable_rmdir();
  op->set_parent(parent.value());
  op->set_name(name);
  metadata_->Mutate(std::move(mutation), [this, parent, name, token = CacheToken(),
                                          done = std::move(done)](const Result<proto::MutationReply>& reply) {
    if (cache_ != nullptr) {
      const std::optional<NamespaceCache::FoundName> known = cache_->FindName(parent, name);
      // Its kernel knows: asked for the attributes of what is gone it would say ESTALE where ENOENT is due.
      if (known && known->inode.valid()) cache_->ForgetAttributes(known->inode, /*seen_by_kernel=*/true);
    }
    if (reply.ok()) {
      CacheName(token, parent, name, InodeId(), *reply);
    } else {
      CacheForgetName(parent, name);
    }
    done(reply.status());
  });
}

void FilesystemImpl::RemoveTree(InodeId parent, const std::string& name, Caller caller, StatusCallback done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::RemoveTreeOp* op = mutation.mutable_remove_tree();
  op->set_parent(parent.value());
  op->set_name(name);
  metadata_->Mutate(std::move(mutation),
                    [done = std::move(done)](const Result<proto::MutationReply>& reply) { done(reply.status()); });
}

void FilesystemImpl::Rename(InodeId parent, const std::string& name, InodeId new_parent, const std::string& new_name,
                            RenameFlags flags, Caller caller, StatusCallback done) {
  const bool held_open = open_files_.BeginRemoval();
  proto::Mutation mutation = MutationFor(caller);
  proto::RenameOp* op = mutation.mutable_rename();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_new_parent(new_parent.value());
  op->set_new_name(new_name);
  op->set_no_replace(flags.no_replace);
  op->set_exchange(flags.exchange);
  op->set_replaced_held_open(held_open);
  MutateMaking(new_parent, new_name, std::move(mutation), [this, rename = *op, held_open, token = CacheToken(),
                                                           done = std::move(done)](const Result<proto::MutationReply>& reply) {
    if (!reply.ok()) {
      CacheForgetName(InodeId(rename.parent()), rename.name());
      CacheForgetName(InodeId(rename.new_parent()), rename.new_name());
      open_files_.EndRemoval(held_open);
      return done(reply.status());
    }
    CacheRename(token, rename, *reply);
    AfterNameRemoved(token, *reply, held_open);
    open_files_.EndRemoval(held_open);
    const bool moved = rename.parent() != rename.new_parent();
    if (moved) CoverLeft(InodeId(reply->attributes().inode()));
    if (cache_ == nullptr || !rename.exchange()) return done(Status::Ok());
    // The reply says nothing of the inode that came the other way, which has another parent and ctime now.
    Lookup(InodeId(rename.parent()), rename.name(), [this, moved, done](const Result<Attributes>& other) {
      if (other.ok()) CacheForgetAttributes(other->inode);
      if (other.ok() && moved) CoverLeft(other->inode);
      done(Status::Ok());
    });
  });
}

void FilesystemImpl::AfterNameRemoved(uint64_t token, const proto::MutationReply& reply, bool held_open) {
  if (!reply.has_removed() || reply.removed().inode() == 0) return;
  const Attributes removed = AttributesFromProto(reply.removed());
  CacheAttributes(token, removed, /*seen_by_kernel=*/false);
  if (removed.type == FileType::kDirectory && cache_ != nullptr) cache_->ForgetDirectory(removed.inode);
  (void)open_files_.Show(removed);  // an fstat of the open file shows the fewer links
  if (!held_open || removed.nlink > 0 || removed.type == FileType::kDirectory) return;
  if (!open_files_.MarkOrphan(removed.inode)) ReleaseOrphan(removed.inode);
}

void FilesystemImpl::ReleaseOrphan(InodeId inode) {
  proto::Mutation mutation;
  mutation.mutable_release_orphan()->set_inode(inode.value());
  // Nobody waits for it, and the end of the session does the same.
  metadata_->MutateBatched(std::move(mutation), [](const Result<proto::MutationReply>&) {});
}

void FilesystemImpl::ReadDirectory(InodeId directory, uint64_t after_cookie, uint32_t entries_max, bool with_attributes,
                                   Callback<DirectoryPage> done) {
  proto::ReadDirRequest request;
  request.set_directory(directory.value());
  request.set_after_cookie(after_cookie);
  request.set_entries_max(entries_max);
  request.set_with_attributes(with_attributes);
  request.set_session(GrantSession());
  metadata_->Read<proto::ReadDirReply>(
      rpc::Method::kReadDir, std::move(request),
      [this, with_attributes, token = CacheToken(), done = std::move(done)](Result<proto::ReadDirReply> reply) {
        if (!reply.ok()) return done(reply.status());
        NamespaceCache::Admission admission;
        if (cache_ != nullptr && reply->has_grant()) admission = Admit(reply->grant(), token);
        // Most listings happen while few files are open: look there only if there are any.
        const bool show = with_attributes && open_files_.count() > 0;
        DirectoryPage page;
        page.end = reply->end();
        page.entries.reserve(static_cast<size_t>(reply->entries_size()));
        for (proto::Entry& entry : *reply->mutable_entries()) {
          DirectoryEntry& to = page.entries.emplace_back();
          to.name = std::move(*entry.mutable_name());
          to.cookie = entry.cookie();
          to.attributes = AttributesFromProto(entry.attributes());
          if (admission.cover) {
            cache_->PutName(admission, to.name, to.attributes.inode);
            if (with_attributes && to.attributes.nlink > 0) cache_->PutAttributes(admission, to.attributes);
          }
          // Left out: another client writes it, and what is known here of an open file is old.
          if (show && to.attributes.nlink > 0) to.attributes = open_files_.Show(to.attributes);
        }
        done(std::move(page));
      });
}

void FilesystemImpl::StatFs(Callback<FilesystemStatistics> done) {
  proto::StatFsRequest request;
  request.set_volume(parts_.volume.id.value());
  metadata_->Read<proto::StatFsReply>(rpc::Method::kStatFs, std::move(request),
                                      [done = std::move(done)](const Result<proto::StatFsReply>& reply) {
                                        if (!reply.ok()) return done(reply.status());
                                        done(FilesystemStatistics{reply->total_bytes(), reply->free_bytes(),
                                                                  reply->total_inodes(), reply->free_inodes()});
                                      });
}

}  // namespace tarn::client
