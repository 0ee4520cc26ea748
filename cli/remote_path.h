// Paths inside a volume, resolved name by name. Blocking.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "client/filesystem.h"

namespace tarn::cli {

// "/a//b/./c/" -> {"a", "b", "c"}; ".." is refused with kInvalidArgument: a volume path is what it says.
Result<std::vector<std::string>> PathNames(const std::string& path);

// The attributes of what `path` names; symbolic links are not followed. Errors name the path.
Result<client::Attributes> ResolvePath(client::Filesystem& filesystem, const std::string& path);

// As mkdir -p; an existing non-directory on the way is kNotDirectory.
Result<client::Attributes> MakePath(client::Filesystem& filesystem, const std::vector<std::string>& names, uint32_t mode);

// The directory that holds `path`'s last name, and that name. kInvalidArgument for "/".
Result<std::pair<client::Attributes, std::string>> ResolveParent(client::Filesystem& filesystem, const std::string& path);

// Every entry of a directory, with attributes, sorted by name if `sorted`.
Result<std::vector<client::DirectoryEntry>> ListDirectory(client::Filesystem& filesystem, InodeId directory, bool sorted);

client::Caller CurrentCaller();

}  // namespace tarn::cli
