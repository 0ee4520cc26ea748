// Carries changes of directory sizes upwards; each step takes what one directory has not told its parent yet, of those
// that have waited longest.
//
// The queue (keys of kind kUnpropagated) holds each directory at most once, in the order in which it first had
// something unsent; a parent that hears of a change joins at the end. So every change is through after as many steps as
// there are directories waiting, and above them, however many changes there were; most meet on the way up.
// kInvalidArgument: no steps or too many.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

struct Waiting {
  std::string key;
  InodeId directory;
};

Result<std::vector<Waiting>> LongestWaiting(const CommandContext& context, uint32_t count_max) {
  std::vector<Waiting> waiting;
  RETURN_IF_ERROR(
      context.view().Scan(KindPrefix(KeyKind::kUnpropagated), {}, [&](std::string_view key, std::string_view value) {
        waiting.push_back({std::string(key), InodeId(DecodeU64(value).value_or(0))});
        return waiting.size() < count_max;
      }));
  return waiting;
}

Status CarryUp(CommandContext* context, InodeId directory) {
  ASSIGN_OR_RETURN(auto size, ReadDirectorySize(context->view(), directory));
  if (!size) return Status::Ok();  // it is gone, and what it had to tell went with it
  const TreeSize delta = size->unsent;
  size->unsent = {};
  size->queued = 0;
  context->transaction().Put(DirectorySizeKey(directory), EncodeDirectorySize(*size));
  ASSIGN_OR_RETURN(const auto attributes, ReadInode(context->view(), directory));
  const bool has_parent = attributes && attributes->parent() != 0 && attributes->parent() != directory.value();
  return has_parent ? AddToDirectory(context, InodeId(attributes->parent()), delta) : Status::Ok();
}

}  // namespace

Status PropagateCounters(CommandContext* context, const proto::PropagateCountersOp& op, proto::MutationReply* reply) {
  if (op.steps_max() == 0 || op.steps_max() > kPropagateStepsMax) {
    return Status(StatusCode::kInvalidArgument,
                  "counters are propagated in 1 to " + std::to_string(kPropagateStepsMax) + " steps");
  }
  uint32_t steps = 0;
  while (steps < op.steps_max()) {
    ASSIGN_OR_RETURN(std::vector<Waiting> waiting, LongestWaiting(*context, op.steps_max() - steps));
    if (waiting.empty()) break;
    steps += static_cast<uint32_t>(waiting.size());
    proto::StateHeader& header = context->header();
    header.set_unpropagated(header.unpropagated() - std::min<uint64_t>(header.unpropagated(), waiting.size()));
    for (Waiting& each : waiting) {
      context->transaction().Delete(std::move(each.key));
      RETURN_IF_ERROR(CarryUp(context, each.directory));
    }
  }
  reply->set_purged(steps);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
