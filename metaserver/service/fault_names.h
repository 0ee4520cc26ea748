// The fault points of a metadata server (common/fault/fault_points.h): what becomes of the reply of a mutation that is committed.
//
// Each also exists for one operation alone, as proto::Mutation names it: meta.drop_reply/rename=always (reply_faults.h). A server meddles
// with the reply of a mutation once; its repeat is answered as ever. The unit of a delay is --fault-delay-ms.
#pragma once

#include <array>

#include "common/fault/fault_points.h"

namespace tarn::meta {

// The client is told kUnavailable, as if the connection had broken before the answer.
inline constexpr fault::FaultPointName kLoseReply{"meta.lose_reply"};
// The client hears nothing. Over gRPC: as lose_reply, but late.
inline constexpr fault::FaultPointName kDropReply{"meta.drop_reply"};
// The reply is late.
inline constexpr fault::FaultPointName kDelayReply{"meta.delay_reply"};
// The reply comes at once, and late once more. Not over gRPC.
inline constexpr fault::FaultPointName kRepeatReply{"meta.repeat_reply"};

inline constexpr std::array kFaultNames = {kLoseReply, kDropReply, kDelayReply, kRepeatReply};

}  // namespace tarn::meta
