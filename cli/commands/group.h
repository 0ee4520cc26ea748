// tarn group list | promote: placement groups, and the way out where the only current copy of one is gone.
#pragma once

#include <cstdint>

#include "cli/context.h"

namespace tarn::cli {

struct GroupPromoteOptions {
  uint32_t group = 0;
  uint64_t target = 0;
  bool accept_data_loss = false;
};

Status RunGroupList(const Context& context, bool unhealthy_only);
Status RunGroupPromote(const Context& context, const GroupPromoteOptions& options);

}  // namespace tarn::cli
