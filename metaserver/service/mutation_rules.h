// Which mutations a client may send. What they mean is checked by the state machine, when they are applied.
#pragma once

#include "common/base/status.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// kInvalidArgument: no operation, one that only the leader proposes, or no session or sequence where one is needed.
Status CheckClientMutation(const proto::Mutation& mutation);

}  // namespace tarn::meta
