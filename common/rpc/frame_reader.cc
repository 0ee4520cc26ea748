#include "common/rpc/frame_reader.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace tarn::rpc {
namespace {

// So that one busy connection does not starve the others of its loop.
constexpr int kReadsPerTurn = 16;
constexpr size_t kDiscardBytes = 64 << 10;
// A payload from this size on makes the next read expect another one.
constexpr size_t kBigPayloadBytes = 16 << 10;
// Holds the header and message of a data frame (a read of 1 MiB carries 2 KiB of sums).
constexpr size_t kShortReadAheadBytes = 4 << 10;

}  // namespace

FrameReader::FrameReader() : buffer_(std::make_unique_for_overwrite<uint8_t[]>(kReceiveBufferBytes)) {}

Status FrameReader::ReadAvailable(int fd, FrameSink& sink) {
  // After a pause the buffer may be full of whole frames.
  RETURN_IF_ERROR(ParseBuffered(sink));
  if (!sink.AcceptsFrames()) return Status::Ok();
  for (int reads = 0; reads < kReadsPerTurn; ++reads) {
    bool drained = false;
    ASSIGN_OR_RETURN(const size_t got, ReadOnce(fd, &drained));
    if (got > 0) RETURN_IF_ERROR(ParseBuffered(sink));
    if (drained || !sink.AcceptsFrames()) break;
  }
  return Status::Ok();
}

Result<size_t> FrameReader::ReadOnce(int fd, bool* drained) {
  Compact();
  const std::span<uint8_t> direct = DirectDestination();
  const size_t room = std::min(kReceiveBufferBytes - end_, read_ahead_bytes_);
  std::array<iovec, 2> parts = {iovec{direct.data(), direct.size()}, iovec{buffer_.get() + end_, room}};
  // A discarded payload may be longer than the scratch area: then nothing beyond it can be taken yet.
  const bool beyond = direct.size() >= payload_left_;
  const size_t wanted = direct.size() + (beyond ? room : 0);
  ssize_t got = 0;
  do {
    got = direct.empty() ? readv(fd, &parts[1], 1) : readv(fd, parts.data(), beyond ? 2 : 1);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return Status(StatusCode::kUnavailable, "closed by the other end");
  if (got < 0) {
    if (errno != EAGAIN) return Status::FromErrno(errno, "receive");
    *drained = true;
    return size_t{0};
  }
  *drained = static_cast<size_t>(got) < wanted;
  TakeRead(static_cast<size_t>(got), direct.size());
  return static_cast<size_t>(got);
}

void FrameReader::TakeRead(size_t got, size_t direct_bytes) {
  const size_t direct_got = std::min(got, direct_bytes);
  if (state_ == State::kLargeMessage) {
    large_message_filled_ += direct_got;
  } else if (direct_got > 0) {
    payload_left_ -= direct_got;
    if (!payload_rest_.empty()) payload_rest_ = payload_rest_.subspan(direct_got);
  }
  end_ += got - direct_got;
}

std::span<uint8_t> FrameReader::DirectDestination() {
  if (state_ == State::kLargeMessage) return large_message_.span().subspan(large_message_filled_);
  if (state_ != State::kPayload || payload_left_ == 0) return {};
  if (!payload_rest_.empty()) return payload_rest_;
  if (discard_ == nullptr) discard_ = std::make_unique_for_overwrite<uint8_t[]>(kDiscardBytes);
  return {discard_.get(), std::min(payload_left_, kDiscardBytes)};
}

void FrameReader::Compact() {
  // While a payload is being received, its message still lies in the buffer.
  if (state_ == State::kPayload) return;
  if (begin_ == end_) {
    begin_ = end_ = 0;
    return;
  }
  const size_t needed = state_ == State::kMessage ? header_.message_bytes : kFrameHeaderBytes;
  if (begin_ > 0 && begin_ + needed > kReceiveBufferBytes - kShortReadAheadBytes) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, buffered());
    end_ -= begin_;
    begin_ = 0;
  }
}

Status FrameReader::ParseBuffered(FrameSink& sink) {
  while (true) {
    if (state_ == State::kHeader) {
      if (buffered() < kFrameHeaderBytes || !sink.AcceptsFrames()) return Status::Ok();
      ASSIGN_OR_RETURN(const bool parsed, ParseHeader());
      if (!parsed) return Status::Ok();
    }
    if (state_ == State::kMessage || state_ == State::kLargeMessage) {
      if (!MessageComplete()) return Status::Ok();
      BeginPayload(sink);
    }
    if (payload_left_ > 0) return Status::Ok();
    RETURN_IF_ERROR(FinishFrame(sink));
  }
}

Result<bool> FrameReader::ParseHeader() {
  ASSIGN_OR_RETURN(header_, DecodeFrameHeader(std::span<const uint8_t, kFrameHeaderBytes>(buffer_.get() + begin_,
                                                                                          kFrameHeaderBytes)));
  begin_ += kFrameHeaderBytes;
  if (header_.message_bytes <= kReceiveBufferBytes - kShortReadAheadBytes) {
    state_ = State::kMessage;
    return true;
  }
  state_ = State::kLargeMessage;
  large_message_ = Buffer(header_.message_bytes);
  large_message_filled_ = std::min(buffered(), large_message_.size());
  std::memcpy(large_message_.data(), buffer_.get() + begin_, large_message_filled_);
  begin_ += large_message_filled_;
  return true;
}

bool FrameReader::MessageComplete() {
  if (state_ == State::kLargeMessage) {
    if (large_message_filled_ < large_message_.size()) return false;
    message_ = large_message_.span();
    return true;
  }
  if (buffered() < header_.message_bytes) return false;
  message_ = {buffer_.get() + begin_, header_.message_bytes};
  begin_ += header_.message_bytes;
  return true;
}

void FrameReader::BeginPayload(FrameSink& sink) {
  state_ = State::kPayload;
  payload_ = {};
  payload_rest_ = {};
  payload_left_ = 0;
  const size_t size = header_.payload_bytes;
  if (size == 0) return;
  const PayloadPlace place = sink.PlacePayload(header_, message_);
  const size_t here = std::min(buffered(), size);
  const uint8_t* const source = buffer_.get() + begin_;
  begin_ += here;
  payload_left_ = size - here;
  if (place.kind == PayloadPlace::Kind::kDiscard) return;
  std::span<uint8_t> destination = place.destination;
  if (place.kind == PayloadPlace::Kind::kReader) {
    if (payload_left_ == 0) {
      payload_ = {source, size};
      return;
    }
    kept_payload_ = Buffer(size);
    destination = kept_payload_.span();
  }
  CHECK(destination.size() == size, "the place of a payload has its size");
  std::memcpy(destination.data(), source, here);
  payload_ = destination;
  payload_rest_ = destination.subspan(here);
}

Status FrameReader::FinishFrame(FrameSink& sink) {
  read_ahead_bytes_ = header_.payload_bytes >= kBigPayloadBytes ? kShortReadAheadBytes : kReceiveBufferBytes;
  const Status status = sink.OnFrame(header_, message_, payload_);
  state_ = State::kHeader;
  message_ = {};
  payload_ = {};
  if (!large_message_.empty()) large_message_ = Buffer();
  if (!kept_payload_.empty()) kept_payload_ = Buffer();
  return status;
}

void FrameReader::DiscardPayload() {
  payload_ = {};
  payload_rest_ = {};
}

}  // namespace tarn::rpc
