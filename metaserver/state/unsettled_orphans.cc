#include "metaserver/state/unsettled_orphans.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/keys.h"

namespace tarn::meta {
namespace {

std::string ValueOf(std::span<const SessionId> sessions) {
  std::string value;
  for (const SessionId session : sessions) {
    for (int shift = 0; shift < 64; shift += 8) value.push_back(static_cast<char>(session.value() >> shift & 0xff));
  }
  return value;
}

std::vector<SessionId> SessionsIn(std::string_view value) {
  std::vector<SessionId> sessions;
  for (; value.size() >= 8; value.remove_prefix(8)) {
    uint64_t id = 0;
    for (size_t i = 8; i-- > 0;) id = id << 8 | static_cast<unsigned char>(value[i]);
    sessions.emplace_back(id);
  }
  return sessions;
}

}  // namespace

Status ReleaseOrphanHolder(CommandContext* context, SessionId session, InodeId inode) {
  std::string key = OrphanKey(kUnsettled, inode);
  ASSIGN_OR_RETURN(const auto unsettled, context->view().Get(key));
  ASSIGN_OR_RETURN(const auto held, context->view().Get(OrphanKey(session, inode)));
  if (unsettled || held) context->NoteReleasedOrphan(inode);
  if (unsettled) {
    std::vector<SessionId> released = SessionsIn(*unsettled);
    if (std::ranges::find(released, session) == released.end()) {
      released.push_back(session);
      context->transaction().Put(std::move(key), ValueOf(released));
    }
  }
  return RemoveOrphanHolder(context, session, inode);
}

Status SettleOrphanHolders(CommandContext* context, InodeId inode, std::span<const SessionId> sessions) {
  ASSIGN_OR_RETURN(const auto unsettled, context->view().Get(OrphanKey(kUnsettled, inode)));
  if (!unsettled) return Status::Ok();
  const std::vector<SessionId> released = SessionsIn(*unsettled);
  for (const SessionId session : sessions) {
    if (std::ranges::find(released, session) != released.end()) continue;
    ASSIGN_OR_RETURN(const auto record, ReadSession(context->view(), session));
    if (record) AddOrphanHolder(context, session, inode);
  }
  return RemoveOrphanHolder(context, kUnsettled, inode);
}

}  // namespace tarn::meta
