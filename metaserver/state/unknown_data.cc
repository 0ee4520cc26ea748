#include "metaserver/state/unknown_data.h"

#include <algorithm>
#include <iterator>

#include "metaserver/state/keys.h"
#include "metaserver/state/records.h"

namespace tarn::meta {
namespace {

constexpr uint64_t kRecordsBetweenQuestions = 4'096;

}  // namespace

bool WasGiven(const proto::StateHeader& header, DataId data) {
  if (IdMetadataGroup(data.value()) != header.metadata_group()) return false;
  const uint64_t counter = IdCounter(data.value());
  const uint32_t incarnation = IdIncarnation(data.value());
  if (incarnation == header.incarnation()) return counter < header.next_data_id();
  const auto earlier = std::ranges::find(header.earlier_incarnations(), incarnation, &proto::StateHeader::Incarnation::incarnation);
  return earlier != header.earlier_incarnations().end() && counter < earlier->next_data_id();
}

uint64_t BytesOf(const proto::UnknownDataRecord& record) {
  uint64_t bytes = 0;
  for (const auto& held : record.held()) bytes += held.bytes();
  return bytes;
}

void DataIdSet::Insert(DataId data) {
  if (!Covers(data)) return;
  std::unique_ptr<Block>& block = blocks_[data.value() >> kBlockBits];
  if (block == nullptr) block = std::make_unique<Block>();
  block->set(data.value() & ((1u << kBlockBits) - 1));
  if (blocks_.size() <= blocks_max_) return;
  const auto last = std::prev(blocks_.end());
  to_ = DataId(last->first << kBlockBits);
  blocks_.erase(last);
}

bool DataIdSet::Contains(DataId data) const {
  const auto block = blocks_.find(data.value() >> kBlockBits);
  return block != blocks_.end() && block->second->test(data.value() & ((1u << kBlockBits) - 1));
}

Status CollectKnownData(const KvView& view, DataIdSet* known, const std::function<bool()>& go_on) {
  uint64_t seen = 0;
  Status problem;
  const auto may_go_on = [&] {
    if (++seen % kRecordsBetweenQuestions == 0 && !go_on()) problem = Status(StatusCode::kCancelled, "the check was ended");
    return problem.ok();
  };
  RETURN_IF_ERROR(view.Scan(KindPrefix(KeyKind::kInode), {}, [&](std::string_view, std::string_view value) {
    const auto inode = ParseInode(value);
    // What cannot be read may name anything.
    if (!inode.ok()) problem = inode.status();
    if (inode.ok() && inode->data_id() != 0) known->Insert(DataId(inode->data_id()));
    return problem.ok() && may_go_on();
  }));
  RETURN_IF_ERROR(problem);
  RETURN_IF_ERROR(view.Scan(KindPrefix(KeyKind::kDeadData), {}, [&](std::string_view key, std::string_view) {
    known->Insert(DataId(ParseTrailingId(key).value_or(0)));
    return may_go_on();
  }));
  RETURN_IF_ERROR(problem);
  RETURN_IF_ERROR(view.Scan(KindPrefix(KeyKind::kDataIdReservation), {}, [&](std::string_view, std::string_view value) {
    proto::DataIdReservation reservation;
    if (!reservation.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      problem = Status(StatusCode::kCorruption, "a reservation of data ids is damaged");
      return false;
    }
    for (uint32_t i = 0; i < reservation.count(); ++i) known->Insert(DataId(reservation.first_data_id() + i));
    return may_go_on();
  }));
  return problem;
}

}  // namespace tarn::meta
