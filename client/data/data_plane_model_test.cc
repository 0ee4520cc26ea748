// Random writes, reads, truncates, flushes and syncs of one file against a byte array, while servers lose replies,
// restart, refuse and garble, with one copy and with several whose members and primaries change. Seeds are fixed; a
// failure names its own.
#include <algorithm>
#include <random>

#include "client/data/testing/data_plane_fixture.h"

namespace tarn::client {
namespace {

constexpr uint64_t kSizeMax = 1'500'000;

class DataPlaneModelTest : public DataPlaneFixture, public testing::WithParamInterface<int> {
 protected:
  void Prepare(const FakeClusterOptions& copies) {
    random_.seed(static_cast<uint32_t>(GetParam()));
    fault_random_.seed(static_cast<uint32_t>(GetParam()) + 1000);
    DataPlaneOptions options = DefaultOptions();
    options.request_timeout_ms = 20;
    options.flush_age_ms = GetParam() % 3 == 0 ? 3 : 60'000;
    options.write_buffer_bytes = GetParam() % 2 == 0 ? 1 << 20 : 8 << 20;
    options.read_cache_bytes = GetParam() % 4 < 2 ? 1 << 20 : 8 << 20;
    FakeClusterOptions cluster_options = copies;
    options.hedge_ms = 10;
    options.node = GetParam() % 2 == 0 ? "node-0" : "";
    cluster_options.layout.stripe_unit_bytes = GetParam() % 5 == 0 ? 4096 : 64 << 10;
    cluster_options.layout.width = 1 + static_cast<uint32_t>(GetParam()) % 4;
    Start(options, cluster_options);
    data_ = NewFile();
    handle_ = plane->NewReadAhead();
    cluster->SetScript([this](const FakeRequest& request) { return ChooseFault(request); });
  }

  FakeAction ChooseFault(const FakeRequest& request) {
    MutexLock lock(fault_mutex_);
    if (fault_random_() % 1000 >= fault_per_mille_) return FakeAction::kServe;
    switch (fault_random_() % 6) {
      case 0:
        return FakeAction::kDropReply;
      case 1:
        return FakeAction::kStaleEpoch;
      case 2:
        return FakeAction::kUnavailable;
      case 3:
        return FakeAction::kIgnore;
      case 4:
        return request.method == rpc::Method::kReadChunk ? FakeAction::kAskPrimary : FakeAction::kServe;
      default:
        return request.method == rpc::Method::kReadChunk && flips_ < 1 ? (++flips_, FakeAction::kFlipByte)
                                                                       : FakeAction::kServe;
    }
  }

  void SetFaults(uint32_t per_mille) {
    MutexLock lock(fault_mutex_);
    fault_per_mille_ = per_mille;
    flips_ = 0;
  }

  void Step() {
    switch (random_() % 20) {
      case 0:
      case 1:
        return (void)ExpectOk(Flush(*data_), "flush");
      case 2:
        return (void)ExpectOk(Sync(*data_), "sync");
      case 3:
        return Truncate();
      case 4:
        return Fail();
      case 5:
        return WriteInParallel();
      case 6:
      case 7:
      case 8:
      case 9:
      case 10:
      case 11:
        return ReadSomething();
      case 12:
        return AppendSomething();
      default:
        return WriteSomething();
    }
  }

  // A sole copy comes back under a new incarnation. Of several, one server at a time is away.
  void Fail() {
    FakeChunkServer& server = *cluster->servers[random_() % cluster->servers.size()];
    if (cluster->MembersAt(0).size() + cluster->MembersAt(1).size() == 2 && away_ == nullptr) return server.Restart();
    if (away_ != nullptr) {
      away_->Start();
      cluster->ReturnToGroups(*away_);
      away_ = nullptr;
    } else if (random_() % 3 == 0) {
      ChangePrimaries();
    } else {
      server.Stop();
      cluster->RemoveFromGroups(server);
      away_ = &server;
    }
  }

  // All members are well.
  void ChangePrimaries() {
    for (size_t i = 0; i < cluster->servers.size(); ++i) {
      std::vector<FakeChunkServer*> members = cluster->MembersAt(i);
      std::rotate(members.begin(), members.begin() + 1, members.end());
      cluster->ChangeMembers(i, members);
    }
  }

  bool ExpectOk(const Status& status, const char* what) {
    EXPECT_TRUE(status.ok()) << what << ": " << status.ToString();
    return status.ok();
  }

  std::vector<uint8_t> NextBytes(uint64_t length) { return Pattern(length, next_pattern_++); }

  uint64_t RandomLength() { return random_() % 4 == 0 ? random_() % 200'000 + 1 : random_() % 6'000 + 1; }

  void Put(uint64_t offset, const std::vector<uint8_t>& bytes) {
    model_.resize(std::max<size_t>(model_.size(), offset + bytes.size()));
    std::copy(bytes.begin(), bytes.end(), model_.begin() + static_cast<std::ptrdiff_t>(offset));
  }

  void WriteSomething() {
    const auto bytes = NextBytes(RandomLength());
    const uint64_t offset = random_() % 3 == 0 ? std::min<uint64_t>(last_end_, kSizeMax) : random_() % kSizeMax;
    if (!ExpectOk(WriteAll(*data_, offset, bytes), "write")) return;
    last_end_ = offset + bytes.size();
    Put(offset, bytes);
  }

  void AppendSomething() {
    if (model_.size() > kSizeMax) return;
    const auto bytes = NextBytes(RandomLength());
    if (ExpectOk(Append(*data_, bytes), "append")) Put(model_.size(), bytes);
  }

  // Disjoint ranges, all under way at once.
  void WriteInParallel() {
    const uint64_t base = random_() % kSizeMax;
    std::vector<std::vector<uint8_t>> all;
    std::vector<std::future<Status>> answers;
    uint64_t offset = base;
    for (int i = 0; i < 8; ++i) {
      all.push_back(NextBytes(RandomLength()));
      auto promise = std::make_shared<std::promise<Status>>();
      answers.push_back(promise->get_future());
      data_->Write(offset, all.back(), [promise](const Status& status) { promise->set_value(status); });
      offset += all.back().size();
    }
    offset = base;
    for (size_t i = 0; i < all.size(); ++i) {
      ExpectOk(answers[i].get(), "parallel write");
      Put(offset, all[i]);
      offset += all[i].size();
    }
  }

  void ReadSomething() {
    const uint64_t offset = random_() % 2 == 0 ? last_read_end_ : random_() % (kSizeMax + 300'000);
    const uint64_t length = random_() % 3 == 0 ? random_() % 500'000 + 1 : 16'384;
    const auto bytes = ReadBytes(*data_, {offset, length}, random_() % 4 == 0 ? nullptr : handle_);
    ASSERT_TRUE(bytes.ok()) << bytes.status().ToString();
    std::vector<uint8_t> expected;
    if (offset < model_.size()) {
      const auto begin = model_.begin() + static_cast<std::ptrdiff_t>(offset);
      expected.assign(begin, begin + static_cast<std::ptrdiff_t>(std::min<uint64_t>(length, model_.size() - offset)));
    }
    last_read_end_ = expected.empty() ? 0 : offset + expected.size();
    ASSERT_EQ(bytes->size(), expected.size()) << "read " << offset << "+" << length;
    const auto differs = std::mismatch(expected.begin(), expected.end(), bytes->begin()).first;
    ASSERT_TRUE(differs == expected.end())
        << "first difference at " << offset + static_cast<uint64_t>(differs - expected.begin());
  }

  // As the file system does it: what is buffered is published first.
  void Truncate() {
    if (data_->dirty() && !ExpectOk(Flush(*data_), "flush before truncate")) return;
    const uint64_t size = random_() % 5 == 0 ? 0 : random_() % (kSizeMax + 1);
    const Attributes attributes = cluster->metadata->Truncate(file, size);
    if (attributes.truncate_floor_bytes || size == 0) {
      ExpectOk(WaitStatus([&](StatusCallback done) { data_->FinishTruncate(attributes, std::move(done)); }),
               "truncate");
    }
    data_->Adopt(cluster->metadata->Get(file));
    model_.resize(size);
  }

  void CheckEnd() {
    SetFaults(0);
    ExpectOk(Sync(*data_), "last sync");
    for (const auto& server : cluster->servers) server->Restart();
    EXPECT_EQ(cluster->metadata->Get(file).size_bytes, model_.size());
    for (size_t member = 0; member < std::min(cluster->MembersAt(0).size(), cluster->MembersAt(1).size()); ++member)
      EXPECT_TRUE(cluster->StoredBytes(file, /*after_restart=*/true, member) == model_) << "member " << member;
    EXPECT_EQ(plane->counters().dirty_bytes, 0u);
  }

  std::mt19937 random_;
  std::shared_ptr<InodeData> data_;
  std::shared_ptr<ReadAheadState> handle_;
  std::vector<uint8_t> model_;
  FakeChunkServer* away_ = nullptr;
  uint64_t next_pattern_ = 1;
  uint64_t last_end_ = 0;
  uint64_t last_read_end_ = 0;

  Mutex fault_mutex_;
  std::mt19937 fault_random_ GUARDED_BY(fault_mutex_);
  uint32_t fault_per_mille_ GUARDED_BY(fault_mutex_) = 0;
  uint32_t flips_ GUARDED_BY(fault_mutex_) = 0;

  void Run() {
    for (int step = 0; step < 150; ++step) {
      if (step % 30 == 0) SetFaults(step % 60 == 0 ? 0 : 20);
      Step();
      ASSERT_FALSE(HasFailure()) << "seed " << GetParam() << " step " << step;
    }
    CheckEnd();
  }
};

TEST_P(DataPlaneModelTest, AgreesWithAByteArray) {
  Prepare(FakeClusterOptions{});
  Run();
}

TEST_P(DataPlaneModelTest, AgreesWithAByteArrayWhileMembersChange) {
  Prepare(FakeClusterOptions{.servers = 3, .replicas = 2 + static_cast<size_t>(GetParam()) % 2});
  Run();
}

INSTANTIATE_TEST_SUITE_P(Seeds, DataPlaneModelTest, testing::Range(0, 24));

}  // namespace
}  // namespace tarn::client
