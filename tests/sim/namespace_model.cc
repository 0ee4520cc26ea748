#include "tests/sim/namespace_model.h"

#include <utility>

namespace tarn::sim {
namespace {

using Expected = NamespaceModel::Expected;

Expected Is(StatusCode code) { return {{code}, 0}; }
Expected Made(uint64_t inode) { return {{StatusCode::kOk}, inode}; }

}  // namespace

void NamespaceModel::SetRoot(uint64_t root) {
  root_ = root;
  inodes_[root] = {proto::FILE_TYPE_DIRECTORY, 0755, {}, root};
}

bool NamespaceModel::IsDirectory(uint64_t inode) const {
  const auto found = inodes_.find(inode);
  return found != inodes_.end() && found->second.type == proto::FILE_TYPE_DIRECTORY;
}

NamespaceModel::Inode* NamespaceModel::Directory(uint64_t inode) {
  return IsDirectory(inode) ? &inodes_.at(inode) : nullptr;
}

uint64_t NamespaceModel::LinksOf(uint64_t inode) const {
  uint64_t links = IsDirectory(inode) ? 2 : 0;
  if (IsDirectory(inode)) {
    for (const auto& [name, child] : inodes_.at(inode).entries) links += IsDirectory(child) ? 1 : 0;
    return links;
  }
  for (const auto& [id, other] : inodes_) {
    for (const auto& [name, child] : other.entries) links += child == inode ? 1 : 0;
  }
  return links;
}

void NamespaceModel::DropIfNameless(uint64_t inode) {
  if (LinksOf(inode) > 0) return;
  inodes_.erase(inode);
  nameless_.insert(inode);
}

bool NamespaceModel::IsUnder(uint64_t directory, uint64_t ancestor) const {
  while (directory != ancestor && directory != root_) directory = inodes_.at(directory).parent;
  return directory == ancestor;
}

Expected NamespaceModel::Add(uint64_t parent, const std::string& name, proto::FileType type, uint32_t mode,
                             uint64_t made) {
  Inode* directory = Directory(parent);
  if (directory == nullptr) return Is(StatusCode::kNotFound);
  if (directory->entries.contains(name)) return Is(StatusCode::kExists);
  directory->entries[name] = made;
  inodes_[made] = {type, mode, {}, parent};
  return Made(made);
}

Expected NamespaceModel::Create(const proto::CreateOp& op, uint64_t made) {
  Expected expected = Add(op.parent(), op.name(), proto::FILE_TYPE_REGULAR, op.mode(), made);
  // A file that is there keeps what it has: the client asks again without data.
  if (expected.codes[0] != StatusCode::kExists || op.exclusive() || op.data_id() != 0) return expected;
  const uint64_t existing = Directory(op.parent())->entries.at(op.name());
  if (!IsDirectory(existing)) return Made(existing);
  return Is(StatusCode::kIsDirectory);
}

Expected NamespaceModel::Link(const proto::LinkOp& op) {
  Inode* directory = Directory(op.new_parent());
  if (directory == nullptr) return Is(StatusCode::kNotFound);
  if (nameless_.contains(op.inode()))
    return {{StatusCode::kStaleHandle, StatusCode::kNotFound, StatusCode::kExists}, 0};
  if (!inodes_.contains(op.inode())) return Is(StatusCode::kStaleHandle);
  if (IsDirectory(op.inode())) return Is(StatusCode::kNotPermitted);
  if (directory->entries.contains(op.new_name())) return Is(StatusCode::kExists);
  directory->entries[op.new_name()] = op.inode();
  return Made(op.inode());
}

Expected NamespaceModel::Unlink(const proto::UnlinkOp& op) {
  Inode* directory = Directory(op.parent());
  if (directory == nullptr || !directory->entries.contains(op.name())) return Is(StatusCode::kNotFound);
  const uint64_t inode = directory->entries[op.name()];
  if (IsDirectory(inode)) return Is(StatusCode::kIsDirectory);
  directory->entries.erase(op.name());
  DropIfNameless(inode);
  return Is(StatusCode::kOk);
}

Expected NamespaceModel::Rmdir(const proto::RmdirOp& op) {
  Inode* directory = Directory(op.parent());
  if (directory == nullptr || !directory->entries.contains(op.name())) return Is(StatusCode::kNotFound);
  const uint64_t inode = directory->entries[op.name()];
  if (!IsDirectory(inode)) return Is(StatusCode::kNotDirectory);
  if (!inodes_.at(inode).entries.empty()) return Is(StatusCode::kNotEmpty);
  directory->entries.erase(op.name());
  inodes_.erase(inode);
  return Is(StatusCode::kOk);
}

Expected NamespaceModel::Rename(const proto::RenameOp& op) {
  Inode* from = Directory(op.parent());
  Inode* to = Directory(op.new_parent());
  if (from == nullptr || to == nullptr || !from->entries.contains(op.name())) return Is(StatusCode::kNotFound);
  const uint64_t source = from->entries[op.name()];
  const uint64_t target = to->entries.contains(op.new_name()) ? to->entries[op.new_name()] : 0;
  if (op.no_replace() && target != 0) return Is(StatusCode::kExists);
  if (op.exchange() && target == 0) return Is(StatusCode::kNotFound);
  if (from != to && IsDirectory(source) && IsUnder(op.new_parent(), source)) return Is(StatusCode::kInvalidArgument);
  if (from != to && op.exchange() && IsDirectory(target) && IsUnder(op.parent(), target))
    return Is(StatusCode::kInvalidArgument);
  if (source == target) return Is(StatusCode::kOk);
  if (op.exchange()) {
    std::swap(from->entries[op.name()], to->entries[op.new_name()]);
    if (IsDirectory(source)) inodes_.at(source).parent = op.new_parent();
    if (IsDirectory(target)) inodes_.at(target).parent = op.parent();
    return Is(StatusCode::kOk);
  }
  if (target != 0 && IsDirectory(source) && !IsDirectory(target)) return Is(StatusCode::kNotDirectory);
  if (target != 0 && !IsDirectory(source) && IsDirectory(target)) return Is(StatusCode::kIsDirectory);
  if (target != 0 && IsDirectory(target) && !inodes_.at(target).entries.empty()) return Is(StatusCode::kNotEmpty);
  from->entries.erase(op.name());
  to->entries[op.new_name()] = source;
  if (IsDirectory(source)) inodes_.at(source).parent = op.new_parent();
  if (target != 0 && IsDirectory(target)) {
    inodes_.erase(target);
  } else if (target != 0) {
    DropIfNameless(target);
  }
  return Is(StatusCode::kOk);
}

Expected NamespaceModel::SetAttr(const proto::SetAttrOp& op) {
  if (nameless_.contains(op.inode())) return {{StatusCode::kOk, StatusCode::kStaleHandle}, 0};
  const auto found = inodes_.find(op.inode());
  if (found == inodes_.end()) return Is(StatusCode::kStaleHandle);
  if (op.has_mode()) found->second.mode = op.mode();
  return Made(op.inode());
}

std::optional<Expected> NamespaceModel::Apply(const proto::LogCommand& command) {
  const proto::Mutation& mutation = command.mutation();
  switch (mutation.op_case()) {
    case proto::Mutation::kCreate:
      return Create(mutation.create(), command.inode());
    case proto::Mutation::kMkdir:
      return Add(mutation.mkdir().parent(), mutation.mkdir().name(), proto::FILE_TYPE_DIRECTORY,
                 mutation.mkdir().mode(), command.inode());
    case proto::Mutation::kLink:
      return Link(mutation.link());
    case proto::Mutation::kUnlink:
      return Unlink(mutation.unlink());
    case proto::Mutation::kRmdir:
      return Rmdir(mutation.rmdir());
    case proto::Mutation::kRename:
      return Rename(mutation.rename());
    case proto::Mutation::kSetAttr:
      return SetAttr(mutation.set_attr());
    default:
      return std::nullopt;
  }
}

// ---- Reads ----

std::string NamespaceModel::CheckAttributes(const proto::Attributes& found) const {
  const Inode& inode = inodes_.at(found.inode());
  if (found.type() != inode.type) return "another type";
  if (found.mode() != inode.mode)
    return "mode " + std::to_string(found.mode()) + " instead of " + std::to_string(inode.mode);
  if (found.nlink() != LinksOf(found.inode())) {
    return "link count " + std::to_string(found.nlink()) + " instead of " + std::to_string(LinksOf(found.inode()));
  }
  if (inode.type != proto::FILE_TYPE_DIRECTORY) return {};
  if (found.size_bytes() != inode.entries.size()) {
    return "size " + std::to_string(found.size_bytes()) + " instead of " + std::to_string(inode.entries.size());
  }
  return found.parent() == inode.parent ? "" : "another parent";
}

std::string NamespaceModel::CheckLookup(const proto::LookupRequest& request, StatusCode code, uint64_t found) const {
  const auto directory = inodes_.find(request.parent());
  const bool exists = directory != inodes_.end() && directory->second.entries.contains(request.name());
  if (!exists) return code == StatusCode::kNotFound ? "" : "finds a name that is not there";
  if (code != StatusCode::kOk) return "does not find a name that is there: " + StatusCodeName(code);
  return found == directory->second.entries.at(request.name()) ? "" : "finds another inode";
}

std::string NamespaceModel::CheckFound(const proto::Attributes& found) const {
  if (inodes_.contains(found.inode())) return CheckAttributes(found);
  return found.nlink() == 0 && nameless_.contains(found.inode()) ? "" : "attributes of an inode that is gone";
}

std::string NamespaceModel::CheckGetAttr(const proto::GetAttrRequest& request, StatusCode code,
                                         const proto::Attributes& found) const {
  if (!inodes_.contains(request.inode())) {
    if (code == StatusCode::kStaleHandle) return {};
    return code == StatusCode::kOk && found.nlink() == 0 && nameless_.contains(request.inode())
               ? ""
               : "finds an inode that is gone";
  }
  if (code != StatusCode::kOk) return "does not find an inode that is there: " + StatusCodeName(code);
  if (found.inode() != request.inode()) return "another inode";
  return CheckAttributes(found);
}

std::string NamespaceModel::CheckReadDir(const proto::ReadDirRequest& request, StatusCode code,
                                         const proto::ReadDirReply& found) const {
  if (!IsDirectory(request.directory())) return code == StatusCode::kNotFound ? "" : "lists a directory that is gone";
  if (code != StatusCode::kOk) return "does not list a directory that is there: " + StatusCodeName(code);
  const auto& entries = inodes_.at(request.directory()).entries;
  if (!found.end() || static_cast<size_t>(found.entries_size()) != entries.size()) {
    return "lists " + std::to_string(found.entries_size()) + " names instead of " + std::to_string(entries.size());
  }
  for (const proto::Entry& entry : found.entries()) {
    const auto expected = entries.find(entry.name());
    if (expected == entries.end()) return "lists a name that is not there";
    if (entry.attributes().inode() != expected->second) return "lists another inode";
  }
  return {};
}

}  // namespace tarn::sim
