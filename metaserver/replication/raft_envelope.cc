#include "metaserver/replication/raft_envelope.h"

#include <cstring>

#include "common/checksum/block_sums.h"

namespace tarn::meta {
namespace {

uint64_t SumOf(std::string_view message) {
  return Xxh3({reinterpret_cast<const uint8_t*>(message.data()), message.size()});
}

}  // namespace

std::string CloseEnvelope(std::string_view message) {
  const uint64_t sum = SumOf(message);
  std::string bytes(kEnvelopeBytes, '\0');
  std::memcpy(bytes.data(), &kEnvelopeMagic, sizeof kEnvelopeMagic);
  std::memcpy(bytes.data() + 8, &sum, sizeof sum);
  bytes.append(message);
  return bytes;
}

std::optional<std::string_view> OpenEnvelope(std::string_view bytes) {
  uint32_t magic = 0;
  uint64_t sum = 0;
  if (bytes.size() < kEnvelopeBytes) return std::nullopt;
  std::memcpy(&magic, bytes.data(), sizeof magic);
  std::memcpy(&sum, bytes.data() + 8, sizeof sum);
  const std::string_view message = bytes.substr(kEnvelopeBytes);
  if (magic != kEnvelopeMagic || sum != SumOf(message)) return std::nullopt;
  return message;
}

}  // namespace tarn::meta
