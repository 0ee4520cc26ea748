// What a simulated client remembers of the namespace: the client library's own NamespaceCache, under leases, terms and
// pushes by the rules of client/meta/coherence (whose code needs a channel with threads; docs/coherence.md has them).
//
// Fault model: none of its own. Pushes and acknowledgements are lost, late and repeated like all messages. Planted bugs:
// Plant::kIgnorePush, kCacheBeyondLease, kCacheAcrossTerms.
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "client/meta/cache/namespace_cache.h"
#include "common/base/status.h"
#include "proto/coherence.pb.h"
#include "proto/metadata.pb.h"
#include "tests/sim/plan.h"
#include "tests/sim/scheduler.h"
#include "tests/sim/sim_clock.h"

namespace tarn::sim {

class ClientCache {
 public:
  // `keep_alive_now`: the server is to hear at once what this client has learnt of terms and lapses.
  ClientCache(Scheduler* scheduler, Plant plant, std::function<void()> keep_alive_now);
  ClientCache(const ClientCache&) = delete;
  ClientCache& operator=(const ClientCache&) = delete;

  // 0: it was lost.
  void SetSession(uint64_t session);

  // ---- Keep-alives ----
  struct Asked {
    uint64_t term = 0;
    uint64_t lapses = 0;
    int64_t sent_ns = 0;
  };
  Asked Prepare(proto::KeepAliveRequest* request) const;
  void OnKeepAlive(const Asked& asked, const proto::KeepAliveReply& reply);

  // ---- Pushes: what to acknowledge ----
  std::optional<proto::AckPushRequest> OnPush(const std::string& message);

  // ---- Replies; the token was taken before the request was sent ----
  uint64_t Token() const { return cache_.Token(); }
  void OnLookup(uint64_t token, const proto::LookupRequest& request, const proto::LookupReply& reply);
  void OnGetAttr(uint64_t token, const proto::GetAttrReply& reply);
  // Of this client's own.
  void OnMutated(uint64_t token, const proto::Mutation& mutation, StatusCode code, const proto::MutationReply& reply);

  // ---- Answers; nothing: ask the server ----
  std::optional<client::NamespaceCache::FoundName> FindName(uint64_t parent, const std::string& name) {
    return cache_.FindName(InodeId(parent), name);
  }
  std::optional<proto::Attributes> FindAttributes(uint64_t inode);
  static proto::Attributes ToProto(const client::Attributes& attributes);

 private:
  void NoteTerm(uint64_t term);
  void Register();
  void NameChanged(uint64_t token, uint64_t parent, const std::string& name, uint64_t inode,
                   const proto::MutationReply& reply);
  void OnNameRemoved(uint64_t token, const proto::MutationReply& reply);
  void OnRenamed(uint64_t token, const proto::RenameOp& op, const proto::MutationReply& reply);
  void ForgetNamed(uint64_t parent, const std::string& name);
  void ForgetNames(const proto::Mutation& mutation);

  Scheduler* const scheduler_;
  const Plant plant_;
  const std::function<void()> keep_alive_now_;
  SimClock clock_;
  SimRandom random_;
  client::NamespaceCache cache_;
  uint64_t session_ = 0;
  uint64_t term_ = 0;
  uint64_t lapses_ = 0;
  bool registered_ = false;
};

}  // namespace tarn::sim
