#include "fuse-client/options.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <string_view>
#include <utility>

#include "fuse-client/mount/mount_socket.h"

namespace tarn::fuse {
namespace {

struct RawArguments {
  std::string spec;
  std::string mount_point;
  std::vector<std::string> option_lists;
  std::string meta;
  std::string memory_limit;
  bool unmount = false;
};

constexpr const char* kDescription =
    "Mounts a TarnFS volume, or a directory of it, and returns when the mount serves.\n"
    "The mount ends with `tarn-fuse --unmount MOUNTPOINT` (or `tarn umount`, or umount).";

constexpr const char* kOptionHelp =
    "Mount options, comma-separated: ro, [no]suid, [no]dev, [no]exec, sync, [no]allow_other, nonempty, "
    "entry_timeout=S, attr_timeout=S, "
    "negative_timeout=S (0 to 1 second), memory_limit=SIZE, read_ahead_kb=N, meta=HOST:PORT, log_file=FILE, "
    "log_level=LEVEL";

void Declare(CLI::App* app, RawArguments* raw, Options* options) {
  app->add_option("volume", raw->spec, "What to mount: VOLUME[:/DIR][@HOST:PORT,...]");
  app->add_option("mountpoint", raw->mount_point, "An empty directory");
  app->add_option("-o,--options", raw->option_lists, kOptionHelp)->allow_extra_args(false)->take_all();
  app->add_option("--meta", raw->meta, "Metadata servers, HOST:PORT[,...], if not named after '@'")
      ->envname("TARN_META");
  app->add_flag("-f,--foreground", options->foreground, "Stay in the foreground, log to stderr");
  app->add_option("--memory-limit", raw->memory_limit, "Memory for caches and write buffers, such as 1GiB");
  app->add_option("--node", options->node, "Name of this node: copies on it are read first; default: the host's name")
      ->envname("TARN_NODE");
  app->add_option("--log-file", options->log_file, "Log here (a daemon's default: /var/log/tarn/MOUNTPOINT.log)");
  app->add_option("--log-level", options->log_level, "trace, debug, info, warn or error")->capture_default_str();
  app->add_option("--run-dir", options->run_directory, "Where --unmount finds the mount's process")
      ->capture_default_str();
  app->add_flag("--unmount", raw->unmount, "Unmount the MOUNTPOINT given and wait until everything is written back");
  app->add_flag("--lazy", options->lazy, "With --unmount: detach now, even if in use");
  app->add_flag("--force", options->force, "With --unmount: abort all requests first, for dead or hanging mounts");
  app->add_option("--timeout", options->unmount_timeout_s, "With --unmount: seconds to wait for the write-back")
      ->capture_default_str()
      ->check(CLI::Range(0, 86400));
  app->set_config("--config", "", "Read options from a TOML file");
  app->set_version_flag("--version", std::string("tarn-fuse ") + TARN_VERSION);
}

Status Finish(const RawArguments& raw, Options* options) {
  for (const std::string& list : raw.option_lists) RETURN_IF_ERROR(ParseMountOptionList(list, &options->mount));
  if (!raw.memory_limit.empty()) {
    ASSIGN_OR_RETURN(options->mount.memory_limit_bytes, ParseByteSize(raw.memory_limit));
  }
  if (options->log_file.empty()) options->log_file = options->mount.log_file.value_or("");
  if (options->mount.log_level) options->log_level = *options->mount.log_level;
  ASSIGN_OR_RETURN(options->spec, ParseMountSpec(raw.spec));
  std::vector<std::string>& metaservers = options->spec.metaservers;
  if (metaservers.empty()) metaservers = options->mount.metaservers;
  if (metaservers.empty() && !raw.meta.empty()) {
    ASSIGN_OR_RETURN(metaservers, ParseAddresses(raw.meta));
  }
  options->mount_point = raw.mount_point;
  return Status::Ok();
}

Options UsageError(const std::string& text) {
  fprintf(stderr, "tarn-fuse: %s (see --help)\n", text.c_str());
  Options options;
  options.action = Options::Action::kExit;
  options.exit_status = 2;
  return options;
}

bool IsMountHelper(std::string_view program) {
  const std::string_view name = program.substr(program.rfind('/') + 1);
  return name == "mount.tarn" || name == "mount.fuse.tarn";
}

Options ParseHelperCommandLine(int argc, char** argv) {
  Result<Options> options = ParseMountHelper(std::vector<std::string>(argv + 1, argv + argc));
  return options.ok() ? std::move(options).value() : UsageError(options.status().message());
}

}  // namespace

Result<Options> ParseMountHelper(const std::vector<std::string>& arguments) {
  Options options;
  options.run_directory = DefaultRunDirectory();
  RawArguments raw;
  std::vector<std::string> positional;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "-o" || argument == "-t" || argument == "-N") {
      if (++i == arguments.size()) return Status(StatusCode::kInvalidArgument, argument + " needs a value");
      if (argument == "-o") raw.option_lists.push_back(arguments[i]);
    } else if (argument == "-f") {
      options.action = Options::Action::kExit;  // mount --fake: everything but the mount
    } else if (argument == "-r" || argument == "-w") {
      raw.option_lists.emplace_back(argument == "-r" ? "ro" : "rw");
    } else if (argument.size() > 1 && argument.front() == '-') {
      if (argument.find_first_not_of("snv", 1) != std::string::npos)
        return Status(StatusCode::kInvalidArgument, "unknown option " + argument);
    } else {
      positional.push_back(argument);
    }
  }
  if (positional.size() != 2)
    return Status(StatusCode::kInvalidArgument, "wanted VOLUME[:/DIR]@HOST:PORT and MOUNTPOINT");
  raw.spec = positional[0];
  raw.mount_point = positional[1];
  RETURN_IF_ERROR(Finish(raw, &options));
  return options;
}

UnmountOptions ToUnmountOptions(const Options& options) {
  UnmountOptions unmount;
  unmount.path = options.mount_point;
  unmount.run_directory = options.run_directory;
  unmount.lazy = options.lazy;
  unmount.force = options.force;
  unmount.timeout_ms = options.unmount_timeout_s * 1000;
  return unmount;
}

Options ParseCommandLine(int argc, char** argv) {
  if (IsMountHelper(argv[0])) return ParseHelperCommandLine(argc, argv);
  Options options;
  options.run_directory = DefaultRunDirectory();
  RawArguments raw;
  CLI::App app(kDescription, "tarn-fuse");
  try {
    Declare(&app, &raw, &options);
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    options.action = Options::Action::kExit;
    options.exit_status = app.exit(error) == 0 ? 0 : 2;
    return options;
  }
  if (raw.unmount) {
    options.action = Options::Action::kUnmount;
    options.mount_point = raw.spec;
    if (raw.spec.empty() || !raw.mount_point.empty()) return UsageError("--unmount wants one MOUNTPOINT");
    return options;
  }
  if (options.lazy || options.force) return UsageError("--lazy and --force go with --unmount");
  if (raw.mount_point.empty()) return UsageError("wanted VOLUME[:/DIR][@HOST:PORT,..] and MOUNTPOINT");
  if (const Status status = Finish(raw, &options); !status.ok()) return UsageError(status.message());
  return options;
}

}  // namespace tarn::fuse
