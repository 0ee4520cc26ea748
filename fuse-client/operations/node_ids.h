// FUSE calls the root of every mount node 1; ours is an inode with any number. The two trade places, so that every
// other node id is the inode's own number: a successor process understands what its predecessor told the kernel.
// Immutable after construction.
#pragma once

#include <cstdint>

#include "common/base/ids.h"

namespace tarn::fuse {

inline constexpr uint64_t kRootNode = 1;

class NodeIds {
 public:
  explicit NodeIds(InodeId root) : root_(root) {}

  InodeId root() const { return root_; }
  InodeId ToInode(uint64_t node) const { return InodeId(Swap(node)); }
  uint64_t ToNode(InodeId inode) const { return Swap(inode.value()); }

 private:
  uint64_t Swap(uint64_t id) const { return id == kRootNode ? root_.value() : id == root_.value() ? kRootNode : id; }

  const InodeId root_;
};

}  // namespace tarn::fuse
