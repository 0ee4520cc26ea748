#include "client/write_grant.h"

#include <utility>

namespace tarn::client {
namespace {

constexpr int64_t kSharedNs = 1'000'000'000;

}  // namespace

WriteGrant::WriteGrant(const Clock* clock, std::atomic<uint64_t>* terms, Acquire acquire, GiveBack give_back,
                       bool granted)
    : clock_(clock),
      terms_(terms),
      acquire_(std::move(acquire)),
      give_back_(std::move(give_back)),
      mode_(granted ? Mode::kExclusive : Mode::kNone),
      term_(granted ? NextTerm() : 0) {}

std::optional<WriteGrant::Way> WriteGrant::WayNow(bool append) const {
  if (mode_ == Mode::kExclusive) return Way::kBuffered;
  if (mode_ == Mode::kShared && !append && clock_->MonotonicNs() < shared_until_ns_) return Way::kThrough;
  return std::nullopt;
}

std::optional<WriteGrant::Way> WriteGrant::TryBegin(bool append) {
  MutexLock lock(mutex_);
  if (!waiting_.empty()) return std::nullopt;
  const std::optional<Way> way = WayNow(append);
  if (!way) return way;
  ++active_;
  closing_ = false;
  return way;
}

void WriteGrant::Begin(bool append, Ready ready) {
  if (const std::optional<Way> way = TryBegin(append)) return ready(*way);
  std::optional<bool> question;
  {
    MutexLock lock(mutex_);
    waiting_.push_back({append, std::move(ready)});
    closing_ = false;
    question = NextQuestion();
  }
  Ask(question);
}

std::optional<bool> WriteGrant::NextQuestion() {
  if (asking_ || releasing_ || waiting_.empty()) return std::nullopt;
  asking_ = true;
  void_ = false;
  overtaken_ = false;
  return waiting_.front().append;
}

void WriteGrant::Ask(std::optional<bool> append) {
  if (!append) return;
  acquire_(*append, [self = shared_from_this(), append = *append](const Result<bool>& exclusive) {
    self->OnAnswer(append, exclusive);
  });
}

void WriteGrant::OnAnswer(bool append, const Result<bool>& exclusive) {
  std::vector<std::pair<Ready, Result<Way>>> ready;
  std::optional<bool> question;
  bool gives_back = false;
  {
    MutexLock lock(mutex_);
    // Its recall has come already, or is still on its way and would seem to be that of the next one; and so on, while
    // others wait in the same way.
    gives_back = exclusive.ok() && *exclusive && void_;
    asking_ = gives_back;
    if (!exclusive.ok()) {
      for (Waiting& write : waiting_) ready.emplace_back(std::move(write.ready), exclusive.status());
      waiting_.clear();
    } else if (!void_ && (*exclusive || !overtaken_)) {
      mode_ = *exclusive && !uncertain_ ? Mode::kExclusive : Mode::kShared;
      if (mode_ == Mode::kExclusive) term_ = NextTerm();
      shared_until_ns_ = clock_->MonotonicNs() + kSharedNs;
      // A server that has no room for grants lets an appender go on as best it can.
      const bool no_better = append && mode_ == Mode::kShared;
      while (!waiting_.empty()) {
        std::optional<Way> way = WayNow(waiting_.front().append);
        if (!way && no_better) way = Way::kThrough;
        if (!way) break;
        ++active_;
        ready.emplace_back(std::move(waiting_.front().ready), *way);
        waiting_.pop_front();
      }
    }
    question = NextQuestion();  // none while it gives back
  }
  for (const auto& [write, way] : ready) write(way);
  if (gives_back) return give_back_([self = shared_from_this()] { self->OnGivenBack(); });
  Ask(question);
}

void WriteGrant::OnGivenBack() {
  std::optional<bool> question;
  {
    MutexLock lock(mutex_);
    asking_ = false;
    question = NextQuestion();
  }
  Ask(question);
}

void WriteGrant::End() {
  std::vector<std::function<void()>> idle;
  {
    MutexLock lock(mutex_);
    if (--active_ == 0) idle = std::exchange(idle_, {});
  }
  for (const auto& each : idle) each();
}

void WriteGrant::Recall(bool for_appender, std::function<void()> idle) {
  {
    MutexLock lock(mutex_);
    mode_ = Mode::kNone;
    (for_appender ? overtaken_ : void_) = true;
    if (active_ > 0) {
      idle_.push_back(std::move(idle));
      return;
    }
  }
  idle();
}

bool WriteGrant::Void() {
  MutexLock lock(mutex_);
  void_ = true;
  return std::exchange(mode_, Mode::kNone) == Mode::kExclusive;
}

void WriteGrant::WhenIdle(std::function<void()> idle) {
  {
    MutexLock lock(mutex_);
    if (active_ > 0) {
      idle_.push_back(std::move(idle));
      return;
    }
  }
  idle();
}

bool WriteGrant::active() const {
  MutexLock lock(mutex_);
  return active_ > 0;
}

uint64_t WriteGrant::exclusive_term() const {
  MutexLock lock(mutex_);
  return mode_ == Mode::kExclusive ? term_ : 0;
}

bool WriteGrant::Release() {
  MutexLock lock(mutex_);
  return std::exchange(mode_, Mode::kNone) == Mode::kExclusive;
}

void WriteGrant::NoteClosing() {
  MutexLock lock(mutex_);
  closing_ = true;
}

bool WriteGrant::BeginRelease() {
  MutexLock lock(mutex_);
  if (mode_ != Mode::kExclusive || !closing_ || active_ > 0 || releasing_) return false;
  mode_ = Mode::kNone;
  releasing_ = true;
  return true;
}

void WriteGrant::EndRelease(bool known) {
  std::optional<bool> question;
  {
    MutexLock lock(mutex_);
    releasing_ = false;
    uncertain_ |= !known;
    question = NextQuestion();
  }
  Ask(question);
}

}  // namespace tarn::client
