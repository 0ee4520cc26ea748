// Makes what was written to a file durable, or says that it is not.
#pragma once

#include <string>

#include "common/base/status.h"

namespace tarn::meta {

// fdatasync, and then a look at the file system: ext4 and XFS answer a sync that overlaps their end (an error that
// stops them, a shutdown) with success although nothing was written (measured for the chunk store). Blocks.
Status SyncFile(int fd, const std::string& path);

}  // namespace tarn::meta
