// tarn meta backup and reclaim: a copy of the metadata elsewhere, and what a restored cluster needs.
#pragma once

#include <string>

#include "cli/context.h"

namespace tarn::cli {

// Online and consistent. FILE appears only once it is complete and on stable storage.
Status RunMetaBackup(const Context& context, const std::string& path);
// "on" or "off": whether dead data is deleted (a restore turns it off).
Status RunMetaReclaim(const Context& context, const std::string& how);

}  // namespace tarn::cli
