#include "chunkserver/store/target_identity.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <optional>
#include <span>

#include "common/checksum/block_sums.h"

namespace tarn::store {
namespace {

constexpr std::string_view kFormatLine = "format tarn-target ";

std::string Hex(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

std::span<const uint8_t> BytesOf(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

std::optional<uint64_t> ParseNumber(std::string_view text, int base) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<std::string> ParseHex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (size_t i = 0; i < text.size(); i += 2) {
    const std::optional<uint64_t> byte = ParseNumber(text.substr(i, 2), 16);
    if (!byte) return std::nullopt;
    bytes.push_back(static_cast<char>(*byte));
  }
  return bytes;
}

std::string SumLine(std::string_view before) {
  char text[32];
  std::snprintf(text, sizeof(text), "sum %016llx\n", static_cast<unsigned long long>(Xxh3(BytesOf(before))));
  return text;
}

std::map<std::string_view, std::string_view> ParseLines(std::string_view text) {
  std::map<std::string_view, std::string_view> values;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t space = line.find(' ');
    values[line.substr(0, space)] = space == std::string_view::npos ? "" : line.substr(space + 1);
  }
  return values;
}

}  // namespace

std::string EncodeTargetIdentity(const TargetIdentity& identity) {
  std::string text(kFormatLine);
  text += std::to_string(kTargetFormatVersion) + "\n";
  text += "uuid " + Hex(identity.uuid) + "\n";
  text += "cluster " + Hex(BytesOf(identity.cluster_id)) + "\n";
  text += "server " + std::to_string(identity.server.value()) + "\n";
  text += "target " + std::to_string(identity.target.value()) + "\n";
  text += "index " + std::string(identity.index_made ? "made" : "none") + "\n";
  return text + SumLine(text);
}

Result<TargetIdentity> DecodeTargetIdentity(std::string_view text) {
  if (!text.starts_with(kFormatLine)) return Status(StatusCode::kCorruption, "is no TARGET file");
  const size_t sum_line = text.rfind("sum ");
  if (sum_line == std::string_view::npos || text.substr(sum_line) != SumLine(text.substr(0, sum_line))) {
    return Status(StatusCode::kCorruption, "is damaged: its checksum does not hold");
  }
  const auto values = ParseLines(text.substr(0, sum_line));
  const auto value = [&](std::string_view key) {
    const auto it = values.find(key);
    return it == values.end() ? std::string_view() : it->second;
  };
  const std::string version = "tarn-target " + std::to_string(kTargetFormatVersion);
  if (value("format") != version) {
    return Status(StatusCode::kNotSupported, "has format '" + std::string(value("format")) + "', this program reads '" + version + "'");
  }
  const std::optional<std::string> uuid = ParseHex(value("uuid"));
  const std::optional<std::string> cluster = ParseHex(value("cluster"));
  const std::optional<uint64_t> server = ParseNumber(value("server"), 10);
  const std::optional<uint64_t> target = ParseNumber(value("target"), 10);
  if (!uuid || uuid->size() != 16 || !cluster || !server || !target) return Status(StatusCode::kCorruption, "lacks a line");
  TargetIdentity identity{.cluster_id = *cluster, .server = ServerId(*server), .target = TargetId(*target)};
  std::copy(uuid->begin(), uuid->end(), identity.uuid.begin());
  identity.index_made = value("index") == "made";
  return identity;
}

}  // namespace tarn::store
