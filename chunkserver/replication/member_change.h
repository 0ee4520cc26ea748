// A member's side: the primary's changes, and what a primary asks of its members.
//
// A change is applied to a chunk that has the stamp before it; one that the chunk has already is acknowledged; any other waits, bounded, for
// what comes before. Each function answers `responder` exactly once. The caller has found the message's epoch to be current; it is checked
// again wherever time has passed.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "chunkserver/replication/replica.h"
#include "chunkserver/replication/target_replication.h"

namespace tarn::replication {

using ResponderPtr = std::shared_ptr<PeerResponder>;

enum class ReplicateStep { kApply, kSeen, kWait };
// What a chunk that has the stamp `current` does with a change from `base` to `stamp`.
ReplicateStep StepOf(const store::ChunkStamp& current, const store::ChunkStamp& base, const store::ChunkStamp& stamp);

// Pure: which of `own` the others know too.
std::vector<store::SessionWindow> CommonWindows(const std::vector<store::SessionWindow>& own, const std::vector<store::SessionWindow>& others);

// `payload` is alive as long as `holder`.
void HandleReplicate(const ReplicaPtr& replica, std::shared_ptr<const proto::ReplicateRequest> request, std::span<const uint8_t> payload,
                     std::shared_ptr<void> holder, const ResponderPtr& responder);
void HandleReconcile(const ReplicaPtr& replica, const proto::ReconcileRequest& request, const ResponderPtr& responder);
void HandleInventory(const ReplicaPtr& replica, std::shared_ptr<const proto::InventoryRequest> request, const ResponderPtr& responder);
void HandleChunkSums(const ReplicaPtr& replica, std::shared_ptr<const proto::ChunkSumsRequest> request, const ResponderPtr& responder);
void HandleInstallChunk(const ReplicaPtr& replica, std::shared_ptr<const proto::InstallChunkRequest> request, std::span<const uint8_t> payload,
                        std::shared_ptr<void> holder, const ResponderPtr& responder);
void HandleInstallWindows(const ReplicaPtr& replica, std::shared_ptr<const proto::InstallWindowsRequest> request, const ResponderPtr& responder);

}  // namespace tarn::replication
