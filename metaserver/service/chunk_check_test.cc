// What a check of chunks tells of files whose chunk servers answer this or that.
#include "metaserver/service/chunk_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "common/rpc/frame_server.h"
#include "metaserver/state/keys.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/records.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"

namespace tarn::meta {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kData = 77;
constexpr uint64_t kChunkBytes = 1 << 20;

// Two targets of one server; a file of one column, in a group of both.
class ChunkCheckTest : public ::testing::Test {
 protected:
  ChunkCheckTest() {
    loop_ = std::move(rpc::EventLoop::Start("test")).value();
    server_ = std::move(rpc::FrameServer::Start(
                            {},
                            [](const proto::HelloRequest&, proto::HelloReply* reply) {
                              reply->set_role(proto::PEER_ROLE_CHUNKSERVER);
                              return Status::Ok();
                            },
                            [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
                              Answer(request, *responder);
                            }))
                  .value();
    proto::PlacementGroup* group = map_.add_groups();
    group->set_id(9);
    group->set_epoch(1);
    for (const uint64_t target : {1u, 2u}) {
      group->add_targets(target);
      proto::Target* row = map_.add_targets();
      row->set_id(target);
      row->set_address(server_->address());
    }
    proto::GroupSet* group_set = map_.add_group_sets();
    group_set->set_version(1);
    group_set->add_groups(9);
  }

  void Answer(const rpc::Request& request, rpc::Responder& responder) {
    proto::StatDataRequest message;
    if (!rpc::ParseRequest(request, &message).ok() || message.data_id() != kData)
      return responder.Fail(Status(StatusCode::kInvalidArgument, "asked for something else"));
    const std::lock_guard lock(mutex_);
    if (on_question_) on_question_();
    if (silent_.contains(message.target())) return responder.Fail(Status(StatusCode::kUnavailable, "away"));
    proto::StatDataReply reply;
    for (const uint32_t index : chunks_[message.target()]) {
      proto::StatDataReply::Chunk* const chunk = reply.add_chunks();
      chunk->set_index(index);
      chunk->set_epoch(5);
      chunk->set_version(1 + newer_by_[{message.target(), index}]);
    }
    responder.Reply(reply);
  }

  // Of that many chunks, written by that many changes.
  proto::Attributes File(uint64_t chunks, uint64_t data_generation) {
    proto::Attributes file;
    file.set_inode(17);
    file.set_type(proto::FILE_TYPE_REGULAR);
    file.set_nlink(1);
    file.set_volume(1);
    file.set_size_bytes(chunks * kChunkBytes);
    file.set_data_id(kData);
    file.set_data_generation(data_generation);
    proto::Layout* layout = file.mutable_layout();
    layout->set_group_set_version(1);
    layout->set_stripe_unit_bytes(kChunkBytes);
    layout->set_width(1);
    layout->set_chunk_size_bytes(kChunkBytes);
    return file;
  }
  void Store(const proto::Attributes& file) {
    EXPECT_TRUE(store_.Write({.changes = {{InodeKey(InodeId(file.inode())), EncodeInode(file)}}}).ok());
  }

  // "kind" of what is damage, "(kind)" of what may be as it should.
  std::vector<std::string> Check(const proto::Attributes& file) {
    Store(file);
    std::vector<std::string> kinds;
    ChunkCheck::Options options;
    options.map = [this] { return map_; };
    options.found = [&](const ChunkFinding& finding) {
      kinds.push_back(finding.is_damage ? finding.kind : std::string("(") + finding.kind + ")");
      last_ = finding.what;
    };
    options.second_look_ms = 0;
    ChunkCheck check(&store_, loop_.get(), std::move(options));
    EXPECT_TRUE(check.Add(file).ok());
    EXPECT_TRUE(check.Finish().ok());
    return kinds;
  }

  MemoryKv store_;
  proto::ClusterMap map_;
  std::mutex mutex_;
  std::map<uint64_t, std::set<uint32_t>> chunks_;  // by target
  std::map<std::pair<uint64_t, uint32_t>, uint64_t> newer_by_;  // by target and chunk: so many changes more than one
  std::set<uint64_t> silent_;
  std::function<void()> on_question_;
  std::string last_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<rpc::FrameServer> server_;
};

TEST_F(ChunkCheckTest, NothingIsWrongWhereEveryCopyHasEveryChunk) {
  chunks_ = {{1, {0, 1, 2}}, {2, {0, 1, 2}}};
  EXPECT_THAT(Check(File(3, 1)), IsEmpty());
}

TEST_F(ChunkCheckTest, ACopyThatLacksWhatAnotherHasIsNamed) {
  chunks_ = {{1, {0, 1, 2}}, {2, {0, 2}}};
  EXPECT_THAT(Check(File(3, 5)), ElementsAre("missing-copy"));
  EXPECT_THAT(last_, HasSubstr("target 2 lacks 1 of 3 chunks, index 1"));
}

TEST_F(ChunkCheckTest, ACopyThatIsOlderThanAnotherIsNamed) {
  chunks_ = {{1, {0, 1, 2}}, {2, {0, 1, 2}}};
  newer_by_[{1, 1}] = 2;
  EXPECT_THAT(Check(File(3, 5)), ElementsAre("stale-copy"));
  EXPECT_THAT(last_, HasSubstr("target 2 has an older state of 1 of 3 chunks, index 1"));
}

TEST_F(ChunkCheckTest, ACopyIsNotOldWhileItsChunkIsBeingWritten) {
  chunks_ = {{1, {0, 1, 2}}, {2, {0, 1, 2}}};
  on_question_ = [this] { ++newer_by_[{1, 1}]; };
  EXPECT_THAT(Check(File(3, 5)), IsEmpty());
}

TEST_F(ChunkCheckTest, ATargetThatIsGoneForGoodIsNotWaitedFor) {
  chunks_ = {{1, {}}};
  silent_ = {2};
  EXPECT_THAT(Check(File(3, 1)), ElementsAre("unreachable-target"));
  map_.mutable_targets(1)->set_state(proto::TARGET_STATE_RETIRED);
  EXPECT_THAT(Check(File(3, 1)), ElementsAre("missing-data"));
}

TEST_F(ChunkCheckTest, AMemberThatIsBeingBroughtUpToDateMayLackSomething) {
  chunks_ = {{1, {0, 1, 2}}, {2, {0}}};
  map_.mutable_groups(0)->clear_targets();
  map_.mutable_groups(0)->add_targets(1);
  map_.mutable_groups(0)->add_syncing_targets(2);
  EXPECT_THAT(Check(File(3, 1)), IsEmpty());
}

TEST_F(ChunkCheckTest, TheEndOfAFileThatWasWrittenInOneGoIsNoHole) {
  chunks_ = {{1, {0, 1}}, {2, {0, 1}}};
  EXPECT_THAT(Check(File(3, 1)), ElementsAre("missing-chunk"));
  EXPECT_THAT(Check(File(3, 2)), ElementsAre("(hole-or-lost)"));
  proto::Attributes cut = File(3, 1);
  cut.set_truncate_generation(1);
  EXPECT_THAT(Check(cut), ElementsAre("(hole-or-lost)"));
}

TEST_F(ChunkCheckTest, ChunksInTheMiddleThatNobodyHasMayBeAHole) {
  chunks_ = {{1, {0, 2}}, {2, {0, 2}}};
  EXPECT_THAT(Check(File(3, 1)), ElementsAre("(hole-or-lost)"));
}

TEST_F(ChunkCheckTest, AFileOfWhichNothingIsLeftIsLost) {
  chunks_ = {{1, {}}, {2, {}}};
  EXPECT_THAT(Check(File(3, 4)), ElementsAre("missing-data"));
}

TEST_F(ChunkCheckTest, WhatAServerThatDoesNotAnswerMayHaveIsNotMissing) {
  chunks_ = {{1, {0}}, {2, {0, 1, 2}}};
  silent_ = {2};
  EXPECT_THAT(Check(File(3, 1)), ElementsAre("unreachable-target"));
  chunks_[2] = {0};
  silent_ = {1};
  EXPECT_THAT(Check(File(3, 1)), ElementsAre("unreachable-target"));
}

TEST_F(ChunkCheckTest, WhatIsRightAtTheSecondLookIsNotNamed) {
  chunks_ = {{1, {0, 1, 2}}, {2, {0}}};
  int questions = 0;
  on_question_ = [&] {
    if (++questions == 3) chunks_[2] = {0, 1, 2};  // the writes have arrived
  };
  EXPECT_THAT(Check(File(3, 1)), IsEmpty());
  EXPECT_EQ(questions, 4);
}

TEST_F(ChunkCheckTest, AFileThatIsRemovedMeanwhileIsNotNamed) {
  chunks_ = {{1, {}}, {2, {}}};
  int questions = 0;
  on_question_ = [&] {
    if (++questions == 3) {
      EXPECT_TRUE(store_.Write({.changes = {{InodeKey(InodeId(17)), std::nullopt}}}).ok());
    }
  };
  EXPECT_THAT(Check(File(3, 1)), IsEmpty());
}

}  // namespace
}  // namespace tarn::meta
