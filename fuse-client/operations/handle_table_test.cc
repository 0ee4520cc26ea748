#include "fuse-client/operations/handle_table.h"

#include <gtest/gtest.h>

#include <string>

namespace tarn::fuse {
namespace {

TEST(HandleTable, FindsWhatWasAddedUntilRemoved) {
  HandleTable<std::string> table;
  const uint64_t first = table.Add(std::make_shared<std::string>("first"));
  const uint64_t second = table.Add(std::make_shared<std::string>("second"));
  EXPECT_NE(first, second);
  EXPECT_EQ(*table.Find(first), "first");
  EXPECT_EQ(*table.Remove(first), "first");
  EXPECT_EQ(table.Find(first), nullptr);
  EXPECT_EQ(table.Remove(first), nullptr);
  EXPECT_EQ(*table.Find(second), "second");
}

TEST(HandleTable, IdsAreNotUsedAgain) {
  HandleTable<int> table;
  const uint64_t first = table.Add(std::make_shared<int>(1));
  table.Remove(first);
  EXPECT_NE(table.Add(std::make_shared<int>(2)), first);
}

TEST(HandleTable, UnknownIdsAreNull) {
  HandleTable<int> table;
  EXPECT_EQ(table.Find(0), nullptr);
  EXPECT_EQ(table.Find(~uint64_t{0}), nullptr);
}

TEST(HandleTable, RemoveAllGivesEveryEntryOnce) {
  HandleTable<int> table;
  for (int i = 0; i < 100; ++i) table.Add(std::make_shared<int>(i));
  EXPECT_EQ(table.RemoveAll().size(), 100u);
  EXPECT_TRUE(table.RemoveAll().empty());
}

}  // namespace
}  // namespace tarn::fuse
