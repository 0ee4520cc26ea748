// Reads whose answers a session may cache (docs/coherence.md, "Grants and interests").
//
// The interest comes first, the reading after it: so either the reading sees a change or the change sees the interest.
// Where only the reading tells what the interest must be in, there is a second reading. Thread-safe.
#pragma once

#include "common/base/status.h"
#include "metaserver/service/push_coordinator.h"
#include "metaserver/state/state_machine.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// Without a session in the request these are the state's plain reads.
Status LookupGranted(const StateMachine& state, PushCoordinator* coherence, const proto::LookupRequest& request,
                     proto::LookupReply* reply);
Status GetAttrGranted(const StateMachine& state, PushCoordinator* coherence, const proto::GetAttrRequest& request,
                      proto::GetAttrReply* reply);
Status ReadDirGranted(const StateMachine& state, PushCoordinator* coherence, const proto::ReadDirRequest& request,
                      proto::ReadDirReply* reply);

}  // namespace tarn::meta
