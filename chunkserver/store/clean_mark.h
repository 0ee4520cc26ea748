// What the mark of a clean shutdown holds: the session windows, which the next process goes on with (docs/formats.md).
//
// They are true only of what was stored when the process ended, so they are in the mark, which is taken away before anything changes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "chunkserver/store/session_windows.h"
#include "common/base/status.h"

namespace tarn::store {

// Larger marks leave the windows out that were quiet for longest.
inline constexpr size_t kCleanMarkBytesMax = 8u << 20;

// `windows` from the one that was quiet for longest on.
std::string EncodeCleanMark(const std::vector<GroupWindow>& windows);
// In the same order. A mark of an earlier version has none. kCorruption: it does not fit its sum.
Result<std::vector<GroupWindow>> DecodeCleanMark(std::string_view mark);

}  // namespace tarn::store
