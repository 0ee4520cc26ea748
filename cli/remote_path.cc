#include "cli/remote_path.h"

#include <unistd.h>

#include <algorithm>

#include "client/blocking.h"

namespace tarn::cli {

using client::Attributes;
using client::Wait;

namespace {

constexpr uint32_t kPageEntriesMax = 1000;

Result<Attributes> LookupName(client::Filesystem& filesystem, InodeId parent, const std::string& name) {
  return Wait<Attributes>([&](auto done) { filesystem.Lookup(parent, name, std::move(done)); });
}

Result<Attributes> ResolveNames(client::Filesystem& filesystem, const std::vector<std::string>& names, const std::string& path) {
  Result<Attributes> current = Wait<Attributes>([&](auto done) { filesystem.GetAttributes(filesystem.root(), std::move(done)); });
  for (const std::string& name : names) {
    if (!current.ok()) break;
    current = LookupName(filesystem, current->inode, name);
  }
  if (current.ok()) return current;
  if (current.status().code() == StatusCode::kNotFound) return Status(StatusCode::kNotFound, path + ": no such file or directory");
  return current.status().WithContext(path);
}

}  // namespace

client::Caller CurrentCaller() { return {geteuid(), getegid()}; }

Result<std::vector<std::string>> PathNames(const std::string& path) {
  std::vector<std::string> names;
  size_t begin = 0;
  while (begin < path.size()) {
    const size_t slash = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, slash - begin);
    if (name == "..") return Status(StatusCode::kInvalidArgument, path + ": '..' is not allowed in a volume path");
    if (!name.empty() && name != ".") names.push_back(name);
    begin = slash + 1;
  }
  return names;
}

Result<Attributes> ResolvePath(client::Filesystem& filesystem, const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, PathNames(path));
  return ResolveNames(filesystem, names, path);
}

Result<Attributes> MakePath(client::Filesystem& filesystem, const std::vector<std::string>& names, uint32_t mode) {
  ASSIGN_OR_RETURN(Attributes current, ResolvePath(filesystem, "/"));
  for (const std::string& name : names) {
    Result<Attributes> next = LookupName(filesystem, current.inode, name);
    if (!next.ok() && next.status().code() == StatusCode::kNotFound) {
      next = Wait<Attributes>([&](auto done) { filesystem.MakeDirectory(current.inode, name, mode, CurrentCaller(), std::move(done)); });
      // Somebody else made it in between.
      if (!next.ok() && next.status().code() == StatusCode::kExists) next = LookupName(filesystem, current.inode, name);
    }
    if (!next.ok()) return next.status().WithContext(name);
    if (next->type != client::FileType::kDirectory) return Status(StatusCode::kNotDirectory, name + ": exists and is not a directory");
    current = *next;
  }
  return current;
}

Result<std::pair<Attributes, std::string>> ResolveParent(client::Filesystem& filesystem, const std::string& path) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, PathNames(path));
  if (names.empty()) return Status(StatusCode::kInvalidArgument, path + ": the volume's root");
  const std::string last = names.back();
  names.pop_back();
  ASSIGN_OR_RETURN(Attributes parent, ResolveNames(filesystem, names, path));
  return std::make_pair(parent, last);
}

Result<std::vector<client::DirectoryEntry>> ListDirectory(client::Filesystem& filesystem, InodeId directory, bool sorted) {
  std::vector<client::DirectoryEntry> entries;
  uint64_t cookie = 0;
  for (;;) {
    ASSIGN_OR_RETURN(client::DirectoryPage page, Wait<client::DirectoryPage>([&](auto done) {
                       filesystem.ReadDirectory(directory, cookie, kPageEntriesMax, true, std::move(done));
                     }));
    std::move(page.entries.begin(), page.entries.end(), std::back_inserter(entries));
    if (page.end || page.entries.empty()) break;
    cookie = entries.back().cookie;
  }
  if (sorted) std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return entries;
}

}  // namespace tarn::cli
