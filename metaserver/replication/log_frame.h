// What a log entry's bytes are (docs/formats.md, "Metadata log"): libraft wants lengths that are multiples of 8, and a
// member wants to know its own proposals again.
//
//   offset size
//   0      4    magic "TLE1"
//   4      4    payload bytes
//   8      8    zero (an earlier log kept a durable index here)
//   16     8    proposer: a random number of the proposing process
//   24     8    proposal: its count
//   32     .    the entry, then zeros up to a multiple of 8
// Little-endian. The log's groups add the sums.
//
// The snapshot marker (the data of the log's file `snapshot`) is
//   0  4  magic "TSM1";  4  4  bytes of the message;  8  8  XXH3-64 of the message;  16  .  a SnapshotMarker message
// Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "proto/state.pb.h"

namespace tarn::meta {

inline constexpr uint32_t kLogFrameMagic = 0x31454c54;        // "TLE1"
inline constexpr uint32_t kSnapshotMarkerMagic = 0x314d5354;  // "TSM1"
inline constexpr size_t kLogFrameHeaderBytes = 32;
inline constexpr size_t kSnapshotMarkerHeaderBytes = 16;
// With all that goes round it an entry fits into one message between members (kRaftMessageBytesMax).
inline constexpr size_t kLogEntryBytesMax = (4u << 20) - (64u << 10);

struct LogFrame {
  uint64_t durable_index = 0;  // not used any more
  uint64_t proposer = 0;
  uint64_t proposal = 0;
  std::string_view entry;  // into the bytes that were decoded
};

// Bytes that a frame with this much payload takes; a multiple of 8.
constexpr size_t LogFrameBytes(size_t entry_bytes) { return kLogFrameHeaderBytes + (entry_bytes + 7) / 8 * 8; }

// `out` has LogFrameBytes(frame.entry.size()) bytes.
void EncodeLogFrame(const LogFrame& frame, std::span<uint8_t> out);
// kCorruption if it is none.
Result<LogFrame> DecodeLogFrame(std::span<const uint8_t> bytes);

std::string EncodeSnapshotMarker(const proto::SnapshotMarker& marker);
// kCorruption (a sum or the format does not hold), kNotSupported (version).
Result<proto::SnapshotMarker> DecodeSnapshotMarker(std::span<const uint8_t> bytes);

}  // namespace tarn::meta
