#include "chunkserver/elastic/pull_through.h"

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <vector>

#include "common/checksum/block_sums.h"

namespace tarn::elastic {
namespace {

constexpr ChunkId kChunk{DataId(7), 3};
constexpr GroupId kGroup{5};
constexpr Generation kGeneration{.map_incarnation = 1, .data = 10, .truncate = 0};

// Runs everything at once.
class InlinePool final : public WorkerPool {
 public:
  bool Submit(std::function<void()> task) override {
    if (full) return false;
    task();
    return true;
  }
  bool full = false;
};

// Keeps the calls until the test answers them.
class HeldNetwork final : public replication::PeerNetwork {
 public:
  struct Held {
    TargetId to;
    proto::ReadChunkRequest request;
    replication::PeerCallback callback;
  };
  void Call(TargetId to, rpc::Method method, const google::protobuf::MessageLite& request, std::span<const uint8_t>, int64_t,
            replication::PeerCallback callback) override {
    EXPECT_EQ(method, rpc::Method::kReadChunk);
    Held held{to, {}, std::move(callback)};
    EXPECT_TRUE(held.request.ParseFromString(request.SerializeAsString()));
    calls.push_back(std::move(held));
    ++count;
  }
  // As a member that has `chunk` would answer.
  void AnswerFirst(const std::vector<uint8_t>& chunk, bool spoil = false) {
    Held held = std::move(calls.front());
    calls.pop_front();
    const uint64_t begin = std::min<uint64_t>(held.request.offset_bytes(), chunk.size());
    const uint64_t end = std::min<uint64_t>(begin + held.request.length_bytes(), chunk.size());
    std::vector<uint8_t> payload(chunk.begin() + static_cast<ptrdiff_t>(begin), chunk.begin() + static_cast<ptrdiff_t>(end));
    proto::ReadChunkReply reply;
    reply.set_chunk_bytes(chunk.size());
    reply.set_version(1);
    reply.set_block_sums(ComputePieceSums(begin, payload));
    if (spoil) payload[0] ^= 1;
    const std::string message = reply.SerializeAsString();
    held.callback({.status = Status::Ok(), .message = {reinterpret_cast<const uint8_t*>(message.data()), message.size()}, .payload = payload});
  }
  void FailFirst(StatusCode code, uint64_t map_version = 0) {
    Held held = std::move(calls.front());
    calls.pop_front();
    held.callback({.status = Status(code, "no"), .map_version = map_version, .message = {}, .payload = {}});
  }

  std::deque<Held> calls;
  size_t count = 0;
};

struct Answered {
  Status status;
  std::vector<uint8_t> bytes;
};

class PullThroughTest : public testing::Test {
 protected:
  PullThroughTest() {
    std::string pattern = testing::TempDir() + "pull_through_XXXXXX";
    directory_ = mkdtemp(pattern.data());
    cache_ = *UnitCache::Open(directory_, UnitLog::kBudgetBytesMin);
    pull_ = std::make_unique<PullThrough>(PullThroughParts{.cache = cache_.get(),
                                                           .network = &network_,
                                                           .workers = &workers_,
                                                           .buffers = buffers_.get(),
                                                           .clock = &clock_,
                                                           .want_map = [this](uint64_t version) { wanted_map_ = version; }});
    proto::ClusterMap map;
    for (const uint64_t id : {1, 2}) {
      proto::Target* target = map.add_targets();
      target->set_id(id);
      target->set_node("node-" + std::to_string(id));
      target->set_state(proto::TARGET_STATE_ONLINE);
    }
    proto::Target* self = map.add_targets();
    self->set_id(11);
    self->set_node("node-1");
    self->set_target_class(proto::TARGET_CLASS_ELASTIC);
    self->set_state(proto::TARGET_STATE_ONLINE);
    proto::PlacementGroup* group = map.add_groups();
    group->set_id(kGroup.value());
    group->set_epoch(4);
    group->add_targets(2);
    group->add_targets(1);
    pull_->AdoptMap(map, TargetId(11));
    chunk_.resize(3 * kUnitBytes + 5'000);
    for (size_t i = 0; i < chunk_.size(); ++i) chunk_[i] = static_cast<uint8_t>(i * 7 + i / 5000);
  }
  ~PullThroughTest() override { std::filesystem::remove_all(directory_); }

  ReadCall CallOf(Range range, Generation generation = kGeneration) const {
    return {.chunk = kChunk, .generation = generation, .range = range, .group = kGroup, .session = SessionId(3)};
  }
  // The answer comes when the network has answered.
  std::shared_ptr<std::optional<Answered>> Read(const ReadCall& call) {
    auto answer = std::make_shared<std::optional<Answered>>();
    pull_->Read(call, [answer, call](ReadAnswer read) {
      ASSERT_FALSE(answer->has_value()) << "answered twice";
      Answered got{read.status, {}};
      if (read.pages) {
        for (const store::ReadPiece& piece : read.pages->pieces) {
          const size_t at = got.bytes.size();
          got.bytes.resize(at + piece.length);
          ASSERT_EQ(pread(piece.fd, got.bytes.data() + at, piece.length, static_cast<off_t>(piece.file_offset)), piece.length);
        }
      } else {
        got.bytes.assign(read.payload.data(), read.payload.data() + read.payload.size());
      }
      if (read.status.ok()) {
        EXPECT_FALSE(FindBadPiece(call.range.offset, got.bytes, read.reply.block_sums()).has_value());
      }
      *answer = std::move(got);
    });
    return answer;
  }
  void ExpectBytes(const std::shared_ptr<std::optional<Answered>>& answer, Range range) const {
    ASSERT_TRUE(answer->has_value());
    ASSERT_TRUE((*answer)->status.ok()) << (*answer)->status.ToString();
    const auto end = std::min<uint64_t>(range.end(), chunk_.size());
    EXPECT_EQ((*answer)->bytes, (std::vector<uint8_t>(chunk_.begin() + static_cast<ptrdiff_t>(range.offset), chunk_.begin() + static_cast<ptrdiff_t>(end))));
  }
  static void ExpectRefused(const std::shared_ptr<std::optional<Answered>>& answer) {
    ASSERT_TRUE(answer->has_value());
    EXPECT_EQ((*answer)->status.code(), StatusCode::kAskPrimary);
  }
  proto::ElasticUse Use() const {
    proto::ElasticUse use;
    pull_->FillUse(&use);
    return use;
  }

  std::string directory_;
  SystemClock clock_;
  InlinePool workers_;
  HeldNetwork network_;
  std::shared_ptr<BufferPool> buffers_ = BufferPool::Create(1 << 20);
  std::unique_ptr<UnitCache> cache_;
  std::unique_ptr<PullThrough> pull_;
  uint64_t wanted_map_ = 0;
  std::vector<uint8_t> chunk_;
};

TEST_F(PullThroughTest, AMissIsFetchedAndTheNextReadIsAHit) {
  const Range range{4096, 8192};
  const auto first = Read(CallOf(range));
  ASSERT_EQ(network_.calls.size(), 1u);
  EXPECT_EQ(network_.calls[0].to, TargetId(1)) << "the member on this node";
  EXPECT_EQ(network_.calls[0].request.chunk().epoch(), 4u);
  EXPECT_EQ(network_.calls[0].request.offset_bytes(), 0u);
  EXPECT_EQ(network_.calls[0].request.length_bytes(), kUnitBytes) << "the whole unit";
  EXPECT_FALSE(first->has_value());
  network_.AnswerFirst(chunk_);
  ExpectBytes(first, range);
  ExpectBytes(Read(CallOf(range)), range);
  EXPECT_EQ(network_.count, 1u);
  EXPECT_EQ(Use().hits(), 1u);
  EXPECT_EQ(Use().misses(), 1u);
}

TEST_F(PullThroughTest, AllReadersOfOneMissShareOneFetch) {
  const Range range{0, kUnitBytes};
  std::vector<std::shared_ptr<std::optional<Answered>>> answers;
  for (int i = 0; i < 50; ++i) answers.push_back(Read(CallOf(range)));
  EXPECT_EQ(network_.count, 1u);
  network_.AnswerFirst(chunk_);
  for (const auto& answer : answers) ExpectBytes(answer, range);
}

TEST_F(PullThroughTest, AReadJoinsWhatIsUnderWayAndFetchesTheRest) {
  const auto first = Read(CallOf({kUnitBytes, kUnitBytes}));
  const Range all{0, 4 * kUnitBytes};
  const auto second = Read(CallOf(all));
  ASSERT_EQ(network_.calls.size(), 3u);
  EXPECT_EQ(network_.calls[1].request.offset_bytes(), 0u);
  EXPECT_EQ(network_.calls[1].request.length_bytes(), kUnitBytes);
  EXPECT_EQ(network_.calls[2].request.offset_bytes(), 2 * kUnitBytes);
  EXPECT_EQ(network_.calls[2].request.length_bytes(), 2 * kUnitBytes);
  for (int i = 0; i < 3; ++i) network_.AnswerFirst(chunk_);
  ExpectBytes(first, {kUnitBytes, kUnitBytes});
  ExpectBytes(second, all);
  ExpectBytes(Read(CallOf(all)), all);
  EXPECT_EQ(network_.count, 3u);
}

TEST_F(PullThroughTest, PartOfTheRangeMayBeThereAlready) {
  Read(CallOf({kUnitBytes, kUnitBytes}));
  network_.AnswerFirst(chunk_);
  const Range all{4096, 4 * kUnitBytes - 4096};
  const auto read = Read(CallOf(all));
  network_.AnswerFirst(chunk_);
  network_.AnswerFirst(chunk_);
  ExpectBytes(read, all);
}

TEST_F(PullThroughTest, AFailedMemberIsFollowedByTheNext) {
  const Range range{0, 4096};
  const auto read = Read(CallOf(range));
  network_.FailFirst(StatusCode::kUnavailable);
  ASSERT_EQ(network_.calls.size(), 1u);
  EXPECT_EQ(network_.calls[0].to, TargetId(2));
  network_.AnswerFirst(chunk_);
  ExpectBytes(read, range);
  const auto later = Read(CallOf({kUnitBytes, 4096}));
  EXPECT_EQ(network_.calls[0].to, TargetId(2)) << "the other one is avoided for a while";
}

TEST_F(PullThroughTest, WithoutAMemberTheReaderIsSentToOneAndLaterTriesAgain) {
  const auto read = Read(CallOf({0, 4096}));
  network_.FailFirst(StatusCode::kAskPrimary);
  network_.FailFirst(StatusCode::kStaleEpoch, 17);
  ExpectRefused(read);
  EXPECT_EQ(wanted_map_, 17u);
  EXPECT_EQ(Use().refusals(), 1u);
  const auto again = Read(CallOf({0, 4096}));
  network_.AnswerFirst(chunk_);
  ExpectBytes(again, {0, 4096});
}

TEST_F(PullThroughTest, AnOlderGenerationIsRefusedAndANewerOneIsFetched) {
  Read(CallOf({0, 4096}));
  network_.AnswerFirst(chunk_);
  Generation newer = kGeneration;
  ++newer.data;
  chunk_[100] ^= 1;
  const auto read = Read(CallOf({0, 4096}, newer));
  EXPECT_EQ(network_.calls[0].request.data_generation(), newer.data);
  network_.AnswerFirst(chunk_);
  ExpectBytes(read, {0, 4096});
  ExpectRefused(Read(CallOf({0, 4096})));
}

TEST_F(PullThroughTest, BytesWithoutTheirSumsAreNotKept) {
  const auto read = Read(CallOf({0, 4096}));
  network_.AnswerFirst(chunk_, /*spoil=*/true);
  ASSERT_EQ(network_.calls.size(), 1u) << "another member is asked";
  network_.AnswerFirst(chunk_, /*spoil=*/true);
  ExpectRefused(read);
  EXPECT_EQ(Use().cached_bytes(), 0u);
}

TEST_F(PullThroughTest, ABadUnitIsDroppedAndFetchedAnew) {
  const Range range{0, 4096};
  Read(CallOf(range));
  network_.AnswerFirst(chunk_);
  const Found found = cache_->Find(kChunk, kGeneration, range);
  const uint8_t byte = static_cast<uint8_t>(chunk_[0] ^ 1);
  ASSERT_EQ(pwrite(found.read.data.pieces[0].fd, &byte, 1, static_cast<off_t>(found.read.data.pieces[0].file_offset)), 1);
  pull_->Verify(CallOf(range), [](ReadAnswer) {});
  EXPECT_EQ(Use().bad_units(), 1u);
  const auto read = Read(CallOf(range));
  ASSERT_EQ(network_.calls.size(), 1u);
  network_.AnswerFirst(chunk_);
  ExpectBytes(read, range);
}

TEST_F(PullThroughTest, FetchesUnderWayAreBounded) {
  size_t refused = 0;
  for (uint64_t data = 100; data < 120; ++data) {
    ReadCall call = CallOf({0, kRequestBytesMax});
    call.chunk.data = DataId(data);
    const auto read = Read(call);
    refused += read->has_value();
  }
  EXPECT_EQ(refused, 20 - PullThrough::kFetchBytesMax / kRequestBytesMax);
  network_.AnswerFirst(chunk_);
  EXPECT_FALSE(Read(CallOf({0, kRequestBytesMax}))->has_value()) << "there is room again";
}

TEST_F(PullThroughTest, ReadersAreRefusedWhileTheDiskIsBusy) {
  const auto read = Read(CallOf({0, 4096}));
  workers_.full = true;
  network_.AnswerFirst(chunk_);
  ExpectRefused(read);
}

}  // namespace
}  // namespace tarn::elastic
