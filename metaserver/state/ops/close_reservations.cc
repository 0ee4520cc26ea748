// Forgets reservations of data ids whose sessions are gone, after some time: a client that lost its session may still
// finish what it had begun. What of them was not used is never used.
//
// Those of sessions that live, or made too short a time ago, are passed over; unknown ones are no error.
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status CloseReservations(CommandContext* context, const proto::CloseReservationsOp& op,
                         proto::MutationReply* /*reply*/) {
  for (const uint64_t first : op.first_data_ids()) {
    ASSIGN_OR_RETURN(const auto reservation, ReadReservationOf(context->view(), DataId(first)));
    if (!reservation || reservation->first_data_id() != first) continue;
    if (context->now_ns() - reservation->made_ns() < static_cast<int64_t>(op.kept_ms()) * 1'000'000) continue;
    ASSIGN_OR_RETURN(const auto session, ReadSession(context->view(), SessionId(reservation->session())));
    if (session) continue;
    context->transaction().Delete(DataIdReservationKey(DataId(first + reservation->count() - 1)));
  }
  return Status::Ok();
}

}  // namespace tarn::meta::ops
