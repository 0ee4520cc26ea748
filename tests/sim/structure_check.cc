#include "tests/sim/structure_check.h"

#include <map>
#include <set>

#include "metaserver/state/keys.h"
#include "metaserver/state/records.h"

namespace tarn::sim {
namespace {

struct Tally {
  std::map<uint64_t, proto::Attributes> inodes;
  std::map<uint64_t, uint64_t> names;           // inode -> how many
  std::map<uint64_t, uint64_t> entries;         // directory -> how many
  std::map<uint64_t, uint64_t> subdirectories;  // directory -> how many
  std::map<uint64_t, uint64_t> name_parent;     // inode -> the directory of one of its names
  std::map<uint64_t, proto::FileType> name_type;
  std::set<uint64_t> orphans;
  std::set<uint64_t> sessions;
  std::set<uint64_t> result_sessions;
  std::map<uint32_t, proto::Volume> volumes;
  std::map<uint32_t, meta::VolumeCounters> counters;
};

std::string Name(uint64_t inode) { return "inode " + std::to_string(inode); }

// What a name adds. False if it cannot be parsed.
bool CountName(std::string_view key, std::string_view value, Tally* tally) {
  const auto parts = meta::ParseDentryKey(key);
  const auto record = meta::ParseDentry(value);
  if (!parts || !record.ok()) return false;
  const uint64_t parent = parts->parent.value();
  ++tally->names[record->inode()];
  ++tally->entries[parent];
  tally->name_parent[record->inode()] = parent;
  tally->name_type[record->inode()] = record->type();
  if (record->type() == proto::FILE_TYPE_DIRECTORY) ++tally->subdirectories[parent];
  return true;
}

bool CountKey(std::string_view key, std::string_view value, Tally* tally) {
  switch (static_cast<meta::KeyKind>(key[0])) {
    case meta::KeyKind::kInode: {
      const auto attributes = meta::ParseInode(value);
      if (!attributes.ok()) return false;
      tally->inodes[attributes->inode()] = *attributes;
      return true;
    }
    case meta::KeyKind::kDentry:
      return CountName(key, value, tally);
    case meta::KeyKind::kOrphan:
      tally->orphans.insert(meta::ParseTrailingId(key).value_or(0));
      return true;
    case meta::KeyKind::kSession:
      tally->sessions.insert(meta::ParseTrailingId(key).value_or(0));
      return true;
    case meta::KeyKind::kSessionResult:
      tally->result_sessions.insert(meta::ParseTrailingId(key.substr(0, 9)).value_or(0));
      return true;
    case meta::KeyKind::kVolume: {
      proto::Volume volume;
      if (!volume.ParseFromArray(value.data(), static_cast<int>(value.size()))) return false;
      tally->volumes[volume.id()] = volume;
      return true;
    }
    case meta::KeyKind::kVolumeCounters: {
      const auto counters = meta::DecodeVolumeCounters(value);
      if (!counters || key.size() != 5) return false;
      uint32_t id = 0;
      for (const char c : key.substr(1)) id = id << 8 | static_cast<uint8_t>(c);
      tally->counters[id] = *counters;
      return true;
    }
    default:
      return true;
  }
}

std::string CheckDirectory(const Tally& tally, const proto::Attributes& directory, bool is_root) {
  const auto count = [](const std::map<uint64_t, uint64_t>& counts, uint64_t inode) {
    const auto found = counts.find(inode);
    return found != counts.end() ? found->second : 0;
  };
  const uint64_t inode = directory.inode();
  if (directory.nlink() != 2 + count(tally.subdirectories, inode)) return Name(inode) + ": wrong link count";
  if (directory.size_bytes() != count(tally.entries, inode)) return Name(inode) + ": wrong count of entries";
  const uint64_t names = count(tally.names, inode);
  if (is_root) return names == 0 ? "" : Name(inode) + ": a root with a name";
  if (names != 1) return Name(inode) + ": a directory with " + std::to_string(names) + " names";
  return tally.name_parent.at(inode) == directory.parent() ? "" : Name(inode) + ": its name is elsewhere";
}

std::string CheckInode(const Tally& tally, const proto::Attributes& attributes, bool is_root) {
  const uint64_t inode = attributes.inode();
  const auto type = tally.name_type.find(inode);
  if (type != tally.name_type.end() && type->second != attributes.type())
    return Name(inode) + ": its name says another type";
  if (attributes.type() == proto::FILE_TYPE_DIRECTORY) return CheckDirectory(tally, attributes, is_root);
  const auto names = tally.names.find(inode);
  const uint64_t count = names != tally.names.end() ? names->second : 0;
  if (attributes.nlink() != count) {
    return Name(inode) + ": " + std::to_string(attributes.nlink()) + " links, " + std::to_string(count) + " names";
  }
  if ((count == 0) != tally.orphans.contains(inode))
    return Name(inode) + ": nameless without a holder, or held with a name";
  return {};
}

std::string CheckCounters(const Tally& tally) {
  std::map<uint32_t, meta::VolumeCounters> sums;
  for (const auto& [inode, attributes] : tally.inodes) {
    meta::VolumeCounters& sum = sums[attributes.volume()];
    if (attributes.type() == proto::FILE_TYPE_REGULAR) sum.used_bytes += attributes.size_bytes();
    ++sum.used_inodes;
  }
  for (const auto& [id, volume] : tally.volumes) {
    meta::VolumeCounters sum = sums[id];
    --sum.used_inodes;  // the root
    const auto counters = tally.counters.find(id);
    if (counters == tally.counters.end() || counters->second != sum) {
      return "volume " + std::to_string(id) + ": its counters are not the sums";
    }
  }
  return {};
}

}  // namespace

std::string CheckStructure(const meta::MemoryKv::Contents& contents) {
  Tally tally;
  for (const auto& [key, value] : contents) {
    if (!CountKey(key, value, &tally)) return "a record of kind " + key.substr(0, 1) + " cannot be parsed";
  }
  std::set<uint64_t> roots;
  for (const auto& [id, volume] : tally.volumes) roots.insert(volume.root());
  for (const auto& [inode, count] : tally.names) {
    if (!tally.inodes.contains(inode)) return Name(inode) + ": has a name but is not there";
  }
  for (const auto& [directory, count] : tally.entries) {
    if (!tally.inodes.contains(directory)) return Name(directory) + ": has entries but is not there";
  }
  for (const uint64_t orphan : tally.orphans) {
    if (!tally.inodes.contains(orphan)) return Name(orphan) + ": is held but is not there";
  }
  for (const auto& [inode, attributes] : tally.inodes) {
    std::string wrong = CheckInode(tally, attributes, roots.contains(inode));
    if (!wrong.empty()) return wrong;
  }
  for (const uint64_t session : tally.result_sessions) {
    if (!tally.sessions.contains(session))
      return "results of session " + std::to_string(session) + ", which is not open";
  }
  return CheckCounters(tally);
}

std::string CompareNames(const meta::MemoryKv::Contents& contents, const NamespaceModel& model) {
  std::map<std::pair<uint64_t, std::string>, uint64_t> expected;
  for (const auto& [inode, record] : model.inodes()) {
    for (const auto& [name, child] : record.entries) expected[{inode, name}] = child;
  }
  for (const auto& [key, value] : contents) {
    if (key[0] != static_cast<char>(meta::KeyKind::kDentry)) continue;
    const auto parts = meta::ParseDentryKey(key);
    const auto record = meta::ParseDentry(value);
    if (!parts || !record.ok()) return "a name cannot be parsed";
    const auto found = expected.find({parts->parent.value(), std::string(parts->name)});
    if (found == expected.end()) return "a name that should not be there: " + std::string(parts->name);
    if (found->second != record->inode()) return "a name of another inode: " + std::string(parts->name);
    expected.erase(found);
  }
  return expected.empty() ? "" : "a name is missing: " + expected.begin()->first.second;
}

}  // namespace tarn::sim
