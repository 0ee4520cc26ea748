// The TARGET file: whose directory this is.
//
// Text, one "key value" a line, the last line a checksum of those before it, so that a person can read it and damage is noticed
// (docs/formats.md, "Chunk store").
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn::store {

inline constexpr uint32_t kTargetFormatVersion = 1;
inline constexpr std::string_view kTargetFileName = "TARGET";  // in the target's directory

struct TargetIdentity {
  std::array<uint8_t, 16> uuid{};  // made with the directory, in every segment's header
  // Given by the cluster at the first registration; empty and 0 before.
  std::string cluster_id;  // bytes
  ServerId server;
  TargetId target;
  bool index_made = false;  // the index was complete at some time: a missing one is damage from then on
};

std::string EncodeTargetIdentity(const TargetIdentity& identity);
// kCorruption or kNotSupported.
Result<TargetIdentity> DecodeTargetIdentity(std::string_view text);

}  // namespace tarn::store
