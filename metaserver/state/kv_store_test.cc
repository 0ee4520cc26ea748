// What all bodies of the key-value seam promise, and what each promises alone.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "metaserver/state/deferred_writes.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/rocks_kv.h"
#include "metaserver/state/testing/temporary_directory.h"

namespace tarn::meta {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs ScanAll(const KvView& view, std::string_view prefix, std::string_view from = {}) {
  Pairs pairs;
  const Status status = view.Scan(prefix, from, [&](std::string_view key, std::string_view value) {
    pairs.emplace_back(key, value);
    return true;
  });
  EXPECT_TRUE(status.ok()) << status.ToString();
  return pairs;
}

Status Put(KvStore* store, std::string key, std::string value) {
  return store->Write(KvBatch{.changes = {{std::move(key), std::move(value)}}});
}

enum class Body { kMemory, kRocks, kDeferredRocks };

class KvStoreTest : public testing::TestWithParam<Body> {
 protected:
  void SetUp() override {
    if (GetParam() == Body::kMemory) {
      store_ = std::make_unique<MemoryKv>();
      return;
    }
    auto opened = RocksKv::Open(directory_.path() + "/db", RocksKvOptions{});
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    if (GetParam() == Body::kRocks) {
      store_ = std::move(opened).value();
      return;
    }
    rocks_ = std::move(opened).value();
    store_ = std::make_unique<DeferredWrites>(rocks_.get(), DeferredWrites::Bounds{.changes_max = 8});
  }

  TemporaryDirectory directory_;
  std::unique_ptr<RocksKv> rocks_;
  std::unique_ptr<KvStore> store_;
};

TEST_P(KvStoreTest, WritesAreSeenAtOnceAndInBatches) {
  const KvBatch batch{.changes = {{"a", "1"}, {"b", "2"}, {"a", "3"}, {"c", "4"}, {"c", std::nullopt}}};
  ASSERT_TRUE(store_->Write(batch).ok());
  EXPECT_EQ(*store_->Get("a"), "3");
  EXPECT_EQ(*store_->Get("b"), "2");
  EXPECT_EQ(*store_->Get("c"), std::nullopt);
}

TEST_P(KvStoreTest, KeysOrderAsUnsignedBytes) {
  ASSERT_TRUE(Put(store_.get(), "x\x7f", "1").ok());
  ASSERT_TRUE(Put(store_.get(), "x\x80", "2").ok());
  ASSERT_TRUE(Put(store_.get(), "x", "0").ok());
  ASSERT_TRUE(Put(store_.get(), "y", "3").ok());
  EXPECT_EQ(ScanAll(*store_->View(), "x"), (Pairs{{"x", "0"}, {"x\x7f", "1"}, {"x\x80", "2"}}));
  EXPECT_EQ(ScanAll(*store_->View(), "x", "x\x7f"), (Pairs{{"x\x7f", "1"}, {"x\x80", "2"}}));
  EXPECT_EQ(ScanAll(*store_->View(), "").size(), 4u);
}

TEST_P(KvStoreTest, ScansLongPrefixesAcrossManyKeys) {
  for (int directory = 0; directory < 3; ++directory) {
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(Put(store_.get(), "D0000000" + std::to_string(directory) + std::to_string(1000 + i), "v").ok());
    }
    ASSERT_TRUE(store_->Flush().ok());
  }
  EXPECT_EQ(ScanAll(*store_->View(), "D00000001").size(), 100u);
  EXPECT_EQ(ScanAll(*store_->View(), "D00000001", "D000000011090").size(), 10u);
  EXPECT_EQ(ScanAll(*store_->View(), "D0000").size(), 300u);
  EXPECT_EQ(ScanAll(*store_->View(), "D00000009").size(), 0u);
}

TEST_P(KvStoreTest, ViewsSeeNothingLater) {
  ASSERT_TRUE(Put(store_.get(), "a", "1").ok());
  {
    const auto view = store_->View();
    ASSERT_TRUE(Put(store_.get(), "a", "2").ok());
    ASSERT_TRUE(Put(store_.get(), "b", "2").ok());
    ASSERT_TRUE(store_->Write(KvBatch{.changes = {{"a", std::nullopt}}}).ok());
    EXPECT_EQ(*view->Get("a"), "1");
    EXPECT_EQ(*view->Get("b"), std::nullopt);
    EXPECT_EQ(ScanAll(*view, ""), (Pairs{{"a", "1"}}));
  }
  ASSERT_TRUE(Put(store_.get(), "c", "3").ok());
  EXPECT_EQ(ScanAll(*store_->View(), ""), (Pairs{{"b", "2"}, {"c", "3"}}));
}

TEST_P(KvStoreTest, ScanStopsWhenTold) {
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(Put(store_.get(), key, "").ok());
  int visited = 0;
  ASSERT_TRUE(store_->View()->Scan("", "", [&](std::string_view, std::string_view) { return ++visited < 2; }).ok());
  EXPECT_EQ(visited, 2);
}

INSTANTIATE_TEST_SUITE_P(Bodies, KvStoreTest, testing::Values(Body::kMemory, Body::kRocks, Body::kDeferredRocks), [](const auto& each) {
  return each.param == Body::kMemory ? "MemoryKv" : each.param == Body::kRocks ? "RocksKv" : "DeferredWrites";
});

TEST(MemoryKv, CrashForgetsWhatWasNotFlushed) {
  MemoryKv store;
  ASSERT_TRUE(Put(&store, "a", "1").ok());
  ASSERT_TRUE(store.Flush().ok());
  ASSERT_TRUE(Put(&store, "a", "2").ok());
  ASSERT_TRUE(Put(&store, "b", "2").ok());
  EXPECT_EQ(store.unflushed_batches(), 2u);
  store.Crash(1);
  EXPECT_EQ(*store.Get("a"), "2");
  EXPECT_EQ(*store.Get("b"), std::nullopt);
  store.Crash();
  EXPECT_EQ(store.Snapshot(), (MemoryKv::Contents{{"a", "1"}}));
}

TEST(MemoryKv, FailsAsTold) {
  MemoryKv store;
  store.FailWith(Status(StatusCode::kIoError, "disk"));
  EXPECT_EQ(Put(&store, "a", "1").code(), StatusCode::kIoError);
  EXPECT_EQ(store.Get("a").status().code(), StatusCode::kIoError);
  store.FailWith(Status::Ok());
  EXPECT_EQ(*store.Get("a"), std::nullopt);
}

TEST(RocksKv, FlushedStateIsThereAfterReopening) {
  const TemporaryDirectory directory;
  {
    auto store = RocksKv::Open(directory.path(), {});
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE(Put(store->get(), "a", "1").ok());
    ASSERT_TRUE((*store)->Flush().ok());
  }
  auto store = RocksKv::Open(directory.path(), {});
  ASSERT_TRUE(store.ok());
  EXPECT_EQ(*(*store)->Get("a"), "1");
}

TEST(RocksKv, SecondOpenerIsRefused) {
  const TemporaryDirectory directory;
  auto first = RocksKv::Open(directory.path(), {});
  ASSERT_TRUE(first.ok());
  const auto second = RocksKv::Open(directory.path(), {});
  EXPECT_EQ(second.status().code(), StatusCode::kBusy) << second.status().ToString();
  EXPECT_NE(second.status().message().find(directory.path()), std::string::npos);
}

TEST(RocksKv, CheckpointIsACopyOfItsMoment) {
  const TemporaryDirectory directory;
  auto store = RocksKv::Open(directory.path() + "/db", {});
  ASSERT_TRUE(store.ok());
  ASSERT_TRUE(Put(store->get(), "a", "1").ok());
  ASSERT_TRUE((*store)->Checkpoint(directory.path() + "/copy").ok());
  ASSERT_TRUE(Put(store->get(), "a", "2").ok());
  auto copy = RocksKv::Open(directory.path() + "/copy", {});
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(*(*copy)->Get("a"), "1");
  EXPECT_FALSE((*store)->Checkpoint(directory.path() + "/copy").ok());
}

void FlushedDatabase(const std::string& path) {
  auto store = RocksKv::Open(path, {});
  ASSERT_TRUE(store.ok());
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(Put(store->get(), "key" + std::to_string(i), std::string(100, 'v')).ok());
  ASSERT_TRUE((*store)->Flush().ok());
}

std::string FileWithSuffix(const std::string& directory, std::string_view suffix) {
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    if (file.path().string().ends_with(suffix)) return file.path().string();
  }
  return {};
}

void Overwrite(const std::string& path, int offset, std::string_view bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(offset);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good()) << path;
}

TEST(RocksKv, DamagedDirectoryIsCorruptionAndNamed) {
  const TemporaryDirectory directory;
  FlushedDatabase(directory.path());
  Overwrite(directory.path() + "/CURRENT", 0, "nonsense");
  const auto opened = RocksKv::Open(directory.path(), {});
  EXPECT_EQ(opened.status().code(), StatusCode::kCorruption) << opened.status().ToString();
  EXPECT_NE(opened.status().message().find(directory.path()), std::string::npos);
}

TEST(RocksKv, MissingTableIsCorruption) {
  const TemporaryDirectory directory;
  FlushedDatabase(directory.path());
  std::filesystem::remove(FileWithSuffix(directory.path(), ".sst"));
  const auto opened = RocksKv::Open(directory.path(), {});
  EXPECT_EQ(opened.status().code(), StatusCode::kCorruption) << opened.status().ToString();
}

TEST(RocksKv, FlippedByteInATableIsCorruptionWhenRead) {
  const TemporaryDirectory directory;
  FlushedDatabase(directory.path());
  Overwrite(FileWithSuffix(directory.path(), ".sst"), 100, "\x5a\x5a\x5a");
  const auto opened = RocksKv::Open(directory.path(), {});
  StatusCode code = opened.status().code();
  if (opened.ok()) {
    code = (*opened)->View()->Scan("", "", [](std::string_view, std::string_view) { return true; }).code();
  }
  EXPECT_EQ(code, StatusCode::kCorruption);
}

}  // namespace
}  // namespace tarn::meta
