#include "client/data/write_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "common/base/check.h"
#include "common/checksum/block_sums.h"

namespace tarn::client {
namespace {

constexpr uint64_t kPageBytes = 4096;

constexpr uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

uint32_t OrderOf(uint64_t bytes) {
  const uint64_t blocks = std::max<uint64_t>(1, RoundUp(bytes, kWriteBufferBlockBytes) / kWriteBufferBlockBytes);
  return std::bit_width(std::bit_ceil(blocks)) - 1;
}

// Eight of the largest slabs fit at least, so that several files make progress in a small buffer.
uint64_t LargestSlab(uint64_t buffer_bytes) { return std::min(kSlabBytesMax, std::bit_floor(buffer_bytes / 8)); }

WriteBufferHeader MakeHeader(uint64_t block_count) {
  WriteBufferHeader header;
  header.block_count = block_count;
  header.table_offset = kPageBytes;
  header.data_offset = kPageBytes + RoundUp(block_count * sizeof(SlabDescriptor), kPageBytes);
  header.descriptor_bytes = sizeof(SlabDescriptor);
  header.checksum = Xxh3({reinterpret_cast<const uint8_t*>(&header), offsetof(WriteBufferHeader, checksum)});
  return header;
}

}  // namespace

// ---- Slab ----

Slab::Slab(std::shared_ptr<WriteBuffer> buffer, uint64_t block, uint32_t order, uint64_t window_offset)
    : buffer_(std::move(buffer)),
      block_(block),
      order_(order),
      window_offset_(window_offset),
      capacity_(uint64_t{kWriteBufferBlockBytes} << order),
      data_(buffer_->blocks_ + block * kWriteBufferBlockBytes),
      descriptor_(&buffer_->table_[block]) {}

Slab::~Slab() {
  SetState(SlabState::kFree);
  buffer_->Free(block_, order_);
}

void Slab::SetExtent(ByteRange range, uint64_t age, int64_t mtime_ns) {
  CHECK(range.offset >= window_offset_ && range.end() <= window_offset_ + capacity_, "an extent lies within its slab");
  descriptor_->age = age;
  descriptor_->mtime_ns = mtime_ns;
  const uint64_t extent = PackSlabExtent(static_cast<uint32_t>(range.offset - window_offset_),
                                         static_cast<uint32_t>(range.end() - window_offset_));
  std::atomic_ref(descriptor_->extent).store(extent, std::memory_order_release);
  if (descriptor_->state == static_cast<uint32_t>(SlabState::kFree)) SetState(SlabState::kDirty);
}

void Slab::SetState(SlabState state) {
  std::atomic_ref(descriptor_->state).store(static_cast<uint32_t>(state), std::memory_order_release);
}

void Slab::SetIdentity(const SlabIdentity& identity) {
  descriptor_->inode = identity.inode.value();
  descriptor_->data_id = identity.data.value();
  descriptor_->truncate_generation = identity.truncate_generation;
}

// ---- WriteBuffer ----

Result<std::shared_ptr<WriteBuffer>> WriteBuffer::Create(const std::string& name, uint64_t bytes) {
  const uint64_t block_count = std::max(bytes, kWriteBufferBytesMin) / kWriteBufferBlockBytes;
  const WriteBufferHeader header = MakeHeader(block_count);
  const uint64_t memory_bytes = header.data_offset + block_count * kWriteBufferBlockBytes;

  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return Status::FromErrno(errno, "memfd_create " + name);
  if (ftruncate(fd.get(), static_cast<off_t>(memory_bytes)) != 0)
    return Status::FromErrno(errno, "size of memfd " + name);
  void* memory = mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return Status::FromErrno(errno, "mmap of memfd " + name);
  std::memcpy(memory, &header, sizeof header);
  return std::shared_ptr<WriteBuffer>(
      new WriteBuffer(std::move(fd), static_cast<uint8_t*>(memory), memory_bytes, block_count));
}

WriteBuffer::WriteBuffer(UniqueFd fd, uint8_t* memory, uint64_t memory_bytes, uint64_t block_count)
    : fd_(std::move(fd)),
      memory_(memory),
      memory_bytes_(memory_bytes),
      block_count_(block_count),
      slab_bytes_max_(LargestSlab(block_count * kWriteBufferBlockBytes)),
      allocator_(block_count, OrderOf(slab_bytes_max_)) {
  const WriteBufferHeader header = MakeHeader(block_count);
  table_ = reinterpret_cast<SlabDescriptor*>(memory + header.table_offset);
  blocks_ = memory + header.data_offset;
}

WriteBuffer::~WriteBuffer() { munmap(memory_, memory_bytes_); }

std::unique_ptr<Slab> WriteBuffer::Allocate(uint64_t bytes, const SlabIdentity& identity, uint64_t window_offset) {
  CHECK(bytes > 0 && bytes <= slab_bytes_max_, "a slab's size is bounded");
  const uint32_t order = OrderOf(bytes);
  std::optional<uint64_t> block;
  {
    MutexLock lock(mutex_);
    block = allocator_.Allocate(order);
  }
  if (!block) return nullptr;
  SlabDescriptor& descriptor = table_[*block];
  descriptor.order = order;
  descriptor.window_offset = window_offset;
  descriptor.extent = 0;
  std::unique_ptr<Slab> slab(new Slab(shared_from_this(), *block, order, window_offset));
  slab->SetIdentity(identity);
  return slab;
}

uint64_t WriteBuffer::used_bytes() const {
  MutexLock lock(mutex_);
  return allocator_.used_blocks() * kWriteBufferBlockBytes;
}

void WriteBuffer::Free(uint64_t block, uint32_t order) {
  MutexLock lock(mutex_);
  allocator_.Free(block, order);
}

}  // namespace tarn::client
