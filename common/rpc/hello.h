// What both ends of a connection agree on in the opening hello.
#pragma once

#include <cstdint>

namespace tarn::rpc {

inline constexpr uint32_t kProtocolVersion = 1;     // highest spoken
inline constexpr uint32_t kProtocolVersionMin = 1;  // lowest spoken
// The request id of a hello; no call has it.
inline constexpr uint64_t kHelloRequestId = 0;

}  // namespace tarn::rpc
