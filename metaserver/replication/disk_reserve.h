// Room that the log leaves on its disk, so that a full disk is noticed before a write fails half-way.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/status.h"

namespace tarn::meta {

// kNoSpace, naming the directory, if its disk has less than this left. Does not block.
Status CheckDiskReserve(const std::string& directory, uint64_t reserve_bytes);

}  // namespace tarn::meta
