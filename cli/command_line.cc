#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>

#include "cli/commands/backup.h"
#include "cli/commands/browse.h"
#include "cli/commands/dev.h"
#include "cli/commands/fsck.h"
#include "cli/commands/group.h"
#include "cli/commands/meta.h"
#include "cli/commands/mount.h"
#include "cli/commands/node.h"
#include "cli/commands/remove.h"
#include "cli/commands/status.h"
#include "cli/commands/target.h"
#include "cli/commands/transfer.h"
#include "cli/commands/volume.h"

namespace tarn::cli {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;

// The option structs of all commands, and the command that was chosen.
struct Parsed {
  DevUpOptions dev_up;
  MountOptions mount;
  UmountOptions umount;
  VolumeCreateOptions volume_create;
  VolumeResizeOptions volume_resize;
  VolumeDeleteOptions volume_delete;
  std::string volume_info_name;
  uint64_t metaserver = 0;
  NodeDrainOptions node_drain;
  NodeRemoveOptions node_remove;
  bool unhealthy_groups = false;
  GroupPromoteOptions group_promote;
  std::string node;
  uint64_t target = 0;
  PutOptions put;
  GetOptions get;
  LsOptions ls;
  std::string stat_path;
  RmOptions rm;
  DuOptions du;
  std::string backup_path;
  std::string reclaim;
  FsckCommandOptions fsck;
  int exit_status = 0;  // of a command that was carried out
  std::function<Status(const Context&)> run;
};

CLI::App* AddCommand(CLI::App& parent, Parsed* parsed, const std::string& name, const std::string& help, std::function<Status(const Context&)> run) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->fallthrough();  // so that --json, --meta and --dir may stand behind the command
  command->callback([parsed, run = std::move(run)] { parsed->run = run; });
  return command;
}

void AddDev(CLI::App& app, Parsed* parsed) {
  CLI::App* dev = app.add_subcommand("dev", "A cluster of real processes on this machine's loopback, kept in --dir D");
  dev->require_subcommand(1)->fallthrough();
  CLI::App* up = AddCommand(*dev, parsed, "up", "Starts it (again); returns when it serves", [parsed](const Context& context) { return RunDevUp(context, parsed->dev_up); });
  up->add_option("--metaservers", parsed->dev_up.metaservers, "Metadata servers: 1, 3 or 5 (1)");
  up->add_option("--chunkservers", parsed->dev_up.chunkservers, "Chunk servers (3)");
  up->add_option("--elastic-chunkservers", parsed->dev_up.elastic_chunkservers, "Chunk servers that hold extra copies for readers only (0)");
  up->add_option("--replicas", parsed->dev_up.replicas, "Copies of each byte, on different nodes: 1 to 3 (1)");
  up->add_option("--mount", parsed->dev_up.mount_point, "Mount the volume 'default' on this directory");
  AddCommand(*dev, parsed, "down", "Unmounts and stops it; the data stays", [](const Context& context) { return RunDevDown(context); });
}

void AddMount(CLI::App& app, Parsed* parsed) {
  CLI::App* mount = AddCommand(app, parsed, "mount", "Mounts a volume; returns when the mount serves", [parsed](const Context& context) { return RunMount(context, parsed->mount); });
  mount->add_option("source", parsed->mount.source, "VOLUME[:/DIR][@HOST:PORT,..]")->required();
  mount->add_option("mountpoint", parsed->mount.mount_point, "An existing directory")->required();
  mount->add_option("-o", parsed->mount.options, "Mount options (tarn-fuse --help lists them)")->delimiter(',');
  mount->add_flag("-f,--foreground", parsed->mount.foreground, "Stay in the foreground");
  mount->add_option("--log-file", parsed->mount.log_file, "Where the client logs");
  mount->add_option("--memory-limit", parsed->mount.memory_limit, "Memory of the client, for example 512M");
  CLI::App* umount = AddCommand(app, parsed, "umount", "Writes out what is buffered and unmounts", [parsed](const Context& context) { return RunUmount(context, parsed->umount); });
  umount->add_option("mountpoint", parsed->umount.mount_point, "The mount point")->required();
  umount->add_flag("-l,--lazy", parsed->umount.lazy, "Detach now, finish when it is no longer in use");
  umount->add_flag("-f,--force", parsed->umount.force, "End it even if it is in use or its client hangs");
}

void AddVolume(CLI::App& app, Parsed* parsed) {
  CLI::App* volume = app.add_subcommand("volume", "Makes, shows, resizes and deletes volumes");
  volume->require_subcommand(1)->fallthrough();
  CLI::App* create = AddCommand(*volume, parsed, "create", "Makes a volume", [parsed](const Context& context) { return RunVolumeCreate(context, parsed->volume_create); });
  create->add_option("name", parsed->volume_create.name, "Lower-case letters, digits, '.', '_', '-'")->required();
  create->add_option("--quota", parsed->volume_create.quota, "Bytes it may hold, for example 10G (none)");
  create->add_option("--quota-inodes", parsed->volume_create.quota_inodes, "Files and directories it may hold (none)");
  create->add_option("--replicas", parsed->volume_create.replicas, "Copies of each byte, on different nodes: 1 to 3 (1)");
  create->add_option("--stripe-unit", parsed->volume_create.stripe_unit, "Bytes of a file that lie together (1M)");
  create->add_option("--stripe-width", parsed->volume_create.stripe_width, "Placement groups a file is spread over (8)");
  create->add_option("--chunk-size", parsed->volume_create.chunk_size, "Largest chunk (64M)");
  AddCommand(*volume, parsed, "list", "Shows all volumes", [](const Context& context) { return RunVolumeList(context); });
  CLI::App* info = AddCommand(*volume, parsed, "info", "Shows one volume", [parsed](const Context& context) { return RunVolumeInfo(context, parsed->volume_info_name); });
  info->add_option("name", parsed->volume_info_name)->required();
  CLI::App* resize = AddCommand(*volume, parsed, "resize", "Changes a volume's quota", [parsed](const Context& context) { return RunVolumeResize(context, parsed->volume_resize); });
  resize->add_option("name", parsed->volume_resize.name)->required();
  resize->add_option("--quota", parsed->volume_resize.quota, "Bytes; 0: none");
  resize->add_option("--quota-inodes", parsed->volume_resize.quota_inodes, "Files and directories; 0: none");
  CLI::App* remove = AddCommand(*volume, parsed, "delete", "Deletes a volume", [parsed](const Context& context) { return RunVolumeDelete(context, parsed->volume_delete); });
  remove->add_option("name", parsed->volume_delete.name)->required();
  remove->add_flag("-r,--recursive", parsed->volume_delete.recursive, "With everything in it");
}

void AddMeta(CLI::App& app, Parsed* parsed) {
  CLI::App* meta = app.add_subcommand("meta", "Shows and changes the group of metadata servers");
  meta->require_subcommand(1)->fallthrough();
  AddCommand(*meta, parsed, "list", "Shows the members", [](const Context& context) { return RunMetaList(context); });
  AddCommand(*meta, parsed, "add", "Tells how a new member joins: it does so by itself", [](const Context& context) { return RunMetaAdd(context); });
  CLI::App* remove = AddCommand(*meta, parsed, "remove", "Takes a member out of the group, for good", [parsed](const Context& context) { return RunMetaRemove(context, parsed->metaserver); });
  remove->add_option("id", parsed->metaserver, "Its number in `tarn meta list`")->required()->check(CLI::PositiveNumber);
  CLI::App* transfer = AddCommand(*meta, parsed, "transfer", "Lets another member lead", [parsed](const Context& context) { return RunMetaTransfer(context, parsed->metaserver); });
  transfer->add_option("id", parsed->metaserver, "Its number in `tarn meta list` (the most up to date)");
  CLI::App* backup = AddCommand(*meta, parsed, "backup", "Copies the metadata into a file, online; tarn-metaserver --restore brings it back",
                                [parsed](const Context& context) { return RunMetaBackup(context, parsed->backup_path); });
  backup->add_option("file", parsed->backup_path, "The file, made or replaced when the backup is complete")->required();
  CLI::App* reclaim = AddCommand(*meta, parsed, "reclaim", "Turns the deletion of dead data on or off (off after a restore)",
                                 [parsed](const Context& context) { return RunMetaReclaim(context, parsed->reclaim); });
  reclaim->add_option("how", parsed->reclaim, "on or off")->required();
}

void AddNode(CLI::App& app, Parsed* parsed) {
  CLI::App* node = app.add_subcommand("node", "Shows nodes, takes them out of use and back");
  node->require_subcommand(1)->fallthrough();
  AddCommand(*node, parsed, "list", "Shows all nodes", [](const Context& context) { return RunNodeList(context); });
  CLI::App* drain = AddCommand(*node, parsed, "drain", "Moves everything off a node; nothing new is placed on it", [parsed](const Context& context) { return RunNodeDrain(context, parsed->node_drain); });
  drain->add_option("node", parsed->node_drain.node, "Its name in `tarn node list`")->required();
  drain->add_flag("--wait", parsed->node_drain.wait, "Return when nothing is left on it");
  drain->add_flag("--force", parsed->node_drain.force, "Also if there is no room for everything elsewhere");
  CLI::App* uncordon = AddCommand(*node, parsed, "uncordon", "Takes a drained node back into use", [parsed](const Context& context) { return RunNodeUncordon(context, parsed->node); });
  uncordon->add_option("node", parsed->node, "Its name in `tarn node list`")->required();
  CLI::App* remove = AddCommand(*node, parsed, "remove", "Says that targets of a node that do not answer are gone for good: their copies are made anew at once",
                                [parsed](const Context& context) { return RunNodeRemove(context, parsed->node_remove); });
  remove->add_option("node", parsed->node_remove.node, "Its name in `tarn node list`")->required();
  remove->add_flag("--accept-data-loss", parsed->node_remove.accept_data_loss, "Also if something has its last current copy there");
}

void AddGroup(CLI::App& app, Parsed* parsed) {
  CLI::App* group = app.add_subcommand("group", "Shows placement groups; the last way out if the only current copy of one is gone");
  group->require_subcommand(1)->fallthrough();
  CLI::App* list = AddCommand(*group, parsed, "list", "Shows placement groups and their members", [parsed](const Context& context) { return RunGroupList(context, parsed->unhealthy_groups); });
  list->add_flag("--unhealthy", parsed->unhealthy_groups, "Only those that files use and that lack copies");
  CLI::App* promote = AddCommand(*group, parsed, "promote", "Lets a group go on from an older copy: what only the lost ones had is given up",
                                 [parsed](const Context& context) { return RunGroupPromote(context, parsed->group_promote); });
  promote->add_option("group", parsed->group_promote.group, "Its number in `tarn group list`")->required()->check(CLI::PositiveNumber);
  promote->add_option("target", parsed->group_promote.target, "Which copy: one of PROMOTABLE")->required()->check(CLI::PositiveNumber);
  promote->add_flag("--accept-data-loss", parsed->group_promote.accept_data_loss, "Yes, what was written since is lost");
}

void AddTarget(CLI::App& app, Parsed* parsed) {
  CLI::App* target = app.add_subcommand("target", "Shows the disks of chunk servers and takes them out for good");
  target->require_subcommand(1)->fallthrough();
  AddCommand(*target, parsed, "list", "Shows all targets", [](const Context& context) { return RunTargetList(context); });
  CLI::App* retire = AddCommand(*target, parsed, "retire", "Takes a target out, for good; its copies are made elsewhere", [parsed](const Context& context) { return RunTargetRetire(context, parsed->target); });
  retire->add_option("id", parsed->target, "Its number in `tarn target list`")->required()->check(CLI::PositiveNumber);
  CLI::App* scrub = app.add_subcommand("scrub", "The background check of everything that is stored");
  scrub->require_subcommand(1)->fallthrough();
  AddCommand(*scrub, parsed, "status", "Shows how far it is on each target", [](const Context& context) { return RunScrubStatus(context); });
  CLI::App* start = AddCommand(*scrub, parsed, "start", "Begins a round now", [parsed](const Context& context) { return RunScrubStart(context, parsed->target); });
  start->add_option("target", parsed->target, "Only this target (all)")->check(CLI::PositiveNumber);
}

void AddTransfer(CLI::App& app, Parsed* parsed) {
  CLI::App* put = AddCommand(app, parsed, "put", "Brings files and trees into a volume; the same command again resumes", [parsed](const Context& context) { return RunPut(context, parsed->put); });
  put->add_option("paths", parsed->put.arguments, "SRC... VOLUME:/PATH (SRC lands at PATH/SRC, the contents of SRC/ in PATH)")->required();
  put->add_flag("-c,--checksum", parsed->put.checksum, "Compare contents instead of size and mtime");
  put->add_option("--workers", parsed->put.workers, "Upload threads (8)")->check(CLI::Range(1, 64));
  CLI::App* get = AddCommand(app, parsed, "get", "Copies files and trees out of a volume", [parsed](const Context& context) { return RunGet(context, parsed->get); });
  get->add_option("source", parsed->get.source, "VOLUME:/PATH")->required();
  get->add_option("destination", parsed->get.destination, "Local path")->required();
  get->add_option("--workers", parsed->get.workers, "Download threads (16)")->check(CLI::Range(1, 64));
}

void AddBrowse(CLI::App& app, Parsed* parsed) {
  CLI::App* ls = AddCommand(app, parsed, "ls", "Lists a directory", [parsed](const Context& context) { return RunLs(context, parsed->ls); });
  ls->add_option("path", parsed->ls.path, "VOLUME:/PATH")->required();
  ls->add_flag("-l", parsed->ls.long_format, "With attributes");
  CLI::App* stat = AddCommand(app, parsed, "stat", "Shows the attributes of a file or directory", [parsed](const Context& context) { return RunStat(context, parsed->stat_path); });
  stat->add_option("path", parsed->stat_path, "VOLUME:/PATH")->required();
  CLI::App* rm = AddCommand(app, parsed, "rm", "Removes files", [parsed](const Context& context) { return RunRm(context, parsed->rm); });
  rm->add_option("paths", parsed->rm.paths, "VOLUME:/PATH...")->required();
  rm->add_flag("-r,--recursive", parsed->rm.recursive, "Directories, with everything in them");
  rm->add_flag("-f,--force", parsed->rm.force, "What does not exist is no error");
  CLI::App* du = AddCommand(app, parsed, "du", "Shows how much a tree holds", [parsed](const Context& context) { return RunDu(context, parsed->du); });
  du->add_option("path", parsed->du.path, "VOLUME:/PATH")->required();
  du->add_flag("--walk", parsed->du.walk, "Count every entry instead of asking for the server's count");
}

void AddFsck(CLI::App& app, Parsed* parsed) {
  CLI::App* fsck = AddCommand(app, parsed, "fsck", "Checks the file system; ends with 0: all is well, 3: repaired, 4: damage is left",
                              [parsed](const Context& context) { return RunFsck(context, parsed->fsck, &parsed->exit_status); });
  fsck->add_option("volume", parsed->fsck.volume, "Only this volume (all)");
  fsck->add_flag("--repair", parsed->fsck.repair, "Repair what can be repaired");
  fsck->add_flag("--skip-chunks", parsed->fsck.skip_chunks, "Do not ask the chunk servers for the data of files");
}

int PrintError(const Status& status) {
  std::fprintf(stderr, "tarn: %s\n", status.message().c_str());
  return kExitError;
}

}  // namespace

int RunCommandLine(int argc, char** argv, Context context) {
  CLI::App app("TarnFS: one file system out of the disks of a cluster's nodes", "tarn");
  app.set_version_flag("--version", std::string("tarn ") + TARN_VERSION);
  app.set_config("--config", "", "Options from a TOML file");
  app.require_subcommand(1);
  app.add_option("--meta", context.meta, "Metadata servers, HOST:PORT[,HOST:PORT...] (or the environment's TARN_META)");
  app.add_option("--dir", context.dev_directory, "A dev cluster's directory");
  app.add_flag("--json", context.json, "Print JSON");
  Parsed parsed;
  AddDev(app, &parsed);
  AddMount(app, &parsed);
  AddVolume(app, &parsed);
  AddMeta(app, &parsed);
  AddNode(app, &parsed);
  AddGroup(app, &parsed);
  AddTarget(app, &parsed);
  AddTransfer(app, &parsed);
  AddBrowse(app, &parsed);
  AddFsck(app, &parsed);
  AddCommand(app, &parsed, "status", "Shows the health of the cluster", [](const Context& c) { return RunStatus(c); });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version end here too, with 0.
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  // An explicit --dir means that cluster, whatever the environment says.
  if (!context.dev_directory.empty() && app.count("--meta") == 0) context.meta.clear();
  const Status status = parsed.run(context);
  return status.ok() ? parsed.exit_status : PrintError(status);
}

int RunMountHelper(int argc, char** argv, const Context& context) {
  CLI::App app("Mounts a TarnFS volume; called by mount(8)", "mount.tarn");
  MountOptions options;
  bool ignored = false;
  app.add_option("source", options.source, "VOLUME[:/DIR][@HOST:PORT,..]")->required();
  app.add_option("mountpoint", options.mount_point, "An existing directory")->required();
  app.add_option("-o", options.options, "Mount options")->delimiter(',');
  app.add_flag("-s,-n,-v", ignored, "Accepted for mount(8)");
  bool only_check = false;
  app.add_flag("-f,--fake", only_check, "Do all but mount");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (only_check) return 0;
  const Status status = RunMount(context, options);
  return status.ok() ? 0 : PrintError(status);
}

}  // namespace tarn::cli
