// Opens a session: the client's identity for exactly-once mutations and unlinked files that it holds open.
//
// The nonce makes a retry find the session it already opened. kInvalidArgument: no nonce, or a name above 255 bytes;
// kNotFound: no such volume.
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status OpenSession(CommandContext* context, const proto::OpenSessionOp& op, proto::MutationReply* reply) {
  if (op.nonce() == 0) return Status(StatusCode::kInvalidArgument, "a session needs a nonce");
  if (op.client_name().size() > kClientNameBytesMax) {
    return Status(StatusCode::kInvalidArgument, "a client's name has at most 255 bytes");
  }
  ASSIGN_OR_RETURN(const auto opened, ReadSessionOfNonce(context->view(), op.nonce()));
  if (opened) {
    reply->set_session(opened->value());
    return Status::Ok();
  }
  if (op.volume() != 0) {
    ASSIGN_OR_RETURN(const auto volume, ReadVolume(context->view(), VolumeId(op.volume())));
    if (!volume || volume->deleting()) {
      return Status(StatusCode::kNotFound, "volume " + std::to_string(op.volume()) + " does not exist");
    }
  }
  proto::StateHeader& header = context->header();
  const SessionId session(ComposeId(header.metadata_group(), header.incarnation(), header.next_session()));
  header.set_next_session(header.next_session() + 1);
  proto::SessionRecord record;
  record.set_id(session.value());
  record.set_client_name(op.client_name());
  record.set_volume(op.volume());
  record.set_nonce(op.nonce());
  record.set_opened_ns(context->now_ns());
  record.set_caches(op.caches());
  context->transaction().Put(SessionKey(session), Encode(record));
  context->transaction().Put(SessionNonceKey(op.nonce()), EncodeU64(session.value()));
  reply->set_session(session.value());
  return Status::Ok();
}

}  // namespace tarn::meta::ops
