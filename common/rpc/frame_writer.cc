#include "common/rpc/frame_writer.h"

#include <google/protobuf/message_lite.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace tarn::rpc {
namespace {

// Gathered into one system call at most.
constexpr size_t kPartsMax = 64;
// After so much, the loop's other connections (or the caller) get their turn.
constexpr size_t kTurnBytesMax = 4 << 20;

}  // namespace

Result<OutgoingFrame> MakeFrame(const FrameHeader& header, size_t payload_bytes,
                                const google::protobuf::MessageLite* message) {
  const size_t message_bytes = message != nullptr ? message->ByteSizeLong() : 0;
  if (message_bytes > kMessageBytesMax || payload_bytes > kPayloadBytesMax) {
    return Status(StatusCode::kTooLong, MethodName(header.method) + " with a message of " +
                                            std::to_string(message_bytes) + " and a payload of " +
                                            std::to_string(payload_bytes) + " bytes is too long for a frame");
  }
  OutgoingFrame frame;
  frame.header = header;
  frame.header.message_bytes = static_cast<uint32_t>(message_bytes);
  frame.header.payload_bytes = static_cast<uint32_t>(payload_bytes);
  frame.head_bytes = kFrameHeaderBytes + message_bytes;
  frame.head = std::make_unique_for_overwrite<uint8_t[]>(frame.head_bytes);
  SetRequestId(header.request_id, &frame);
  if (message_bytes > 0) message->SerializeWithCachedSizesToArray(frame.head.get() + kFrameHeaderBytes);
  return frame;
}

void SetRequestId(uint64_t request_id, OutgoingFrame* frame) {
  frame->header.request_id = request_id;
  const std::array<uint8_t, kFrameHeaderBytes> encoded = EncodeFrameHeader(frame->header);
  std::memcpy(frame->head.get(), encoded.data(), encoded.size());
}

void FrameWriter::Attach(UniqueFd fd, OutgoingFrame first) {
  MutexLock lock(mutex_);
  CHECK(!fd_.valid(), "a writer has one socket");
  if (closed_) return;
  fd_ = std::move(fd);
  if (first.head == nullptr) return;
  queue_bytes_ += first.memory_bytes();
  queue_.insert(queue_.begin(), std::move(first));
}

size_t FrameWriter::Enqueue(OutgoingFrame frame) {
  MutexLock lock(mutex_);
  if (closed_) return 0;
  queue_bytes_ += frame.memory_bytes();
  queue_.push_back(std::move(frame));
  return queue_bytes_;
}

FrameWriter::FlushResult FrameWriter::Flush() {
  int fd = -1;
  {
    MutexLock lock(mutex_);
    if (writing_ || blocked_ || closed_ || !fd_.valid() || !error_.ok()) return {};
    if (queue_.empty() && current_next_ == current_.size()) return {};
    writing_ = true;
    fd = fd_.get();
  }
  return WriteWhileThereIsWork(fd);
}

FrameWriter::FlushResult FrameWriter::FlushWritable() {
  {
    MutexLock lock(mutex_);
    blocked_ = false;
  }
  return Flush();
}

FrameWriter::FlushResult FrameWriter::WriteWhileThereIsWork(int fd) {
  FlushResult result;
  size_t sent_in_turn = 0;
  Result<size_t> sent = size_t{1};  // "not full": the first round takes what is queued
  // Sent frames are destroyed outside of the lock, here.
  std::vector<OutgoingFrame> done;
  while (ContinueTurn(sent, sent_in_turn, &result)) {
    sent = SendSome(fd);
    if (!sent.ok()) continue;
    sent_in_turn += *sent;
    Advance(*sent, &result, &done);
    done.clear();
  }
  return result;
}

bool FrameWriter::ContinueTurn(const Result<size_t>& sent, size_t sent_in_turn, FlushResult* result) {
  std::vector<OutgoingFrame> dropped;
  MutexLock lock(mutex_);
  CHECK(writing_, "only the thread that has the turn may give it back");
  if (closed_) {
    writing_ = false;
    dropped.swap(current_);
    current_next_ = 0;
    fd_.Reset();
    result->state = State::kClosed;
    // Declared before the lock, so destroyed after it.
    return false;
  }
  if (!sent.ok()) {
    writing_ = false;
    error_ = sent.status();
    shutdown(fd_.get(), SHUT_RDWR);
    result->state = State::kBroken;
    return false;
  }
  if (current_next_ == current_.size()) {
    current_.clear();
    current_next_ = 0;
    current_.swap(queue_);
    queue_bytes_ = 0;
  }
  if (current_.empty()) {
    writing_ = false;
    result->state = State::kIdle;
    return false;
  }
  if (*sent == 0 || sent_in_turn >= kTurnBytesMax) {
    writing_ = false;
    blocked_ = true;
    result->state = State::kBlocked;
    return false;
  }
  return true;
}

Result<size_t> FrameWriter::SendSome(int fd) {
  const OutgoingFrame& next = current_[current_next_];
  if (next_memory_sent_ == next.memory_bytes()) return SendFile(fd, next);
  return SendMemory(fd);
}

Result<size_t> FrameWriter::SendMemory(int fd) {
  std::array<iovec, kPartsMax> parts{};
  size_t part_count = 0;
  size_t skip = next_memory_sent_;
  const auto add = [&](std::span<const uint8_t> bytes) {
    const size_t skipped = std::min(skip, bytes.size());
    skip -= skipped;
    if (skipped == bytes.size()) return;
    parts[part_count++] = {const_cast<uint8_t*>(bytes.data()) + skipped, bytes.size() - skipped};
  };
  bool file_follows = false;
  for (size_t i = current_next_; i < current_.size() && part_count + 2 <= kPartsMax && !file_follows; ++i) {
    add({current_[i].head.get(), current_[i].head_bytes});
    add(current_[i].payload_view());
    file_follows = !current_[i].files.empty();
  }
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = part_count;
  // MSG_MORE: the header of a file payload travels in one segment with its first bytes.
  const int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (file_follows ? MSG_MORE : 0);
  while (true) {
    const ssize_t sent = sendmsg(fd, &message, flags);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno == EAGAIN) return size_t{0};
    if (errno != EINTR) return Status::FromErrno(errno, "send");
  }
}

Result<size_t> FrameWriter::SendFile(int fd, const OutgoingFrame& frame) {
  const FilePayload& file = frame.files[next_file_index_];
  auto offset = static_cast<off_t>(file.offset + next_file_sent_);
  while (true) {
    const ssize_t sent = sendfile(fd, file.fd, &offset, file.length - next_file_sent_);
    if (sent > 0) return static_cast<size_t>(sent);
    if (sent == 0) return Status(StatusCode::kCorruption, "a file payload is shorter than its frame says");
    if (errno == EAGAIN) return size_t{0};
    if (errno != EINTR) return Status::FromErrno(errno, "sendfile");
  }
}

void FrameWriter::Advance(size_t sent, FlushResult* result, std::vector<OutgoingFrame>* done) {
  while (current_next_ < current_.size()) {
    OutgoingFrame& frame = current_[current_next_];
    const size_t memory_left = frame.memory_bytes() - next_memory_sent_;
    const size_t memory_sent = std::min(sent, memory_left);
    next_memory_sent_ += memory_sent;
    sent -= memory_sent;
    if (memory_sent < memory_left) return;
    if (next_file_index_ < frame.files.size()) {
      next_file_sent_ += sent;
      sent = 0;
      if (next_file_sent_ < frame.files[next_file_index_].length) return;
      next_file_sent_ = 0;
      if (++next_file_index_ < frame.files.size()) return;
    }
    if (frame.header.kind == FrameKind::kReply) {
      ++result->replies;
      result->reply_charge += frame.charge_bytes;
    } else if (frame.header.kind == FrameKind::kPush) {
      result->push_charge += frame.charge_bytes;
    }
    done->push_back(std::move(frame));
    ++current_next_;
    next_memory_sent_ = 0;
    next_file_index_ = 0;
    if (sent == 0) return;
  }
}

bool FrameWriter::Close() {
  std::vector<OutgoingFrame> dropped;
  std::vector<OutgoingFrame> dropped_current;
  MutexLock lock(mutex_);
  closed_ = true;
  dropped.swap(queue_);
  queue_bytes_ = 0;
  if (fd_.valid()) shutdown(fd_.get(), SHUT_RDWR);
  if (writing_) return false;
  dropped_current.swap(current_);
  current_next_ = 0;
  fd_.Reset();
  return true;
}

bool FrameWriter::Withdraw(uint64_t request_id) {
  OutgoingFrame dropped;
  MutexLock lock(mutex_);
  const auto is_it = [request_id](const OutgoingFrame& frame) {
    return frame.head != nullptr && frame.header.request_id == request_id;
  };
  if (const auto found = std::find_if(queue_.begin(), queue_.end(), is_it); found != queue_.end()) {
    queue_bytes_ -= found->memory_bytes();
    dropped = std::move(*found);
    queue_.erase(found);
    return true;
  }
  // Only the thread that has the turn may look at current_; it gives it back soon, since the socket does not block.
  if (writing_) return false;
  const auto begin = current_.begin() + static_cast<std::ptrdiff_t>(current_next_);
  const auto found = std::find_if(begin, current_.end(), is_it);
  if (found == current_.end()) return true;
  if (found == begin && next_memory_sent_ > 0) {
    Buffer copy(found->borrowed_payload.size());
    if (!copy.empty()) std::memcpy(copy.data(), found->borrowed_payload.data(), copy.size());
    found->borrowed_payload = {};
    found->payload = std::move(copy);
    return true;
  }
  dropped = std::move(*found);
  current_.erase(found);
  return true;
}

Status FrameWriter::error() const {
  MutexLock lock(mutex_);
  return error_;
}

}  // namespace tarn::rpc
