// A client's change at the primary: admitted, applied in the chunk's order, sent to the members, answered when all that count have it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "chunkserver/replication/replica.h"
#include "chunkserver/replication/target_replication.h"

namespace tarn::replication {

// A write or a truncation, whichever is set. Shared by what is done with it in turn.
struct ClientChange {
  std::shared_ptr<const proto::WriteChunkRequest> write;
  std::shared_ptr<const proto::TruncateChunkRequest> truncate;
  std::span<const uint8_t> payload;
  std::shared_ptr<void> holder;
  ChangeCallback done;
  bool was_repaired_for = false;  // the chunk was damaged, and has been brought back from another copy

  const proto::ChunkAddress& address() const { return write != nullptr ? write->chunk() : truncate->chunk(); }
  SessionId session() const { return SessionId(write != nullptr ? write->session() : truncate->session()); }
  // A truncation is: the metadata server is then told that it is done, which nobody may have to take back.
  bool durable() const { return write == nullptr || write->durable(); }
};

void SubmitChange(const ReplicaPtr& replica, std::shared_ptr<ClientChange> change);

// For what was applied before, or changes nothing: answered when every change of the chunk ordered so far is confirmed, and durable everywhere
// if that is asked for.
void AnswerWhenConfirmed(const ReplicaPtr& replica, ChunkId chunk, const ChangeAnswer& answer, bool durable, const ChangeCallback& done);

}  // namespace tarn::replication
