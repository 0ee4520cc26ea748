#include "fuse-client/mount/mount_spec.h"

#include <charconv>
#include <cstdint>

namespace tarn::fuse {
namespace {

bool IsPort(std::string_view text) {
  uint32_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

bool IsAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || !IsPort(text.substr(colon + 1))) return false;
  const std::string_view host = text.substr(0, colon);
  if (host.front() == '[') return host.back() == ']' && host.size() > 2;
  return host.find_first_of(":/@ \t") == std::string_view::npos;
}

Result<std::string> CleanDirectory(std::string_view directory) {
  std::string clean;
  while (!directory.empty()) {
    const size_t slash = directory.find('/');
    const std::string_view part = directory.substr(0, slash);
    if (part == "..") return Status(StatusCode::kInvalidArgument, "the directory to mount must not contain '..'");
    if (!part.empty() && part != ".") clean.append("/").append(part);
    directory = slash == std::string_view::npos ? std::string_view() : directory.substr(slash + 1);
  }
  return clean;
}

}  // namespace

Result<std::vector<std::string>> ParseAddresses(std::string_view text) {
  std::vector<std::string> addresses;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view address = text.substr(0, comma);
    if (!IsAddress(address)) {
      return Status(StatusCode::kInvalidArgument, "'" + std::string(address) + "' is not HOST:PORT");
    }
    addresses.emplace_back(address);
    if (comma == std::string_view::npos) return addresses;
    text.remove_prefix(comma + 1);
  }
}

Result<MountSpec> ParseMountSpec(std::string_view text) {
  MountSpec spec;
  const size_t colon = text.find(':');
  size_t at = text.rfind('@');
  const bool at_ends_volume = at != std::string_view::npos && (colon == std::string_view::npos || at < colon);
  if (at != std::string_view::npos) {
    Result<std::vector<std::string>> addresses = ParseAddresses(text.substr(at + 1));
    if (addresses.ok()) {
      spec.metaservers = std::move(addresses).value();
      text = text.substr(0, at);
    } else if (at_ends_volume) {
      return addresses.status().WithContext("metadata servers after '@'");
    }
  }
  const size_t directory_at = text.find(':');
  spec.volume = text.substr(0, directory_at);
  if (spec.volume.empty() || spec.volume.find('/') != std::string::npos) {
    return Status(StatusCode::kInvalidArgument,
                  "'" + std::string(text) + "' names no volume: VOLUME[:/DIR][@HOST:PORT,...]");
  }
  if (directory_at != std::string_view::npos) {
    const std::string_view directory = text.substr(directory_at + 1);
    if (directory.empty() || directory.front() != '/') {
      return Status(StatusCode::kInvalidArgument,
                    "the directory after ':' must begin with '/', not '" + std::string(directory) + "'");
    }
    ASSIGN_OR_RETURN(spec.subdirectory, CleanDirectory(directory));
  }
  return spec;
}

std::string SourceName(const MountSpec& spec) {
  return spec.subdirectory.empty() ? spec.volume : spec.volume + ":" + spec.subdirectory;
}

}  // namespace tarn::fuse
