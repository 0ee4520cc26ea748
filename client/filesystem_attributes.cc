// FilesystemImpl: attributes of inodes, among them the size, and extended attributes.
#include <optional>
#include <utility>

#include "client/filesystem_impl.h"
#include "client/meta/convert.h"

namespace tarn::client {
namespace {

// How often one truncate finishes those of others first.
constexpr uint32_t kTruncateAttemptsMax = 16;

bool HasOtherChanges(const AttributeChanges& changes) {
  return changes.mode || changes.uid || changes.gid || changes.atime_ns || changes.mtime_ns || changes.atime_now ||
         changes.mtime_now || (changes.clear_suid_sgid && !changes.size_bytes);
}

}  // namespace

void FilesystemImpl::GetAttributes(InodeId inode, Callback<Attributes> done) {
  if (cache_ != nullptr) {
    if (const std::optional<Attributes> known = cache_->FindAttributes(inode)) return done(open_files_.Show(*known));
  }
  FetchAttributes(inode, [this, done = std::move(done)](const Result<Attributes>& result) {
    if (!result.ok()) return done(result.status());
    done(open_files_.Show(*result));
  });
}

void FilesystemImpl::FetchAttributes(InodeId inode, Callback<Attributes> done) {
  proto::GetAttrRequest request;
  request.set_inode(inode.value());
  request.set_session(GrantSession());
  metadata_->Read<proto::GetAttrReply>(
      rpc::Method::kGetAttr, std::move(request),
      [this, token = CacheToken(), done = std::move(done)](const Result<proto::GetAttrReply>& reply) {
        if (!reply.ok()) return done(reply.status());
        const Attributes attributes = AttributesFromProto(reply->attributes());
        if (cache_ != nullptr && reply->has_grant()) {
          cache_->PutAttributes(Admit(reply->grant(), token), attributes);
        }
        done(attributes);
      });
}

// What is buffered goes first: its size commit would otherwise come after the change and set the modification time that
// a copying program has just set, or clear the set-uid bit that was given after the write.
void FilesystemImpl::SetAttributes(InodeId inode, const AttributeChanges& changes, Caller caller,
                                   Callback<Attributes> done) {
  FlushIfDirty(inode, [this, inode, changes, caller, done = std::move(done)](const Status& flushed) {
    if (!flushed.ok()) return done(flushed);
    if (!changes.size_bytes) {
      SetOtherAttributes(inode, changes, caller, done);
      return;
    }
    TruncateRequest request{inode, *changes.size_bytes, changes.clear_suid_sgid, caller};
    Truncate(request, [this, inode, changes, caller, done](Result<Attributes> truncated) {
      if (!truncated.ok() || !HasOtherChanges(changes)) return done(std::move(truncated));
      SetOtherAttributes(inode, changes, caller, done);
    });
  });
}

void FilesystemImpl::FlushIfDirty(InodeId inode, StatusCallback done) {
  OpenInodePtr open = open_files_.UseIfOpen(inode);
  if (open == nullptr) return done(Status::Ok());
  if (!open->data->dirty()) {
    EndUse(open);
    return done(Status::Ok());
  }
  open->data->Flush([this, open, done = std::move(done)](Status status) {
    EndUse(open);
    done(std::move(status));
  });
}

void FilesystemImpl::SetOtherAttributes(InodeId inode, const AttributeChanges& changes, Caller caller,
                                        Callback<Attributes> done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::SetAttrOp* op = mutation.mutable_set_attr();
  op->set_inode(inode.value());
  if (changes.mode) op->set_mode(*changes.mode);
  if (changes.uid) op->set_uid(*changes.uid);
  if (changes.gid) op->set_gid(*changes.gid);
  if (changes.atime_ns) op->set_atime_ns(*changes.atime_ns);
  if (changes.mtime_ns) op->set_mtime_ns(*changes.mtime_ns);
  op->set_atime_now(changes.atime_now);
  op->set_mtime_now(changes.mtime_now);
  op->set_clear_suid_sgid(changes.clear_suid_sgid);
  metadata_->MutateForAttributes(std::move(mutation), [this, inode, token = CacheToken(),
                                                       done = std::move(done)](const Result<Attributes>& result) {
    if (!result.ok()) {
      CacheForgetAttributes(inode);
      return done(result.status());
    }
    CacheAttributes(token, *result, /*seen_by_kernel=*/false);
    page_cache_views_.OwnAttributeChange(*result);
    done(open_files_.Show(*result));
  });
}

void FilesystemImpl::Truncate(const TruncateRequest& request, Callback<Attributes> done) {
  proto::Mutation mutation = MutationFor(request.caller);
  proto::TruncateOp* op = mutation.mutable_truncate();
  op->set_inode(request.inode.value());
  op->set_size_bytes(request.size_bytes);
  op->set_clear_suid_sgid(request.clear_suid_sgid);
  metadata_->MutateForAttributes(std::move(mutation), [this, request, token = CacheToken(),
                                                       done = std::move(done)](const Result<Attributes>& result) {
    if (result.ok()) {
      CacheAttributes(token, *result, /*seen_by_kernel=*/false);
      return OnTruncated(*result, done);
    }
    CacheForgetAttributes(request.inode);
    if (result.status().code() != StatusCode::kTruncatePending || request.attempts >= kTruncateAttemptsMax) {
      return done(result.status());
    }
    FinishPendingTruncate(request.inode, [this, request, done](const Status& finished) {
      if (!finished.ok()) return done(finished);
      TruncateRequest again = request;
      ++again.attempts;
      Truncate(again, done);
    });
  });
}

void FilesystemImpl::OnTruncated(const Attributes& attributes, Callback<Attributes> done) {
  page_cache_views_.OwnWrite(attributes);
  const bool cut_chunks = attributes.truncate_floor_bytes.has_value();
  OpenInodePtr open = cut_chunks ? open_files_.Use(attributes) : open_files_.UseIfOpen(attributes.inode);
  if (open == nullptr) return done(attributes);
  if (!cut_chunks && attributes.size_bytes > 0) {  // grown, or cut where there was no data
    done(open_files_.Show(attributes));
    EndUse(open);
    return;
  }
  open_files_.Remember(attributes);
  open->data->FinishTruncate(attributes, [this, open, attributes, done = std::move(done)](const Status& status) {
    Attributes shown = open_files_.Show(attributes);
    shown.truncate_floor_bytes.reset();
    EndUse(open);
    if (!status.ok()) return done(status.WithContext("truncate"));
    done(std::move(shown));
  });
}

void FilesystemImpl::FinishPendingTruncate(InodeId inode, StatusCallback done) {
  FetchAttributes(inode, [this, done = std::move(done)](const Result<Attributes>& result) {
    if (!result.ok()) return done(result.status());
    if (!result->truncate_floor_bytes) return done(Status::Ok());  // its owner was quicker
    OpenInodePtr open = open_files_.Use(*result);
    open->data->FinishTruncate(*result, [this, open, done](Status status) {
      EndUse(open);
      done(status.WithContext("finish an earlier truncate"));
    });
  });
}

// ---- Extended attributes ----

bool FilesystemImpl::HasNoXattrs(InodeId inode) {
  if (cache_ == nullptr) return false;
  const std::optional<Attributes> known = cache_->FindAttributes(inode);
  return known && !known->has_xattrs;
}

void FilesystemImpl::GetXattr(InodeId inode, const std::string& name, Callback<std::string> done) {
  // Those the server answers by itself are not among the stored ones.
  const bool served = name.starts_with("tarn.");
  if (!served && HasNoXattrs(inode)) {
    return done(Status(StatusCode::kNoAttribute, "the inode has no extended attributes"));
  }
  proto::GetXattrRequest request;
  request.set_inode(inode.value());
  request.set_name(name);
  metadata_->Read<proto::GetXattrReply>(rpc::Method::kGetXattr, std::move(request),
                                        [done = std::move(done)](Result<proto::GetXattrReply> reply) {
                                          if (!reply.ok()) return done(reply.status());
                                          done(std::move(*reply->mutable_value()));
                                        });
}

void FilesystemImpl::ListXattrs(InodeId inode, Callback<std::vector<std::string>> done) {
  if (HasNoXattrs(inode)) return done(std::vector<std::string>());
  proto::ListXattrRequest request;
  request.set_inode(inode.value());
  metadata_->Read<proto::ListXattrReply>(rpc::Method::kListXattr, std::move(request),
                                         [done = std::move(done)](const Result<proto::ListXattrReply>& reply) {
                                           if (!reply.ok()) return done(reply.status());
                                           done(std::vector<std::string>(reply->names().begin(), reply->names().end()));
                                         });
}

void FilesystemImpl::SetXattr(InodeId inode, const std::string& name, const std::string& value, SetXattrFlags flags,
                              Caller caller, StatusCallback done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::SetXattrOp* op = mutation.mutable_set_xattr();
  op->set_inode(inode.value());
  op->set_name(name);
  op->set_value(value);
  op->set_create_only(flags.create_only);
  op->set_replace_only(flags.replace_only);
  metadata_->Mutate(std::move(mutation),
                    [this, inode, done = std::move(done)](const Result<proto::MutationReply>& reply) {
                      CacheForgetAttributes(inode);
                      done(reply.status());
                    });
}

void FilesystemImpl::RemoveXattr(InodeId inode, const std::string& name, Caller caller, StatusCallback done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::RemoveXattrOp* op = mutation.mutable_remove_xattr();
  op->set_inode(inode.value());
  op->set_name(name);
  metadata_->Mutate(std::move(mutation),
                    [this, inode, done = std::move(done)](const Result<proto::MutationReply>& reply) {
                      CacheForgetAttributes(inode);
                      done(reply.status());
                    });
}

}  // namespace tarn::client
