// tarn target list | retire, tarn scrub status | start: single disks.
#pragma once

#include <cstdint>

#include "cli/context.h"

namespace tarn::cli {

Status RunTargetList(const Context& context);
Status RunTargetRetire(const Context& context, uint64_t target);
Status RunScrubStatus(const Context& context);
// 0: all targets.
Status RunScrubStart(const Context& context, uint64_t target);

}  // namespace tarn::cli
