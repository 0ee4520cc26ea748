// Cuts the bytes of a socket into frames.
//
// Many small frames come with one system call, through a receive buffer of kReceiveBufferBytes; the payload of a big one is received
// straight into the place that the sink names. One thread (the loop's of the connection).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "common/base/buffer.h"
#include "common/base/status.h"
#include "common/rpc/frame.h"

namespace tarn::rpc {

inline constexpr size_t kReceiveBufferBytes = 64 << 10;

// Where a payload goes.
struct PayloadPlace {
  enum class Kind {
    kReader,       // the reader keeps it until OnFrame has returned
    kDestination,  // into `destination`, which has exactly the payload's size and stays valid until OnFrame or DiscardPayload
    kDiscard,      // nowhere: OnFrame gets an empty payload
  };
  Kind kind = Kind::kReader;
  std::span<uint8_t> destination;
};

// Takes what the reader finds. Spans are valid during the call only.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  // Asked before each frame; false pauses the reader until ReadAvailable or ParseBuffered is called again.
  virtual bool AcceptsFrames() = 0;
  // Header and message are there, a payload (of at least one byte) follows.
  virtual PayloadPlace PlacePayload(const FrameHeader& header, std::span<const uint8_t> message) = 0;
  // A whole frame. An error ends the connection.
  virtual Status OnFrame(const FrameHeader& header, std::span<const uint8_t> message, std::span<const uint8_t> payload) = 0;
};

class FrameReader {
 public:
  FrameReader();
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;

  // Reads until the socket is empty, the sink pauses, or a turn's share is used up (the descriptor is then still readable). An error ends
  // the connection: kUnavailable if the other end closed it, the errno's code, or what a frame header or the sink said.
  Status ReadAvailable(int fd, FrameSink& sink);
  // After a pause: the frames that are in the buffer already.
  Status ParseBuffered(FrameSink& sink);
  // The rest of the payload being received goes nowhere: its destination is not written any more.
  void DiscardPayload();

 private:
  enum class State { kHeader, kMessage, kLargeMessage, kPayload };

  size_t buffered() const { return end_ - begin_; }
  // One readv(2): how many bytes came, 0 if there are none now. `*drained` if the socket is empty.
  Result<size_t> ReadOnce(int fd, bool* drained);
  void TakeRead(size_t got, size_t direct_bytes);
  // Where bytes go past the receive buffer: the rest of a payload or of a large message. Empty otherwise.
  std::span<uint8_t> DirectDestination();
  // Makes room for what is still missing of the current header or message.
  void Compact();
  // Each does one step; false if more bytes are needed.
  Result<bool> ParseHeader();
  bool MessageComplete();
  void BeginPayload(FrameSink& sink);
  Status FinishFrame(FrameSink& sink);

  const std::unique_ptr<uint8_t[]> buffer_;
  size_t begin_ = 0;  // of what is not yet parsed
  size_t end_ = 0;

  State state_ = State::kHeader;
  FrameHeader header_;
  std::span<const uint8_t> message_;  // in buffer_ or large_message_
  Buffer large_message_;
  size_t large_message_filled_ = 0;

  std::span<const uint8_t> payload_;   // what OnFrame gets
  std::span<uint8_t> payload_rest_;    // not yet received; empty while discarding
  size_t payload_left_ = 0;            // bytes not yet received
  Buffer kept_payload_;                // PayloadPlace::kReader, if it does not lie in buffer_
  std::unique_ptr<uint8_t[]> discard_;  // made at first use
  // How much to read beyond the current frame. Little between big payloads: what is read ahead of one has to be copied.
  size_t read_ahead_bytes_ = kReceiveBufferBytes;
};

}  // namespace tarn::rpc
