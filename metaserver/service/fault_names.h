// The fault points of a metadata server (common/fault/fault_points.h).
#pragma once

#include <array>

#include "common/fault/fault_points.h"

namespace tarn::meta {

// A mutation is applied, but its client is told kUnavailable, as if the connection had broken before the answer.
inline constexpr fault::FaultPointName kLoseReply{"meta.lose_reply"};

inline constexpr std::array kFaultNames = {kLoseReply};

}  // namespace tarn::meta
