// The connection to one chunk server for one purpose, made on demand and made anew, with growing pauses, after it
// broke.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/mutex.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"

namespace tarn::client {

class ServerLink {
 public:
  // Null: there is no way just now.
  using MakeClient = std::function<std::shared_ptr<rpc::FrameClient>()>;

  ServerLink(MakeClient make_client, int64_t now_ns) : make_client_(std::move(make_client)), last_answer_ns_(now_ns) {}
  ServerLink(const ServerLink&) = delete;
  ServerLink& operator=(const ServerLink&) = delete;

  struct Connection {
    std::shared_ptr<rpc::FrameClient> client;  // null: none may be made yet
    int64_t wait_ms = 0;                       // then: ask again after this
  };
  Connection Get(int64_t now_ns);

  // Around each call: it is sent, and it is over.
  void NoteSent(int64_t now_ns);
  // `answered`: by the server, whatever it said.
  void NoteOver(int64_t now_ns, bool answered);
  // A call that was sent at `sent_ns` timed out. A connection on which nothing came since is taken for dead.
  void NoteTimeout(const std::shared_ptr<rpc::FrameClient>& client, int64_t sent_ns);
  int64_t last_answer_ns() const;
  bool busy() const;
  // For how long calls have waited while nothing came; 0 if none waits.
  int64_t SilentNs(int64_t now_ns) const;
  // It has answered within this time, or nothing was asked of it.
  bool AnswersWithin(int64_t now_ns, int64_t limit_ns) const;
  // Of the server at the other end of the connection; empty: there is none.
  std::string peer_address() const;
  // Ends the connection, so that its calls can go elsewhere, if calls that were waiting at `since_ns` already still
  // are.
  void BreakIfWaitingSince(int64_t since_ns);

  // Fails what is in flight; no connection is made any more.
  void Close();

 private:
  static constexpr int64_t kBackoffMinMs = 5;
  static constexpr int64_t kBackoffMaxMs = 500;

  const MakeClient make_client_;

  mutable Mutex mutex_;
  std::shared_ptr<rpc::FrameClient> client_ GUARDED_BY(mutex_);
  int64_t not_before_ns_ GUARDED_BY(mutex_) = 0;
  int64_t backoff_ms_ GUARDED_BY(mutex_) = kBackoffMinMs;
  int64_t last_answer_ns_ GUARDED_BY(mutex_);
  uint32_t calls_under_way_ GUARDED_BY(mutex_) = 0;
  int64_t waiting_since_ns_ GUARDED_BY(mutex_) = 0;  // since when there was always one under way
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace tarn::client
