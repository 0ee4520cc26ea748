#include "fuse-client/operations/directory_packer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace tarn::fuse {
namespace {

using client::DirectoryEntry;

// The kernel's struct fuse_dirent.
struct Dirent {
  uint64_t inode;
  uint64_t offset;
  uint32_t name_length;
  uint32_t type;
};
static_assert(sizeof(Dirent) == 24);
constexpr size_t kEntryOutBytes = 128;  // struct fuse_entry_out before it in READDIRPLUS

struct Unpacked {
  std::string name;
  Dirent header;
  uint64_t node = 0;
};

std::vector<Unpacked> Unpack(std::span<const char> bytes, bool with_attributes) {
  std::vector<Unpacked> entries;
  size_t at = 0;
  while (at < bytes.size()) {
    Unpacked entry;
    if (with_attributes) {
      memcpy(&entry.node, bytes.data() + at, sizeof(entry.node));
      at += kEntryOutBytes;
    }
    memcpy(&entry.header, bytes.data() + at, sizeof(Dirent));
    entry.name.assign(bytes.data() + at + sizeof(Dirent), entry.header.name_length);
    at += (sizeof(Dirent) + entry.header.name_length + 7) / 8 * 8;
    entries.push_back(entry);
  }
  return entries;
}

DirectoryEntry Entry(const std::string& name, uint64_t cookie, uint64_t inode) {
  DirectoryEntry entry;
  entry.name = name;
  entry.cookie = cookie;
  entry.attributes.inode = InodeId(inode);
  entry.attributes.type = client::FileType::kDirectory;
  entry.attributes.nlink = 2;
  return entry;
}

const NodeIds kNodes{InodeId(500)};

Timeouts NoTimeouts(const client::DirectoryEntry&) { return Timeouts{}; }

TEST(DirectoryPacker, DotsComeFirstWithOffsetsOneAndTwo) {
  DirectoryPacker packer(4096, false, kNodes);
  ASSERT_TRUE(packer.AddDots(0, InodeId(10), InodeId(9)));
  const std::vector<DirectoryEntry> listed = {Entry("a", 20, 11), Entry("bb", 30, 12)};
  EXPECT_EQ(packer.AddEntries(listed, NoTimeouts), 2u);
  const std::vector<Unpacked> entries = Unpack(packer.bytes(), false);
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[0].name, ".");
  EXPECT_EQ(entries[0].header.inode, 10u);
  EXPECT_EQ(entries[0].header.offset, kOffsetAfterDot);
  EXPECT_EQ(entries[1].name, "..");
  EXPECT_EQ(entries[1].header.inode, 9u);
  EXPECT_EQ(entries[1].header.offset, kOffsetAfterDotDot);
  EXPECT_EQ(entries[3].name, "bb");
  EXPECT_EQ(entries[3].header.offset, 30u);
  EXPECT_EQ(entries[3].header.type, static_cast<uint32_t>(S_IFDIR >> 12));
}

TEST(DirectoryPacker, DotsAreLeftOutAfterTheirOffsets) {
  DirectoryPacker after_dot(4096, false, kNodes);
  ASSERT_TRUE(after_dot.AddDots(kOffsetAfterDot, InodeId(10), InodeId(9)));
  ASSERT_EQ(Unpack(after_dot.bytes(), false).size(), 1u);
  DirectoryPacker after_both(4096, false, kNodes);
  ASSERT_TRUE(after_both.AddDots(kOffsetAfterDotDot, InodeId(10), InodeId(9)));
  EXPECT_TRUE(after_both.bytes().empty());
}

TEST(DirectoryPacker, AttributesComeWithNodeIdsButNotForDots) {
  DirectoryPacker packer(4096, true, kNodes);
  ASSERT_TRUE(packer.AddDots(0, InodeId(10), InodeId(9)));
  const std::vector<DirectoryEntry> listed = {Entry("a", 20, 11), Entry("root", 21, 500)};
  EXPECT_EQ(packer.AddEntries(listed, NoTimeouts), 2u);
  const std::vector<Unpacked> entries = Unpack(packer.bytes(), true);
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[0].node, 0u);
  EXPECT_EQ(entries[1].node, 0u);
  EXPECT_EQ(entries[2].node, 11u);
  EXPECT_EQ(entries[3].node, kRootNode);
}

TEST(DirectoryPacker, EntryThatWasRemovedMeanwhileTeachesTheKernelNothing) {
  DirectoryPacker packer(4096, true, kNodes);
  std::vector<DirectoryEntry> listed = {Entry("gone", 20, 11)};
  listed[0].attributes.nlink = 0;
  EXPECT_EQ(packer.AddEntries(listed, NoTimeouts), 1u);
  const std::vector<Unpacked> entries = Unpack(packer.bytes(), true);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].node, 0u);
  EXPECT_EQ(entries[0].header.inode, 11u);
}

TEST(DirectoryPacker, StopsWhenFull) {
  DirectoryPacker packer(100, false, kNodes);  // three entries of 32 bytes
  const std::vector<DirectoryEntry> listed = {Entry("a", 20, 1), Entry("b", 21, 2), Entry("c", 22, 3),
                                              Entry("d", 23, 4)};
  EXPECT_EQ(packer.AddEntries(listed, NoTimeouts), 3u);
}

TEST(DirectoryPacker, EqualCookiesAreNotTornApart) {
  DirectoryPacker packer(100, false, kNodes);
  const std::vector<DirectoryEntry> listed = {Entry("a", 20, 1), Entry("b", 21, 2), Entry("c", 22, 3),
                                              Entry("d", 22, 4)};
  EXPECT_EQ(packer.AddEntries(listed, NoTimeouts), 2u);
  EXPECT_EQ(Unpack(packer.bytes(), false).size(), 2u);
}

TEST(DirectoryPacker, LongNames) {
  DirectoryPacker packer(4096, false, kNodes);
  const std::vector<DirectoryEntry> listed = {Entry(std::string(255, 'x'), 20, 1)};
  EXPECT_EQ(packer.AddEntries(listed, NoTimeouts), 1u);
  EXPECT_EQ(Unpack(packer.bytes(), false)[0].name, std::string(255, 'x'));
}

TEST(DirectoryPacker, SmallOffsetsMeanTheStart) {
  EXPECT_EQ(CookieOfOffset(0), 0u);
  EXPECT_EQ(CookieOfOffset(kOffsetAfterDotDot), 0u);
  EXPECT_EQ(CookieOfOffset(16), 16u);
}

}  // namespace
}  // namespace tarn::fuse
