#include "client/meta/cache/inode_records.h"

namespace tarn::client {

size_t InodeRecords::ShapeHash::operator()(const Shape& shape) const {
  uint64_t hash = static_cast<uint64_t>(shape.type);
  for (const uint64_t part : {uint64_t{shape.mode}, uint64_t{shape.nlink}, uint64_t{shape.uid}, uint64_t{shape.gid},
                              uint64_t{shape.group_set.value()}, uint64_t{shape.stripe_unit_bytes},
                              uint64_t{shape.width}, shape.chunk_size_bytes, uint64_t{shape.has_xattrs},
                              uint64_t{shape.being_written}}) {
    hash = (hash ^ part) * 0x9E3779B97F4A7C15ull;
    hash ^= hash >> 29;
  }
  return hash;
}

uint32_t InodeRecords::ShapeOf(const Attributes& attributes) {
  const Shape shape{attributes.type,
                    attributes.mode,
                    attributes.nlink,
                    attributes.uid,
                    attributes.gid,
                    attributes.layout.group_set,
                    attributes.layout.stripe_unit_bytes,
                    attributes.layout.width,
                    attributes.layout.chunk_size_bytes,
                    attributes.has_xattrs,
                    attributes.being_written};
  if (const auto found = shape_indexes_.find(shape); found != shape_indexes_.end()) return found->second;
  if (shapes_.size() >= kShapesMax) return kWhole;
  const auto index = static_cast<uint32_t>(shapes_.size());
  shapes_.push_back(shape);
  shape_indexes_.emplace(shape, index);
  return index;
}

void InodeRecords::Pack(const Attributes& attributes, InodeRecord* record) {
  const bool directory = attributes.type == FileType::kDirectory;
  const bool fits = attributes.rdev == 0 && attributes.symlink_target.empty() && !attributes.truncate_floor_bytes &&
                    attributes.change <= UINT32_MAX && attributes.data_generation <= UINT32_MAX &&
                    attributes.truncate_generation <= UINT32_MAX && !(directory && attributes.data.valid());
  record->shape = fits ? ShapeOf(attributes) : kWhole;
  if (record->shape == kWhole) {
    whole_[attributes.inode.value()] = attributes;
    return;
  }
  if (!whole_.empty()) whole_.erase(attributes.inode.value());
  record->size_bytes = attributes.size_bytes;
  record->data_or_parent = directory ? attributes.parent.value() : attributes.data.value();
  record->layout_seed = attributes.layout.seed;
  record->atime_ns = attributes.atime_ns;
  record->mtime_ns = attributes.mtime_ns;
  record->ctime_ns = attributes.ctime_ns;
  record->btime_ns = attributes.btime_ns;
  record->change = static_cast<uint32_t>(attributes.change);
  record->data_generation = static_cast<uint32_t>(attributes.data_generation);
  record->truncate_generation = static_cast<uint32_t>(attributes.truncate_generation);
}

Attributes InodeRecords::Unpack(const InodeRecord& record) const {
  if (record.shape == kWhole) return whole_.at(record.inode);
  const Shape& shape = shapes_[record.shape];
  Attributes attributes;
  attributes.inode = InodeId(record.inode);
  attributes.type = shape.type;
  attributes.mode = shape.mode;
  attributes.nlink = shape.nlink;
  attributes.uid = shape.uid;
  attributes.gid = shape.gid;
  attributes.size_bytes = record.size_bytes;
  attributes.atime_ns = record.atime_ns;
  attributes.mtime_ns = record.mtime_ns;
  attributes.ctime_ns = record.ctime_ns;
  attributes.btime_ns = record.btime_ns;
  attributes.change = record.change;
  if (shape.type == FileType::kDirectory) {
    attributes.parent = InodeId(record.data_or_parent);
  } else {
    attributes.data = DataId(record.data_or_parent);
  }
  attributes.layout =
      FileLayout{shape.group_set, record.layout_seed, shape.stripe_unit_bytes, shape.width, shape.chunk_size_bytes};
  attributes.data_generation = record.data_generation;
  attributes.truncate_generation = record.truncate_generation;
  attributes.has_xattrs = shape.has_xattrs;
  attributes.being_written = shape.being_written;
  return attributes;
}

bool InodeRecords::Erase(InodeId inode) {
  if (!whole_.empty()) whole_.erase(inode.value());
  return table_.Erase(inode.value());
}

void InodeRecords::Clear() {
  table_.Clear();
  whole_.clear();
  shapes_.clear();
  shape_indexes_.clear();
}

size_t InodeRecords::bytes() const {
  constexpr size_t kNodeOverheadBytes = 32;
  return table_.bytes() + whole_.size() * (sizeof(Attributes) + kNodeOverheadBytes) +
         shapes_.size() * (2 * sizeof(Shape) + kNodeOverheadBytes);
}

}  // namespace tarn::client
