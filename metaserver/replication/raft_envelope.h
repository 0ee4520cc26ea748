// What goes round a message between members (docs/formats.md, "Messages between metadata servers"):
//   0  4  magic "TRM1";  4  4  zero;  8  8  XXH3-64 of the message;  16  .  the message (raft_message.h)
// Little-endian. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tarn::meta {

inline constexpr uint32_t kEnvelopeMagic = 0x314d5254;  // "TRM1"
inline constexpr size_t kEnvelopeBytes = 16;

std::string CloseEnvelope(std::string_view message);
// The message in it; nullopt if magic or sum does not hold.
std::optional<std::string_view> OpenEnvelope(std::string_view bytes);

}  // namespace tarn::meta
