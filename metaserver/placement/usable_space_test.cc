#include "metaserver/placement/usable_space.h"

#include <gtest/gtest.h>

namespace tarn::meta {
namespace {

TEST(UsableBytes, EveryByteIsOnAsManyNodesAsThereAreCopies) {
  const struct {
    std::vector<uint64_t> nodes;
    uint32_t copies;
    uint64_t usable;
  } rows[] = {
      {{}, 1, 0},
      {{70}, 1, 70},
      {{70}, 2, 0},
      {{100, 100, 100}, 1, 300},
      {{100, 100, 100}, 2, 150},
      {{100, 100, 100}, 3, 100},
      {{1000, 10, 10}, 2, 20},   // the large one holds a copy of everything
      {{1000, 10, 10}, 3, 10},   // as much as the fullest
      {{1000, 900, 10, 10}, 3, 20},
      {{40, 30, 20, 10}, 2, 50},
      {{0, 100, 100}, 3, 0},
  };
  for (const auto& row : rows) EXPECT_EQ(UsableBytes(row.nodes, row.copies), row.usable) << row.copies << " of " << row.nodes.size();
}

}  // namespace
}  // namespace tarn::meta
