// FilesystemImpl: fallocate(2), by writing zeros.
//
// All of it happens under a write grant that is exclusive, as for an append: nobody else changes the size meanwhile. Nothing is
// reserved: where the range holds no data yet, there is nothing to do but to set the size.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "client/filesystem_impl.h"

namespace tarn::client {
namespace {

constexpr size_t kZerosBytes = 1 << 20;  // of one write

// The zeros still to be written, one slice after another.
class ZeroRange : public std::enable_shared_from_this<ZeroRange> {
 public:
  ZeroRange(OpenInodePtr open, uint64_t begin, uint64_t end, StatusCallback done)
      : open_(std::move(open)), next_(begin), end_(end), done_(std::move(done)), errors_(open_->data->NewErrorCursor()), zeros_(std::min<uint64_t>(end - begin, kZerosBytes)) {}

  void Continue() {
    if (next_ >= end_) {
      // Told here rather than by a later close: no room, or the quota.
      return open_->data->FlushFor(errors_, std::move(done_));
    }
    const uint64_t offset = next_;
    const size_t length = std::min<uint64_t>(zeros_.size(), end_ - next_);
    next_ += length;
    open_->data->Write(offset, std::span(zeros_).first(length), [self = shared_from_this()](const Status& status) {
      if (!status.ok()) return self->done_(status);
      self->Continue();
    });
  }

 private:
  const OpenInodePtr open_;
  uint64_t next_;
  const uint64_t end_;
  StatusCallback done_;
  const ErrorCursorPtr errors_;  // its own error only
  const std::vector<uint8_t> zeros_;
};

}  // namespace

void FilesystemImpl::Allocate(const FileHandlePtr& handle, AllocateMode mode, ByteRange range, StatusCallback done) {
  if (!handle->flags.write) return done(Status(StatusCode::kBadHandle, "the file was not opened for writing"));
  if (locks_->LostBy(handle->locks)) return done(LockLost());
  if (range.length == 0) return done(Status(StatusCode::kInvalidArgument, "an empty range"));
  if (range.offset > kFileSizeMax || range.length > kFileSizeMax - range.offset) {
    return done(Status(StatusCode::kFileTooLarge, "a file cannot be that large"));
  }
  const OpenInodePtr open = handle->inode;
  if (open->grant == nullptr) return AllocateGranted(open, mode, range, std::move(done));
  open->grant->Begin(/*append=*/true, [this, handle, open, mode, range, done = std::move(done)](const Result<WriteGrant::Way>& way) {
    if (!way.ok()) return done(way.status());
    const StatusCallback end = [open, done](const Status& status) {
      open->grant->End();
      done(status);
    };
    if (locks_->LostBy(handle->locks)) return end(LockLost());
    AllocateGranted(open, mode, range, end);
  });
}

void FilesystemImpl::AllocateGranted(const OpenInodePtr& open, AllocateMode mode, ByteRange range, StatusCallback done) {
  GetAttributes(open->id, [open, mode, range, done = std::move(done)](const Result<Attributes>& now) {
    if (!now.ok()) return done(now.status());
    const uint64_t size = now->size_bytes;
    const bool zeroes = mode.punch_hole || mode.zero_range;
    const uint64_t end = mode.keep_size || mode.punch_hole ? std::min(range.end(), size) : range.end();
    const StatusCallback grow = [open, size, end, done](const Status& status) {
      if (!status.ok() || end <= size) return done(status);
      // What lies between reads as zeros once the size is there, and the last byte sets that.
      std::make_shared<ZeroRange>(open, end - 1, end, done)->Continue();
    };
    const uint64_t zero_end = std::min(end, size);
    if (!zeroes || range.offset >= zero_end) return grow(Status::Ok());
    if (zero_end - range.offset > kZeroedBytesMax) {
      return done(Status(StatusCode::kNotSupported, "so many zeros are not written at once"));
    }
    std::make_shared<ZeroRange>(open, range.offset, zero_end, grow)->Continue();
  });
}

}  // namespace tarn::client
