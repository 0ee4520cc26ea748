#include "client/meta/cluster_map_cache.h"

#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <vector>

namespace tarn::client {
namespace {

// Fetches wait until the test answers them.
class ClusterMapCacheTest : public ::testing::Test {
 protected:
  ClusterMapCacheTest()
      : loop_(*rpc::EventLoop::Start("test-loop")),
        cache_(ClusterMapCache::Create(
            loop_.get(), &clock_,
            [this](uint64_t newer_than, Callback<ClusterMapCache::MapPtr> done) {
              if (automatic_version_ > 0) return done(Map(automatic_version_));
              newer_than_.push_back(newer_than);
              fetches_.push_back(std::move(done));
            },
            /*retry_deadline_ms=*/10'000)) {}

  static ClusterMapCache::MapPtr Map(uint64_t version) {
    auto map = std::make_shared<proto::ClusterMap>();
    map->set_version(version);
    return map;
  }
  std::future<Status> Refresh(uint64_t version) {
    auto promise = std::make_shared<std::promise<Status>>();
    cache_->Refresh(version, [promise](Status status) { promise->set_value(std::move(status)); });
    return promise->get_future();
  }
  static bool Ready(std::future<Status>& future) {
    return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }

  FakeClock clock_;
  std::vector<uint64_t> newer_than_;
  std::vector<Callback<ClusterMapCache::MapPtr>> fetches_;
  uint64_t automatic_version_ = 0;  // not 0: fetches are answered at once
  std::unique_ptr<rpc::EventLoop> loop_;
  std::shared_ptr<ClusterMapCache> cache_;
};

TEST_F(ClusterMapCacheTest, BeginsWithAnEmptyMap) { EXPECT_EQ(cache_->map()->version(), 0u); }

TEST_F(ClusterMapCacheTest, AVersionThatIsThereNeedsNoFetch) {
  auto first = Refresh(3);
  fetches_.at(0)(Map(4));
  EXPECT_TRUE(first.get().ok());
  auto second = Refresh(4);
  EXPECT_TRUE(second.get().ok());
  EXPECT_EQ(fetches_.size(), 1u);
  EXPECT_EQ(cache_->map()->version(), 4u);
}

TEST_F(ClusterMapCacheTest, WaitersShareAFetch) {
  auto first = Refresh(3);
  auto second = Refresh(2);
  EXPECT_EQ(fetches_.size(), 1u);
  fetches_.at(0)(Map(3));
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(second.get().ok());
}

TEST_F(ClusterMapCacheTest, AFreshFetchIsOneThatBeganAfterTheCall) {
  auto early = Refresh(1);
  auto fresh = Refresh(0);
  automatic_version_ = 6;
  fetches_.at(0)(Map(5));
  EXPECT_TRUE(early.get().ok());
  EXPECT_TRUE(fresh.get().ok());  // by the second fetch
  EXPECT_EQ(cache_->map()->version(), 6u);
}

TEST_F(ClusterMapCacheTest, AsksAgainUntilTheVersionIsThere) {
  auto waiting = Refresh(7);
  automatic_version_ = 7;
  fetches_.at(0)(ClusterMapCache::MapPtr());
  EXPECT_TRUE(waiting.get().ok());
}

TEST_F(ClusterMapCacheTest, GivesUpAtTheDeadline) {
  auto waiting = Refresh(7);
  clock_.AdvanceMs(10'000);
  fetches_.at(0)(Map(6));
  EXPECT_EQ(waiting.get().code(), StatusCode::kUnavailable);
}

TEST_F(ClusterMapCacheTest, AFailedFetchIsReported) {
  auto waiting = Refresh(7);
  fetches_.at(0)(Status(StatusCode::kUnavailable, "nobody there"));
  EXPECT_EQ(waiting.get().code(), StatusCode::kUnavailable);
}

TEST_F(ClusterMapCacheTest, AnOlderMapIsNotTaken) {
  auto first = Refresh(5);
  fetches_.at(0)(Map(5));
  EXPECT_TRUE(first.get().ok());
  auto fresh = Refresh(0);
  EXPECT_EQ(newer_than_.at(1), 5u);
  fetches_.at(1)(Map(4));
  EXPECT_TRUE(fresh.get().ok());
  EXPECT_EQ(cache_->map()->version(), 5u);
}

TEST_F(ClusterMapCacheTest, NewsMentionedInPassingIsFetchedOnce) {
  cache_->NoticeVersion(2);
  cache_->NoticeVersion(2);
  EXPECT_EQ(fetches_.size(), 1u);
  fetches_.at(0)(Map(2));
  cache_->NoticeVersion(2);
  EXPECT_EQ(fetches_.size(), 1u);
}

TEST_F(ClusterMapCacheTest, CloseEndsTheWaiting) {
  auto waiting = Refresh(7);
  EXPECT_FALSE(Ready(waiting));
  cache_->Close();
  EXPECT_EQ(waiting.get().code(), StatusCode::kCancelled);
  EXPECT_EQ(Refresh(7).get().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace tarn::client
