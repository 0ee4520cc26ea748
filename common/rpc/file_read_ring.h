// Reads of files on an event loop, without blocking it and without waking another thread: io_uring(7).
//
// The kernel starts a read, waits for its pages, and wakes the loop when they are there. What one turn of the loop asks
// for is handed to the kernel together. Starting a read may still wait for the file system's own metadata, or for room
// in the queue of a disk that has stopped: whoever uses it bounds how many reads of one disk are under way, and asks a
// silent disk for nothing more.
//
// Everything happens on the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

struct io_uring;

namespace tarn::rpc {

class EventLoop;

class FileReadRing {
 public:
  static constexpr uint32_t kReadsMax = 256;
  // The bytes read, perhaps fewer than asked for; 0 at the end of the file; or a negative errno.
  using Done = std::function<void(int result)>;

  // For EventLoop, which owns it and is what everybody else asks. kNotSupported, saying why, where the kernel has no
  // io_uring or its use is forbidden (by the administrator, or in a container).
  static Result<std::unique_ptr<FileReadRing>> Create(EventLoop* loop);
  // Waits for the reads under way; their callbacks are dropped.
  ~FileReadRing();
  FileReadRing(const FileReadRing&) = delete;
  FileReadRing& operator=(const FileReadRing&) = delete;

  // `fd` and `bytes` stay valid until `done` has run or was dropped. False: kReadsMax are under way, nothing was begun.
  bool Read(int fd, uint64_t offset, std::span<uint8_t> bytes, Done done);
  uint32_t under_way() const { return under_way_; }

 private:
  FileReadRing(EventLoop* loop, std::unique_ptr<io_uring> ring, bool runs_deferred_work);
  Status WatchResults();
  void SubmitSoon();
  void Submit();
  void OnResults();
  // Takes the results that are there, and hands them on unless `drop`.
  void Reap(bool drop);

  EventLoop* const loop_;
  const std::unique_ptr<io_uring> ring_;
  const bool runs_deferred_work_;  // the kernel completes reads only when it is asked for results
  UniqueFd results_;               // the kernel's eventfd(2), watched if it is open
  bool submit_deferred_ = false;
  uint32_t under_way_ = 0;
  std::vector<Done> slots_;  // by the number that the kernel gives back
  std::vector<uint32_t> free_;
};

}  // namespace tarn::rpc
