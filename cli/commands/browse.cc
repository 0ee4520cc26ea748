#include "cli/commands/browse.h"

#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/dev/process.h"
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
    case FileType::kRegular:
      return '-';
    case FileType::kDirectory:
      return 'd';
    case FileType::kSymlink:
      return 'l';
    case FileType::kCharacterDevice:
      return 'c';
    case FileType::kBlockDevice:
      return 'b';
    case FileType::kFifo:
      return 'p';
    case FileType::kSocket:
      return 's';
  }
  return '?';
}

const char* TypeName(FileType type) {
  switch (type) {
    case FileType::kRegular:
      return "file";
    case FileType::kDirectory:
      return "directory";
    case FileType::kSymlink:
      return "symlink";
    case FileType::kCharacterDevice:
      return "character-device";
    case FileType::kBlockDevice:
      return "block-device";
    case FileType::kFifo:
      return "fifo";
    case FileType::kSocket:
      return "socket";
  }
  return "unknown";
}

// JSON text is UTF-8; a name that is not goes out with its bad bytes replaced.
std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

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
    std::printf("%s %4u %6u %6u %12lu %s %s%s%s\n", ModeString(TypeLetter(attributes.type), attributes.mode).c_str(),
                attributes.nlink, attributes.uid, attributes.gid, static_cast<unsigned long>(attributes.size_bytes),
                HumanTime(attributes.mtime_ns).c_str(), entry.name.c_str(),
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

Result<uint64_t> AskForNumber(client::Filesystem& filesystem, InodeId inode, const std::string& name) {
  ASSIGN_OR_RETURN(const std::string text,
                   client::Wait<std::string>([&](auto done) { filesystem.GetXattr(inode, name, std::move(done)); }));
  uint64_t number = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc()) {
    return Status(StatusCode::kInternal, name + " is '" + text + "', not a number");
  }
  return number;
}

// What the server counts: no walk. Changes made just now may still be on their way up from directories below: they get
// a moment.
Result<TreeTotals> AskForTotals(client::Filesystem& filesystem, InodeId directory) {
  constexpr int kTriesMax = 40;
  constexpr int64_t kPauseMs = 50;
  for (int tries = 0; tries < kTriesMax; ++tries) {
    ASSIGN_OR_RETURN(const uint64_t unsettled, AskForNumber(filesystem, directory, "tarn.dir.unsettled"));
    if (unsettled == 0) break;
    PauseMs(kPauseMs);
  }
  TreeTotals totals;
  ASSIGN_OR_RETURN(totals.bytes, AskForNumber(filesystem, directory, "tarn.dir.bytes"));
  ASSIGN_OR_RETURN(totals.files, AskForNumber(filesystem, directory, "tarn.dir.files"));
  ASSIGN_OR_RETURN(totals.directories, AskForNumber(filesystem, directory, "tarn.dir.directories"));
  ++totals.directories;  // itself
  return totals;
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

Status RunDu(const Context& context, const DuOptions& options) {
  ASSIGN_OR_RETURN(const Opened opened, OpenPath(context, options.path));
  ASSIGN_OR_RETURN(const Attributes top, ResolvePath(*opened.filesystem, opened.where.path));
  const bool walk = options.walk || top.type != FileType::kDirectory;
  ASSIGN_OR_RETURN(const TreeTotals totals,
                   walk ? SumTree(*opened.filesystem, top) : AskForTotals(*opened.filesystem, top.inode));
  if (context.json) {
    std::printf("%s\n", Dump({{"path", opened.where.path},
                              {"bytes", totals.bytes},
                              {"files", totals.files},
                              {"directories", totals.directories}})
                            .c_str());
  } else {
    std::printf("%s in %lu files and %lu directories  %s\n", HumanBytes(totals.bytes).c_str(),
                static_cast<unsigned long>(totals.files), static_cast<unsigned long>(totals.directories),
                options.path.c_str());
  }
  return Status::Ok();
}

}  // namespace tarn::cli
