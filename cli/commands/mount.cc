#include "cli/commands/mount.h"

#include <algorithm>

#include "cli/dev/mount_table.h"
#include "cli/dev/process.h"

namespace tarn::cli {
namespace {

// What tarn-fuse takes: VOLUME[:/DIR]@HOST:PORT,..
Result<std::string> FullSource(const Context& context, const std::string& source) {
  ASSIGN_OR_RETURN(const VolumePath where, ParseVolumePath(source));
  ASSIGN_OR_RETURN(const std::vector<std::string> addresses, MetaserverAddresses(context, where.servers));
  std::string full = where.volume;
  if (where.path != "/") full += ":" + where.path;
  char separator = '@';
  for (const std::string& address : addresses) {
    full += separator + address;
    separator = ',';
  }
  return full;
}

Result<std::vector<std::string>> MountCommand(const Context& context, const MountOptions& options) {
  std::vector<std::string> command{context.binary_directory + "/tarn-fuse"};
  ASSIGN_OR_RETURN(const std::string source, FullSource(context, options.source));
  command.push_back(source);
  command.push_back(options.mount_point);
  for (const std::string& option : options.options) {
    command.push_back("-o");
    command.push_back(option);
  }
  if (options.foreground) command.push_back("-f");
  if (!options.log_file.empty()) command.insert(command.end(), {"--log-file", options.log_file});
  if (!options.memory_limit.empty()) command.insert(command.end(), {"--memory-limit", options.memory_limit});
  return command;
}

}  // namespace

Result<bool> IsMounted(const Context& context, const MountOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<std::string> command, MountCommand(context, options));
  if (FindProcesses(command).empty()) return false;
  const std::vector<Mount> mounts = TarnMounts();
  return std::any_of(mounts.begin(), mounts.end(), [&](const Mount& mount) { return mount.mount_point == options.mount_point; });
}

Status RunMount(const Context& context, const MountOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<std::string> command, MountCommand(context, options));
  ASSIGN_OR_RETURN(const int exit_status, RunForeground(command));
  // tarn-fuse has said why on stderr.
  if (exit_status != 0) return Status(StatusCode::kIoError, "mount " + options.source + " on " + options.mount_point + " failed");
  return Status::Ok();
}

Status RunUmount(const Context& context, const UmountOptions& options) {
  std::vector<std::string> command{context.binary_directory + "/tarn-fuse", "--unmount", options.mount_point};
  if (options.lazy) command.push_back("--lazy");
  if (options.force) command.push_back("--force");
  ASSIGN_OR_RETURN(const int exit_status, RunForeground(command));
  if (exit_status != 0) return Status(StatusCode::kIoError, "umount " + options.mount_point + " failed");
  return Status::Ok();
}

}  // namespace tarn::cli
