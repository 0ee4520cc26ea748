// The client's half of the coherence protocol (docs/coherence.md): registers in each term of the leader, keeps the
// lease, carries out pushes and acknowledges them. What is cached is NamespaceCache's business, which files are open
// that of whoever implements OpenInodes.
//
// A push is acknowledged from the loop's thread as soon as the caches are edited: it waits for no request of this
// client and for no file lock of the kernel.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "client/meta/cache/namespace_cache.h"
#include "client/meta/metadata_channel.h"
#include "client/meta/metadata_session.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "proto/coherence.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::client {

// The files that this client has open. Thread-safe.
class OpenInodes {
 public:
  virtual ~OpenInodes() = default;
  // `reports`: the server is told, and keeps those of them that have lost their last name for this session until it hears
  // that they are closed.
  virtual std::vector<InodeId> AllOpen(bool reports) = 0;
  // Those that the directory's interest may cover. `reports` likewise.
  virtual std::vector<InodeId> OpenBelow(InodeId directory, bool reports) = 0;
  // True if it is open, or about to be. `removed`: it has lost its last name, and the server will keep it for this
  // session.
  virtual bool ReportIfOpen(InodeId inode, bool removed) = 0;
  // Another client changed it: what is known of it must be asked for before it is used again.
  virtual void NoteChanged(InodeId inode) = 0;
  virtual void NoteAllChanged() = 0;
  // Every write grant has ended. `session_lost`: others may have written since; else what is buffered is sent now.
  virtual void EndWriteGrants(bool session_lost) = 0;
  // The write grant of the inode ends. Sends and commits what is buffered of it; an error is kept for the file's own
  // next flush. `for_appender`: as WriteGrant::Recall.
  virtual void FlushForRecall(InodeId inode, bool for_appender, std::function<void()> done) = 0;
  // Files with writes that are not published yet, or that may come to be buffered under a grant that has ended.
  virtual std::vector<InodeId> AllWritten() = 0;
  // Something is about to be opened, and it is not known what.
  virtual bool AnyOpening() = 0;
};

// Thread-safe. Callbacks run until the channel is closed and its loop has turned.
class Coherence final : public SessionHooks {
 public:
  // `clock` and `random` outlive it.
  Coherence(const Clock* clock, Random* random, std::shared_ptr<MetadataChannel> channel, uint64_t cache_bytes_max);
  Coherence(const Coherence&) = delete;
  Coherence& operator=(const Coherence&) = delete;

  // Before the session is opened.
  void SetSession(std::weak_ptr<MetadataSession> session) { session_ = std::move(session); }
  // Null: nothing is open.
  void SetOpenInodes(OpenInodes* open) { open_.store(open, std::memory_order_release); }

  NamespaceCache& cache() { return cache_; }
  const NamespaceCache& cache() const { return cache_; }

  // Of every reply that carries a grant.
  void NoteTerm(uint64_t term);
  void OnPush(std::span<const uint8_t> message);

  // ---- SessionHooks ----
  KeepAliveAnswered PrepareKeepAlive(proto::KeepAliveRequest* request) override;
  void OnSessionLost() override;

 private:
  struct Asked {
    uint64_t term = 0;
    uint64_t lapses = 0;
    int64_t sent_ns = 0;
  };
  void OnKeepAlive(const Asked& asked, const proto::KeepAliveReply& reply);
  // Everything of earlier terms is over; registers.
  void Register();
  void ForgetAll(bool session_lost = false);
  std::vector<InodeId> ApplyToOpenInodes(const proto::InvalidatePush& push);
  // Once what the push recalls is committed; at once if that is nothing.
  void AcknowledgeWhenFlushed(const proto::InvalidatePush& push, const std::vector<InodeId>& open_inodes);
  void Acknowledge(const proto::InvalidatePush& push, const std::vector<InodeId>& open_inodes);
  void SendForgets();

  // Immutable after construction, or set before the first use.
  const Clock* const clock_;
  const std::shared_ptr<MetadataChannel> channel_;
  std::weak_ptr<MetadataSession> session_;

  // Thread-safe.
  NamespaceCache cache_;
  std::atomic<OpenInodes*> open_{nullptr};

  Mutex mutex_;
  uint64_t term_ GUARDED_BY(mutex_) = 0;        // the newest that was heard of
  uint64_t lapses_ GUARDED_BY(mutex_) = 0;      // of this session in that term, as far as it was told
  bool registered_ GUARDED_BY(mutex_) = false;  // a keep-alive that names both was answered
};

}  // namespace tarn::client
