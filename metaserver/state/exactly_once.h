// Exactly-once mutations: the results that sessions have not yet acknowledged are part of the state, and a repeated
// mutation gets its first answer and changes nothing.
//
// One thread, that of the commands.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/command_context.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// The highest sequence of each session that has had a result: whoever sends a higher one repeats nothing, so that the
// store need not be asked. Found in the store when a session is first met; bounded: a full memory begins anew.
class NewestSequences {
 public:
  // Whether there may be a result of that sequence. `view` is that of the commands so far.
  Result<bool> MayHaveResult(const KvView& view, SessionId session, Sequence sequence);
  // It has a result now. After MayHaveResult.
  void Note(SessionId session, Sequence sequence);
  // The store was replaced.
  void Forget() { newest_.clear(); }

 private:
  static constexpr size_t kSessionsMax = 65'536;

  std::unordered_map<SessionId, uint64_t> newest_;
};

// Runs the operation and takes back what it did if it fails; the reply holds its status.
using RunCommand = std::function<Result<proto::MutationReply>()>;

// Answers the mutation from memory or by `run`, whose reply is then remembered. In the reply: kUnknownSession;
// kStaleSequence: at or below what the session acknowledged; kInvalidArgument: no sequence, or an acknowledgement of
// what was not yet sent; kResourceExhausted: too many results unacknowledged. These are not remembered. An error is the
// store's.
Result<proto::MutationReply> ApplyOnce(EntryState* state, NewestSequences* newest, const proto::Mutation& mutation,
                                       const RunCommand& run);

// A reply that says only why.
proto::MutationReply ErrorReply(const Status& status);

}  // namespace tarn::meta
