#include "metaserver/state/deferred_writes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "metaserver/state/memory_kv.h"

namespace tarn::meta {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

// Written only when something waits for it.
constexpr DeferredWrites::Bounds kNever{.changes_max = 1'000'000, .bytes_max = 1 << 30, .quiet_max = std::chrono::hours(1)};

template <typename Readable>
Pairs ScanAll(const Readable& store, std::string_view prefix = {}, std::string_view from = {}) {
  Pairs pairs;
  EXPECT_TRUE(store
                  .Scan(prefix, from,
                        [&](std::string_view key, std::string_view value) {
                          pairs.emplace_back(key, value);
                          return true;
                        })
                  .ok());
  return pairs;
}

KvBatch Put(const std::string& key, const std::string& value) { return {.changes = {{key, value}}}; }
KvBatch PutNew(const std::string& key, const std::string& value) { return {.changes = {{key, value, true}}}; }
KvBatch Delete(const std::string& key) { return {.changes = {{key, std::nullopt}}}; }

// Tells what reaches it.
class WatchedKv final : public KvStore {
 public:
  std::unique_ptr<KvView> View() const override { return memory_.View(); }
  Result<std::optional<std::string>> Get(std::string_view key) const override { return memory_.Get(key); }
  Status Write(const KvBatch& batch) override {
    batches_.push_back(batch);
    return memory_.Write(batch);
  }
  Status Flush() override { return memory_.Flush(); }
  Status Checkpoint(const std::string& directory) override { return memory_.Checkpoint(directory); }
  // The writer's thread, or nobody's.
  const std::vector<KvBatch>& batches() const { return batches_; }

 private:
  MemoryKv memory_;
  std::vector<KvBatch> batches_;
};

TEST(DeferredWrites, ManyBatchesReachTheStoreAsOneOfTheNewestValues) {
  WatchedKv store;
  DeferredWrites deferred(&store, kNever);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(deferred.Write({.changes = {{"counter", std::to_string(i)}, {"file" + std::to_string(i % 2), "x"}}}).ok());
  }
  EXPECT_EQ(*deferred.Get("counter"), "99");
  EXPECT_TRUE(store.batches().empty());
  ASSERT_TRUE(deferred.Drain().ok());
  ASSERT_EQ(store.batches().size(), 1u);
  EXPECT_EQ(ScanAll(store), (Pairs{{"counter", "99"}, {"file0", "x"}, {"file1", "x"}}));
  EXPECT_EQ(store.batches()[0].changes.size(), 3u);
}

TEST(DeferredWrites, WhatWasNewAndIsGoneNeverReachesTheStore) {
  WatchedKv store;
  DeferredWrites deferred(&store, kNever);
  ASSERT_TRUE(deferred.Write(PutNew("result", "1")).ok());
  ASSERT_TRUE(deferred.Write(Put("result", "2")).ok());
  ASSERT_TRUE(deferred.Write(Put("other", "1")).ok());
  ASSERT_TRUE(deferred.Write(Delete("result")).ok());
  EXPECT_EQ(*deferred.Get("result"), std::nullopt);
  ASSERT_TRUE(deferred.Drain().ok());
  ASSERT_EQ(store.batches().size(), 1u);
  EXPECT_EQ(store.batches()[0].changes.size(), 1u);
}

TEST(DeferredWrites, WhatTheStoreHasIsDeletedThereEvenIfItComesBackAsNew) {
  WatchedKv store;
  DeferredWrites deferred(&store, kNever);
  ASSERT_TRUE(deferred.Write(PutNew("a", "1")).ok());
  ASSERT_TRUE(deferred.Drain().ok());
  ASSERT_TRUE(deferred.Write(Delete("a")).ok());
  ASSERT_TRUE(deferred.Write(PutNew("a", "2")).ok());
  ASSERT_TRUE(deferred.Write(Delete("a")).ok());
  EXPECT_EQ(*deferred.Get("a"), std::nullopt);
  EXPECT_TRUE(ScanAll(deferred).empty());
  ASSERT_TRUE(deferred.Drain().ok());
  EXPECT_TRUE(ScanAll(store).empty());
}

TEST(DeferredWrites, ViewsSeeNothingLaterWhetherOrNotItReachesTheStore) {
  WatchedKv store;
  DeferredWrites deferred(&store, kNever);
  ASSERT_TRUE(deferred.Write(PutNew("a", "1")).ok());
  const auto first = deferred.View();
  EXPECT_TRUE(store.batches().empty());
  ASSERT_TRUE(deferred.Write({.changes = {{"a", std::nullopt}, {"b", "2", true}}}).ok());
  const auto second = deferred.View();
  ASSERT_TRUE(deferred.Write({.changes = {{"a", "3", true}, {"b", std::nullopt}}}).ok());
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(ScanAll(*first), (Pairs{{"a", "1"}}));
    EXPECT_EQ(*first->Get("b"), std::nullopt);
    EXPECT_EQ(ScanAll(*second), (Pairs{{"b", "2"}}));
    EXPECT_EQ(*second->Get("a"), std::nullopt);
    EXPECT_EQ(ScanAll(deferred), (Pairs{{"a", "3"}}));
    ASSERT_TRUE(deferred.Drain().ok());
  }
  ASSERT_EQ(store.batches().size(), 1u) << "what was sealed apart is joined";
  EXPECT_EQ(store.batches()[0].changes.size(), 1u);
  EXPECT_EQ(ScanAll(store), (Pairs{{"a", "3"}}));
}

TEST(DeferredWrites, EnoughChangesAreWrittenUnasked) {
  WatchedKv store;
  {
    DeferredWrites deferred(&store, {.changes_max = 4});
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(deferred.Write(Put("key" + std::to_string(i), "x")).ok());
  }
  // At most twice as many as are due wait, and as many are on their way.
  EXPECT_GE(ScanAll(store).size(), 100u - 2 * 8);
}

TEST(DeferredWrites, WhatNothingComesAfterIsWrittenSoon) {
  MemoryKv store;
  DeferredWrites deferred(&store, {.quiet_max = std::chrono::milliseconds(1)});
  for (const char* const key : {"a", "b"}) {
    ASSERT_TRUE(deferred.Write(Put(key, "1")).ok());
    while (!store.Get(key).value()) std::this_thread::yield();
  }
}

TEST(DeferredWrites, FlushMakesEverythingDurable) {
  MemoryKv store;
  {
    DeferredWrites deferred(&store, kNever);
    ASSERT_TRUE(deferred.Write(Put("a", "1")).ok());
    ASSERT_TRUE(deferred.Flush().ok());
    ASSERT_TRUE(deferred.Write(Put("a", "2")).ok());
  }
  store.Crash();
  EXPECT_EQ(store.Snapshot(), (MemoryKv::Contents{{"a", "1"}}));
}

TEST(DeferredWrites, AFailureOfTheStoreIsToldFromThenOn) {
  MemoryKv store;
  DeferredWrites deferred(&store, kNever);
  store.FailWith(Status(StatusCode::kIoError, "disk"));
  ASSERT_TRUE(deferred.Write(Put("a", "1")).ok());
  EXPECT_EQ(deferred.Flush().code(), StatusCode::kIoError);
  store.FailWith(Status::Ok());
  EXPECT_EQ(deferred.Write(Put("a", "2")).code(), StatusCode::kIoError);
  EXPECT_EQ(*deferred.View()->Get("a"), "1");
  EXPECT_EQ(*deferred.Get("a"), "1");
}

// Against a store that is written at once: every read gives the same, whatever has been written through meanwhile.
TEST(DeferredWrites, GivesWhatAStoreThatWritesAtOnceGives) {
  std::mt19937_64 dice(testing::UnitTest::GetInstance()->random_seed());
  MemoryKv plain;
  MemoryKv below;
  DeferredWrites deferred(&below, {.changes_max = 20});
  const auto random_key = [&] {
    const char kind = static_cast<char>('A' + dice() % 2);
    return std::string(1, kind) + "1234567" + std::to_string(dice() % 3) + std::to_string(dice() % 12);
  };
  for (int step = 0; step < 20'000; ++step) {
    KvBatch batch;
    for (uint64_t i = 1 + dice() % 4; i > 0; --i) {
      KvBatch::Change change{random_key(), dice() % 2 == 0 ? std::optional<std::string>(std::to_string(step)) : std::nullopt};
      const bool twice = std::ranges::any_of(batch.changes, [&](const auto& other) { return other.key == change.key; });
      change.is_new = !twice && dice() % 2 == 0 && !plain.Get(change.key)->has_value();
      batch.changes.push_back(std::move(change));
    }
    ASSERT_TRUE(plain.Write(batch).ok());
    ASSERT_TRUE(deferred.Write(batch).ok());
    const std::string key = random_key();
    ASSERT_EQ(*deferred.Get(key), *plain.Get(key)) << "step " << step;
    const std::string prefix = key.substr(0, dice() % (key.size() + 1));
    const std::string from = dice() % 2 == 0 ? key : "";
    ASSERT_EQ(ScanAll(deferred, prefix, from), ScanAll(plain, prefix, from)) << "step " << step;
    if (dice() % 50 == 0) {
      ASSERT_EQ(ScanAll(*deferred.View()), ScanAll(plain)) << "step " << step;
    }
  }
}

// Each batch gives all keys the same value, and each sees only values that never go back: so do readers of other
// threads, and so does what a crash leaves.
TEST(DeferredWrites, ReadersAndCrashesSeeWholeBatches) {
  constexpr int kBatches = 3000;
  const std::vector<std::string> keys = {"a", "b", "c", "d"};
  MemoryKv below;
  {
    DeferredWrites deferred(&below, {.changes_max = 4});
    std::atomic<bool> done{false};
    const auto read = [&] {
      int64_t seen = 0;
      while (!done.load()) {
        const auto one = deferred.Get("c");
        const int64_t value = *one ? std::stoll(**one) : 0;
        EXPECT_GE(value, seen);
        seen = value;
        for (const Pairs& pairs : {ScanAll(deferred), ScanAll(*deferred.View())}) {
          if (pairs.empty()) continue;
          EXPECT_EQ(pairs.size(), keys.size() + 1);
          for (const auto& [key, number] : pairs) EXPECT_EQ(number, pairs[0].second) << key;
          EXPECT_GE(std::stoll(pairs[0].second), seen);
          seen = std::stoll(pairs[0].second);
        }
      }
    };
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; ++i) readers.emplace_back(read);
    for (int i = 1; i <= kBatches; ++i) {
      KvBatch batch;
      const std::string value = std::to_string(i);
      for (const std::string& key : keys) batch.changes.push_back({key, value});
      batch.changes.push_back({"z" + value, value, true});
      if (i > 1) batch.changes.push_back({"z" + std::to_string(i - 1), std::nullopt});
      EXPECT_TRUE(deferred.Write(batch).ok());
      if (i % 1000 == 0) {
        EXPECT_TRUE(deferred.Flush().ok());
      }
    }
    done.store(true);
    for (std::thread& reader : readers) reader.join();
  }
  std::mt19937_64 dice(testing::UnitTest::GetInstance()->random_seed());
  below.Crash(dice() % (below.unflushed_batches() + 1));
  const MemoryKv::Contents left = below.Snapshot();
  EXPECT_EQ(left.size(), keys.size() + 1);
  for (const auto& [key, value] : left) EXPECT_EQ(value, left.at("a")) << key;
}

}  // namespace
}  // namespace tarn::meta
