#include "chunkserver/replication/inventory_diff.h"

#include <algorithm>
#include <utility>

#include "chunkserver/replication/peer_call.h"
#include "chunkserver/replication/wire.h"

namespace tarn::replication {
namespace {

constexpr uint32_t kPageEntries = 4'096;

// Where a page stops; none: it does not.
std::optional<ChunkId> EndOf(const store::InventoryPage& page) {
  if (page.end || page.chunks.empty()) return std::nullopt;
  return page.chunks.back().chunk;
}

}  // namespace

InventoryDifference DiffPages(const store::InventoryPage& own, const store::InventoryPage& theirs) {
  InventoryDifference difference;
  const std::optional<ChunkId> own_end = EndOf(own), their_end = EndOf(theirs);
  if (own_end && their_end) {
    difference.through = std::min(*own_end, *their_end);
  } else {
    difference.through = own_end ? own_end : their_end;
  }
  const auto is_beyond = [&](ChunkId chunk) { return difference.through && chunk > *difference.through; };
  auto mine = own.chunks.begin();
  auto other = theirs.chunks.begin();
  while (true) {
    const bool have_mine = mine != own.chunks.end() && !is_beyond(mine->chunk);
    const bool have_other = other != theirs.chunks.end() && !is_beyond(other->chunk);
    if (!have_mine && !have_other) return difference;
    if (have_mine && (!have_other || mine->chunk < other->chunk)) {
      difference.bytes += mine->bytes;
      difference.chunks.push_back((mine++)->chunk);
    } else if (have_other && (!have_mine || other->chunk < mine->chunk)) {
      difference.chunks.push_back((other++)->chunk);
    } else {
      difference.bytes += mine->bytes;
      // Without an epoch a stamp names no content.
      if (mine->stamp != other->stamp || !mine->stamp.epoch.valid()) difference.chunks.push_back(mine->chunk);
      ++mine;
      ++other;
    }
  }
}

void DiffInventory(const ReplicaPtr& replica, Epoch epoch, TargetId member, std::optional<ChunkId> after,
                   std::function<void(const Status&, const InventoryDifference&)> done) {
  proto::InventoryRequest request;
  SetAddress(*replica->ctx, member, replica->group, epoch, request.mutable_member());
  if (after) {
    request.set_after_data_id(after->data.value());
    request.set_after_chunk_index(after->index);
  }
  request.set_entries_max(kPageEntries);
  CallPeer<proto::InventoryReply>(
      replica->ctx, member, rpc::Method::kInventory, request, {}, [=](const Status& status, const proto::InventoryReply& reply) {
        if (!status.ok()) return done(status.WithContext("inventory of a member"), {});
        store::InventoryPage theirs;
        for (const proto::ChunkEntry& entry : reply.chunks()) {
          theirs.chunks.push_back({{DataId(entry.data_id()), entry.chunk_index()}, StampOf(entry.stamp()), entry.bytes()});
        }
        theirs.end = reply.end();
        if (theirs.chunks.empty() && !theirs.end) return done(Status(StatusCode::kCorruption, "an inventory page of nothing"), {});
        replica->ctx->executor->Run([=, theirs = std::move(theirs)] {
          const Result<store::InventoryPage> own = replica->ctx->store->ListGroup(replica->group, after, kPageEntries);
          if (!own.ok()) return done(own.status(), {});
          done(Status::Ok(), DiffPages(*own, theirs));
        });
      });
}

}  // namespace tarn::replication
