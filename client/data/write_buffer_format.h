// The layout of the memfd that holds unwritten data, so that another process can take it over.
//
//   offset 0            WriteBufferHeader, one page
//   table_offset        one SlabDescriptor per block, whether or not a slab begins there
//   data_offset         the blocks; block i lies at data_offset + i * block_bytes
//
// A slab is 2^order blocks and holds one run of bytes of one file. Its descriptor is that of its first block. To find
// all slabs, walk the table: a free descriptor stands for one block, any other for 2^order of them.
//
// One process writes; another may read after its death at any instruction. So the bytes are written before `extent`
// covers them, every descriptor is filled in before its `state` leaves kFree, and `state` and `extent` are one store
// each. Bytes of several slabs may overlap (a merge that was interrupted, an overwrite of data that was already sent):
// the one with the higher `age` is newer.
#pragma once

#include <cstdint>

namespace tarn::client {

inline constexpr uint64_t kWriteBufferMagic = 0x5257'4e52'4154'0001;
inline constexpr uint32_t kWriteBufferVersion = 1;
inline constexpr uint32_t kWriteBufferBlockBytes = 4096;

enum class SlabState : uint32_t {
  kFree = 0,
  kDirty = 1,     // at no server yet
  kSending = 2,   // under way: may or may not be at the servers
  kUnstable = 3,  // acknowledged, but not yet known to be on stable storage
};

struct WriteBufferHeader {
  uint64_t magic = kWriteBufferMagic;
  uint32_t version = kWriteBufferVersion;
  uint32_t block_bytes = kWriteBufferBlockBytes;
  uint64_t block_count = 0;
  uint64_t table_offset = 0;
  uint64_t data_offset = 0;
  uint32_t descriptor_bytes = 0;
  uint32_t reserved = 0;
  uint64_t checksum = 0;  // XXH3-64 of the fields above
};
static_assert(sizeof(WriteBufferHeader) == 56);

struct SlabDescriptor {
  uint32_t state = 0;  // SlabState
  uint32_t order = 0;  // the slab is 2^order blocks long
  uint64_t inode = 0;
  uint64_t data_id = 0;        // 0: the inode had none yet
  uint64_t window_offset = 0;  // of the slab's first byte in the file
  uint64_t extent = 0;         // low half: first valid byte of the slab; high half: one past the last
  uint64_t age = 0;            // of the newest write in it; rises with every write to the inode
  uint64_t truncate_generation = 0;
  int64_t mtime_ns = 0;
};
static_assert(sizeof(SlabDescriptor) == 64);

constexpr uint64_t PackSlabExtent(uint32_t begin, uint32_t end) { return uint64_t{end} << 32 | begin; }

}  // namespace tarn::client
