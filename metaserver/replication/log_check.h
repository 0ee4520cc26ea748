// Looks at a log directory before libraft does.
//
// libraft takes any record of an unfinished segment whose sum does not hold for the torn end of the last write, and
// throws away what follows, which after a flipped bit would be acknowledged entries. Here such a place counts as torn
// only if nothing behind it proves the contrary: an intact entry that was proposed when the damaged place was already
// on stable storage (its durable index says so), or a later segment with entries. Finished segments are checked by
// libraft itself. Reads only; blocking; no threads.
#pragma once

#include <string>

#include "common/base/status.h"

namespace tarn::meta {

// kCorruption, naming the file: damage, or a directory that is no log. kIoError and the like if it cannot be read.
Status CheckLogDirectory(const std::string& directory);

}  // namespace tarn::meta
