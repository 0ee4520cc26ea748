// FilesystemImpl: open files.
#include <spdlog/spdlog.h>

#include <utility>

#include "client/filesystem_impl.h"
#include "client/meta/convert.h"
#include "common/base/check.h"

namespace tarn::client {

void FilesystemImpl::Create(InodeId parent, const std::string& name, uint32_t mode, bool exclusive, OpenFlags flags,
                            Caller caller, Callback<OpenedFile> done) {
  proto::Mutation mutation = MutationFor(caller);
  proto::CreateOp* op = mutation.mutable_create();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_type(proto::FILE_TYPE_REGULAR);
  op->set_mode(mode);
  op->set_exclusive(exclusive);
  open_files_.BeginOpening();
  metadata_->Mutate(std::move(mutation),
                    [this, flags, caller, done = std::move(done)](const Result<proto::MutationReply>& reply) {
                      if (reply.ok()) {
                        FinishOpen(AttributesFromProto(reply->attributes()), reply->created(), flags, caller, done);
                        open_files_.EndOpening();
                      } else {
                        open_files_.EndOpening();
                        done(reply.status());
                      }
                    });
}

// Asks the metadata server, so that what another client had written before it closed the file is seen.
void FilesystemImpl::OpenFile(InodeId inode, OpenFlags flags, Callback<OpenedFile> done) {
  open_files_.BeginOpening();
  metadata_->GetAttributes(inode, [this, flags, done = std::move(done)](const Result<Attributes>& result) {
    if (result.ok()) {
      FinishOpen(*result, /*created=*/false, flags, Caller(), done);
      open_files_.EndOpening();
    } else {
      open_files_.EndOpening();
      done(result.status());
    }
  });
}

void FilesystemImpl::FinishOpen(const Attributes& attributes, bool created, OpenFlags flags, Caller caller,
                                Callback<OpenedFile> done) {
  if (attributes.type == FileType::kDirectory) {
    return done(Status(StatusCode::kIsDirectory, "a directory cannot be opened as a file"));
  }
  if (attributes.type != FileType::kRegular) {
    return done(Status(StatusCode::kInvalidArgument, "only regular files have data"));
  }
  const bool same_pages = page_cache_views_.Open(attributes);
  OpenedFile opened;
  opened.handle = std::make_shared<FileHandle>(open_files_.Use(attributes), flags, data_->NewReadAhead());
  opened.attributes = open_files_.Show(attributes);
  opened.created = created;
  opened.keep_cache = same_pages;
  if (!flags.truncate || created || opened.attributes.size_bytes == 0) return done(std::move(opened));
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
  handle->inode->data->Read(handle->read_ahead, ByteRange{offset, length}, std::move(done));
}

void FilesystemImpl::Write(const FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes,
                           StatusCallback done) {
  if (!handle->flags.write) return done(Status(StatusCode::kBadHandle, "the file was not opened for writing"));
  if (handle->flags.append) return handle->inode->data->Append(bytes, std::move(done));
  if (offset > kFileSizeMax || bytes.size() > kFileSizeMax - offset) {
    return done(Status(StatusCode::kFileTooLarge, "a file cannot be that large"));
  }
  handle->inode->data->Write(offset, bytes, std::move(done));
}

void FilesystemImpl::Flush(const FileHandlePtr& handle, StatusCallback done) {
  if (!handle->flags.write) return done(Status::Ok());
  handle->inode->data->FlushFor(handle->errors, std::move(done));
}

void FilesystemImpl::Fsync(const FileHandlePtr& handle, StatusCallback done) {
  handle->inode->data->SyncFor(handle->errors, std::move(done));
}

void FilesystemImpl::Release(const FileHandlePtr& handle) {
  CHECK(!handle->released.exchange(true), "a handle is released once");
  EndUse(handle->inode);
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
