#include "metaserver/state/recent_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/state/keys.h"
#include "metaserver/state/memory_kv.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> Keys(const KvStore& store, const std::string& prefix, size_t count_max = 1000) {
  std::vector<std::string> keys;
  EXPECT_TRUE(store
                  .Scan(prefix, {},
                        [&](std::string_view key, std::string_view) {
                          keys.emplace_back(key);
                          return keys.size() < count_max;
                        })
                  .ok());
  return keys;
}

KvBatch Put(const std::string& key) { return KvBatch{.changes = {{key, "value"}}}; }
KvBatch Delete(const std::string& key) { return KvBatch{.changes = {{key, std::nullopt}}}; }

// A store that tells how far back scans begin.
class WatchedKv final : public KvStore {
 public:
  std::unique_ptr<KvView> View() const override { return std::make_unique<Watch>(this, memory_.View()); }
  Result<std::optional<std::string>> Get(std::string_view key) const override { return memory_.Get(key); }
  Status Write(const KvBatch& batch) override { return memory_.Write(batch); }
  Status Flush() override { return memory_.Flush(); }
  Status Checkpoint(const std::string& directory) override { return memory_.Checkpoint(directory); }
  // Where the last scan began; nullopt: none since the last call.
  std::optional<std::string> TakeFrom() { return std::exchange(from_, std::nullopt); }

 private:
  class Watch final : public KvView {
   public:
    Watch(const WatchedKv* owner, std::unique_ptr<KvView> view) : owner_(owner), view_(std::move(view)) {}
    Result<std::optional<std::string>> Get(std::string_view key) const override { return view_->Get(key); }
    Status Scan(std::string_view prefix, std::string_view from,
                const std::function<bool(std::string_view, std::string_view)>& visit) const override {
      owner_->from_.emplace(from);
      return view_->Scan(prefix, from, visit);
    }

   private:
    const WatchedKv* const owner_;
    const std::unique_ptr<KvView> view_;
  };

  MemoryKv memory_;
  mutable std::optional<std::string> from_;
};

TEST(RecentValues, AQueueIsReadFromWhereItBegins) {
  WatchedKv store;
  RecentValues recent(&store);
  for (uint64_t place = 1; place <= 3; ++place) ASSERT_TRUE(recent.Write(Put(UnpropagatedKey(place))).ok());
  const std::string queue = KindPrefix(KeyKind::kUnpropagated);
  EXPECT_THAT(Keys(recent, queue, 1), ElementsAre(UnpropagatedKey(1)));
  EXPECT_EQ(store.TakeFrom(), "");
  ASSERT_TRUE(recent.Write(Delete(UnpropagatedKey(1))).ok());
  EXPECT_THAT(Keys(recent, queue, 1), ElementsAre(UnpropagatedKey(2)));
  EXPECT_EQ(store.TakeFrom(), UnpropagatedKey(1));
  EXPECT_THAT(Keys(recent, queue, 1), ElementsAre(UnpropagatedKey(2)));
  EXPECT_EQ(store.TakeFrom(), UnpropagatedKey(2));

  ASSERT_TRUE(recent.Write(Delete(UnpropagatedKey(2))).ok());
  ASSERT_TRUE(recent.Write(Delete(UnpropagatedKey(3))).ok());
  EXPECT_THAT(Keys(recent, queue), IsEmpty());
  store.TakeFrom();
  EXPECT_THAT(Keys(recent, queue), IsEmpty());
  EXPECT_EQ(store.TakeFrom(), std::nullopt);  // known to be empty
}

TEST(RecentValues, WhatJoinsAQueueInFrontIsSeen) {
  MemoryKv store;
  RecentValues recent(&store);
  const VolumeId volume(7);
  ASSERT_TRUE(recent.Write(Put(PurgeKey(volume, InodeId(50)))).ok());
  EXPECT_THAT(Keys(recent, PurgePrefix(volume)), ElementsAre(PurgeKey(volume, InodeId(50))));
  ASSERT_TRUE(recent.Write(Put(PurgeKey(volume, InodeId(20)))).ok());
  EXPECT_THAT(Keys(recent, PurgePrefix(volume)), ElementsAre(PurgeKey(volume, InodeId(20)), PurgeKey(volume, InodeId(50))));
  // Another store under it.
  ASSERT_TRUE(store.Write(Put(PurgeKey(volume, InodeId(10)))).ok());
  recent.Forget();
  EXPECT_THAT(Keys(recent, PurgePrefix(volume), 1), ElementsAre(PurgeKey(volume, InodeId(10))));
}

TEST(RecentValues, GivesWhatTheStoreGives) {
  std::mt19937_64 dice(testing::UnitTest::GetInstance()->random_seed());
  MemoryKv store;
  RecentValues recent(&store);
  const auto random_key = [&]() -> std::string {
    const uint64_t number = dice() % 40;
    switch (dice() % 4) {
      case 0: return UnpropagatedKey(number);
      case 1: return PurgeKey(VolumeId(static_cast<uint32_t>(1 + dice() % 2)), InodeId(number));
      case 2: return DentryKey(InodeId(1 + dice() % 3), "name" + std::to_string(number));
      default: return VolumeKey(VolumeId(static_cast<uint32_t>(number)));
    }
  };
  const std::vector<std::string> prefixes = {KindPrefix(KeyKind::kUnpropagated), KindPrefix(KeyKind::kPurge), PurgePrefix(VolumeId(1)),
                                             PurgePrefix(VolumeId(2)), DentryPrefix(InodeId(1)), DentryPrefix(InodeId(2)), KindPrefix(KeyKind::kVolume)};
  for (int step = 0; step < 20'000; ++step) {
    KvBatch batch;
    for (uint64_t i = 1 + dice() % 3; i > 0; --i) {
      batch.changes.push_back({random_key(), dice() % 3 == 0 ? std::optional<std::string>(std::to_string(step)) : std::nullopt});
    }
    ASSERT_TRUE(recent.Write(batch).ok());
    const std::string& prefix = prefixes[dice() % prefixes.size()];
    const size_t count_max = 1 + dice() % 5;
    ASSERT_EQ(Keys(recent, prefix, count_max), Keys(store, prefix, count_max)) << "step " << step;
    const std::string key = random_key();
    ASSERT_EQ(recent.Get(key).value(), store.Get(key).value()) << "step " << step;
  }
}

}  // namespace
}  // namespace tarn::meta
