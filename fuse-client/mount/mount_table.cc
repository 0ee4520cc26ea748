#include "fuse-client/mount/mount_table.h"

#include <climits>
#include <cstdlib>
#include <memory>
#include <sstream>

#include "common/base/posix_io.h"

namespace tarn::fuse {
namespace {

// The kernel writes space, tab, newline and backslash as three octal digits.
std::string Unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escaped = text[i] == '\\' && i + 3 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '3';
    if (escaped) {
      plain.push_back(static_cast<char>(((text[i + 1] - '0') << 6) | ((text[i + 2] - '0') << 3) | (text[i + 3] - '0')));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

std::optional<MountEntry> ParseLine(const std::string& line) {
  // ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [TAGS...] - TYPE SOURCE SUPER_OPTIONS
  std::istringstream fields(line);
  std::string id, parent, device, root, path, options, tag, type, source;
  fields >> id >> parent >> device >> root >> path >> options;
  while (fields >> tag && tag != "-") {
  }
  if (!(fields >> type >> source)) return std::nullopt;
  return MountEntry{device, Unescape(path), Unescape(type), Unescape(source)};
}

Result<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> resolved(realpath(path.c_str(), nullptr), &std::free);
  if (resolved == nullptr) return Status::FromErrno(errno, path);
  return std::string(resolved.get());
}

}  // namespace

std::vector<MountEntry> ParseMountTable(std::string_view text) {
  std::vector<MountEntry> table;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    if (std::optional<MountEntry> entry = ParseLine(line)) table.push_back(std::move(*entry));
  }
  return table;
}

Result<std::vector<MountEntry>> ReadMountTable() {
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile("/proc/self/mountinfo"));
  return ParseMountTable(text);
}

std::optional<MountEntry> FindMount(const std::vector<MountEntry>& table, std::string_view path) {
  for (auto entry = table.rbegin(); entry != table.rend(); ++entry) {
    if (entry->path == path) return *entry;
  }
  return std::nullopt;
}

Result<std::string> ResolveMountPoint(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  if (trimmed.empty()) return Status(StatusCode::kInvalidArgument, "the mount point is empty");
  const size_t slash = trimmed.rfind('/');
  const std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return RealPath(trimmed);
  const std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : trimmed.substr(0, slash);
  ASSIGN_OR_RETURN(std::string whole, RealPath(parent));
  if (whole.size() > 1) whole += '/';
  whole += name;
  ASSIGN_OR_RETURN(const std::vector<MountEntry> table, ReadMountTable());
  if (FindMount(table, whole)) return whole;
  return RealPath(whole);  // not a mount, so it is safe to touch: it may be a symbolic link to one
}

}  // namespace tarn::fuse
