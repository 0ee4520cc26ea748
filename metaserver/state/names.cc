#include "metaserver/state/names.h"

#include <algorithm>
#include <string>

#include "metaserver/state/limits.h"

namespace tarn::meta {
namespace {

bool IsLowerOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

}  // namespace

Status CheckName(std::string_view name) {
  if (name.empty()) return Status(StatusCode::kNotFound, "the name is empty");
  if (name.size() > kNameBytesMax) {
    return Status(StatusCode::kNameTooLong, "the name has " + std::to_string(name.size()) + " bytes, at most " +
                                                std::to_string(kNameBytesMax) + " are allowed");
  }
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos) {
    return Status(StatusCode::kInvalidArgument, "a name has no '/' and no zero byte");
  }
  return Status::Ok();
}

Status CheckNewName(std::string_view name) {
  if (IsDotOrDotDot(name)) return Status(StatusCode::kExists, "'" + std::string(name) + "' is in every directory");
  return CheckName(name);
}

Status CheckVolumeName(std::string_view name) {
  const auto allowed = [](char c) { return IsLowerOrDigit(c) || c == '.' || c == '_' || c == '-'; };
  if (name.empty() || name.size() > kVolumeNameBytesMax || !IsLowerOrDigit(name[0]) ||
      !std::ranges::all_of(name, allowed)) {
    return Status(StatusCode::kInvalidArgument,
                  "a volume's name has 1 to 63 characters of a-z 0-9 . _ - and begins with a letter or a digit");
  }
  return Status::Ok();
}

}  // namespace tarn::meta
