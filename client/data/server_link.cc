#include "client/data/server_link.h"

#include <algorithm>

namespace tarn::client {

ServerLink::Connection ServerLink::Get(int64_t now_ns) {
  std::shared_ptr<rpc::FrameClient> broken;  // destroyed after the lock is released
  MutexLock lock(mutex_);
  if (client_ != nullptr && client_->usable()) return {client_, 0};
  if (closed_) return {nullptr, kBackoffMaxMs};
  if (now_ns < not_before_ns_) return {nullptr, (not_before_ns_ - now_ns) / 1'000'000 + 1};
  broken = std::move(client_);
  client_ = make_client_();
  not_before_ns_ = now_ns + backoff_ms_ * 1'000'000;
  backoff_ms_ = std::min(backoff_ms_ * 2, kBackoffMaxMs);
  if (client_ == nullptr) return {nullptr, (not_before_ns_ - now_ns) / 1'000'000 + 1};
  return {client_, 0};
}

void ServerLink::NoteSent(int64_t now_ns) {
  MutexLock lock(mutex_);
  if (calls_under_way_++ == 0) waiting_since_ns_ = now_ns;
}

void ServerLink::NoteOver(int64_t now_ns, bool answered) {
  MutexLock lock(mutex_);
  --calls_under_way_;
  if (!answered) return;
  last_answer_ns_ = now_ns;
  backoff_ms_ = kBackoffMinMs;
}

void ServerLink::NoteTimeout(const std::shared_ptr<rpc::FrameClient>& client, int64_t sent_ns) {
  {
    MutexLock lock(mutex_);
    if (last_answer_ns_ >= sent_ns || client_ != client) return;
  }
  client->Close();
}

int64_t ServerLink::last_answer_ns() const {
  MutexLock lock(mutex_);
  return last_answer_ns_;
}

bool ServerLink::busy() const {
  MutexLock lock(mutex_);
  return calls_under_way_ > 0;
}

int64_t ServerLink::SilentNs(int64_t now_ns) const {
  MutexLock lock(mutex_);
  return calls_under_way_ == 0 ? 0 : now_ns - std::max(waiting_since_ns_, last_answer_ns_);
}

bool ServerLink::AnswersWithin(int64_t now_ns, int64_t limit_ns) const {
  MutexLock lock(mutex_);
  return calls_under_way_ == 0 || now_ns - last_answer_ns_ < limit_ns;
}

std::string ServerLink::peer_address() const {
  MutexLock lock(mutex_);
  return client_ == nullptr ? std::string() : client_->address();
}

void ServerLink::BreakIfWaitingSince(int64_t since_ns) {
  std::shared_ptr<rpc::FrameClient> client;
  {
    MutexLock lock(mutex_);
    if (calls_under_way_ > 0 && waiting_since_ns_ <= since_ns) client = client_;
  }
  if (client != nullptr) client->Close();
}

void ServerLink::Close() {
  std::shared_ptr<rpc::FrameClient> client;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    client = std::move(client_);
  }
  if (client != nullptr) client->Close();
}

}  // namespace tarn::client
