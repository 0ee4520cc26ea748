// Attributes of many inodes, packed: 96 bytes each for ordinary files and directories. What does not fit (a symbolic
// link's target, a device number, a truncate under way ...) is kept whole beside. Thread-compatible.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "client/meta/cache/directory_interests.h"
#include "client/meta/cache/record_table.h"
#include "client/types.h"

namespace tarn::client {

struct InodeRecord {
  using Key = uint64_t;
  Key key() const { return inode; }
  void SetKey(Key key) { inode = key; }
  static uint64_t HashOf(Key key) {
    const uint64_t mixed = key * 0x9E3779B97F4A7C15ull;
    return mixed ^ (mixed >> 32);
  }

  uint64_t inode;
  uint64_t size_bytes;
  uint64_t data_or_parent;  // a directory has no data
  uint64_t layout_seed;
  int64_t atime_ns;
  int64_t mtime_ns;
  int64_t ctime_ns;
  int64_t btime_ns;
  uint32_t change;
  uint32_t data_generation;
  uint32_t truncate_generation;
  uint32_t shape;  // index of what many inodes have in common, or kWhole
  Cover cover;
  uint32_t kernel_until_s;  // the kernel may believe these attributes until then
  uint32_t link;
};
static_assert(sizeof(InodeRecord) == 96);

class InodeRecords {
 public:
  explicit InodeRecords(uint32_t records_max) : table_(records_max) {}
  InodeRecords(const InodeRecords&) = delete;
  InodeRecords& operator=(const InodeRecords&) = delete;

  InodeRecord* Find(InodeId inode) { return table_.Find(inode.value()); }
  // `evict` sees what has to go.
  template <typename Evict>
  InodeRecord& Put(const Attributes& attributes, Cover cover, Evict&& evict) {
    InodeRecord& record = table_.Insert(attributes.inode.value(), [&](InodeRecord& old) {
      evict(old);
      whole_.erase(old.inode);
    });
    Pack(attributes, &record);
    record.cover = cover;
    return record;
  }
  Attributes Unpack(const InodeRecord& record) const;
  bool Erase(InodeId inode);
  template <typename Visit>
  void ForEach(Visit&& visit) {
    table_.ForEach(visit);
  }
  void Clear();
  uint32_t size() const { return table_.size(); }
  size_t bytes() const;

 private:
  static constexpr uint32_t kWhole = UINT32_MAX;
  static constexpr size_t kShapesMax = 4096;

  struct Shape {
    FileType type = FileType::kRegular;
    uint32_t mode = 0;
    uint32_t nlink = 0;
    uint32_t uid = 0;
    uint32_t gid = 0;
    GroupSetVersion group_set;
    uint32_t stripe_unit_bytes = 0;
    uint32_t width = 0;
    uint64_t chunk_size_bytes = 0;
    bool has_xattrs = false;
    bool being_written = false;
    friend bool operator==(const Shape&, const Shape&) = default;
  };
  struct ShapeHash {
    size_t operator()(const Shape& shape) const;
  };

  void Pack(const Attributes& attributes, InodeRecord* record);
  // kWhole if there are too many.
  uint32_t ShapeOf(const Attributes& attributes);

  RecordTable<InodeRecord> table_;
  std::unordered_map<uint64_t, Attributes> whole_;
  std::vector<Shape> shapes_;
  std::unordered_map<Shape, uint32_t, ShapeHash> shape_indexes_;
};

}  // namespace tarn::client
