#include "metaserver/service/state_applier.h"

#include <algorithm>
#include <string>
#include <utility>

namespace tarn::meta {

Status StateApplier::Apply(std::string_view bytes, uint64_t number) {
  const std::string name = "log entry " + std::to_string(number);
  if (!entry_.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Status(StatusCode::kCorruption, name + ": not a log entry");
  }
  changes_.clear();
  auto replies = state_->ApplyEntry(entry_, listener_.wants_changes() ? &changes_ : nullptr);
  if (!replies.ok()) return replies.status().WithContext(name);
  if (state_->applied_entries() != number) {
    return Status(StatusCode::kCorruption, name + ": the state counts " + std::to_string(state_->applied_entries()) +
                                               " entries: log and state do not belong together");
  }
  // Where the members are must be known before anything can be committed: a crash of all of them must not take it back.
  const auto moves_members = [](const proto::LogCommand& command) { return command.mutation().has_set_metaservers(); };
  if (std::ranges::any_of(entry_.commands(), moves_members)) RETURN_IF_ERROR(store_->Flush());
  replies_ = std::move(*replies);
  listener_.applied(entry_, replies_, changes_);
  return Status::Ok();
}

}  // namespace tarn::meta
