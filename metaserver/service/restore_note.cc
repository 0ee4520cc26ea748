#include "metaserver/service/restore_note.h"

#include <charconv>
#include <string_view>

#include "common/base/posix_io.h"

namespace tarn::meta {
namespace {

constexpr std::string_view kPrefix = "incarnation ";
constexpr uint32_t kIncarnationMax = 255;

}  // namespace

std::string RestoreNotePath(const std::string& backup) { return backup + ".restored"; }

Result<uint32_t> ReadRestoreNote(const std::string& backup) {
  const std::string path = RestoreNotePath(backup);
  const auto text = ReadSmallFile(path);
  if (text.status().code() == StatusCode::kNotFound) return 0u;
  RETURN_IF_ERROR(text.status());
  std::string_view rest = *text;
  uint32_t incarnation = 0;
  if (rest.starts_with(kPrefix) && rest.ends_with('\n')) {
    rest = rest.substr(kPrefix.size(), rest.size() - kPrefix.size() - 1);
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), incarnation);
    if (error != std::errc() || end != rest.data() + rest.size()) incarnation = 0;
  }
  if (incarnation != 0 && incarnation <= kIncarnationMax) return incarnation;
  return Status(StatusCode::kCorruption, path + " does not say under which incarnation the backup was restored: give "
                                                "--restore-incarnation, one above that of the cluster that was lost");
}

Status WriteRestoreNote(const std::string& backup, uint32_t incarnation) {
  return WriteSmallFileDurably(RestoreNotePath(backup),
                               std::string(kPrefix) + std::to_string(incarnation) + "\n");
}

}  // namespace tarn::meta
