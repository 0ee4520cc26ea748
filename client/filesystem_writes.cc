// FilesystemImpl: writes under write grants (client/write_grant.h, docs/coherence.md).
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "client/filesystem_impl.h"
#include "client/meta/convert.h"

namespace tarn::client {

void FilesystemImpl::Write(const FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes,
                           StatusCallback done) {
  if (!handle->flags.write) return done(Status(StatusCode::kBadHandle, "the file was not opened for writing"));
  if (locks_->LostBy(handle->locks)) return done(LockLost());
  if (!handle->flags.append && (offset > kFileSizeMax || bytes.size() > kFileSizeMax - offset)) {
    return done(Status(StatusCode::kFileTooLarge, "a file cannot be that large"));
  }
  if (!handle->wrote.load(std::memory_order_relaxed)) handle->wrote.store(true, std::memory_order_relaxed);
  WriteGrant* const grant = handle->inode->grant.get();
  if (grant == nullptr) return WriteNow(handle, offset, bytes, std::move(done));
  if (const std::optional<WriteGrant::Way> way = grant->TryBegin(handle->flags.append)) {
    return WriteGranted(handle, *way, offset, bytes, std::move(done));
  }
  // The caller's bytes are not there any more when it has begun.
  auto copy = std::make_shared<const std::vector<uint8_t>>(bytes.begin(), bytes.end());
  grant->Begin(handle->flags.append, [this, handle, offset, copy, done = std::move(done)](
                                         const Result<WriteGrant::Way>& way) {
    if (!way.ok()) return done(way.status());
    WriteGranted(handle, *way, offset, *copy, done);
  });
}

void FilesystemImpl::WriteNow(const FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes,
                              StatusCallback done) {
  InodeData& data = *handle->inode->data;
  if (handle->flags.append) return data.Append(bytes, std::move(done));
  data.Write(offset, bytes, std::move(done));
}

void FilesystemImpl::WriteGranted(const FileHandlePtr& handle, WriteGrant::Way way, uint64_t offset,
                                  std::span<const uint8_t> bytes, StatusCallback done) {
  const OpenInodePtr open = handle->inode;
  StatusCallback end = [open, done = std::move(done)](const Status& status) {
    open->grant->End();
    done(status);
  };
  // It may have waited for a new session.
  if (locks_->LostBy(handle->locks)) return end(LockLost());
  if (way == WriteGrant::Way::kBuffered) return WriteNow(handle, offset, bytes, std::move(end));
  // Its own error only; the file's own flush hears of it again.
  const ErrorCursorPtr errors = open->data->NewErrorCursor();
  WriteNow(handle, offset, bytes, [open, errors, end = std::move(end)](const Status& buffered) {
    if (!buffered.ok()) return end(buffered);
    open->data->FlushFor(errors, end);
  });
}

void FilesystemImpl::AcquireWrite(InodeId inode, bool append, int64_t give_up_ns, Callback<bool> done) {
  write_releases_.WhenClear(inode, [this, inode, append, give_up_ns, done = std::move(done)] {
    proto::AcquireWriteRequest request;
    request.set_session(GrantSession());
    request.set_inode(inode.value());
    request.set_append(append);
    metadata_->Read<proto::AcquireWriteReply>(
        rpc::Method::kAcquireWrite, std::move(request),
        [this, inode, append, give_up_ns, done](const Result<proto::AcquireWriteReply>& reply) {
          if (reply.ok()) {
            metadata_->coherence()->NoteTerm(reply->term());
            // Before the write begins: its place may depend on the size.
            (void)open_files_.Show(AttributesFromProto(reply->attributes()));
            return done(reply->exclusive());
          }
          const bool session_lost = reply.status().code() == StatusCode::kUnknownSession;
          if (!session_lost || parts_.clock->MonotonicNs() > give_up_ns) return done(reply.status());
          // A mutation waits until there is a session again, and the file needs this one anyway.
          metadata_->AllocateData(inode, [this, inode, append, give_up_ns, done](const Result<Attributes>& allocated) {
            if (!allocated.ok()) return done(allocated.status());
            AcquireWrite(inode, append, give_up_ns, done);
          });
        });
  });
}

std::shared_ptr<WriteGrant> FilesystemImpl::MakeGrant(InodeId inode, bool granted) {
  if (cache_ == nullptr) return nullptr;
  return std::make_shared<WriteGrant>(
      parts_.clock.get(), &grant_terms_,
      [this, inode](bool append, Callback<bool> done) {
        const int64_t give_up_ns = parts_.clock->MonotonicNs() + parts_.retry_deadline_ms * 1'000'000;
        AcquireWrite(inode, append, give_up_ns, std::move(done));
      },
      [this, inode](std::function<void()> done) { GiveBackWrite(inode, std::move(done)); },
      granted);
}

// To the server it is also the grant under which something may be buffered since before it was void.
void FilesystemImpl::GiveBackWrite(InodeId inode, std::function<void()> done) {
  const uint64_t term = cache_->term();
  open_files_.Publish(inode, [this, inode, term, done = std::move(done)](const Status& published) {
    if (!published.ok() || cache_->term() != term) return done();  // somebody will recall it, or it ended with the term
    SendWriteReleases({inode}, done);
  });
}

void FilesystemImpl::SendWriteReleases(const std::vector<InodeId>& inodes, std::function<void()> done) {
  proto::ReleaseWriteRequest request;
  request.set_session(GrantSession());
  request.set_term(cache_->term());
  request.set_inode(inodes.front().value());
  for (size_t i = 1; i < inodes.size(); ++i) request.add_more_inodes(inodes[i].value());
  // Whatever it is answered, a grant that is not used any more is only in the way until somebody recalls it.
  metadata_->Read<proto::ReleaseWriteReply>(rpc::Method::kReleaseWrite, std::move(request),
                                            [done = std::move(done)](const auto&) { done(); });
}

}  // namespace tarn::client
