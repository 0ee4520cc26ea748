#include "metaserver/state/exactly_once.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/state/limits.h"

namespace tarn::meta {
namespace {

Status CheckSequence(const proto::Mutation& mutation, const proto::SessionRecord& session) {
  if (mutation.sequence() == 0) return Status(StatusCode::kInvalidArgument, "a session's mutation needs a sequence");
  if (mutation.sequence() <= session.forgotten_through()) {
    return Status(StatusCode::kStaleSequence,
                  "sequence " + std::to_string(mutation.sequence()) + " was acknowledged before");
  }
  if (mutation.acked_through() >= mutation.sequence()) {
    return Status(StatusCode::kInvalidArgument, "a mutation acknowledges earlier ones only");
  }
  const uint64_t acknowledged = std::max(mutation.acked_through(), session.forgotten_through());
  if (mutation.sequence() - acknowledged > kSessionResultsMax) {
    return Status(StatusCode::kResourceExhausted,
                  "more than " + std::to_string(kSessionResultsMax) + " results of the session are not acknowledged");
  }
  return Status::Ok();
}

// Forgets the results up to `through`. Only as many as kSessionResultsMax can be there, whatever a client claims.
void Forget(EntryState* state, uint64_t through, proto::SessionRecord* session) {
  const SessionId id(session->id());
  const uint64_t last = std::min(through, session->forgotten_through() + kSessionResultsMax);
  for (uint64_t sequence = session->forgotten_through() + 1; sequence <= last; ++sequence) {
    state->transaction.Delete(SessionResultKey(id, Sequence(sequence)));
  }
  session->set_forgotten_through(through);
  state->transaction.Put(SessionKey(id), Encode(*session));
}

// What is remembered of the reply, which is as before afterwards.
std::string ResultValue(proto::MutationReply* reply) {
  // Only good for a cache, and by the time of a repeat they may be old.
  std::unique_ptr<proto::Attributes> parent(reply->release_parent());
  std::unique_ptr<proto::Attributes> new_parent(reply->release_new_parent());
  proto::SessionResult result;
  result.mutable_reply()->Swap(reply);
  std::string value = Encode(result);
  result.mutable_reply()->Swap(reply);
  if (parent != nullptr) reply->set_allocated_parent(parent.release());
  if (new_parent != nullptr) reply->set_allocated_new_parent(new_parent.release());
  return value;
}

}  // namespace

proto::MutationReply ErrorReply(const Status& status) {
  proto::MutationReply reply;
  reply.set_status(static_cast<uint32_t>(status.code()));
  reply.set_message(status.message());
  return reply;
}

Result<bool> NewestSequences::MayHaveResult(const KvView& view, SessionId session, Sequence sequence) {
  auto known = newest_.find(session);
  if (known == newest_.end()) {
    uint64_t newest = 0;
    RETURN_IF_ERROR(view.Scan(SessionResultPrefix(session), {}, [&](std::string_view key, std::string_view) {
      newest = ParseTrailingId(key).value_or(0);  // in order
      return true;
    }));
    if (newest_.size() >= kSessionsMax) newest_.clear();
    known = newest_.emplace(session, newest).first;
  }
  return sequence.value() <= known->second;
}

void NewestSequences::Note(SessionId session, Sequence sequence) {
  uint64_t& newest = newest_[session];
  newest = std::max(newest, sequence.value());
}

Result<proto::MutationReply> ApplyOnce(EntryState* state, NewestSequences* newest, const proto::Mutation& mutation,
                                       const RunCommand& run) {
  const SessionId id(mutation.session());
  const Sequence sequence(mutation.sequence());
  ASSIGN_OR_RETURN(auto session, ReadSession(state->transaction, id));
  if (!session) {
    return ErrorReply(Status(StatusCode::kUnknownSession, "session " + std::to_string(id.value()) + " is not open"));
  }
  if (const Status valid = CheckSequence(mutation, *session); !valid.ok()) return ErrorReply(valid);
  ASSIGN_OR_RETURN(const bool may_be_repeat, newest->MayHaveResult(state->transaction, id, sequence));
  if (may_be_repeat) {
    ASSIGN_OR_RETURN(auto remembered, ReadSessionResult(state->transaction, id, sequence));
    if (remembered) return std::move(*remembered->mutable_reply());
  }

  ASSIGN_OR_RETURN(proto::MutationReply reply, run());
  const bool ended_itself = mutation.has_close_session() && reply.status() == 0;
  if (ended_itself) return reply;
  state->transaction.PutNew(SessionResultKey(id, sequence), ResultValue(&reply));
  newest->Note(id, sequence);
  if (mutation.acked_through() > session->forgotten_through()) Forget(state, mutation.acked_through(), &*session);
  return reply;
}

}  // namespace tarn::meta
