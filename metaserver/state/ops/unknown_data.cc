// Data that targets hold and nobody knows (docs/replication.md, "Data that nobody knows"): into quarantine, and from
// there to what is deleted.
//
// The leader has looked through a snapshot of the whole state; what can be looked up here is looked up once more. Such
// ids are passed over, and so are those that a restored backup cannot know of. kBusy: reclaim is off.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "metaserver/state/file_data.h"
#include "metaserver/state/group_members.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"
#include "metaserver/state/unknown_data.h"

namespace tarn::meta::ops {
namespace {

Result<bool> IsKnown(const CommandContext& context, DataId data) {
  ASSIGN_OR_RETURN(const auto dead, ReadDeadData(context.view(), data));
  if (dead) return true;
  ASSIGN_OR_RETURN(const auto reservation, ReadReservationOf(context.view(), data));
  return reservation.has_value();
}

void Forget(CommandContext* context, const proto::UnknownDataRecord& record) {
  proto::StateHeader& header = context->header();
  header.set_unknown_data_ids(header.unknown_data_ids() - std::min<uint64_t>(1, header.unknown_data_ids()));
  header.set_unknown_bytes(header.unknown_bytes() - std::min(header.unknown_bytes(), BytesOf(record)));
  context->transaction().Delete(UnknownDataKey(DataId(record.data_id())));
}

Status Note(CommandContext* context, const proto::NoteUnknownDataOp::Found& found) {
  const DataId data(found.data_id());
  proto::StateHeader& header = context->header();
  if (!WasGiven(header, data)) return Status::Ok();
  ASSIGN_OR_RETURN(const bool known, IsKnown(*context, data));
  if (known) return Status::Ok();
  ASSIGN_OR_RETURN(auto record, ReadUnknownData(context->view(), data));
  if (!record) {
    if (header.unknown_data_ids() >= kUnknownDataMax) return Status::Ok();
    record.emplace();
    record->set_data_id(data.value());
    record->set_found_ns(context->now_ns());
    header.set_unknown_data_ids(header.unknown_data_ids() + 1);
  }
  const uint64_t before = BytesOf(*record);
  auto* held = record->mutable_held();
  const auto on = std::ranges::find(*held, found.target(), &proto::UnknownDataRecord::Held::target);
  auto* entry = on != held->end() ? &*on : held->Add();
  entry->set_target(found.target());
  entry->set_bytes(found.bytes());
  header.set_unknown_bytes(header.unknown_bytes() - std::min(header.unknown_bytes(), before) + BytesOf(*record));
  context->transaction().Put(UnknownDataKey(data), Encode(*record));
  return Status::Ok();
}

Status Reclaim(CommandContext* context, DataId data, uint64_t quarantine_ms) {
  ASSIGN_OR_RETURN(const auto record, ReadUnknownData(context->view(), data));
  if (!record) return Status::Ok();
  if (context->now_ns() - record->found_ns() < static_cast<int64_t>(quarantine_ms) * 1'000'000) return Status::Ok();
  ASSIGN_OR_RETURN(const bool known, IsKnown(*context, data));
  Forget(context, *record);
  if (known || !WasGiven(context->header(), data)) return Status::Ok();
  std::vector<uint64_t> targets;
  for (const auto& held : record->held()) {
    const proto::Target* target = FindTarget(context->map(), held.target());
    if (target != nullptr && target->state() != proto::TARGET_STATE_RETIRED) targets.push_back(held.target());
  }
  if (targets.empty()) return Status::Ok();
  proto::StateHeader& header = context->header();
  header.set_unknown_reclaimed_bytes(header.unknown_reclaimed_bytes() + BytesOf(*record));
  return MakeUnknownDataDead(context, data, BytesOf(*record), targets);
}

}  // namespace

Status NoteUnknownData(CommandContext* context, const proto::NoteUnknownDataOp& op, proto::MutationReply* /*reply*/) {
  for (const auto& found : op.found()) RETURN_IF_ERROR(Note(context, found));
  for (const uint64_t data : op.gone()) {
    ASSIGN_OR_RETURN(const auto record, ReadUnknownData(context->view(), DataId(data)));
    if (record) Forget(context, *record);
  }
  return Status::Ok();
}

Status ReclaimUnknownData(CommandContext* context, const proto::ReclaimUnknownDataOp& op,
                          proto::MutationReply* /*reply*/) {
  if (context->header().reclaim_disabled()) {
    return Status(StatusCode::kBusy, "reclaim is off since the metadata was restored: nothing is deleted");
  }
  for (const uint64_t data : op.data_ids()) RETURN_IF_ERROR(Reclaim(context, DataId(data), op.quarantine_ms()));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
