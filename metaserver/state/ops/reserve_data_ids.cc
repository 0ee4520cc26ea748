// Gives a client data ids for files whose bytes it writes before their names exist (CreateOp.data_id), and the layout
// they will have.
//
// The reservation is on record until some time after its session is gone: only as long as it is may one of its ids get
// a name. So an id that was given and that nobody knows stays unknown for ever (docs/replication.md, "Data that nobody
// knows").
//
// kInvalidArgument: a count of 0 or above 65536; kNotFound: no such volume; ENOSPC: there are no placement groups yet.
#include "metaserver/state/file_data.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status ReserveDataIds(CommandContext* context, const proto::ReserveDataIdsOp& op, proto::MutationReply* reply) {
  if (op.count() == 0 || op.count() > kReservedDataIdsMax) {
    return Status(StatusCode::kInvalidArgument,
                  "1 to " + std::to_string(kReservedDataIdsMax) + " data ids can be reserved at once");
  }
  ASSIGN_OR_RETURN(const auto volume, ReadVolume(context->view(), VolumeId(op.volume())));
  if (!volume || volume->deleting()) {
    return Status(StatusCode::kNotFound, "volume " + std::to_string(op.volume()) + " does not exist");
  }
  ASSIGN_OR_RETURN(*reply->mutable_layout_template(), LayoutForNewFile(context->map(), *volume));
  ASSIGN_OR_RETURN(const DataId first, context->TakeDataIds(op.count()));
  proto::DataIdReservation reservation;
  reservation.set_first_data_id(first.value());
  reservation.set_count(op.count());
  reservation.set_session(context->session().value());
  reservation.set_made_ns(context->now_ns());
  context->transaction().Put(DataIdReservationKey(DataId(first.value() + op.count() - 1)), Encode(reservation));
  reply->set_first_data_id(first.value());
  reply->set_data_id_count(op.count());
  return Status::Ok();
}

}  // namespace tarn::meta::ops
