#include "metaserver/replication/log_frame.h"

#include <bit>
#include <cstring>

#include "common/base/check.h"
#include "common/checksum/block_sums.h"

namespace tarn::meta {
namespace {

static_assert(std::endian::native == std::endian::little, "the log is written in the machine's own order");

template <typename T>
void Put(uint8_t* out, size_t offset, T value) {
  std::memcpy(out + offset, &value, sizeof value);
}

template <typename T>
T Get(const uint8_t* bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes + offset, sizeof value);
  return value;
}

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

void EncodeLogFrame(const LogFrame& frame, std::span<uint8_t> out) {
  CHECK(frame.entry.size() <= kLogEntryBytesMax, "a log entry is bounded by its proposer");
  CHECK(out.size() == LogFrameBytes(frame.entry.size()), "the frame's buffer has its exact size");
  Put<uint32_t>(out.data(), 0, kLogFrameMagic);
  Put<uint32_t>(out.data(), 4, static_cast<uint32_t>(frame.entry.size()));
  Put<uint64_t>(out.data(), 8, frame.durable_index);
  Put<uint64_t>(out.data(), 16, frame.proposer);
  Put<uint64_t>(out.data(), 24, frame.proposal);
  std::memcpy(out.data() + kLogFrameHeaderBytes, frame.entry.data(), frame.entry.size());
  const size_t end = kLogFrameHeaderBytes + frame.entry.size();
  std::memset(out.data() + end, 0, out.size() - end);
}

Result<LogFrame> DecodeLogFrame(std::span<const uint8_t> bytes) {
  if (bytes.size() < kLogFrameHeaderBytes || Get<uint32_t>(bytes.data(), 0) != kLogFrameMagic) {
    return Status(StatusCode::kCorruption, "a log entry does not begin with its magic number");
  }
  const auto entry_bytes = Get<uint32_t>(bytes.data(), 4);
  if (entry_bytes > kLogEntryBytesMax || bytes.size() != LogFrameBytes(entry_bytes)) {
    return Status(StatusCode::kCorruption,
                  "a log entry has " + std::to_string(bytes.size()) + " bytes but says " + std::to_string(entry_bytes));
  }
  LogFrame frame;
  frame.durable_index = Get<uint64_t>(bytes.data(), 8);
  frame.proposer = Get<uint64_t>(bytes.data(), 16);
  frame.proposal = Get<uint64_t>(bytes.data(), 24);
  frame.entry = {reinterpret_cast<const char*>(bytes.data()) + kLogFrameHeaderBytes, entry_bytes};
  return frame;
}

std::string EncodeSnapshotMarker(const proto::SnapshotMarker& marker) {
  const std::string message = marker.SerializeAsString();
  std::string out(kSnapshotMarkerHeaderBytes, '\0');
  auto* header = reinterpret_cast<uint8_t*>(out.data());
  Put<uint32_t>(header, 0, kSnapshotMarkerMagic);
  Put<uint32_t>(header, 4, static_cast<uint32_t>(message.size()));
  Put<uint64_t>(header, 8, Xxh3(Bytes(message)));
  return out + message;
}

Result<proto::SnapshotMarker> DecodeSnapshotMarker(std::span<const uint8_t> bytes) {
  if (bytes.size() < kSnapshotMarkerHeaderBytes || Get<uint32_t>(bytes.data(), 0) != kSnapshotMarkerMagic) {
    return Status(StatusCode::kCorruption, "the log's snapshot is not a marker of this system");
  }
  const auto message = bytes.subspan(kSnapshotMarkerHeaderBytes);
  proto::SnapshotMarker marker;
  if (Get<uint32_t>(bytes.data(), 4) != message.size() || Get<uint64_t>(bytes.data(), 8) != Xxh3(message) ||
      !marker.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return Status(StatusCode::kCorruption, "the log's snapshot marker is damaged");
  }
  if (marker.version() != 1) {
    return Status(StatusCode::kNotSupported,
                  "the log's snapshot marker has version " + std::to_string(marker.version()));
  }
  return marker;
}

}  // namespace tarn::meta
