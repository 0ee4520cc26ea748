// The sending half of a connection: a queue of frames that any thread may fill and any thread may write to the socket.
//
// One thread at a time writes (it holds the turn); what others queue meanwhile goes out with its next system call, so that frames are
// gathered exactly when there is contention. Nobody waits for the turn, and no lock is held over a system call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/rpc/file_payload.h"
#include "common/rpc/frame.h"

namespace google::protobuf {
class MessageLite;
}

namespace tarn::rpc {

// A frame ready to be sent. Moves, does not copy.
struct OutgoingFrame {
  FrameHeader header;
  std::unique_ptr<uint8_t[]> head;  // header and message as they are sent
  size_t head_bytes = 0;
  Buffer payload;                             // owned payload, or
  std::span<const uint8_t> borrowed_payload;  // kept alive by the caller until Withdraw or the frame is sent, or
  std::vector<FilePayload> files;             // ranges of files
  uint64_t charge_bytes = 0;                  // told back in FlushResult when the frame is sent or dropped

  std::span<const uint8_t> payload_view() const { return payload.empty() ? borrowed_payload : payload.span(); }
  size_t memory_bytes() const { return head_bytes + payload_view().size(); }
};

// Header and serialized message; the caller adds the payload whose size the header names. kTooLong if the message or the payload is past
// the bounds of a frame. `message` may be null: an empty one.
Result<OutgoingFrame> MakeFrame(const FrameHeader& header, size_t payload_bytes, const google::protobuf::MessageLite* message);
// For requests, whose id is known only when their table entry is made.
void SetRequestId(uint64_t request_id, OutgoingFrame* frame);

// Thread-safe.
class FrameWriter {
 public:
  enum class State {
    kIdle,     // everything is written, or another thread has the turn, or there is no socket yet
    kBlocked,  // the socket is full (or the turn's share is used up): call FlushWritable when it can be written again
    kClosed,   // Close was called while this thread had the turn, which is over now: borrowed payloads are not touched any more
    kBroken,   // error() says why; the socket is shut down, so that its reader notices
  };
  // What this call sent completely.
  struct FlushResult {
    State state = State::kIdle;
    uint32_t replies = 0;
    uint64_t reply_charge = 0;
    uint64_t push_charge = 0;
  };

  FrameWriter() = default;
  FrameWriter(const FrameWriter&) = delete;
  FrameWriter& operator=(const FrameWriter&) = delete;

  // Takes the socket (non-blocking). `first`, if it is not empty, goes out before everything queued so far.
  void Attach(UniqueFd fd, OutgoingFrame first);
  // The bytes now queued and not yet being written; 0 if the writer is closed and the frame was dropped.
  size_t Enqueue(OutgoingFrame frame);
  // Writes what is queued unless somebody does already.
  FlushResult Flush();
  // The same after kBlocked.
  FlushResult FlushWritable();

  // Drops what is queued; later frames too. True if nobody writes: the socket is closed then. Else the thread that does closes it and gets
  // kClosed. Idempotent.
  bool Close();
  // Takes the frame of a request back, so that its borrowed payload may go. A frame that is partly sent is completed from a copy. False: a
  // thread is just writing it, ask again.
  bool Withdraw(uint64_t request_id);
  // Ok unless kBroken was returned once.
  Status error() const;

 private:
  // The next four are called by the thread that has the turn.
  FlushResult WriteWhileThereIsWork(int fd);
  // Bytes sent, 0 if the socket is full.
  Result<size_t> SendSome(int fd);
  Result<size_t> SendMemory(int fd);
  Result<size_t> SendFile(int fd, const OutgoingFrame& frame);
  // Moves past sent bytes; frames that are complete go to `*done`.
  void Advance(size_t sent, FlushResult* result, std::vector<OutgoingFrame>* done);
  // False, with *result->state set, if the turn ended.
  bool ContinueTurn(const Result<size_t>& sent, size_t sent_in_turn, FlushResult* result);

  mutable Mutex mutex_;
  std::vector<OutgoingFrame> queue_ GUARDED_BY(mutex_);
  size_t queue_bytes_ GUARDED_BY(mutex_) = 0;
  bool writing_ GUARDED_BY(mutex_) = false;  // a thread has the turn
  bool blocked_ GUARDED_BY(mutex_) = false;  // nobody may take it before FlushWritable
  bool closed_ GUARDED_BY(mutex_) = false;
  Status error_ GUARDED_BY(mutex_);
  UniqueFd fd_ GUARDED_BY(mutex_);

  // Of the thread that has the turn; of mutex_ while none has.
  std::vector<OutgoingFrame> current_;
  size_t current_next_ = 0;       // first frame of current_ not completely sent
  size_t next_memory_sent_ = 0;   // of that frame: bytes of head and payload,
  size_t next_file_index_ = 0;    // the file being sent,
  size_t next_file_sent_ = 0;     // and its bytes sent
};

}  // namespace tarn::rpc
