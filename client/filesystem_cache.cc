// FilesystemImpl: the namespace cache, and what this client's own changes do to it (the server pushes only those of
// others).
#include <optional>
#include <utility>

#include "client/filesystem_impl.h"
#include "client/meta/convert.h"

namespace tarn::client {
namespace {

// The directory's attributes, if the reply of a change of its names has them.
std::optional<Attributes> ParentOf(const proto::MutationReply& reply, InodeId directory) {
  for (const proto::Attributes* each : {&reply.parent(), &reply.new_parent()}) {
    if (each->inode() == directory.value()) return AttributesFromProto(*each);
  }
  return std::nullopt;
}

}  // namespace

MetadataSession::MutationCallback FilesystemImpl::NoteMaking(InodeId parent, const std::string& name,
                                                             MetadataSession::MutationCallback done) {
  if (cache_ == nullptr) return done;
  cache_->BeginMakingName(parent, name);
  return [this, parent, token = CacheToken(), done = std::move(done)](const Result<proto::MutationReply>& reply) {
    cache_->EndMakingName(token, parent, reply.ok() ? ParentOf(*reply, parent) : std::nullopt);
    done(reply);
  };
}

void FilesystemImpl::MutateMaking(InodeId parent, const std::string& name, proto::Mutation mutation,
                                  MetadataSession::MutationCallback done) {
  metadata_->Mutate(std::move(mutation), NoteMaking(parent, name, std::move(done)));
}

NamespaceCache::Admission FilesystemImpl::Admit(const proto::CacheGrant& grant, uint64_t token) {
  metadata_->coherence()->NoteTerm(grant.term());
  return cache_->Admit(grant, token);
}

void FilesystemImpl::CacheName(uint64_t token, InodeId parent, const std::string& name, InodeId inode,
                               const proto::MutationReply& reply) {
  if (cache_ == nullptr) return;
  cache_->NameChanged(token, parent, name, inode);
  cache_->ParentChanged(token, parent, ParentOf(reply, parent));
}

void FilesystemImpl::CacheAttributes(uint64_t token, const Attributes& attributes, bool seen_by_kernel) {
  if (cache_ != nullptr) cache_->AttributesChanged(token, attributes, seen_by_kernel);
}

void FilesystemImpl::CacheForgetName(InodeId parent, const std::string& name) {
  if (cache_ != nullptr) cache_->ForgetName(parent, name);
}

void FilesystemImpl::CacheForgetAttributes(InodeId inode) {
  if (cache_ != nullptr) cache_->ForgetAttributes(inode, /*seen_by_kernel=*/false);
}

void FilesystemImpl::CacheRename(uint64_t token, const proto::RenameOp& op, const proto::MutationReply& reply) {
  if (cache_ == nullptr) return;
  const InodeId old_parent(op.parent());
  const InodeId new_parent(op.new_parent());
  const Attributes moved = AttributesFromProto(reply.attributes());
  if (op.exchange()) {
    cache_->ForgetDirectory(old_parent);
    cache_->ForgetDirectory(new_parent);
    cache_->ParentChanged(token, old_parent, ParentOf(reply, old_parent));
    cache_->ParentChanged(token, new_parent, ParentOf(reply, new_parent));
  } else if (moved.type != FileType::kDirectory && moved.nlink != 1) {
    // Two names of one inode: then nothing was done at all.
    cache_->ForgetName(old_parent, op.name());
    cache_->ForgetName(new_parent, op.new_name());
  } else {
    CacheName(token, old_parent, op.name(), InodeId(), reply);
    CacheName(token, new_parent, op.new_name(), moved.inode, reply);
  }
  if (moved.inode.valid()) cache_->AttributesChanged(token, moved, /*seen_by_kernel=*/false);
}

// The server tells this client of it from now on, for the case that it is open here (docs/coherence.md, "What each change
// pushes").
void FilesystemImpl::CoverLeft(InodeId inode) {
  if (cache_ != nullptr && !open_files_.MayBeOpen(inode)) cache_->ForgetInterest(inode);
}

// ---- The kernel's own cache ----

void FilesystemImpl::SetKernelCache(KernelCache* kernel) {
  if (cache_ != nullptr) cache_->SetKernel(kernel);
}

Filesystem::Freshness FilesystemImpl::freshness() const {
  return cache_ != nullptr ? Freshness::kGranted : Freshness::kUnknown;
}

int64_t FilesystemImpl::ShowAttributes(const Attributes& attributes) {
  return cache_ != nullptr ? cache_->ShowAttributes(attributes) : 0;
}

int64_t FilesystemImpl::ShowName(InodeId parent, const std::string& name, InodeId inode) {
  return cache_ != nullptr ? cache_->ShowName(parent, name, inode) : 0;
}

}  // namespace tarn::client
