// What this client may do with the writes of one open inode (docs/coherence.md, "Write grants"): buffer them, because it
// alone has the inode open, or send and publish each of them before it is answered, because others have it open too.
//
// A write begins here and ends here; between the two the grant does not change hands: a recall waits for the writes that
// have begun, those that come later wait for a new grant. An appender is always alone, so that the end of the file that
// it knows is the end of the file.
//
// Asks nothing and sends nothing itself. Thread-safe; callbacks run without the lock, on whichever thread made them due.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "client/types.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"

namespace tarn::client {

class WriteGrant : public std::enable_shared_from_this<WriteGrant> {
 public:
  // How a write goes.
  enum class Way {
    kBuffered,
    kThrough,  // published before it is answered
  };
  // Asks the server; true: exclusive. The attributes that come with the grant have been adopted before it is called.
  using Acquire = std::function<void(bool append, Callback<bool> done)>;
  // Tells the server that an exclusive grant is given back unused; calls back when that was answered, or given up.
  using GiveBack = std::function<void(std::function<void()> done)>;
  using Ready = std::function<void(const Result<Way>&)>;

  // `clock` and `terms`, which numbers the exclusive grants of all inodes, outlive it. `granted`: it is exclusive from the start.
  WriteGrant(const Clock* clock, std::atomic<uint64_t>* terms, Acquire acquire, GiveBack give_back, bool granted);
  WriteGrant(const WriteGrant&) = delete;
  WriteGrant& operator=(const WriteGrant&) = delete;

  // A write that can begin at once; nothing: Begin.
  std::optional<Way> TryBegin(bool append);
  // Calls back when it has begun, or cannot: then it must not End.
  void Begin(bool append, Ready ready);
  void End();

  // The server takes the grant back: `idle` is called when no write under it is under way any more. Writes that come
  // later ask again. `for_appender`: the grant is a shared one, if there is any: another session is to be alone.
  void Recall(bool for_appender, std::function<void()> idle);
  // What was granted counts no more (docs/coherence.md: another term, a lapse). True: it was exclusive, so something may
  // be buffered.
  bool Void();

  // Calls back when no write that has begun is under way.
  void WhenIdle(std::function<void()> idle);
  // A write has begun and not ended.
  bool active() const;
  // Of the exclusive grant that holds now; 0: none. While it stays the same, nobody else writes the inode.
  uint64_t exclusive_term() const;

  // The last use of the inode is over. True: it was exclusive, and the server is to be told that it ends.
  [[nodiscard]] bool Release();
  // The file is being closed: the commit that publishes everything may end the grant.
  void NoteClosing();
  // Before that commit is sent. True: it ends the grant; EndRelease when it was answered.
  [[nodiscard]] bool BeginRelease();
  // `known` false: nobody knows whether, or when, it was carried out.
  void EndRelease(bool known);

 private:
  enum class Mode { kNone, kExclusive, kShared };
  struct Waiting {
    bool append = false;
    Ready ready;
  };

  std::optional<Way> WayNow(bool append) const REQUIRES(mutex_);
  // Whether to ask now, and for what.
  std::optional<bool> NextQuestion() REQUIRES(mutex_);
  void Ask(std::optional<bool> append);
  void OnAnswer(bool append, const Result<bool>& exclusive);
  void OnGivenBack();
  uint64_t NextTerm() { return terms_->fetch_add(1) + 1; }

  // Immutable after construction.
  const Clock* const clock_;
  std::atomic<uint64_t>* const terms_;
  const Acquire acquire_;
  const GiveBack give_back_;

  mutable Mutex mutex_;
  Mode mode_ GUARDED_BY(mutex_) = Mode::kNone;
  uint64_t term_ GUARDED_BY(mutex_) = 0;  // of the last exclusive grant
  int64_t shared_until_ns_ GUARDED_BY(mutex_) = 0;  // then it is asked again whether the others are still there
  uint64_t active_ GUARDED_BY(mutex_) = 0;          // writes that have begun
  bool asking_ GUARDED_BY(mutex_) = false;
  // What came while it was asked, and may have overtaken the answer: something that ends every grant, or shared ones.
  bool void_ GUARDED_BY(mutex_) = false;
  bool overtaken_ GUARDED_BY(mutex_) = false;
  bool releasing_ GUARDED_BY(mutex_) = false;
  bool closing_ GUARDED_BY(mutex_) = false;
  bool uncertain_ GUARDED_BY(mutex_) = false;  // a grant may end unheard: nothing is buffered any more
  std::deque<Waiting> waiting_ GUARDED_BY(mutex_);
  std::vector<std::function<void()>> idle_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client
