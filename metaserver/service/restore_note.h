// The highest incarnation that a backup was ever restored under, noted beside it (BACKUP.restored): each restore of one
// backup has to begin a new one, or ids would be given twice.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/status.h"

namespace tarn::meta {

std::string RestoreNotePath(const std::string& backup);
// 0: no restore is noted. kCorruption, naming the file: it is no such note.
Result<uint32_t> ReadRestoreNote(const std::string& backup);
// On stable storage when it returns.
Status WriteRestoreNote(const std::string& backup, uint32_t incarnation);

}  // namespace tarn::meta
