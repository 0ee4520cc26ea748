// FilesystemImpl: open files.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "client/filesystem_impl.h"
#include "client/meta/convert.h"
#include "common/base/check.h"

namespace tarn::client {
namespace {

// Of FilesystemImpl::written_when_made_.
constexpr int kWrittenMin = 2;
constexpr int kWrittenMax = 8;
// How often a server that does not grant what an open needs is asked: it does so in a moment, if it can at all.
constexpr uint32_t kOpenAttemptsMax = 16;

Status RemovedElsewhere() { return Status(StatusCode::kStaleHandle, "the file was removed by another client"); }

}  // namespace

void FilesystemImpl::Create(InodeId parent, const std::string& name, uint32_t mode, bool exclusive, OpenFlags flags,
                            Caller caller, Callback<OpenedFile> done) {
  open_files_.BeginOpening();
  // An id that the file gets with its name saves the request for one, and the entry in the log. But an id that is never
  // written costs when the file is removed.
  const bool with_data = flags.write && written_when_made_.load(std::memory_order_relaxed) >= kWrittenMin;
  open_files_.WhenRemoved([this, request = CreateRequest{parent, name, mode, exclusive, flags, caller}, with_data,
                           done = std::move(done)] { SendCreate(request, with_data, done); });
}

void FilesystemImpl::SendCreate(const CreateRequest& request, bool with_data, Callback<OpenedFile> done) {
  proto::Mutation mutation = MutationFor(request.caller);
  proto::CreateOp* op = mutation.mutable_create();
  op->set_parent(request.parent.value());
  op->set_name(request.name);
  op->set_type(proto::FILE_TYPE_REGULAR);
  op->set_mode(request.mode);
  op->set_exclusive(request.exclusive);
  std::optional<ReservedDataIds::Reserved> data;
  if (with_data) data = reserved_data_ids_.TryTake();
  if (data) {
    op->set_data_id(data->data.value());
    *op->mutable_layout() = LayoutToProto(data->layout);
  }
  MutateMaking(request.parent, request.name, std::move(mutation),
               [this, request, had_data = data.has_value(), token = CacheToken(),
                done = std::move(done)](const Result<proto::MutationReply>& reply) {
    if (!reply.ok()) {
      // A file that exists keeps what it has; a layout may be of use no more.
      const StatusCode code = reply.status().code();
      if (had_data && (code == StatusCode::kInvalidArgument || (code == StatusCode::kExists && !request.exclusive))) {
        return SendCreate(request, /*with_data=*/false, done);
      }
      CacheForgetName(request.parent, request.name);
      EndOpening();
      return done(reply.status());
    }
    const Attributes attributes = AttributesFromProto(reply->attributes());
    CacheName(token, request.parent, request.name, attributes.inode, *reply);
    CacheAttributes(token, attributes, /*seen_by_kernel=*/false);
    const Made made{.created = reply->created(), .write_granted = reply->write_granted()};
    if (IsCovered(token, request.parent, attributes)) {
      FinishOpen(attributes, made, request.flags, request.caller, done);
      return EndOpening();
    }
    open_files_.BeginOpening(attributes.inode);
    FetchToOpen(attributes.inode, 0, [this, request, made, inode = attributes.inode, done](const Result<Attributes>& now) {
      if (now.ok() && (now->nlink > 0 || open_files_.IsKept(inode))) {
        FinishOpen(*now, made, request.flags, request.caller, done);
      } else {
        done(now.ok() ? RemovedElsewhere() : now.status());
      }
      EndOpening(inode);
      EndOpening();
    });
  });
}

bool FilesystemImpl::IsCovered(uint64_t token, InodeId parent, const Attributes& made) {
  if (cache_ == nullptr) return true;  // nothing could cover it
  return made.nlink == 1 && made.parent == parent && cache_->Held(parent, token).cover.has_value();
}

void FilesystemImpl::FetchToOpen(InodeId inode, uint32_t attempts, Callback<Attributes> done) {
  proto::GetAttrRequest request;
  request.set_inode(inode.value());
  request.set_session(GrantSession());
  request.set_will_open(cache_ != nullptr);
  metadata_->Read<proto::GetAttrReply>(
      rpc::Method::kGetAttr, std::move(request),
      [this, inode, attempts, token = CacheToken(), done = std::move(done)](const Result<proto::GetAttrReply>& reply) {
        if (!reply.ok()) return done(reply.status());
        const Attributes attributes = AttributesFromProto(reply->attributes());
        if (cache_ != nullptr && reply->has_grant()) cache_->PutAttributes(Admit(reply->grant(), token), attributes);
        const bool is_granted = reply->grant().inode() == inode.value() || cache_ == nullptr;
        if (!is_granted && attempts + 1 < kOpenAttemptsMax) return FetchToOpen(inode, attempts + 1, done);
        done(attributes);
      });
}

void FilesystemImpl::EndOpening(InodeId inode) {
  for (const InodeId not_open : open_files_.EndOpening(inode)) ReleaseOrphan(not_open);
}

// What is remembered is as good as the server's answer: another client that changes or removes the file is answered
// only once this one was told. Before anything is looked up it is noted that the inode is about to be open, so that
// either the removal is seen here or this open is seen by the removal.
void FilesystemImpl::OpenFile(InodeId inode, OpenFlags flags, Callback<OpenedFile> done) {
  open_files_.BeginOpening(inode);
  open_files_.WhenRemoved([this, inode, flags, done = std::move(done)] { OpenNow(inode, flags, done); });
}

void FilesystemImpl::OpenNow(InodeId inode, OpenFlags flags, Callback<OpenedFile> done) {
  if (cache_ != nullptr) {
    if (const std::optional<Attributes> known = cache_->FindAttributes(inode)) {
      FinishOpen(*known, {}, flags, Caller(), std::move(done));
      return EndOpening(inode);
    }
  }
  FetchToOpen(inode, 0, [this, inode, flags, done = std::move(done)](const Result<Attributes>& result) {
    // Its last name is gone. If the push of that came before this opening, the server has heard that the file is not open
    // here, and keeps it for nobody.
    const bool is_gone = result.ok() && result->nlink == 0 && !open_files_.IsKept(inode);
    if (result.ok() && !is_gone) {
      FinishOpen(*result, {}, flags, Caller(), done);
      EndOpening(inode);
    } else {
      EndOpening(inode);
      done(is_gone ? RemovedElsewhere() : result.status());
    }
  });
}

void FilesystemImpl::FinishOpen(const Attributes& attributes, Made made, OpenFlags flags, Caller caller,
                                Callback<OpenedFile> done) {
  if (attributes.type == FileType::kDirectory) {
    return done(Status(StatusCode::kIsDirectory, "a directory cannot be opened as a file"));
  }
  if (attributes.type != FileType::kRegular) {
    return done(Status(StatusCode::kInvalidArgument, "only regular files have data"));
  }
  const bool same_pages = page_cache_views_.Open(attributes);
  OpenedFile opened;
  opened.handle = std::make_shared<FileHandle>(open_files_.Use(attributes, made.write_granted), flags, made.created,
                                               data_->NewReadAhead());
  opened.attributes = open_files_.Show(attributes);
  opened.created = made.created;
  opened.keep_cache = same_pages;
  if (!flags.truncate || made.created || opened.attributes.size_bytes == 0) return done(std::move(opened));
  AttributeChanges to_zero;
  to_zero.size_bytes = 0;
  SetAttributes(attributes.inode, to_zero, caller,
                [this, opened = std::move(opened), done = std::move(done)](Result<Attributes> truncated) mutable {
                  if (!truncated.ok()) {
                    Release(opened.handle);
                    return done(truncated.status());
                  }
                  opened.attributes = *std::move(truncated);
                  opened.keep_cache = false;  // the kernel did not see this truncate by itself
                  done(std::move(opened));
                });
}

void FilesystemImpl::Read(const FileHandlePtr& handle, uint64_t offset, size_t length, Callback<ReadResult> done) {
  if (!handle->flags.read) return done(Status(StatusCode::kBadHandle, "the file was not opened for reading"));
  if (locks_->LostBy(handle->locks)) return done(LockLost());
  const OpenInodePtr& open = handle->inode;
  const uint64_t changes = open->foreign_changes.load(std::memory_order_acquire);
  // Without its lease this client would not have been told.
  const bool would_know = cache_ == nullptr || cache_->usable();
  if (would_know && open->changes_adopted.load(std::memory_order_acquire) >= changes) {
    return open->data->Read(handle->read_ahead, ByteRange{offset, length}, std::move(done));
  }
  // Another client changed it, or may have: its new size and data first.
  GetAttributes(open->id, [handle, changes, offset, length, done = std::move(done)](const Result<Attributes>& fresh) {
    if (!fresh.ok()) return done(fresh.status());  // what is known here may be old
    OpenInode& inode = *handle->inode;
    uint64_t adopted = inode.changes_adopted.load(std::memory_order_acquire);
    while (adopted < changes && !inode.changes_adopted.compare_exchange_weak(adopted, changes)) {
    }
    inode.data->Read(handle->read_ahead, ByteRange{offset, length}, done);
  });
}

void FilesystemImpl::Flush(const FileHandlePtr& handle, StatusCallback done) {
  if (!handle->flags.write) return done(Status::Ok());
  open_files_.NoteClosing(handle->inode);
  handle->inode->data->FlushFor(handle->errors, std::move(done));
}

void FilesystemImpl::Fsync(const FileHandlePtr& handle, StatusCallback done) {
  // fsync is for all data of the file, whoever wrote it.
  const OpenInodePtr& open = handle->inode;
  const uint64_t changes = open->foreign_changes.load(std::memory_order_acquire);
  // Without its lease, or a cache at all, this client would not have been told.
  const bool would_know = cache_ != nullptr && cache_->usable();
  if (would_know && open->changes_stable.load(std::memory_order_acquire) == changes) {
    return open->data->SyncFor(handle->errors, std::move(done));
  }
  // How far the file reaches, first.
  GetAttributes(open->id, [handle, changes, would_know, done = std::move(done)](const Result<Attributes>& fresh) {
    OpenInode& inode = *handle->inode;
    const bool known = would_know && fresh.ok();
    inode.data->SyncEverybodysFor(handle->errors, [handle, changes, known, done](const Status& status) {
      if (known && status.ok()) handle->inode->changes_stable.store(changes, std::memory_order_release);
      done(status);
    });
  });
}

void FilesystemImpl::Release(const FileHandlePtr& handle) {
  CHECK(!handle->released.exchange(true), "a handle is released once");
  if (handle->created && handle->flags.write) NoteFirstUse(*handle);
  locks_->ReleaseHandle(*handle);
  EndUse(handle->inode);
}

void FilesystemImpl::NoteFirstUse(const FileHandle& handle) {
  const int step = handle.wrote.load(std::memory_order_relaxed) ? 1 : -1;
  int score = written_when_made_.load(std::memory_order_relaxed);
  while (!written_when_made_.compare_exchange_weak(score, std::clamp(score + step, 0, kWrittenMax))) {
  }
}

void FilesystemImpl::EndUse(const OpenInodePtr& open) { AfterRelease(open, open_files_.Release(open)); }

void FilesystemImpl::AfterRelease(const OpenInodePtr& open, OpenFiles::AfterRelease next) {
  switch (next) {
    case OpenFiles::AfterRelease::kNothing:
      return;
    case OpenFiles::AfterRelease::kReleaseOrphan:
      ReleaseOrphan(open->id);
      return;
    case OpenFiles::AfterRelease::kFlush:
      // Written after the last flush: nobody is left to be told of an error, so the log is.
      open->data->Flush([this, open](const Status& status) {
        if (!status.ok()) {
          spdlog::error("data written before a file was released is lost inode={} error={}", open->id.value(),
                        status.ToString());
        }
        AfterRelease(open, open_files_.FinishClose(open));
      });
      return;
  }
}

}  // namespace tarn::client
