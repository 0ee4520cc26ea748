// Lean frames: the transport of the hot paths (docs/formats.md, "Frames").
//
//   offset size
//   0      4    magic "TRNF"
//   4      1    version, 1
//   5      1    kind: 1 request, 2 reply, 3 push (server to client, no reply)
//   6      2    method
//   8      8    request id, chosen by the requester; replies repeat it, in any order
//   16     4    message bytes (a protobuf message, at most kMessageBytesMax)
//   20     4    payload bytes (raw, at most kPayloadBytesMax)
//   24     4    status (replies: StatusCode; 0 otherwise). Not ok: the message is an ErrorDetail
//   28     4    low half of the XXH3-64 of bytes 0..27
// then the message, then the payload. Little-endian. A frame that breaks a bound or the header sum ends the connection.
// The payload has no sum of its own: data carries its block sums in the message.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "common/base/status.h"

namespace tarn::rpc {

inline constexpr uint32_t kFrameMagic = 0x464e5254;  // "TRNF"
inline constexpr uint8_t kFrameVersion = 1;
inline constexpr size_t kFrameHeaderBytes = 32;
inline constexpr uint32_t kMessageBytesMax = 8u << 20;
inline constexpr uint32_t kPayloadBytesMax = 4u << 20;

enum class FrameKind : uint8_t { kRequest = 1, kReply = 2, kPush = 3 };

// Numbers are part of the wire format; never reused.
enum class Method : uint16_t {
  kHello = 1,
  kPing = 2,  // empty reply
  // Metadata.
  kLookup = 10,
  kLookupPath = 11,
  kGetAttr = 12,
  kReadDir = 13,
  kGetXattr = 14,
  kListXattr = 15,
  kStatFs = 16,
  kGetVolume = 17,
  kListVolumes = 18,
  kGetClusterMap = 19,
  kKeepAlive = 20,
  kMutate = 21,       // Mutation -> MutationReply; a failed mutation is a frame status with ErrorDetail
  kMutateBatch = 22,  // MutateBatchRequest -> MutateBatchReply
  kAckPush = 23,
  kForget = 24,
  kAcquireWrite = 25,
  kReleaseWrite = 26,
  kTestLock = 27,
  kLockWaits = 28,
  kInvalidate = 30,    // a push: InvalidatePush
  kLocksGranted = 31,  // a push: LocksGrantedPush
  // Data.
  kReadChunk = 40,
  kWriteChunk = 41,
  kCommitTarget = 42,
  kTruncateChunk = 43,
  kStatData = 44,
  kListData = 45,
  kRelay = 46,  // RelayRequest: one of the above, through another chunk server
  // Between chunk servers.
  kReplicate = 50,
  kReconcile = 51,
  kInventory = 52,
  kChunkSums = 53,
  kInstallChunk = 54,
  kInstallWindows = 55,
  kReadGrant = 56,
  kConfirmChanges = 57,
  // Between metadata servers.
  kRaftMessage = 60,  // RaftMessageHeader, the payload is the message
};

// "kReadChunk"; "unknown method N" for a number that is not in the enum.
std::string MethodName(Method method);
bool IsKnownMethod(Method method);

struct FrameHeader {
  FrameKind kind = FrameKind::kRequest;
  Method method = Method::kPing;
  uint64_t request_id = 0;
  uint32_t message_bytes = 0;
  uint32_t payload_bytes = 0;
  StatusCode status = StatusCode::kOk;
};

std::array<uint8_t, kFrameHeaderBytes> EncodeFrameHeader(const FrameHeader& header);
// kCorruption (magic, sum, kind), kNotSupported (version), kInvalidArgument (a bound).
Result<FrameHeader> DecodeFrameHeader(std::span<const uint8_t, kFrameHeaderBytes> bytes);

}  // namespace tarn::rpc
