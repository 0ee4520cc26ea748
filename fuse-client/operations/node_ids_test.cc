#include "fuse-client/operations/node_ids.h"

#include <gtest/gtest.h>

#include <set>

namespace tarn::fuse {
namespace {

TEST(NodeIds, RootIsNodeOneBothWays) {
  const NodeIds nodes(InodeId(0x123456789));
  EXPECT_EQ(nodes.ToInode(1), InodeId(0x123456789));
  EXPECT_EQ(nodes.ToNode(InodeId(0x123456789)), 1u);
  EXPECT_EQ(nodes.ToInode(77), InodeId(77));
  EXPECT_EQ(nodes.ToNode(InodeId(77)), 77u);
}

TEST(NodeIds, InodeOneBelowAnotherRootKeepsAnIdOfItsOwn) {
  const NodeIds nodes(InodeId(42));
  EXPECT_EQ(nodes.ToNode(InodeId(1)), 42u);
  EXPECT_EQ(nodes.ToInode(42), InodeId(1));
}

TEST(NodeIds, IsABijection) {
  for (const uint64_t root : {1, 2, 50}) {
    const NodeIds nodes{InodeId(root)};
    std::set<uint64_t> seen;
    for (uint64_t inode = 1; inode <= 100; ++inode) {
      const uint64_t node = nodes.ToNode(InodeId(inode));
      EXPECT_EQ(nodes.ToInode(node), InodeId(inode));
      seen.insert(node);
    }
    EXPECT_EQ(seen.size(), 100u);
  }
}

}  // namespace
}  // namespace tarn::fuse
