// A checkpoint on its way: taken from a living store, cut into pieces, put together elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "metaserver/service/checkpoint_receiver.h"
#include "metaserver/service/checkpoint_source.h"
#include "metaserver/state/rocks_kv.h"
#include "metaserver/state/testing/temporary_directory.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() { store_ = std::move(RocksKv::Open(Path("state"), {})).value(); }

  std::string Path(const std::string& name) const { return directory_.path() + "/" + name; }
  void Put(const std::string& key, const std::string& value) {
    KvBatch batch;
    batch.changes.push_back({key, value});
    ASSERT_TRUE(store_->Write(batch).ok());
  }
  // Sends the store; `change` may spoil each piece. The first failure, or that of Finish.
  Status Send(const std::function<void(proto::CheckpointPiece&)>& change = nullptr) {
    ASSIGN_OR_RETURN(const auto source, CheckpointSource::Take(store_.get(), 5, Path("checkpoints")));
    Put("later", "is not in it");
    ASSIGN_OR_RETURN(auto receiver, CheckpointReceiver::Begin(Path("incoming")));
    proto::CheckpointPiece piece;
    for (;;) {
      ASSIGN_OR_RETURN(const bool more, source->Next(&piece));
      if (!more) break;
      if (change) change(piece);
      RETURN_IF_ERROR(receiver.Accept(piece));
    }
    EXPECT_EQ(receiver.applied_entries(), 5u);
    EXPECT_EQ(receiver.received_bytes(), source->total_bytes());
    return receiver.Finish();
  }
  std::optional<std::string> Get(const std::string& key) { return std::move(store_->Get(key)).value(); }

  TemporaryDirectory directory_;
  std::unique_ptr<RocksKv> store_;
};

TEST_F(CheckpointTest, ArrivesAsItWasWhenItWasTaken) {
  for (int i = 0; i < 100; ++i) Put("key" + std::to_string(i), std::string(50'000, static_cast<char>('a' + i % 26)));
  ASSERT_TRUE(Send().ok());
  EXPECT_TRUE(fs::is_empty(Path("checkpoints"))) << "the copy goes with its sender";
  const auto copy = std::move(RocksKv::Open(Path("incoming"), {})).value();
  EXPECT_EQ(copy->Get("key25").value(), std::string(50'000, 'z'));
  EXPECT_EQ(copy->Get("later").value(), std::nullopt);
}

TEST_F(CheckpointTest, TakesThePlaceOfTheStore) {
  Put("a", "sent");
  ASSERT_TRUE(Send().ok());
  Put("a", "newer");
  const auto swap = [this] {
    fs::remove_all(Path("state"));
    fs::rename(Path("incoming"), Path("state"));
    EXPECT_EQ(store_->Get("a").status().code(), StatusCode::kUnavailable);
    return Status::Ok();
  };
  ASSERT_TRUE(store_->Replace(swap).ok());
  EXPECT_EQ(Get("a"), "sent");
  Put("b", "written after");
  EXPECT_EQ(Get("b"), "written after");
}

TEST_F(CheckpointTest, DamageIsRefused) {
  Put("a", std::string(3 << 20, 'x'));
  EXPECT_THAT(Send([](auto& piece) {
                if (piece.offset_bytes() > 0) piece.mutable_data()->at(7) ^= 1;
              }).message(),
              ::testing::HasSubstr("checksum at"));
  EXPECT_THAT(Send([](auto& piece) {
                if (piece.offset_bytes() > 0) piece.set_offset_bytes(piece.offset_bytes() + 1);
              }).message(),
              ::testing::HasSubstr("not the next one"));
  EXPECT_THAT(Send([](auto& piece) {
                if (piece.files_size() > 0) piece.mutable_files(0)->set_name("../METASERVER");
              }).message(),
              ::testing::HasSubstr("a file name that is none"));
  EXPECT_THAT(Send([](auto& piece) {
                for (auto& file : *piece.mutable_files()) file.set_size_bytes(file.size_bytes() + 1);
              }).message(),
              ::testing::HasSubstr("not the next one"));
}

TEST_F(CheckpointTest, AnEarlyEndIsRefused) {
  Put("a", "b");
  ASSERT_TRUE(Send().ok());
  auto receiver = std::move(CheckpointReceiver::Begin(Path("incoming"))).value();
  EXPECT_EQ(receiver.Finish().code(), StatusCode::kCorruption);
  const auto source = std::move(CheckpointSource::Take(store_.get(), 5, Path("checkpoints"))).value();
  proto::CheckpointPiece piece;
  ASSERT_TRUE(source->Next(&piece).value());
  ASSERT_TRUE(receiver.Accept(piece).ok());
  EXPECT_EQ(receiver.Finish().code(), StatusCode::kCorruption);
}

TEST_F(CheckpointTest, LeftoversOfACrashAreRemoved) {
  fs::create_directories(Path("checkpoints/abc/state"));
  EXPECT_TRUE(RemoveCheckpoints(Path("checkpoints")).ok());
  EXPECT_FALSE(fs::exists(Path("checkpoints")));
  EXPECT_TRUE(RemoveCheckpoints(Path("checkpoints")).ok());
}

}  // namespace
}  // namespace tarn::meta
