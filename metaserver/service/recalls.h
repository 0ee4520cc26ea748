// Which write grants a mutation needs back, and fetching them (docs/coherence.md, "Write grants").
#pragma once

#include <functional>
#include <set>
#include <span>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/service/push_coordinator.h"
#include "metaserver/state/state_machine.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// What a session must not go on buffering when one of the others carries this out: its size or its data change.
struct WrittenInode {
  SessionId session;  // that makes the change
  InodeId inode;
  friend auto operator<=>(const WrittenInode&, const WrittenInode&) = default;
};

// Only those that another session holds now. The mutations are carried out one after another.
std::set<WrittenInode> HeldInodesWrittenBy(const StateMachine& state, const PushCoordinator& coherence,
                                           std::span<const proto::Mutation> mutations);

// Of answers whose attributes are behind what another session has buffered: recalled before they are given. Notes the
// reader in acquisitions that are under way.
std::set<WrittenInode> HeldInodesShownBy(PushCoordinator* coherence, SessionId session, uint64_t ends,
                                         const proto::MutationReply& reply);

// Reads the attributes in the reply afresh.
void RefreshAttributes(const StateMachine& state, proto::MutationReply* reply);

// Calls back once nobody else holds any of them; with an error if that cannot be known any more. Thread-safe.
void RecallAll(PushCoordinator* coherence, const std::set<WrittenInode>& inodes,
               std::function<void(const Status&)> recalled);

}  // namespace tarn::meta
