#include "fuse-client/mount/mount_point.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/posix_io.h"
#include "fuse-client/mount/mount_table.h"

namespace tarn::fuse {
namespace {

constexpr const char* kFuseDevice = "/dev/fuse";

Status CheckDirectory(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    switch (errno) {
      case ENOENT:
        return Status(StatusCode::kNotFound, "mount point " + path + " does not exist");
      case ENOTCONN:
      case ECONNABORTED:
        return Status(
            StatusCode::kBusy,
            "mount point " + path +
                " holds a dead mount (\"Transport endpoint is not connected\"): remove it with `tarn umount --force " +
                path + "`");
      default:
        return Status::FromErrno(errno, "mount point " + path);
    }
  }
  if (!S_ISDIR(status.st_mode)) return Status(StatusCode::kNotDirectory, "mount point " + path + " is not a directory");
  return Status::Ok();
}

Status CheckNotMounted(const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<MountEntry> table, ReadMountTable());
  const std::optional<MountEntry> entry = FindMount(table, path);
  if (entry && entry->type.starts_with("fuse")) {
    return Status(StatusCode::kBusy,
                  "mount point " + path + " is in use: " + entry->source + " (" + entry->type + ") is mounted there");
  }
  return Status::Ok();
}

Status CheckEmpty(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), &closedir);
  if (directory == nullptr) return Status::FromErrno(errno, "mount point " + path);
  while (const dirent* entry = readdir(directory.get())) {
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
      return Status(StatusCode::kNotEmpty,
                    "mount point " + path + " is not empty: the mount would hide its files (-o nonempty allows it)");
    }
  }
  return Status::Ok();
}

Result<UniqueFd> OpenFuseDevice() {
  UniqueFd device(open(kFuseDevice, O_RDWR | O_CLOEXEC));
  if (device.valid()) return device;
  if (errno == ENOENT || errno == ENODEV || errno == ENXIO) {
    return Status(
        StatusCode::kNotSupported,
        "/dev/fuse is missing: load the kernel's fuse module (modprobe fuse), or give the container the device");
  }
  return Status::FromErrno(errno, "open /dev/fuse");
}

unsigned long MountFlags(const KernelMount& mount) {
  unsigned long flags = MS_NOATIME;
  if (mount.read_only) flags |= MS_RDONLY;
  if (!mount.suid) flags |= MS_NOSUID;
  if (!mount.dev) flags |= MS_NODEV;
  if (mount.noexec) flags |= MS_NOEXEC;
  if (mount.sync) flags |= MS_SYNCHRONOUS;
  if (mount.dirsync) flags |= MS_DIRSYNC;
  return flags;
}

}  // namespace

Result<std::string> CheckMountPoint(const std::string& path, bool allow_nonempty) {
  RETURN_IF_ERROR(CheckDirectory(path));
  ASSIGN_OR_RETURN(const std::string absolute, ResolveMountPoint(path));
  if (!allow_nonempty) {
    RETURN_IF_ERROR(CheckNotMounted(absolute));
    RETURN_IF_ERROR(CheckEmpty(absolute));
  }
  RETURN_IF_ERROR(OpenFuseDevice().status());
  return absolute;
}

Result<UniqueFd> MountKernel(const KernelMount& mount) {
  ASSIGN_OR_RETURN(UniqueFd device, OpenFuseDevice());
  std::string data = "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=" + std::to_string(getuid()) +
                     ",group_id=" + std::to_string(getgid()) +
                     ",default_permissions,max_read=" + std::to_string(mount.max_read_bytes);
  if (mount.allow_other) data += ",allow_other";
  const std::string type(kFilesystemType);
  if (::mount(mount.source.c_str(), mount.path.c_str(), type.c_str(), MountFlags(mount), data.c_str()) != 0) {
    return Status::FromErrno(errno, "mount on " + mount.path);
  }
  return device;
}

Status DetachMount(const std::string& path, const std::string& device) {
  ASSIGN_OR_RETURN(const std::vector<MountEntry> table, ReadMountTable());
  const std::optional<MountEntry> entry = FindMount(table, path);
  if (!entry || (!device.empty() && entry->device != device)) return Status::Ok();
  if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == EINVAL || errno == ENOENT)
    return Status::Ok();
  if (errno == EPERM && geteuid() != 0) return RunFusermount("-uzq", path);
  return Status::FromErrno(errno, "unmount " + path);
}

Result<std::string> MountedDevice(const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<MountEntry> table, ReadMountTable());
  const std::optional<MountEntry> entry = FindMount(table, path);
  if (!entry || entry->type != kFilesystemType) return Status(StatusCode::kNotFound, path + " is not mounted");
  return entry->device;
}

Status SetKernelReadAhead(const std::string& device, uint32_t kilobytes) {
  const std::string path = "/sys/class/bdi/" + device + "/read_ahead_kb";
  ASSIGN_OR_RETURN(const UniqueFd file, OpenFile(path, O_WRONLY));
  const std::string text = std::to_string(kilobytes);
  if (write(file.get(), text.data(), text.size()) < 0) return Status::FromErrno(errno, "write " + path);
  return Status::Ok();
}

Status RunFusermount(const std::string& arguments, const std::string& path) {
  std::string program = "fusermount3";
  std::string flags = arguments;
  std::string end = "--";
  std::string target = path;
  char* const argv[] = {program.data(), flags.data(), end.data(), target.data(), nullptr};
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, program.c_str(), nullptr, nullptr, argv, environ);
  if (error != 0) return Status::FromErrno(error, "run fusermount3");
  int result = 0;
  while (waitpid(pid, &result, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(result) && WEXITSTATUS(result) == 0) return Status::Ok();
  return Status(StatusCode::kBusy, "fusermount3 " + arguments + " " + path + " failed");
}

}  // namespace tarn::fuse
