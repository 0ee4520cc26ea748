#include "metaserver/state/namespace_reads.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "metaserver/state/limits.h"
#include "metaserver/state/names.h"
#include "metaserver/state/records.h"
#include "metaserver/state/transaction.h"

namespace tarn::meta {
namespace {

std::string InodeText(InodeId inode) { return "inode " + std::to_string(inode.value()); }

Result<proto::Attributes> ExistingInode(const KvView& view, InodeId inode) {
  ASSIGN_OR_RETURN(auto attributes, ReadInode(view, inode));
  if (!attributes) return Status(StatusCode::kStaleHandle, InodeText(inode) + " does not exist");
  return std::move(*attributes);
}

Result<proto::Attributes> ExistingDirectory(const KvView& view, InodeId inode) {
  ASSIGN_OR_RETURN(auto attributes, ReadInode(view, inode));
  if (!attributes) return Status(StatusCode::kNotFound, "directory " + InodeText(inode) + " does not exist");
  if (attributes->type() != proto::FILE_TYPE_DIRECTORY) {
    return Status(StatusCode::kNotDirectory, InodeText(inode) + " is not a directory");
  }
  return std::move(*attributes);
}

// The inode of a name, or nullopt if the name's inode went between the two reads.
Result<std::optional<proto::Attributes>> TryChild(const KvView& view, InodeId parent, std::string_view name) {
  ASSIGN_OR_RETURN(const auto dentry, ReadDentry(view, parent, name));
  if (dentry) return ReadInode(view, InodeId(dentry->inode()));
  ASSIGN_OR_RETURN(const proto::Attributes directory, ExistingDirectory(view, parent));  // a name needs a directory
  return Status(StatusCode::kNotFound, "no such name in directory " + InodeText(InodeId(directory.inode())));
}

Result<proto::Attributes> Child(const KvStore& store, InodeId parent, std::string_view name) {
  const LatestView latest(&store);
  if (name == ".") return ExistingDirectory(latest, parent);
  if (name == "..") {
    ASSIGN_OR_RETURN(const proto::Attributes directory, ExistingDirectory(latest, parent));
    return ExistingDirectory(latest, InodeId(directory.parent()));
  }
  RETURN_IF_ERROR(CheckName(name));
  ASSIGN_OR_RETURN(auto child, TryChild(latest, parent, name));
  if (child) return std::move(*child);
  // Replaced meanwhile: in one view both records are there.
  const std::unique_ptr<KvView> view = store.View();
  ASSIGN_OR_RETURN(child, TryChild(*view, parent, name));
  if (child) return std::move(*child);
  return Status(StatusCode::kCorruption, "a name in directory " + InodeText(parent) + " points at no inode");
}

void AddEntry(const DentryKeyParts& key, const proto::DentryRecord& dentry, proto::ReadDirReply* reply) {
  proto::Entry* entry = reply->add_entries();
  entry->set_name(std::string(key.name));
  entry->set_cookie(key.cookie);
  entry->mutable_attributes()->set_inode(dentry.inode());
  entry->mutable_attributes()->set_type(dentry.type());
}

// Attributes from after the listing are as good as from during it; a name whose inode went meanwhile is left out.
Status AddAttributes(const KvStore& store, proto::ReadDirReply* reply) {
  const LatestView latest(&store);
  int kept = 0;
  for (int i = 0; i < reply->entries_size(); ++i) {
    ASSIGN_OR_RETURN(auto attributes, ReadInode(latest, InodeId(reply->entries(i).attributes().inode())));
    if (!attributes) continue;
    *reply->mutable_entries(i)->mutable_attributes() = std::move(*attributes);
    reply->mutable_entries()->SwapElements(i, kept++);
  }
  reply->mutable_entries()->DeleteSubrange(kept, reply->entries_size() - kept);
  return Status::Ok();
}

// About what an entry takes in the reply, its attributes included.
size_t EntryBytes(size_t name_bytes, bool with_attributes) { return name_bytes + (with_attributes ? 220 : 40); }

// One page of names after the cookie; `last_cookie` is that of the last name seen.
Status ListNames(const KvView& view, const proto::ReadDirRequest& request, uint64_t after_cookie, uint64_t* last_cookie,
                 proto::ReadDirReply* reply) {
  const InodeId directory(request.directory());
  const uint32_t asked = request.entries_max() != 0 ? request.entries_max() : kReadDirEntriesMax;
  const uint32_t entries_max = std::min(asked, kReadDirEntriesMax);
  size_t bytes = 0;
  Status problem;
  reply->set_end(true);
  RETURN_IF_ERROR(view.Scan(DentryPrefix(directory), DentryAfterCookie(directory, after_cookie),
                            [&](std::string_view key, std::string_view value) {
                              const auto parts = ParseDentryKey(key);
                              const Result<proto::DentryRecord> dentry = ParseDentry(value);
                              if (!parts || !dentry.ok()) {
                                problem = Status(StatusCode::kCorruption,
                                                 "an entry of directory " + InodeText(directory) + " cannot be parsed");
                                return false;
                              }
                              const bool full = static_cast<uint32_t>(reply->entries_size()) >= entries_max ||
                                                bytes >= kReadDirBytesMax;
                              if (full && parts->cookie != *last_cookie) {
                                reply->set_end(false);
                                return false;
                              }
                              AddEntry(*parts, *dentry, reply);
                              *last_cookie = parts->cookie;
                              bytes += EntryBytes(parts->name.size(), request.with_attributes());
                              return true;
                            }));
  return problem;
}

Status AddCounters(const KvView& view, proto::Volume* volume) {
  ASSIGN_OR_RETURN(const auto counters, ReadVolumeCounters(view, VolumeId(volume->id())));
  if (!counters) return Status::Ok();
  volume->set_used_bytes(counters->used_bytes);
  volume->set_used_inodes(counters->used_inodes);
  return Status::Ok();
}

Result<std::string> ReadServedXattr(const KvStore& store, const proto::GetXattrRequest& request) {
  const InodeId inode(request.inode());
  const auto none = [&] {
    return Status(StatusCode::kNoAttribute, "the attribute does not exist on " + InodeText(inode));
  };
  const LatestView latest(&store);
  ASSIGN_OR_RETURN(const auto size, ReadDirectorySize(latest, inode));
  if (!size) {
    ASSIGN_OR_RETURN(const proto::Attributes attributes, ExistingInode(latest, inode));
    return none();
  }
  if (request.name() == "tarn.dir.unsettled") {
    ASSIGN_OR_RETURN(const auto header, ReadHeader(latest));
    return std::to_string(header ? header->unpropagated() : 0);
  }
  if (request.name() == "tarn.dir.bytes") return std::to_string(size->total.bytes);
  if (request.name() == "tarn.dir.files") return std::to_string(size->total.files);
  if (request.name() == "tarn.dir.directories") return std::to_string(size->total.directories);
  return none();
}

}  // namespace

Status LookupName(const KvStore& store, const proto::LookupRequest& request, proto::Attributes* attributes) {
  ASSIGN_OR_RETURN(*attributes, Child(store, InodeId(request.parent()), request.name()));
  return Status::Ok();
}

Status LookupPathNames(const KvStore& store, const proto::LookupPathRequest& request, proto::Attributes* attributes) {
  std::string_view rest = request.path();
  if (rest.size() > kPathBytesMax) {
    return Status(StatusCode::kNameTooLong, "a path has at most " + std::to_string(kPathBytesMax) + " bytes");
  }
  ASSIGN_OR_RETURN(*attributes, ExistingInode(LatestView(&store), InodeId(request.root())));
  while (!rest.empty()) {
    const size_t slash = rest.find('/');
    const std::string_view name = rest.substr(0, slash);
    rest = slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1);
    if (name.empty()) continue;
    if (attributes->type() != proto::FILE_TYPE_DIRECTORY) {
      return Status(StatusCode::kNotDirectory,
                    InodeText(InodeId(attributes->inode())) + " on the path is not a directory");
    }
    ASSIGN_OR_RETURN(*attributes, Child(store, InodeId(attributes->inode()), name));
  }
  return Status::Ok();
}

Status ReadAttributes(const KvStore& store, InodeId inode, proto::Attributes* attributes) {
  ASSIGN_OR_RETURN(*attributes, ExistingInode(LatestView(&store), inode));
  return Status::Ok();
}

Status ListDirectory(const KvStore& store, const proto::ReadDirRequest& request, proto::ReadDirReply* reply) {
  reply->Clear();
  const InodeId directory(request.directory());
  const std::unique_ptr<KvView> view = store.View();
  ASSIGN_OR_RETURN(const proto::Attributes attributes, ExistingDirectory(*view, directory));
  uint64_t cookie = request.after_cookie();
  // Once more if every inode of a page went meanwhile: an empty page would look like the end.
  while (true) {
    if (cookie >= kCookieMax) {
      reply->set_end(true);
      return Status::Ok();
    }
    RETURN_IF_ERROR(ListNames(*view, request, cookie, &cookie, reply));
    if (request.with_attributes()) RETURN_IF_ERROR(AddAttributes(store, reply));
    if (reply->entries_size() > 0 || reply->end()) return Status::Ok();
  }
}

Status ReadXattr(const KvStore& store, const proto::GetXattrRequest& request, proto::GetXattrReply* reply) {
  if (request.name().empty() || request.name().size() > kXattrNameBytesMax) {
    return Status(StatusCode::kTooLong, "an attribute's name has 1 to 255 bytes");
  }
  if (request.name().starts_with(kServedXattrPrefix)) {
    ASSIGN_OR_RETURN(*reply->mutable_value(), ReadServedXattr(store, request));
    return Status::Ok();
  }
  ASSIGN_OR_RETURN(auto value, store.Get(XattrKey(InodeId(request.inode()), request.name())));
  if (value) {
    reply->set_value(std::move(*value));
    return Status::Ok();
  }
  ASSIGN_OR_RETURN(const auto inode, ExistingInode(LatestView(&store), InodeId(request.inode())));
  return Status(StatusCode::kNoAttribute, "the attribute does not exist on " + InodeText(InodeId(inode.inode())));
}

Status ListXattrs(const KvStore& store, InodeId inode, proto::ListXattrReply* reply) {
  reply->Clear();
  const std::unique_ptr<KvView> view = store.View();
  ASSIGN_OR_RETURN(const proto::Attributes attributes, ExistingInode(*view, inode));
  if (!attributes.has_xattrs()) return Status::Ok();
  return view->Scan(XattrPrefix(inode), {}, [&](std::string_view key, std::string_view) {
    reply->add_names(std::string(ParseXattrKey(key).value_or("")));
    return true;
  });
}

Status ReadVolumeByName(const KvStore& store, std::string_view name, proto::Volume* volume) {
  const std::unique_ptr<KvView> view = store.View();
  ASSIGN_OR_RETURN(const auto id, ReadVolumeId(*view, name));
  if (!id) return Status(StatusCode::kNotFound, "volume " + std::string(name) + " does not exist");
  ASSIGN_OR_RETURN(auto record, ReadVolume(*view, *id));
  if (!record) return Status(StatusCode::kCorruption, "volume " + std::string(name) + " has no record");
  *volume = std::move(*record);
  return AddCounters(*view, volume);
}

Status ListAllVolumes(const KvStore& store, proto::ListVolumesReply* reply) {
  reply->Clear();
  const std::unique_ptr<KvView> view = store.View();
  bool parsed = true;
  RETURN_IF_ERROR(view->Scan(KindPrefix(KeyKind::kVolume), {}, [&](std::string_view, std::string_view value) {
    parsed = reply->add_volumes()->ParseFromArray(value.data(), static_cast<int>(value.size()));
    return parsed;
  }));
  if (!parsed) return Status(StatusCode::kCorruption, "the record of a volume cannot be parsed");
  for (proto::Volume& volume : *reply->mutable_volumes()) RETURN_IF_ERROR(AddCounters(*view, &volume));
  return Status::Ok();
}

}  // namespace tarn::meta
