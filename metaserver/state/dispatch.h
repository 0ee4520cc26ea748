// From a mutation to its operation.
#pragma once

#include "common/base/status.h"
#include "metaserver/state/command_context.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// kInvalidArgument if the mutation has no operation that this version knows.
Status RunOperation(CommandContext* context, const proto::Mutation& mutation, proto::MutationReply* reply);

}  // namespace tarn::meta
