// tarn status.
#pragma once

#include "cli/context.h"

namespace tarn::cli {

Status RunStatus(const Context& context);

}  // namespace tarn::cli
