#include "client/data/write_buffer.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <string>
#include <vector>

namespace tarn::client {
namespace {

// The buffer as another process would see it, with nothing but the descriptor.
class Mapping {
 public:
  explicit Mapping(int fd) {
    struct stat status {};
    EXPECT_EQ(fstat(fd, &status), 0);
    bytes_ = static_cast<size_t>(status.st_size);
    memory_ = static_cast<uint8_t*>(mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd, 0));
    std::memcpy(&header, memory_, sizeof header);
  }
  ~Mapping() { munmap(memory_, bytes_); }

  struct Found {
    SlabDescriptor descriptor;
    std::string bytes;
  };
  std::vector<Found> Walk() const {
    std::vector<Found> found;
    for (uint64_t block = 0; block < header.block_count;) {
      SlabDescriptor descriptor;
      std::memcpy(&descriptor, memory_ + header.table_offset + block * header.descriptor_bytes, sizeof descriptor);
      if (descriptor.state == static_cast<uint32_t>(SlabState::kFree)) {
        ++block;
        continue;
      }
      const uint64_t begin = descriptor.extent & 0xffffffff;
      const uint64_t end = descriptor.extent >> 32;
      const uint8_t* data = memory_ + header.data_offset + block * header.block_bytes;
      found.push_back({descriptor, std::string(reinterpret_cast<const char*>(data) + begin, end - begin)});
      block += uint64_t{1} << descriptor.order;
    }
    return found;
  }

  WriteBufferHeader header;

 private:
  uint8_t* memory_ = nullptr;
  size_t bytes_ = 0;
};

TEST(WriteBuffer, HeaderIsAsDocumented) {
  const auto buffer = WriteBuffer::Create("test", 1 << 20);
  ASSERT_TRUE(buffer.ok());
  uint8_t bytes[sizeof(WriteBufferHeader)];
  ASSERT_EQ(pread((*buffer)->fd(), bytes, sizeof bytes, 0), static_cast<ssize_t>(sizeof bytes));
  const uint8_t golden[] = {
      0x01, 0x00, 0x54, 0x41, 0x52, 0x4e, 0x57, 0x52,  // magic
      0x01, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00,  // version 1, blocks of 4096
      0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // 256 of them
      0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // table at 4096
      0x00, 0x50, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // data at 20480
      0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // descriptors of 64 bytes
  };
  EXPECT_EQ(std::memcmp(bytes, golden, sizeof golden), 0);
}

TEST(WriteBuffer, DescriptorIsAsDocumented) {
  const auto buffer = WriteBuffer::Create("test", 1 << 20);
  ASSERT_TRUE(buffer.ok());
  auto slab = (*buffer)->Allocate(8192, {InodeId(0x1112), DataId(0x2122), 0x31}, 0x40000);
  ASSERT_NE(slab, nullptr);
  slab->SetExtent({0x40010, 0x100}, 0x51, 0x61);
  slab->SetState(SlabState::kUnstable);
  uint8_t bytes[sizeof(SlabDescriptor)];
  ASSERT_EQ(pread((*buffer)->fd(), bytes, sizeof bytes, 4096), static_cast<ssize_t>(sizeof bytes));
  const uint8_t golden[] = {
      0x03, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,  // unstable, two blocks
      0x12, 0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // inode
      0x22, 0x21, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // data id
      0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00,  // window
      0x10, 0x00, 0x00, 0x00, 0x10, 0x01, 0x00, 0x00,  // extent
      0x51, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // age
      0x31, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // truncate generation
      0x61, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // mtime
  };
  EXPECT_EQ(std::memcmp(bytes, golden, sizeof golden), 0);
}

TEST(WriteBuffer, AnotherProcessFindsEverySlab) {
  const auto buffer = WriteBuffer::Create("test", 4 << 20);
  ASSERT_TRUE(buffer.ok());
  std::vector<std::unique_ptr<Slab>> slabs;
  for (uint64_t i = 0; i < 20; ++i) {
    slabs.push_back((*buffer)->Allocate(1000 * (i + 1), {InodeId(i + 1), DataId(100 + i), 0}, i << 20));
    ASSERT_NE(slabs.back(), nullptr);
    std::memset(slabs.back()->data() + i, static_cast<int>('a' + i), 10 * (i + 1));
    slabs.back()->SetExtent({(i << 20) + i, 10 * (i + 1)}, i, 0);
  }
  for (size_t i = 0; i < 20; i += 2) slabs[i] = nullptr;
  const Mapping mapping((*buffer)->fd());
  const auto found = mapping.Walk();
  ASSERT_EQ(found.size(), 10u);
  for (const auto& slab : found) {
    const uint64_t i = slab.descriptor.inode - 1;
    EXPECT_EQ(i % 2, 1u);
    EXPECT_EQ(slab.descriptor.data_id, 100 + i);
    EXPECT_EQ(slab.bytes, std::string(10 * (i + 1), static_cast<char>('a' + i)));
  }
}

TEST(WriteBuffer, NeverGivesMoreThanItHas) {
  const auto buffer = WriteBuffer::Create("test", 1 << 20);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ((*buffer)->slab_bytes_max(), 128u << 10);
  std::vector<std::unique_ptr<Slab>> slabs;
  while (auto slab = (*buffer)->Allocate(100'000, {}, 0)) slabs.push_back(std::move(slab));
  EXPECT_EQ(slabs.size(), 8u);
  EXPECT_EQ((*buffer)->used_bytes(), (*buffer)->capacity_bytes());
  slabs.clear();
  EXPECT_EQ((*buffer)->used_bytes(), 0u);
}

}  // namespace
}  // namespace tarn::client
