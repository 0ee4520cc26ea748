// tarn meta list | add | remove | transfer: the group of metadata servers.
#pragma once

#include <cstdint>

#include "cli/context.h"

namespace tarn::cli {

Status RunMetaList(const Context& context);
// A new member comes by itself: this says how.
Status RunMetaAdd(const Context& context);
Status RunMetaRemove(const Context& context, uint64_t id);
// 0: whichever is most up to date. Returns when it leads.
Status RunMetaTransfer(const Context& context, uint64_t id);

}  // namespace tarn::cli
