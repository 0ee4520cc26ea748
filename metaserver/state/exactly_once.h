// Exactly-once mutations: the results that sessions have not yet acknowledged are part of the state, and a repeated
// mutation gets its first answer and changes nothing.
//
// One thread, that of the commands.
#pragma once

#include <functional>

#include "common/base/status.h"
#include "metaserver/state/command_context.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// Runs the operation and takes back what it did if it fails; the reply holds its status.
using RunCommand = std::function<Result<proto::MutationReply>()>;

// Answers the mutation from memory or by `run`, whose reply is then remembered. In the reply: kUnknownSession;
// kStaleSequence: at or below what the session acknowledged; kInvalidArgument: no sequence, or an acknowledgement of
// what was not yet sent; kResourceExhausted: too many results unacknowledged. These are not remembered. An error is the
// store's.
Result<proto::MutationReply> ApplyOnce(EntryState* state, const proto::Mutation& mutation, const RunCommand& run);

// A reply that says only why.
proto::MutationReply ErrorReply(const Status& status);

}  // namespace tarn::meta
