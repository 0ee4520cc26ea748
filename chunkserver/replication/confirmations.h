// Tells members what is confirmed when no change follows that would (docs/replication.md, "A write"): so that a member holds changes as
// unconfirmed for moments only, and answers reads of them also when its primary is gone. The answers tell how much room a member has.
#pragma once

#include "chunkserver/replication/context.h"
#include "chunkserver/replication/member_change.h"

namespace tarn::replication {

// The primary's side: something was confirmed, or a member was found full. Members are told within kConfirmDelayMs of the last change of a
// group, and full ones are asked again and again. Cheap when it is under way. Thread-safe; may be called with a replica's lock held.
void ConfirmSoon(const ContextPtr& ctx);

// The member's side.
void HandleConfirmChanges(const ContextPtr& ctx, const proto::ConfirmChangesRequest& request, const ResponderPtr& responder);

}  // namespace tarn::replication
