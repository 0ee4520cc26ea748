#include "fuse-client/operations/privilege_bits.h"

#include <gtest/gtest.h>

namespace tarn::fuse {
namespace {

client::Attributes File(uint64_t inode, uint32_t mode) {
  client::Attributes attributes;
  attributes.inode = InodeId(inode);
  attributes.mode = mode;
  return attributes;
}

TEST(PrivilegeBits, LearnsAndForgets) {
  PrivilegeBits bits;
  EXPECT_FALSE(bits.MayHave(InodeId(1)));
  bits.Learn(File(1, 04755));
  bits.Learn(File(2, 02755));
  bits.Learn(File(3, 0755));
  EXPECT_TRUE(bits.MayHave(InodeId(1)));
  EXPECT_TRUE(bits.MayHave(InodeId(2)));
  EXPECT_FALSE(bits.MayHave(InodeId(3)));
  bits.Learn(File(1, 0755));
  EXPECT_FALSE(bits.MayHave(InodeId(1)));
  bits.Forget(InodeId(2));
  EXPECT_FALSE(bits.MayHave(InodeId(2)));
}

TEST(PrivilegeBits, OnlyWhatAWriteClears) {
  PrivilegeBits bits;
  bits.Learn(File(1, 02644));  // set-gid without execution
  client::Attributes directory = File(2, 02775);
  directory.type = client::FileType::kDirectory;
  bits.Learn(directory);
  EXPECT_FALSE(bits.MayHave(InodeId(1)));
  EXPECT_FALSE(bits.MayHave(InodeId(2)));
}

TEST(PrivilegeBits, WhenFullEveryFileIsSuspect) {
  PrivilegeBits bits(2);
  for (uint64_t inode = 1; inode <= 3; ++inode) bits.Learn(File(inode, 04755));
  EXPECT_TRUE(bits.MayHave(InodeId(3)));
  EXPECT_TRUE(bits.MayHave(InodeId(77)));
}

}  // namespace
}  // namespace tarn::fuse
