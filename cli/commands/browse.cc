#include "cli/commands/browse.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/output.h"
#include "cli/remote_path.h"
#include "client/blocking.h"

namespace tarn::cli {
namespace {

using client::Attributes;
using client::DirectoryEntry;
using client::FileType;

char TypeLetter(FileType type) {
  switch (type) {
    case FileType::kRegular: return '-';
    case FileType::kDirectory: return 'd';
    case FileType::kSymlink: return 'l';
    case FileType::kCharacterDevice: return 'c';
    case FileType::kBlockDevice: return 'b';
    case FileType::kFifo: return 'p';
    case FileType::kSocket: return 's';
  }
  return '?';
}

const char* TypeName(FileType type) {
  switch (type) {
    case FileType::kRegular: return "file";
    case FileType::kDirectory: return "directory";
    case FileType::kSymlink: return "symlink";
    case FileType::kCharacterDevice: return "character-device";
    case FileType::kBlockDevice: return "block-device";
    case FileType::kFifo: return "fifo";
    case FileType::kSocket: return "socket";
  }
  return "unknown";
}

// JSON text is UTF-8; a name that is not goes out with its bad bytes replaced.
std::string Dump(const nlohmann::ordered_json& json) { return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace); }

nlohmann::ordered_json ToJson(const std::string& name, const Attributes& attributes) {
  nlohmann::ordered_json json{{"name", name},
                              {"type", TypeName(attributes.type)},
                              {"inode", attributes.inode.value()},
                              {"size", attributes.size_bytes},
                              {"mode", attributes.mode},
                              {"nlink", attributes.nlink},
                              {"uid", attributes.uid},
                              {"gid", attributes.gid},
                              {"atime_ns", attributes.atime_ns},
                              {"mtime_ns", attributes.mtime_ns},
                              {"ctime_ns", attributes.ctime_ns}};
  if (attributes.type == FileType::kSymlink) json["target"] = attributes.symlink_target;
  if (attributes.type == FileType::kRegular && attributes.data.valid()) {
    json["data_id"] = attributes.data.value();
    json["stripe_unit_bytes"] = attributes.layout.stripe_unit_bytes;
    json["stripe_width"] = attributes.layout.width;
    json["chunk_size_bytes"] = attributes.layout.chunk_size_bytes;
  }
  return json;
}

struct Opened {
  std::unique_ptr<client::Filesystem> filesystem;
  VolumePath where;
};

Result<Opened> OpenPath(const Context& context, const std::string& path) {
  Opened opened;
  ASSIGN_OR_RETURN(opened.where, ParseVolumePath(path));
  ASSIGN_OR_RETURN(opened.filesystem, OpenFilesystem(context, opened.where));
  return opened;
}

std::string LastName(const std::string& path) {
  const Result<std::vector<std::string>> names = PathNames(path);
  return names.ok() && !names->empty() ? names->back() : "/";
}

void PrintEntries(const Context& context, const LsOptions& options, const std::vector<DirectoryEntry>& entries) {
  if (context.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const DirectoryEntry& entry : entries) json.push_back(ToJson(entry.name, entry.attributes));
    std::printf("%s\n", Dump(json).c_str());
    return;
  }
  for (const DirectoryEntry& entry : entries) {
    const Attributes& attributes = entry.attributes;
    if (!options.long_format) {
      std::printf("%s%s\n", entry.name.c_str(), attributes.type == FileType::kDirectory ? "/" : "");
      continue;
    }
    std::printf("%s %4u %6u %6u %12lu %s %s%s%s\n", ModeString(TypeLetter(attributes.type), attributes.mode).c_str(), attributes.nlink, attributes.uid, attributes.gid,
                static_cast<unsigned long>(attributes.size_bytes), HumanTime(attributes.mtime_ns).c_str(), entry.name.c_str(),
                attributes.type == FileType::kSymlink ? " -> " : "", attributes.symlink_target.c_str());
  }
}

struct TreeTotals {
  uint64_t bytes = 0;
  uint64_t files = 0;
  uint64_t directories = 0;
};

// Depth first with an explicit stack: trees may be deeper than ours.
Result<TreeTotals> SumTree(client::Filesystem& filesystem, const Attributes& top) {
  TreeTotals totals;
  std::vector<InodeId> pending;
  const auto count = [&](const Attributes& attributes) {
    if (attributes.type == FileType::kDirectory) {
      ++totals.directories;
      pending.push_back(attributes.inode);
    } else {
      ++totals.files;
      totals.bytes += attributes.size_bytes;
    }
  };
  count(top);
  while (!pending.empty()) {
    const InodeId directory = pending.back();
    pending.pop_back();
    ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, ListDirectory(filesystem, directory, false));
    for (const DirectoryEntry& entry : entries) count(entry.attributes);
  }
  return totals;
}

// Removes the names of one directory that are no directories, many at a time.
Status UnlinkAll(client::Filesystem& filesystem, InodeId directory, const std::vector<DirectoryEntry>& entries) {
  std::vector<std::future<Status>> answers;
  for (const DirectoryEntry& entry : entries) {
    if (entry.attributes.type == FileType::kDirectory) continue;
    auto promise = std::make_shared<std::promise<Status>>();
    answers.push_back(promise->get_future());
    filesystem.Unlink(directory, entry.name, CurrentCaller(), [promise](Status status) { promise->set_value(std::move(status)); });
    constexpr size_t kInFlightMax = 256;
    if (answers.size() >= kInFlightMax) {
      for (auto& answer : answers) RETURN_IF_ERROR(answer.get());
      answers.clear();
    }
  }
  for (auto& answer : answers) RETURN_IF_ERROR(answer.get());
  return Status::Ok();
}

Status RemoveTree(client::Filesystem& filesystem, InodeId parent, const std::string& name, InodeId top) {
  struct Level {
    InodeId parent;
    std::string name;
    InodeId inode;
    bool expanded = false;
  };
  std::vector<Level> stack{{parent, name, top}};
  while (!stack.empty()) {
    if (stack.back().expanded) {
      const Level level = stack.back();
      stack.pop_back();
      RETURN_IF_ERROR(client::WaitStatus([&](auto done) { filesystem.RemoveDirectory(level.parent, level.name, CurrentCaller(), std::move(done)); }).WithContext(level.name));
      continue;
    }
    stack.back().expanded = true;
    const InodeId directory = stack.back().inode;
    ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, ListDirectory(filesystem, directory, false));
    RETURN_IF_ERROR(UnlinkAll(filesystem, directory, entries));
    for (const DirectoryEntry& entry : entries) {
      if (entry.attributes.type == FileType::kDirectory) stack.push_back({directory, entry.name, entry.attributes.inode});
    }
  }
  return Status::Ok();
}

Status RemoveOne(const Context& context, const RmOptions& options, const std::string& path) {
  ASSIGN_OR_RETURN(const Opened opened, OpenPath(context, path));
  client::Filesystem& filesystem = *opened.filesystem;
  ASSIGN_OR_RETURN(const auto parent_and_name, ResolveParent(filesystem, opened.where.path));
  const auto& [parent, name] = parent_and_name;
  Result<Attributes> attributes = ResolvePath(filesystem, opened.where.path);
  if (!attributes.ok()) {
    return options.force && attributes.status().code() == StatusCode::kNotFound ? Status::Ok() : attributes.status();
  }
  if (attributes->type != FileType::kDirectory) {
    return client::WaitStatus([&](auto done) { filesystem.Unlink(parent.inode, name, CurrentCaller(), std::move(done)); });
  }
  if (!options.recursive) return Status(StatusCode::kIsDirectory, opened.where.path + " is a directory; -r removes it with everything in it");
  return RemoveTree(filesystem, parent.inode, name, attributes->inode);
}

}  // namespace

Status RunLs(const Context& context, const LsOptions& options) {
  ASSIGN_OR_RETURN(const Opened opened, OpenPath(context, options.path));
  ASSIGN_OR_RETURN(const Attributes attributes, ResolvePath(*opened.filesystem, opened.where.path));
  std::vector<DirectoryEntry> entries;
  if (attributes.type == FileType::kDirectory) {
    ASSIGN_OR_RETURN(entries, ListDirectory(*opened.filesystem, attributes.inode, true));
  } else {
    entries.push_back({LastName(opened.where.path), 0, attributes});
  }
  PrintEntries(context, options, entries);
  return Status::Ok();
}

Status RunStat(const Context& context, const std::string& path) {
  ASSIGN_OR_RETURN(const Opened opened, OpenPath(context, path));
  ASSIGN_OR_RETURN(const Attributes attributes, ResolvePath(*opened.filesystem, opened.where.path));
  const nlohmann::ordered_json json = ToJson(LastName(opened.where.path), attributes);
  if (context.json) {
    std::printf("%s\n", Dump(json).c_str());
    return Status::Ok();
  }
  for (const auto& [key, value] : json.items()) {
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (key == "mode") text = ModeString(TypeLetter(attributes.type), attributes.mode);
    if (key.ends_with("time_ns")) text = HumanTime(value.get<int64_t>()) + " UTC";
    std::printf("%-20s %s\n", key.c_str(), text.c_str());
  }
  return Status::Ok();
}

Status RunRm(const Context& context, const RmOptions& options) {
  for (const std::string& path : options.paths) RETURN_IF_ERROR(RemoveOne(context, options, path));
  if (context.json) std::printf("{\"removed\": %zu}\n", options.paths.size());
  return Status::Ok();
}

Status RunDu(const Context& context, const std::string& path) {
  ASSIGN_OR_RETURN(const Opened opened, OpenPath(context, path));
  ASSIGN_OR_RETURN(const Attributes top, ResolvePath(*opened.filesystem, opened.where.path));
  ASSIGN_OR_RETURN(const TreeTotals totals, SumTree(*opened.filesystem, top));
  if (context.json) {
    std::printf("%s\n", Dump({{"path", opened.where.path}, {"bytes", totals.bytes}, {"files", totals.files}, {"directories", totals.directories}}).c_str());
  } else {
    std::printf("%s in %lu files and %lu directories  %s\n", HumanBytes(totals.bytes).c_str(), static_cast<unsigned long>(totals.files),
                static_cast<unsigned long>(totals.directories), path.c_str());
  }
  return Status::Ok();
}

}  // namespace tarn::cli
