#include "metaserver/state/transaction.h"

#include <gtest/gtest.h>

#include "metaserver/state/keys.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/recent_values.h"

namespace tarn::meta {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

class TransactionTest : public testing::Test {
 protected:
  TransactionTest() {
    const KvBatch batch{.changes = {{"a", "1"}, {"c", "3"}, {"e", "5"}}};
    EXPECT_TRUE(store_.Write(batch).ok());
  }

  Pairs Scan(std::string_view prefix, std::string_view from = {}, size_t count_max = 100) {
    Pairs pairs;
    const auto visit = [&](std::string_view key, std::string_view value) {
      pairs.emplace_back(key, value);
      return pairs.size() < count_max;
    };
    EXPECT_TRUE(transaction_.Scan(prefix, from, visit).ok());
    return pairs;
  }

  MemoryKv store_;
  Transaction transaction_{&store_};
};

TEST_F(TransactionTest, ReadsItsOwnWrites) {
  transaction_.Put("b", "2");
  transaction_.Put("c", "new");
  transaction_.Delete("a");
  EXPECT_EQ(*transaction_.Get("a"), std::nullopt);
  EXPECT_EQ(*transaction_.Get("b"), "2");
  EXPECT_EQ(*transaction_.Get("c"), "new");
  EXPECT_EQ(*transaction_.Get("e"), "5");
  EXPECT_EQ(*store_.Get("a"), "1");
}

TEST_F(TransactionTest, ScanMergesChangesInOrder) {
  transaction_.Put("b", "2");
  transaction_.Put("c", "new");
  transaction_.Delete("a");
  transaction_.Put("f", "6");
  EXPECT_EQ(Scan(""), (Pairs{{"b", "2"}, {"c", "new"}, {"e", "5"}, {"f", "6"}}));
  EXPECT_EQ(Scan("", "c"), (Pairs{{"c", "new"}, {"e", "5"}, {"f", "6"}}));
  EXPECT_EQ(Scan("", "", 1), (Pairs{{"b", "2"}}));
  EXPECT_EQ(Scan("", "", 3), (Pairs{{"b", "2"}, {"c", "new"}, {"e", "5"}}));
  EXPECT_EQ(Scan("f"), (Pairs{{"f", "6"}}));
  EXPECT_EQ(Scan("a"), Pairs{});
}

TEST_F(TransactionTest, RollbackTakesBackToTheSavepointOnly) {
  transaction_.Put("a", "kept");
  transaction_.SetSavepoint();
  transaction_.Put("a", "lost");
  transaction_.Put("a", "lost too");
  transaction_.Delete("c");
  transaction_.Put("d", "lost");
  transaction_.Delete("d");
  transaction_.RollbackToSavepoint();
  EXPECT_EQ(Scan(""), (Pairs{{"a", "kept"}, {"c", "3"}, {"e", "5"}}));
  const KvBatch batch = std::move(transaction_).TakeBatch();
  ASSERT_EQ(batch.changes.size(), 1u);
  EXPECT_EQ(batch.changes[0].value, "kept");
}

TEST_F(TransactionTest, BatchHasOneChangePerKey) {
  transaction_.Put("z", "1");
  transaction_.Put("z", "2");
  transaction_.Delete("c");
  const KvBatch batch = std::move(transaction_).TakeBatch();
  ASSERT_EQ(batch.changes.size(), 2u);
  EXPECT_EQ(batch.changes[0].key, "c");
  EXPECT_EQ(batch.changes[0].value, std::nullopt);
  EXPECT_EQ(batch.changes[1].value, "2");
}

TEST(Transaction, TellsWhichKeysWereNew) {
  MemoryKv store;
  Transaction transaction(&store);
  transaction.Put("known", "1");
  transaction.PutNew("new", "1");
  transaction.SetSavepoint();
  transaction.Put("new", "2");
  transaction.Delete("known");
  transaction.PutNew("known", "2");
  transaction.PutNew("taken back", "1");
  transaction.RollbackToSavepoint();
  transaction.SetSavepoint();
  transaction.Delete("new");
  transaction.Delete("known");
  transaction.PutNew("known", "3");  // the store may have it
  const KvBatch batch = std::move(transaction).TakeBatch();
  ASSERT_EQ(batch.changes.size(), 2u);
  EXPECT_EQ(batch.changes[0].value, "3");
  EXPECT_FALSE(batch.changes[0].is_new);
  EXPECT_EQ(batch.changes[1].value, std::nullopt);
  EXPECT_TRUE(batch.changes[1].is_new);
}

TEST(RecentValues, GivesWhatTheStoreWould) {
  MemoryKv store;
  RecentValues recent(&store);
  const std::string volume = VolumeKey(VolumeId(20));
  ASSERT_TRUE(recent.Write({.changes = {{volume, "one"}, {"D-name", "entry"}}}).ok());
  EXPECT_EQ(*recent.Get(volume), "one");
  EXPECT_EQ(*recent.Get("D-name"), "entry");
  ASSERT_TRUE(recent.Write({.changes = {{volume, std::nullopt}}}).ok());
  EXPECT_EQ(*recent.Get(volume), std::nullopt);
  // What is too large to be kept must not leave what was there before.
  ASSERT_TRUE(recent.Write({.changes = {{volume, "small"}}}).ok());
  ASSERT_TRUE(recent.Write({.changes = {{volume, std::string(5000, 'x')}}}).ok());
  EXPECT_EQ((*recent.Get(volume))->size(), 5000u);
  for (uint32_t i = 100; i < 10'000; ++i) {
    ASSERT_TRUE(recent.Write({.changes = {{VolumeKey(VolumeId(i)), std::to_string(i)}}}).ok());
  }
  for (uint32_t i = 100; i < 10'000; ++i) ASSERT_EQ(*recent.Get(VolumeKey(VolumeId(i))), std::to_string(i));
  // The store was replaced under it.
  ASSERT_TRUE(store.Write({.changes = {{VolumeKey(VolumeId(9'999)), "other"}}}).ok());
  recent.Forget();
  EXPECT_EQ(*recent.Get(VolumeKey(VolumeId(9'999))), "other");
}

}  // namespace
}  // namespace tarn::meta
