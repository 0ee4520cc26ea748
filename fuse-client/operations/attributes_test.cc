#include "fuse-client/operations/attributes.h"

#include <gtest/gtest.h>

namespace tarn::fuse {
namespace {

using client::Attributes;
using client::FileType;

TEST(Attributes, BecomeStat) {
  Attributes attributes;
  attributes.inode = InodeId(99);
  attributes.type = FileType::kDirectory;
  attributes.mode = 02755;
  attributes.nlink = 3;
  attributes.uid = 1000;
  attributes.gid = 1001;
  attributes.size_bytes = 513;
  attributes.mtime_ns = 1'500'000'001;
  attributes.atime_ns = -1;
  const struct stat status = ToStat(attributes);
  EXPECT_EQ(status.st_ino, 99u);
  EXPECT_EQ(status.st_mode, static_cast<mode_t>(S_IFDIR | 02755));
  EXPECT_EQ(status.st_nlink, 3u);
  EXPECT_EQ(status.st_blocks, 2);
  EXPECT_EQ(status.st_mtim.tv_sec, 1);
  EXPECT_EQ(status.st_mtim.tv_nsec, 500'000'001);
  EXPECT_EQ(status.st_atim.tv_sec, -1) << "before 1970";
  EXPECT_EQ(status.st_atim.tv_nsec, 999'999'999);
}

TEST(Attributes, SizeOfASymlinkIsItsTarget) {
  Attributes attributes;
  attributes.type = FileType::kSymlink;
  attributes.symlink_target = "abc";
  EXPECT_EQ(ToStat(attributes).st_size, 3);
}

TEST(Attributes, TypesGoBothWays) {
  for (const FileType type : {FileType::kRegular, FileType::kDirectory, FileType::kSymlink, FileType::kCharacterDevice,
                              FileType::kBlockDevice, FileType::kFifo, FileType::kSocket}) {
    EXPECT_EQ(TypeOfMode(TypeBits(type) | 0644), type);
  }
}

TEST(Attributes, EntryCarriesNodeAndTimeouts) {
  Attributes attributes;
  attributes.inode = InodeId(7);
  const fuse_entry_param entry = ToEntry(attributes, NodeIds(InodeId(7)), Timeouts{0.5, 0.25, 0});
  EXPECT_EQ(entry.ino, kRootNode);
  EXPECT_EQ(entry.attr.st_ino, 7u);
  EXPECT_EQ(entry.entry_timeout, 0.5);
  EXPECT_EQ(entry.attr_timeout, 0.25);
}

TEST(Timeouts, AgeIsTakenOff) {
  const Timeouts timeouts{1.0, 0.5, 0.25};
  EXPECT_EQ(timeouts.After(0.25).entry_s, 0.75);
  EXPECT_EQ(timeouts.After(0.75).attributes_s, 0.0);
}

TEST(Changes, OnlyWhatIsSet) {
  struct stat wanted {};
  wanted.st_mode = S_IFREG | 04755;
  wanted.st_size = 10;
  wanted.st_mtim = {1, 5};
  const client::AttributeChanges changes =
      ToChanges(wanted, FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW);
  EXPECT_EQ(changes.mode, 04755u);
  EXPECT_FALSE(changes.size_bytes.has_value());
  EXPECT_EQ(changes.mtime_ns, 1'000'000'005);
  EXPECT_FALSE(changes.mtime_now);
  EXPECT_TRUE(changes.atime_now);
  EXPECT_FALSE(changes.atime_ns.has_value());
}

}  // namespace
}  // namespace tarn::fuse
