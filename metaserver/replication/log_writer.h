// The thread that writes the log: the Raft loop never waits for a disk.
//
// Operations are done in the order in which they were asked for, one write at a time; entries that wait together become
// one group with one sync. Two liberties: of several changes of term and vote that wait, only the last is written, and
// it goes before the entries that wait with it (entries of a term never reach the disk before the term). The first
// error ends everything: nothing is retried or written after it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "metaserver/replication/log_files.h"

namespace tarn::meta {

// Thread-safe.
class LogWriter {
 public:
  struct Listener {
    // Writer thread: everything asked for with a ticket up to this one is on stable storage. `last`: nothing is written
    // next but what HasWaiting tells of.
    std::function<void(uint64_t ticket, bool last)> done;
    // Writer thread, at most once; nothing follows.
    std::function<void(const Status&)> failed;
  };

  LogWriter(std::unique_ptr<LogFiles> files, Listener listener);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // Each returns its ticket: 1, 2, ... The entries' bytes stay valid until it is done or the writer has stopped.
  uint64_t WriteVote(uint64_t term, uint64_t voted_for);
  uint64_t Append(uint64_t first_index, std::vector<LogEntryRef> entries);
  // As LogFiles::PutMarker.
  uint64_t PutMarker(LogMarker marker, uint64_t keep_from);

  // Whether something was asked for that is not begun.
  bool HasWaiting() const;

  // Lets what is being written end and joins the thread; what waits is not written any more. `seal`: it is, and the log
  // gets its last mark. Idempotent.
  void Stop(bool seal);

 private:
  struct Operation {
    enum class Kind { kVote, kAppend, kMarker };
    Kind kind = Kind::kVote;
    uint64_t ticket = 0;
    uint64_t term = 0;
    uint64_t voted_for = 0;
    uint64_t index = 0;  // first of the entries, or what to keep from
    std::vector<LogEntryRef> entries;
    LogMarker marker;
  };

  uint64_t Add(Operation operation);
  void Run();
  Status RunBatch(std::deque<Operation>& batch);

  const std::unique_ptr<LogFiles> files_;  // writer thread
  const Listener listener_;

  mutable Mutex mutex_;
  CondVar wake_;
  std::deque<Operation> operations_ GUARDED_BY(mutex_);
  uint64_t last_ticket_ GUARDED_BY(mutex_) = 0;
  bool stop_ GUARDED_BY(mutex_) = false;
  bool seal_ GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace tarn::meta
