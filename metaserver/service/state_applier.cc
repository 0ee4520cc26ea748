#include "metaserver/service/state_applier.h"

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
  replies_ = std::move(*replies);
  listener_.applied(entry_, replies_, changes_);
  return Status::Ok();
}

}  // namespace tarn::meta
