// The small records: volumes, sessions' orphans, directories being removed, and counts of them.
#include <algorithm>

#include "metaserver/state/fsck/check_pass.h"
#include "metaserver/state/records.h"

namespace tarn::meta::fsck {
namespace {

Status ReadVolumes(CheckPass* pass) {
  return pass->Scan(KindPrefix(KeyKind::kVolume), [&](std::string_view, std::string_view value) {
    proto::Volume volume;
    if (!volume.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      pass->Found("unreadable-record", "the record of a volume");
      return true;
    }
    VolumeFacts& facts = pass->volumes[volume.id()];
    facts.name = volume.name();
    facts.root = volume.root();
    facts.deleting = volume.deleting();
    pass->roots.insert(volume.root());
    return true;
  });
}

Status ReadRecordedUse(CheckPass* pass) {
  for (auto& [id, facts] : pass->volumes) {
    ASSIGN_OR_RETURN(const auto counters, ReadVolumeCounters(pass->view, VolumeId(id)));
    facts.recorded = counters.value_or(VolumeCounters());
  }
  return Status::Ok();
}

Status CheckOrphans(CheckPass* pass) {
  std::vector<proto::RepairOp::Orphan> orphans;
  RETURN_IF_ERROR(pass->Scan(KindPrefix(KeyKind::kOrphan), [&](std::string_view key, std::string_view) {
    proto::RepairOp::Orphan& orphan = orphans.emplace_back();
    orphan.set_inode(ParseTrailingId(key).value_or(0));
    orphan.set_session(ParseTrailingId(key.substr(0, 9)).value_or(0));
    return true;
  }));
  for (const proto::RepairOp::Orphan& orphan : orphans) {
    ASSIGN_OR_RETURN(const auto session, ReadSession(pass->view, SessionId(orphan.session())));
    ASSIGN_OR_RETURN(const Pointed pointed, ReadPointed(pass->view, InodeId(orphan.inode())));
    // Session 0 stands for those that have not been asked yet whether they have it open.
    const bool is_held = orphan.session() == 0 || session.has_value();
    if (is_held && (pointed.inode || pointed.unreadable)) {
      pass->orphans.insert(orphan.inode());
      continue;
    }
    proto::RepairOp repair;
    *repair.add_orphans() = orphan;
    pass->Found("stale-orphan",
                "inode " + std::to_string(orphan.inode()) + ", held by session " + std::to_string(orphan.session()) +
                    (is_held ? ", does not exist" : ", which does not exist"),
                std::move(repair));
  }
  return Status::Ok();
}

Result<uint64_t> CountKeys(CheckPass* pass, KeyKind kind) {
  uint64_t count = 0;
  RETURN_IF_ERROR(pass->Scan(KindPrefix(kind), [&](std::string_view, std::string_view) {
    ++count;
    return true;
  }));
  return count;
}

std::string Numbers(uint64_t recorded, uint64_t found) {
  return std::to_string(recorded) + " recorded, " + std::to_string(found) + " found";
}

Status CheckCounts(CheckPass* pass) {
  ASSIGN_OR_RETURN(const uint64_t dead, CountKeys(pass, KeyKind::kDeadData));
  ASSIGN_OR_RETURN(const uint64_t dead_recorded, ReadDeadDataCount(pass->view));
  if (dead != dead_recorded) {
    proto::RepairOp repair;
    repair.set_dead_data_count(static_cast<int64_t>(dead) - static_cast<int64_t>(dead_recorded));
    pass->Found("wrong-counter", "dead data ids: " + Numbers(dead_recorded, dead), std::move(repair));
  }
  ASSIGN_OR_RETURN(const auto header, ReadHeader(pass->view));
  ASSIGN_OR_RETURN(const uint64_t unpropagated, CountKeys(pass, KeyKind::kUnpropagated));
  if (!header || (header->unpropagated() == unpropagated && header->purge_directories() == pass->purged.size())) {
    return Status::Ok();
  }
  proto::RepairOp repair;
  repair.set_recount_queues(true);
  pass->Found("wrong-counter",
              "waiting directories: to be propagated " + Numbers(header->unpropagated(), unpropagated) +
                  ", to be purged " + Numbers(header->purge_directories(), pass->purged.size()),
              std::move(repair));
  return Status::Ok();
}

}  // namespace

Status CheckRecords(CheckPass* pass) {
  RETURN_IF_ERROR(ReadVolumes(pass));
  RETURN_IF_ERROR(ReadRecordedUse(pass));
  RETURN_IF_ERROR(pass->Scan(KindPrefix(KeyKind::kPurge), [&](std::string_view key, std::string_view) {
    pass->purged.insert(ParseTrailingId(key).value_or(0));
    return true;
  }));
  RETURN_IF_ERROR(CheckOrphans(pass));
  return pass->options.volume ? Status::Ok() : CheckCounts(pass);
}

void CheckVolumeUse(CheckPass* pass) {
  for (const auto& [id, facts] : pass->volumes) {
    if (pass->options.volume && pass->options.volume->value() != id) continue;
    if (facts.recorded == facts.found) continue;
    proto::RepairOp repair;
    proto::RepairOp::VolumeUse* use = repair.add_volumes();
    use->set_volume(id);
    use->set_bytes(static_cast<int64_t>(facts.found.used_bytes - facts.recorded.used_bytes));
    use->set_inodes(static_cast<int64_t>(facts.found.used_inodes - facts.recorded.used_inodes));
    pass->Found("wrong-counter",
                "volume " + facts.name + ": bytes " + Numbers(facts.recorded.used_bytes, facts.found.used_bytes) +
                    "; inodes " + Numbers(facts.recorded.used_inodes, facts.found.used_inodes),
                std::move(repair));
  }
}

}  // namespace tarn::meta::fsck
