// For tests of the engine: three targets over a fake store, network and clock, with a map that the test makes.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chunkserver/replication/replica.h"
#include "chunkserver/replication/target_replication.h"
#include "chunkserver/replication/testing/fake_target.h"
#include "common/checksum/block_sums.h"

namespace tarn::replication {

using testing::CallFate;
using testing::EventQueue;
using testing::FakeNetwork;
using testing::FakeTarget;

inline constexpr int64_t kMs = 1'000'000;
inline constexpr GroupId kGroup(7);
inline const ChunkId kChunk{DataId(100), 3};

// Three targets, a map that the test makes, reports that it looks at.
class TargetReplicationTest : public ::testing::Test {
 protected:
  TargetReplicationTest() : network_(&queue_) {
    for (uint64_t id = 1; id <= 3; ++id) {
      FakeTarget::Hooks hooks;
      hooks.report = [this](TargetId, const proto::GroupReport& report) { reports_.push_back(report); };
      hooks.want_map = [this](TargetId from, uint64_t) {
        if (map_ != nullptr && maps_on_demand_) queue_.After(kMs, [this, from] { Target(from.value()).engine()->AdoptMap(map_); });
      };
      targets_[id] = std::make_unique<FakeTarget>(TargetId(id), &queue_, &network_, ReplicationOptions(), hooks);
      targets_[id]->Start();
      targets_[id]->engine()->ExtendLease(queue_.now_ns(), 3'600'000);
    }
  }

  ~TargetReplicationTest() override { queue_.Close(); }

  FakeTarget& Target(uint64_t id) { return *targets_.at(id); }

  void MakeMap(uint64_t epoch, std::vector<uint64_t> in_sync, std::vector<uint64_t> syncing = {}, uint32_t replicas = 2) {
    auto map = std::make_shared<proto::ClusterMap>();
    map->set_version(++map_version_);
    proto::PlacementGroup* group = map->add_groups();
    group->set_id(kGroup.value());
    group->set_epoch(epoch);
    for (const uint64_t id : in_sync) group->add_targets(id);
    for (const uint64_t id : syncing) group->add_syncing_targets(id);
    group->set_replicas(replicas);
    group->set_intact_since(intact_since_);
    group->set_intact_since_before(intact_since_before_);
    group->set_intact_incarnation(intact_incarnation_);
    for (const uint64_t session : fenced_) map->add_fenced_sessions()->set_session(session);
    map_ = map;
    epoch_ = epoch;
  }
  void Adopt(std::vector<uint64_t> ids = {1, 2, 3}) {
    for (const uint64_t id : ids) {
      if (Target(id).is_up()) Target(id).engine()->AdoptMap(map_);
    }
  }
  void RunMs(int64_t ms) { queue_.RunFor(ms * kMs); }

  // Sends a write; the answer appears later.
  struct Pending {
    std::optional<ChangeAnswer> answer;
  };
  std::shared_ptr<Pending> Write(uint64_t target, const std::string& bytes, bool durable = false, uint64_t sequence = 0, uint32_t offset = 0) {
    return WriteTo(target, kChunk, bytes, durable, sequence, offset);
  }
  std::shared_ptr<Pending> WriteTo(uint64_t target, ChunkId chunk, const std::string& bytes, bool durable = false, uint64_t sequence = 0,
                                   uint32_t offset = 0) {
    auto payload = std::make_shared<std::string>(bytes);
    auto request = std::make_shared<proto::WriteChunkRequest>();
    request->mutable_chunk()->set_target(target);
    request->mutable_chunk()->set_group(kGroup.value());
    request->mutable_chunk()->set_epoch(epoch_);
    request->mutable_chunk()->set_data_id(chunk.data.value());
    request->mutable_chunk()->set_chunk_index(chunk.index);
    request->set_session(5);
    request->set_sequence(sequence != 0 ? sequence : ++last_sequence_);
    request->set_offset_bytes(offset);
    const std::span<const uint8_t> span(reinterpret_cast<const uint8_t*>(payload->data()), payload->size());
    request->set_piece_sums(ComputePieceSums(offset, span));
    request->set_durable(durable);
    if (named_) {
      request->mutable_acknowledged()->set_epoch(named_->epoch.value());
      request->mutable_acknowledged()->set_version(named_->version);
    }
    auto pending = std::make_shared<Pending>();
    Target(target).engine()->Write({request, span, payload}, [pending](const ChangeAnswer& answer) {
      EXPECT_FALSE(pending->answer.has_value()) << "answered twice";
      pending->answer = answer;
    });
    return pending;
  }
  std::string BytesAt(uint64_t target) {
    const auto found = Target(target).store.chunks().find(kChunk);
    return found == Target(target).store.chunks().end() ? "" : found->second.bytes;
  }
  StatusCode ReadAt(uint64_t target) { return Target(target).engine()->AdmitRead(kGroup, Epoch(epoch_), kChunk).code; }
  // Asks until the member has its grant.
  StatusCode ReadAtWithGrant(uint64_t target) {
    (void)ReadAt(target);
    RunMs(5);
    return ReadAt(target);
  }
  bool Reported(uint64_t target, proto::GroupReport::Kind kind) const {
    for (const proto::GroupReport& report : reports_) {
      if (report.target() == target && report.kind() == kind && report.epoch() == epoch_) return true;
    }
    return false;
  }

  EventQueue queue_;
  FakeNetwork network_;
  std::map<uint64_t, std::unique_ptr<FakeTarget>> targets_;
  std::shared_ptr<const proto::ClusterMap> map_;
  bool maps_on_demand_ = true;
  uint64_t map_version_ = 0;
  uint64_t epoch_ = 0;
  uint64_t last_sequence_ = 0;
  std::optional<store::ChunkStamp> named_;  // by writes: as having been acknowledged
  std::vector<uint64_t> fenced_;
  uint64_t intact_since_ = 0;
  uint64_t intact_since_before_ = 0;
  uint64_t intact_incarnation_ = 0;
  std::vector<proto::GroupReport> reports_;
};

#define EXPECT_ANSWER(pending, expected)                                          \
  do {                                                                            \
    ASSERT_TRUE((pending)->answer.has_value());                                   \
    EXPECT_EQ((pending)->answer->status.code(), StatusCode::expected) << (pending)->answer->status.ToString(); \
  } while (false)

}  // namespace tarn::replication
