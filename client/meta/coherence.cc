#include "client/meta/coherence.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>

namespace tarn::client {
namespace {

// Of a server that names none.
constexpr int64_t kLeaseDefaultMs = 5'000;
constexpr int64_t kNsPerMs = 1'000'000;

}  // namespace

Coherence::Coherence(const Clock* clock, Random* random, std::shared_ptr<MetadataChannel> channel,
                     uint64_t cache_bytes_max)
    : clock_(clock), channel_(std::move(channel)), cache_(clock, random, cache_bytes_max) {}

// ---- Lease ----

SessionHooks::KeepAliveAnswered Coherence::PrepareKeepAlive(proto::KeepAliveRequest* request) {
  Asked asked;
  bool registered = false;
  {
    MutexLock lock(mutex_);
    asked.term = term_;
    asked.lapses = lapses_;
    registered = registered_;
  }
  request->set_term(asked.term);
  request->set_lapses(asked.lapses);
  OpenInodes* const open = open_.load(std::memory_order_acquire);
  if (!registered && open != nullptr) {
    for (const InodeId inode : open->AllOpen(/*reports=*/true)) request->add_open_inodes(inode.value());
    for (const InodeId inode : open->AllWritten()) request->add_written_inodes(inode.value());
  }
  // The lease counts from here, however long the request takes to leave.
  asked.sent_ns = clock_->MonotonicNs();
  return [this, asked](const proto::KeepAliveReply& reply) { OnKeepAlive(asked, reply); };
}

void Coherence::OnKeepAlive(const Asked& asked, const proto::KeepAliveReply& reply) {
  if (reply.term() == 0) return;  // it grants nothing yet: what was granted before goes on until its lease ends
  bool again = false;
  bool current = false;
  {
    MutexLock lock(mutex_);
    again = reply.term() > term_ || (reply.term() == term_ && reply.lapses() > lapses_);
    current = !again && asked.term == term_ && reply.term() == term_ && asked.lapses == lapses_;
    if (again) {
      term_ = reply.term();
      lapses_ = reply.lapses();
      registered_ = false;
    } else if (current) {
      registered_ = true;
    }
  }
  if (again) return Register();
  if (!current) return;
  const int64_t lease_ms = reply.lease_ms() > 0 ? reply.lease_ms() : kLeaseDefaultMs;
  if (!cache_.usable()) ForgetAll();  // others may have changed things without this client being told
  cache_.Extend(reply.term(), asked.sent_ns + lease_ms * kNsPerMs);
  SendForgets();
}

void Coherence::ForgetAll(bool session_lost) {
  cache_.Drop();
  OpenInodes* const open = open_.load(std::memory_order_acquire);
  if (open == nullptr) return;
  open->NoteAllChanged();
  open->EndWriteGrants(session_lost);
}

void Coherence::Register() {
  ForgetAll();
  if (const auto session = session_.lock()) session->KeepAliveNow();
}

void Coherence::NoteTerm(uint64_t term) {
  {
    MutexLock lock(mutex_);
    if (term <= term_) return;
    term_ = term;
    lapses_ = 0;
    registered_ = false;
  }
  Register();
}

void Coherence::OnSessionLost() {
  {
    MutexLock lock(mutex_);
    registered_ = false;
    lapses_ = 0;
  }
  ForgetAll(/*session_lost=*/true);
}

// ---- Pushes ----

void Coherence::OnPush(std::span<const uint8_t> message) {
  proto::InvalidatePush push;
  if (!push.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    spdlog::error("a push of the metadata server makes no sense bytes={}", message.size());
    return;  // unacknowledged it ends with the lease
  }
  const auto session = session_.lock();
  if (session == nullptr || SessionId(push.session()) != session->id()) return;
  NoteTerm(push.term());
  {
    MutexLock lock(mutex_);
    if (push.term() < term_) return;
  }
  const std::vector<InodeId> renamed = cache_.Apply(push);
  // What a name led to may be another session's to write now, which the name alone does not say.
  if (OpenInodes* const open = open_.load(std::memory_order_acquire)) {
    for (const InodeId inode : renamed) open->NoteChanged(inode);
  }
  // After the cache: an open that finds nothing there any more asks the server, one that was quicker is seen here.
  AcknowledgeWhenFlushed(push, ApplyToOpenInodes(push));
}

std::vector<InodeId> Coherence::ApplyToOpenInodes(const proto::InvalidatePush& push) {
  std::vector<InodeId> reported;
  OpenInodes* const open = open_.load(std::memory_order_acquire);
  if (open == nullptr) return reported;
  const auto add = [&](const std::vector<InodeId>& inodes) {
    reported.insert(reported.end(), inodes.begin(), inodes.end());
  };
  for (const proto::Invalidation& item : push.items()) {
    const InodeId inode(item.inode());
    if (inode.valid()) open->NoteChanged(inode);
    if (inode.valid() && (item.report_open() || item.drop()) && open->ReportIfOpen(inode, item.removed()))
      reported.push_back(inode);
    if (item.drop() && item.directory() != 0) add(open->OpenBelow(InodeId(item.directory()), /*reports=*/true));
    if (item.drop() && item.directory() == 0 && !inode.valid()) {
      open->NoteAllChanged();
      add(open->AllOpen(/*reports=*/true));
    }
  }
  return reported;
}

void Coherence::AcknowledgeWhenFlushed(const proto::InvalidatePush& push, const std::vector<InodeId>& open_inodes) {
  OpenInodes* const open = open_.load(std::memory_order_acquire);
  auto left = std::make_shared<std::atomic<size_t>>(1);
  const std::function<void()> one_done = [this, left, push, open_inodes] {
    if (left->fetch_sub(1) == 1) Acknowledge(push, open_inodes);
  };
  for (const proto::Invalidation& item : push.items()) {
    if (!item.recall_write() || open == nullptr) continue;
    left->fetch_add(1);
    // Only who acquires asks as well who has the file open.
    open->FlushForRecall(InodeId(item.inode()), item.report_open(), one_done);
  }
  one_done();
}

void Coherence::Acknowledge(const proto::InvalidatePush& push, const std::vector<InodeId>& open_inodes) {
  auto request = std::make_shared<proto::AckPushRequest>();
  request->set_session(push.session());
  request->set_term(push.term());
  request->add_pushes(push.push());
  for (const InodeId inode : open_inodes) request->add_open_inodes(inode.value());
  channel_->Call(rpc::Method::kAckPush, std::move(request), [](const rpc::Reply& reply, bool) {
    // It will be pushed again, or the lease ends.
    if (!reply.status.ok()) spdlog::debug("a push could not be acknowledged error={}", reply.status.ToString());
  });
}

// A directory that covers an open file stays: the server asks this client before it lets go of the file.
void Coherence::SendForgets() {
  OpenInodes* const open = open_.load(std::memory_order_acquire);
  if (open != nullptr && open->AnyOpening()) return;  // with the next keep-alive
  NamespaceCache::Forgotten forgotten = cache_.TakeForgotten();
  if (open != nullptr && open->AnyOpening()) return;  // the server may go on telling of them
  const auto session = session_.lock();
  if (session == nullptr) return;
  auto request = std::make_shared<proto::ForgetRequest>();
  request->set_session(session->id().value());
  request->set_term(cache_.term());
  for (const InodeId directory : forgotten.directories) {
    if (open == nullptr || open->OpenBelow(directory, /*reports=*/false).empty()) request->add_directories(directory.value());
  }
  const std::vector<InodeId> all_open =
      open != nullptr && !forgotten.inodes.empty() ? open->AllOpen(/*reports=*/false) : std::vector<InodeId>();
  for (const InodeId inode : forgotten.inodes) {
    if (std::ranges::find(all_open, inode) == all_open.end()) request->add_inodes(inode.value());
  }
  if (request->directories().empty() && request->inodes().empty()) return;
  channel_->Call(rpc::Method::kForget, std::move(request), [](const rpc::Reply&, bool) {});
}

}  // namespace tarn::client
