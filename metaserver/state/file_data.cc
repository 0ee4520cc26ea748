#include "metaserver/state/file_data.h"

#include <algorithm>
#include <set>
#include <string>

#include "common/layout/layout.h"
#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/group_members.h"

namespace tarn::meta {
namespace {

constexpr uint32_t kSetUserId = 04000;
constexpr uint32_t kSetGroupId = 02000;
constexpr uint32_t kGroupExecute = 00010;

FileLayout FromProto(const proto::Layout& layout) {
  return FileLayout{.group_set = GroupSetVersion(layout.group_set_version()),
                    .seed = layout.seed(),
                    .stripe_unit_bytes = layout.stripe_unit_bytes(),
                    .width = layout.width(),
                    .chunk_size_bytes = layout.chunk_size_bytes()};
}

const proto::GroupSet* FindGroupSet(const proto::ClusterMap& map, uint32_t version) {
  const auto found = std::ranges::find(map.group_sets(), version, &proto::GroupSet::version);
  return found != map.group_sets().end() ? &*found : nullptr;
}

struct Holders {
  std::set<uint64_t> targets;  // without retired ones
  uint64_t epochs = 0;         // the sum of the groups' epochs: it rises when members change
};

// Every target of every column: bytes may have been written beyond the committed size.
Holders HoldersOf(const proto::ClusterMap& map, const proto::Layout& layout) {
  Holders holders;
  const proto::GroupSet* group_set = FindGroupSet(map, layout.group_set_version());
  if (group_set == nullptr || group_set->groups().empty()) return holders;
  const auto group_count = static_cast<uint32_t>(group_set->groups_size());
  for (uint32_t column = 0; column < std::min(layout.width(), group_count); ++column) {
    const uint32_t index = GroupIndexOfColumn(FromProto(layout), column, group_count);
    const proto::PlacementGroup* group = FindGroup(map, group_set->groups(static_cast<int>(index)));
    if (group == nullptr) continue;
    holders.epochs += group->epoch();
    holders.targets.insert(group->targets().begin(), group->targets().end());
    holders.targets.insert(group->syncing_targets().begin(), group->syncing_targets().end());
  }
  std::erase_if(holders.targets, [&](uint64_t id) {
    const proto::Target* target = FindTarget(map, id);
    return target == nullptr || target->state() == proto::TARGET_STATE_RETIRED;
  });
  return holders;
}

// One round of asking: each of these targets is to delete it and to say so.
void AskToDelete(CommandContext* context, const Holders& holders, proto::DeadDataRecord* record) {
  record->set_epochs(holders.epochs);
  record->clear_pending_targets();
  const DataId data(record->data_id());
  for (const uint64_t target : holders.targets) {
    record->add_pending_targets(target);
    context->transaction().Put(DeadDataOfTargetKey(TargetId(target), record->dead_since_ns(), data), "");
  }
  context->transaction().Put(DeadDataKey(data), Encode(*record));
}

Status AddToDeadDataCount(CommandContext* context, int delta) {
  ASSIGN_OR_RETURN(const uint64_t count, ReadDeadDataCount(context->view()));
  context->transaction().Put(DeadDataCountKey(), EncodeU64(count + static_cast<uint64_t>(static_cast<int64_t>(delta))));
  return Status::Ok();
}

Result<uint64_t> SizeMaxOf(const CommandContext& context, const proto::Attributes& file) {
  if (file.data_id() != 0) return FileSizeMaxOf(FromProto(file.layout()));
  ASSIGN_OR_RETURN(const auto volume, ReadVolume(context.view(), VolumeId(file.volume())));
  if (!volume) return kFileSizeMax;  // of a deleted volume; what grows it is refused elsewhere
  FileLayout layout;
  layout.stripe_unit_bytes = volume->stripe_unit_bytes();
  layout.width = volume->stripe_width();
  layout.chunk_size_bytes = volume->chunk_size_bytes();
  return FileSizeMaxOf(layout);
}

}  // namespace

Result<proto::Layout> LayoutForNewFile(const proto::ClusterMap& map, const proto::Volume& volume) {
  const proto::GroupSet* newest = nullptr;
  for (const proto::GroupSet& group_set : map.group_sets()) {
    if (group_set.replicas() != volume.replicas() || group_set.groups().empty()) continue;
    if (newest == nullptr || group_set.version() > newest->version()) newest = &group_set;
  }
  if (newest == nullptr) {
    return Status(StatusCode::kNoSpace, "volume " + volume.name() +
                                            " has nowhere to put data: there are no placement groups with " +
                                            std::to_string(volume.replicas()) + " replica(s) yet");
  }
  proto::Layout layout;
  layout.set_group_set_version(newest->version());
  layout.set_stripe_unit_bytes(volume.stripe_unit_bytes());
  layout.set_width(volume.stripe_width());
  layout.set_chunk_size_bytes(volume.chunk_size_bytes());
  return layout;
}

Status CheckLayout(const proto::ClusterMap& map, const proto::Layout& layout) {
  RETURN_IF_ERROR(ValidateLayout(FromProto(layout)));
  if (FindGroupSet(map, layout.group_set_version()) == nullptr) {
    return Status(StatusCode::kInvalidArgument,
                  "group set " + std::to_string(layout.group_set_version()) + " of the layout does not exist");
  }
  return Status::Ok();
}

Status CheckSizeFits(const CommandContext& context, const proto::Attributes& file, uint64_t size_bytes) {
  ASSIGN_OR_RETURN(const uint64_t size_max, SizeMaxOf(context, file));
  if (size_bytes <= size_max) return Status::Ok();
  return Status(StatusCode::kFileTooLarge, "a size of " + std::to_string(size_bytes) +
                                               " bytes is above the largest one, " + std::to_string(size_max));
}

Result<proto::Attributes> RegularFile(const CommandContext& context, InodeId inode) {
  ASSIGN_OR_RETURN(proto::Attributes file, context.Inode(inode));
  if (file.type() == proto::FILE_TYPE_DIRECTORY) {
    return Status(StatusCode::kIsDirectory, "inode " + std::to_string(inode.value()) + " is a directory");
  }
  if (file.type() != proto::FILE_TYPE_REGULAR) {
    return Status(StatusCode::kInvalidArgument, "inode " + std::to_string(inode.value()) + " is not a regular file");
  }
  return file;
}

Status Resize(CommandContext* context, proto::Attributes* file, uint64_t size_bytes) {
  if (size_bytes > file->size_bytes()) RETURN_IF_ERROR(CheckSizeFits(*context, *file, size_bytes));
  const auto delta = static_cast<int64_t>(size_bytes) - static_cast<int64_t>(file->size_bytes());
  RETURN_IF_ERROR(context->Charge(VolumeId(file->volume()), delta, 0));
  RETURN_IF_ERROR(CountResize(context, *file, delta));
  file->set_size_bytes(size_bytes);
  return Status::Ok();
}

Status MakeDataDead(CommandContext* context, const proto::Attributes& file) {
  if (file.data_id() == 0) return Status::Ok();
  const Holders holders = HoldersOf(context->map(), file.layout());
  if (holders.targets.empty()) return Status::Ok();
  const DataId data(file.data_id());
  proto::DeadDataRecord record;
  record.set_data_id(data.value());
  *record.mutable_layout() = file.layout();
  record.set_size_bytes(file.size_bytes());
  record.set_dead_since_ns(context->now_ns());
  AskToDelete(context, holders, &record);
  return AddToDeadDataCount(context, 1);
}

Status MakeUnknownDataDead(CommandContext* context, DataId data, uint64_t bytes, const std::vector<uint64_t>& targets) {
  proto::DeadDataRecord record;
  record.set_data_id(data.value());
  record.set_size_bytes(bytes);
  record.set_dead_since_ns(context->now_ns());
  AskToDelete(context, {.targets = {targets.begin(), targets.end()}}, &record);
  return AddToDeadDataCount(context, 1);
}

Status DataReclaimedFrom(CommandContext* context, TargetId target, DataId data) {
  ASSIGN_OR_RETURN(auto record, ReadDeadData(context->view(), data));
  if (!record) return Status::Ok();
  auto* pending = record->mutable_pending_targets();
  const auto found = std::ranges::find(*pending, target.value());
  if (found == pending->end()) return Status::Ok();
  pending->erase(found);
  context->transaction().Delete(DeadDataOfTargetKey(target, record->dead_since_ns(), data));
  if (!pending->empty()) {
    context->transaction().Put(DeadDataKey(data), Encode(*record));
    return Status::Ok();
  }
  // Members that changed meanwhile may have copied it from one that had it still.
  const Holders holders = HoldersOf(context->map(), record->layout());
  if (holders.epochs != record->epochs() && !holders.targets.empty()) {
    AskToDelete(context, holders, &*record);
    return Status::Ok();
  }
  context->transaction().Delete(DeadDataKey(data));
  return AddToDeadDataCount(context, -1);
}

void ClearSuidSgid(proto::Attributes* file) {
  uint32_t mode = file->mode() & ~kSetUserId;
  if ((mode & kGroupExecute) != 0) mode &= ~kSetGroupId;
  file->set_mode(mode);
}

}  // namespace tarn::meta
