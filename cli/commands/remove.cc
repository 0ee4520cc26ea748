#include "cli/commands/remove.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <future>
#include <memory>

#include "cli/remote_path.h"
#include "client/blocking.h"

namespace tarn::cli {
namespace {

using client::Attributes;
using client::DirectoryEntry;
using client::FileType;

bool IsInGroup(uint32_t gid) {
  if (getegid() == gid) return true;
  std::vector<gid_t> groups(static_cast<size_t>(std::max(0, getgroups(0, nullptr))));
  const int count = getgroups(static_cast<int>(groups.size()), groups.data());
  groups.resize(static_cast<size_t>(std::max(0, count)));
  return std::ranges::find(groups, gid) != groups.end();
}

// As unlink(2) and rmdir(2): write and search permission on the directory; in a sticky one, owner of it or of the
// entry.
Status MayRemove(const Attributes& directory, const Attributes& entry) {
  constexpr uint32_t kSticky = 01000;
  constexpr uint32_t kWriteAndSearch = 03;
  const uint32_t uid = geteuid();
  if (uid == 0) return Status::Ok();
  const uint32_t shift = uid == directory.uid ? 6 : IsInGroup(directory.gid) ? 3 : 0;
  if ((directory.mode >> shift & kWriteAndSearch) != kWriteAndSearch)
    return Status(StatusCode::kPermission, "permission denied");
  if ((directory.mode & kSticky) == 0 || uid == directory.uid || uid == entry.uid) return Status::Ok();
  return Status(StatusCode::kNotPermitted, "operation not permitted");
}

// Removes the names of one directory that are no directories, many at a time.
Status UnlinkAll(client::Filesystem& filesystem, const Attributes& directory,
                 const std::vector<DirectoryEntry>& entries) {
  std::vector<std::future<Status>> answers;
  for (const DirectoryEntry& entry : entries) {
    if (entry.attributes.type == FileType::kDirectory) continue;
    RETURN_IF_ERROR(MayRemove(directory, entry.attributes).WithContext(entry.name));
    auto promise = std::make_shared<std::promise<Status>>();
    answers.push_back(promise->get_future());
    filesystem.Unlink(directory.inode, entry.name, CurrentCaller(),
                      [promise](Status status) { promise->set_value(std::move(status)); });
    constexpr size_t kInFlightMax = 256;
    if (answers.size() >= kInFlightMax) {
      for (auto& answer : answers) RETURN_IF_ERROR(answer.get());
      answers.clear();
    }
  }
  for (auto& answer : answers) RETURN_IF_ERROR(answer.get());
  return Status::Ok();
}

Status WalkAndRemove(client::Filesystem& filesystem, InodeId parent, const std::string& name, const Attributes& top) {
  struct Level {
    InodeId parent;
    std::string name;
    Attributes directory;
    bool expanded = false;
  };
  std::vector<Level> stack{{parent, name, top}};
  while (!stack.empty()) {
    if (stack.back().expanded) {
      const Level level = stack.back();
      stack.pop_back();
      RETURN_IF_ERROR(client::WaitStatus([&](auto done) {
                        filesystem.RemoveDirectory(level.parent, level.name, CurrentCaller(), std::move(done));
                      }).WithContext(level.name));
      continue;
    }
    stack.back().expanded = true;
    const Attributes directory = stack.back().directory;
    ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, ListDirectory(filesystem, directory.inode, false));
    RETURN_IF_ERROR(UnlinkAll(filesystem, directory, entries));
    for (const DirectoryEntry& entry : entries) {
      if (entry.attributes.type != FileType::kDirectory) continue;
      RETURN_IF_ERROR(MayRemove(directory, entry.attributes).WithContext(entry.name));
      stack.push_back({directory.inode, entry.name, entry.attributes});
    }
  }
  return Status::Ok();
}

Status RemoveOne(const Context& context, const RmOptions& options, const std::string& path) {
  ASSIGN_OR_RETURN(const VolumePath where, ParseVolumePath(path));
  ASSIGN_OR_RETURN(const std::unique_ptr<client::Filesystem> opened, OpenFilesystem(context, where));
  client::Filesystem& filesystem = *opened;
  ASSIGN_OR_RETURN(const auto parent_and_name, ResolveParent(filesystem, where.path));
  const auto& [parent, name] = parent_and_name;
  Result<Attributes> attributes = ResolvePath(filesystem, where.path);
  if (!attributes.ok()) {
    return options.force && attributes.status().code() == StatusCode::kNotFound ? Status::Ok() : attributes.status();
  }
  RETURN_IF_ERROR(MayRemove(parent, *attributes).WithContext(where.path));
  if (attributes->type != FileType::kDirectory) {
    return client::WaitStatus(
        [&](auto done) { filesystem.Unlink(parent.inode, name, CurrentCaller(), std::move(done)); });
  }
  if (!options.recursive)
    return Status(StatusCode::kIsDirectory, where.path + " is a directory; -r removes it with everything in it");
  if (CurrentCaller().uid != 0) return WalkAndRemove(filesystem, parent.inode, name, *attributes);
  return client::WaitStatus(
      [&](auto done) { filesystem.RemoveTree(parent.inode, name, CurrentCaller(), std::move(done)); });
}

}  // namespace

Status RunRm(const Context& context, const RmOptions& options) {
  for (const std::string& path : options.paths) RETURN_IF_ERROR(RemoveOne(context, options, path));
  if (context.json) std::printf("{\"removed\": %zu}\n", options.paths.size());
  return Status::Ok();
}

}  // namespace tarn::cli
