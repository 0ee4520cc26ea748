#include "fuse-client/mount/unmount.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "common/base/posix_io.h"
#include "fuse-client/mount/mount_point.h"
#include "fuse-client/mount/mount_socket.h"
#include "fuse-client/mount/mount_table.h"

namespace tarn::fuse {
namespace {

constexpr size_t kUsersNamedMax = 5;

std::string ReadLink(const std::string& path) {
  std::array<char, 4096> target{};
  const ssize_t length = readlink(path.c_str(), target.data(), target.size());
  return length > 0 ? std::string(target.data(), static_cast<size_t>(length)) : std::string();
}

void ForEachEntry(const std::string& directory, const std::function<void(const std::string&)>& visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(directory.c_str()), &closedir);
  if (stream == nullptr) return;
  while (const dirent* entry = readdir(stream.get())) visit(entry->d_name);
}

// Reads links in /proc only, so a hanging mount does not hang us.
bool UsesMount(const std::string& process, const std::string& mount) {
  const auto inside = [&mount](const std::string& path) {
    return path.starts_with(mount) && (path.size() == mount.size() || path[mount.size()] == '/');
  };
  if (inside(ReadLink(process + "/cwd")) || inside(ReadLink(process + "/root")) || inside(ReadLink(process + "/exe")))
    return true;
  bool found = false;
  ForEachEntry(process + "/fd",
               [&](const std::string& name) { found = found || inside(ReadLink(process + "/fd/" + name)); });
  return found;
}

// "1234 (bash), 99 (python3)"; empty if nobody can be seen.
std::string UsersOf(const std::string& mount) {
  std::string users;
  size_t count = 0;
  ForEachEntry("/proc", [&](const std::string& name) {
    if (name.find_first_not_of("0123456789") != std::string::npos || count >= kUsersNamedMax) return;
    const std::string process = "/proc/" + name;
    if (!UsesMount(process, mount)) return;
    std::string command = ReadSmallFile(process + "/comm").ok() ? ReadSmallFile(process + "/comm").value() : "";
    while (!command.empty() && command.back() == '\n') command.pop_back();
    users += (users.empty() ? "" : ", ") + name + " (" + command + ")";
    ++count;
  });
  return users;
}

Status BusyStatus(const std::string& path) {
  const std::string users = UsersOf(path);
  return Status(StatusCode::kBusy, path + " is in use" + (users.empty() ? "" : " by process " + users) +
                                       ": stop its users, or detach it with --lazy");
}

// The owner of a mount may abort it through fusectl; root also through umount2, which works where fusectl is not
// mounted.
void AbortConnection(const std::string& device) {
  const std::string minor = device.substr(device.find(':') + 1);
  const Result<UniqueFd> file = OpenFile("/sys/fs/fuse/connections/" + minor + "/abort", O_WRONLY);
  if (file.ok() && write(file.value().get(), "1", 1) == 1) return;
}

Status DoUnmount(const UnmountOptions& options, const MountEntry& entry) {
  if (options.force) AbortConnection(entry.device);
  int flags = UMOUNT_NOFOLLOW;
  if (options.lazy || options.force) flags |= MNT_DETACH;
  if (options.force) flags |= MNT_FORCE;
  if (umount2(entry.path.c_str(), flags) == 0) return Status::Ok();
  if (errno == EBUSY) return BusyStatus(entry.path);
  if (errno == EPERM && geteuid() != 0) return RunFusermount(options.lazy || options.force ? "-uz" : "-u", entry.path);
  return Status::FromErrno(errno, "unmount " + entry.path);
}

}  // namespace

Status Unmount(const UnmountOptions& options) {
  ASSIGN_OR_RETURN(const std::string path, ResolveMountPoint(options.path));
  ASSIGN_OR_RETURN(const std::vector<MountEntry> table, ReadMountTable());
  const std::optional<MountEntry> entry = FindMount(table, path);
  if (!entry) return Status(StatusCode::kNotFound, path + " is not mounted");
  if (entry->type != kFilesystemType) {
    return Status(StatusCode::kNotFound,
                  path + " is not a TarnFS mount but " + entry->source + " (" + entry->type + ")");
  }
  std::optional<MountProcessWatch> watch = MountProcessWatch::Connect(options.run_directory, entry->device);
  RETURN_IF_ERROR(DoUnmount(options, *entry));
  if (!watch || watch->WaitUntilGone(options.lazy ? 0 : options.timeout_ms) || options.lazy) return Status::Ok();
  return Status(StatusCode::kTimeout, path + " is unmounted, but its process " + std::to_string(watch->pid()) +
                                          " still writes back data after " + std::to_string(options.timeout_ms / 1000) +
                                          " s");
}

}  // namespace tarn::fuse
