#include "common/rpc/frame.h"

#include <bit>
#include <cstring>
#include <utility>

#include "common/checksum/block_sums.h"

namespace tarn::rpc {
namespace {

static_assert(std::endian::native == std::endian::little, "headers are stored as they lie in memory");

// As it lies on the wire (see the table in the header).
struct WireHeader {
  uint32_t magic;
  uint8_t version;
  uint8_t kind;
  uint16_t method;
  uint64_t request_id;
  uint32_t message_bytes;
  uint32_t payload_bytes;
  uint32_t status;
  uint32_t sum;
};
static_assert(sizeof(WireHeader) == kFrameHeaderBytes);
constexpr size_t kSummedBytes = offsetof(WireHeader, sum);

struct MethodRow {
  Method method;
  const char* name;
};

constexpr std::array kMethods = {
    MethodRow{Method::kHello, "kHello"},
    MethodRow{Method::kPing, "kPing"},
    MethodRow{Method::kLookup, "kLookup"},
    MethodRow{Method::kLookupPath, "kLookupPath"},
    MethodRow{Method::kGetAttr, "kGetAttr"},
    MethodRow{Method::kReadDir, "kReadDir"},
    MethodRow{Method::kGetXattr, "kGetXattr"},
    MethodRow{Method::kListXattr, "kListXattr"},
    MethodRow{Method::kStatFs, "kStatFs"},
    MethodRow{Method::kGetVolume, "kGetVolume"},
    MethodRow{Method::kListVolumes, "kListVolumes"},
    MethodRow{Method::kGetClusterMap, "kGetClusterMap"},
    MethodRow{Method::kKeepAlive, "kKeepAlive"},
    MethodRow{Method::kMutate, "kMutate"},
    MethodRow{Method::kMutateBatch, "kMutateBatch"},
    MethodRow{Method::kAckPush, "kAckPush"},
    MethodRow{Method::kForget, "kForget"},
    MethodRow{Method::kAcquireWrite, "kAcquireWrite"},
    MethodRow{Method::kReleaseWrite, "kReleaseWrite"},
    MethodRow{Method::kTestLock, "kTestLock"},
    MethodRow{Method::kLockWaits, "kLockWaits"},
    MethodRow{Method::kInvalidate, "kInvalidate"},
    MethodRow{Method::kLocksGranted, "kLocksGranted"},
    MethodRow{Method::kReadChunk, "kReadChunk"},
    MethodRow{Method::kWriteChunk, "kWriteChunk"},
    MethodRow{Method::kCommitTarget, "kCommitTarget"},
    MethodRow{Method::kTruncateChunk, "kTruncateChunk"},
    MethodRow{Method::kStatData, "kStatData"},
    MethodRow{Method::kListData, "kListData"},
    MethodRow{Method::kRelay, "kRelay"},
    MethodRow{Method::kReplicate, "kReplicate"},
    MethodRow{Method::kReconcile, "kReconcile"},
    MethodRow{Method::kInventory, "kInventory"},
    MethodRow{Method::kChunkSums, "kChunkSums"},
    MethodRow{Method::kInstallChunk, "kInstallChunk"},
    MethodRow{Method::kInstallWindows, "kInstallWindows"},
    MethodRow{Method::kReadGrant, "kReadGrant"},
    MethodRow{Method::kConfirmChanges, "kConfirmChanges"},
    MethodRow{Method::kRaftMessage, "kRaftMessage"},
};

const MethodRow* FindMethod(Method method) {
  for (const MethodRow& row : kMethods) {
    if (row.method == method) return &row;
  }
  return nullptr;
}

uint32_t HeaderSum(std::span<const uint8_t> bytes) { return static_cast<uint32_t>(Xxh3(bytes.first(kSummedBytes))); }

Status Refused(StatusCode code, std::string text) { return Status(code, "frame header: " + std::move(text)); }

Status CheckBounds(const WireHeader& wire) {
  if (wire.message_bytes > kMessageBytesMax) {
    return Refused(StatusCode::kInvalidArgument, "message of " + std::to_string(wire.message_bytes) +
                                                     " bytes, at most " + std::to_string(kMessageBytesMax) +
                                                     " are allowed");
  }
  if (wire.payload_bytes > kPayloadBytesMax) {
    return Refused(StatusCode::kInvalidArgument, "payload of " + std::to_string(wire.payload_bytes) +
                                                     " bytes, at most " + std::to_string(kPayloadBytesMax) +
                                                     " are allowed");
  }
  const uint32_t status_max = wire.kind == static_cast<uint8_t>(FrameKind::kReply) ? UINT16_MAX : 0;
  if (wire.status > status_max) return Refused(StatusCode::kInvalidArgument, "status " + std::to_string(wire.status));
  return Status::Ok();
}

}  // namespace

std::string MethodName(Method method) {
  const MethodRow* row = FindMethod(method);
  return row != nullptr ? row->name : "unknown method " + std::to_string(static_cast<int>(method));
}

bool IsKnownMethod(Method method) { return FindMethod(method) != nullptr; }

std::array<uint8_t, kFrameHeaderBytes> EncodeFrameHeader(const FrameHeader& header) {
  CHECK(header.message_bytes <= kMessageBytesMax && header.payload_bytes <= kPayloadBytesMax, "frame past its bounds");
  WireHeader wire{
      .magic = kFrameMagic,
      .version = kFrameVersion,
      .kind = static_cast<uint8_t>(header.kind),
      .method = static_cast<uint16_t>(header.method),
      .request_id = header.request_id,
      .message_bytes = header.message_bytes,
      .payload_bytes = header.payload_bytes,
      .status = static_cast<uint32_t>(header.status),
      .sum = 0,
  };
  auto bytes = std::bit_cast<std::array<uint8_t, kFrameHeaderBytes>>(wire);
  const uint32_t sum = HeaderSum(bytes);
  std::memcpy(bytes.data() + kSummedBytes, &sum, sizeof(sum));
  return bytes;
}

Result<FrameHeader> DecodeFrameHeader(std::span<const uint8_t, kFrameHeaderBytes> bytes) {
  WireHeader wire{};
  std::memcpy(&wire, bytes.data(), sizeof(wire));
  if (wire.magic != kFrameMagic) return Refused(StatusCode::kCorruption, "bad magic, this is not the frame protocol");
  if (wire.version != kFrameVersion) {
    return Refused(StatusCode::kNotSupported, "version " + std::to_string(wire.version) + ", only " +
                                                  std::to_string(kFrameVersion) + " is understood");
  }
  if (wire.sum != HeaderSum(bytes)) return Refused(StatusCode::kCorruption, "bad checksum");
  if (wire.kind < static_cast<uint8_t>(FrameKind::kRequest) || wire.kind > static_cast<uint8_t>(FrameKind::kPush)) {
    return Refused(StatusCode::kCorruption, "unknown kind " + std::to_string(wire.kind));
  }
  RETURN_IF_ERROR(CheckBounds(wire));
  return FrameHeader{
      .kind = static_cast<FrameKind>(wire.kind),
      .method = static_cast<Method>(wire.method),
      .request_id = wire.request_id,
      .message_bytes = wire.message_bytes,
      .payload_bytes = wire.payload_bytes,
      .status = static_cast<StatusCode>(wire.status),
  };
}

}  // namespace tarn::rpc
