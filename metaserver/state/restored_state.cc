#include "metaserver/state/restored_state.h"

#include <algorithm>
#include <memory>

#include "metaserver/state/limits.h"
#include "metaserver/state/records.h"
#include "metaserver/state/state_machine.h"
#include "proto/state.pb.h"

namespace tarn::meta {
namespace {

constexpr uint64_t kMembersJump = 1 << 20;  // further than a group can have grown since the backup

}  // namespace

Result<RestoreFacts> MakeRestored(KvStore* store, const std::string& cluster_id, uint32_t incarnation, int64_t now_ns) {
  ASSIGN_OR_RETURN(const auto machine, StateMachine::Open(store));
  const proto::StateHeader before = machine->header();
  if (before.cluster_id().empty() || before.cluster_id() != cluster_id) {
    return Status(StatusCode::kCorruption, "the state in the backup is not one of the cluster that the backup names");
  }
  proto::LogEntry entry;
  entry.set_version(kLogEntryVersion);
  proto::LogCommand* command = entry.add_commands();
  command->set_time_ns(now_ns);
  command->mutable_mutation()->mutable_raise_incarnation()->set_incarnation(
      incarnation != 0 ? incarnation : before.incarnation() + 1);
  ASSIGN_OR_RETURN(const auto replies, machine->Apply(entry));
  if (replies[0].status() != 0) {
    return Status(static_cast<StatusCode>(replies[0].status()), replies[0].message());
  }
  // A new log begins, and with it the count of its entries.
  proto::StateHeader header = machine->header();
  header.set_applied_entries(0);
  RestoreFacts facts;
  facts.incarnation = header.incarnation();
  facts.applied_entries = before.applied_entries();
  facts.member_id = before.applied_entries() + kMembersJump;
  RETURN_IF_ERROR(store->Write({.changes = {{HeaderKey(), Encode(header)}}}));
  RETURN_IF_ERROR(store->Flush());
  return facts;
}

}  // namespace tarn::meta
