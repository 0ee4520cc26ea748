// What may be a name. Pure functions, thread-safe.
#pragma once

#include <string_view>

#include "common/base/status.h"

namespace tarn::meta {

// A name to be made: kNotFound if empty (as POSIX says of empty paths), kExists for "." and "..", kNameTooLong,
// kInvalidArgument for '/' and NUL.
Status CheckNewName(std::string_view name);
// A name to be looked at or removed: as above, but "." and ".." are the caller's matter.
Status CheckName(std::string_view name);
inline bool IsDotOrDotDot(std::string_view name) { return name == "." || name == ".."; }

// [a-z0-9][a-z0-9._-]{0,62}, else kInvalidArgument.
Status CheckVolumeName(std::string_view name);

}  // namespace tarn::meta
