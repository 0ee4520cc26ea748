// A data plane over fake chunk servers and fake metadata: real sockets, real threads, scripted faults.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/blocking.h"
#include "client/data/data_plane.h"
#include "client/data/testing/fake_chunk_server.h"
#include "client/data/testing/fake_metadata.h"
#include "client/data/testing/network_cut.h"
#include "common/rpc/event_loop.h"

namespace tarn::client {

// Bytes that differ everywhere and from seed to seed.
inline std::vector<uint8_t> Pattern(size_t length, uint64_t seed) {
  std::vector<uint8_t> bytes(length);
  uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
  for (uint8_t& byte : bytes) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    byte = static_cast<uint8_t>(state);
  }
  return bytes;
}

struct FakeClusterOptions {
  size_t servers = 2;
  size_t replicas = 1;
  FileLayout layout{.group_set = GroupSetVersion(1),
                    .seed = 0,
                    .stripe_unit_bytes = 64 << 10,
                    .width = 3,
                    .chunk_size_bytes = 256 << 10};
  uint32_t server_loop_threads = 1;
  bool forgets_at_restart = true;
  bool can_be_cut = false;  // from the client, each for itself; servers pass requests on to each other then
};

// Group i + 1 lies on server i, its primary, and on the `replicas` - 1 servers after it. Server i is on node "node-i".
class FakeCluster {
 public:
  explicit FakeCluster(const FakeClusterOptions& options) : layout(options.layout), replicas_(options.replicas) {
    for (size_t i = 0; i < 2; ++i) {
      auto loop = rpc::EventLoop::Start("client-" + std::to_string(i));
      EXPECT_TRUE(loop.ok());
      loops.push_back(std::move(*loop));
    }
    for (size_t i = 0; i < options.servers; ++i) {
      servers.push_back(
          std::make_unique<FakeChunkServer>(FakeChunkServer::Options{.target = TargetId(i + 1),
                                                                     .forgets_at_restart = options.forgets_at_restart,
                                                                     .loop_threads = options.server_loop_threads}));
    }
    for (const auto& server : servers) {
      if (options.can_be_cut) ways.push_back(std::make_unique<NetworkCut>(server->address()));
    }
    if (options.can_be_cut) SetRelays(/*know_how=*/true);
    for (size_t i = 0; i < options.servers; ++i) groups_.push_back(FakeGroup{.epoch = 1, .members = HomeOf(i)});
    metadata = std::make_unique<FakeMetadata>(loops[0].get(), options.layout);
    metadata->SetMap(MakeMap());
    if (replicas_ > 1) TellServers();
  }
  // They refer to each other while they serve.
  ~FakeCluster() {
    for (const auto& server : servers) server->Stop();
  }

  proto::ClusterMap MakeMap() const {
    proto::ClusterMap map;
    map.set_version(map_version_);
    auto* set = map.add_group_sets();
    set->set_version(1);
    for (size_t i = 0; i < servers.size(); ++i) {
      auto* target = map.add_targets();
      target->set_id(servers[i]->target().value());
      target->set_address(ways.empty() ? servers[i]->address() : ways[i]->address());
      target->set_incarnation(servers[i]->incarnation().value());
      target->set_node("node-" + std::to_string(i));
      auto* group = map.add_groups();
      group->set_id(GroupAt(i).value());
      group->set_epoch(groups_[i].epoch);
      for (const FakeChunkServer* member : groups_[i].members) group->add_targets(member->target().value());
      set->add_groups(GroupAt(i).value());
    }
    return map;
  }

  static GroupId GroupAt(size_t index) { return GroupId(static_cast<uint32_t>(index) + 1); }
  const std::vector<FakeChunkServer*>& MembersAt(size_t index) const { return groups_[index].members; }

  // A new epoch with these members. The servers know it at once, clients get the map when they ask for it.
  void ChangeMembers(size_t index, const std::vector<FakeChunkServer*>& members) {
    ++groups_[index].epoch;
    groups_[index].members = members;
    ++map_version_;
    TellServers();
    metadata->SetNewerMap(MakeMap());
  }
  // A new epoch without this server in each of its groups that have another member.
  void RemoveFromGroups(const FakeChunkServer& server) {
    for (size_t i = 0; i < groups_.size(); ++i) {
      std::vector<FakeChunkServer*> members = groups_[i].members;
      if (std::erase(members, &server) > 0 && !members.empty()) ChangeMembers(i, members);
    }
  }
  // It has come back empty-handed: gets everything and is a member again.
  void ReturnToGroups(FakeChunkServer& server) {
    for (size_t i = 0; i < groups_.size(); ++i) {
      std::vector<FakeChunkServer*> members = groups_[i].members;
      const std::vector<FakeChunkServer*> home = HomeOf(i);
      if (std::find(home.begin(), home.end(), &server) == home.end()) continue;
      if (std::find(members.begin(), members.end(), &server) != members.end()) continue;
      members.front()->BringUpToDate(GroupAt(i), server);
      members.push_back(&server);
      ChangeMembers(i, members);
    }
  }

  void SetRelays(bool know_how) {
    std::vector<FakeChunkServer*> all;
    for (const auto& server : servers) all.push_back(server.get());
    for (const auto& server : servers) server->SetRelaysTo(know_how ? all : std::vector<FakeChunkServer*>());
  }
  // What clients are told of servers and groups has changed otherwise.
  void PublishMap() {
    ++map_version_;
    metadata->SetNewerMap(MakeMap());
  }

  std::vector<rpc::EventLoop*> LoopPointers() const {
    std::vector<rpc::EventLoop*> pointers;
    for (const auto& loop : loops) pointers.push_back(loop.get());
    return pointers;
  }

  size_t GroupIndexOf(const Attributes& file, uint32_t chunk_index) const {
    return GroupIndexOfColumn(file.layout, ColumnOfChunk(file.layout, chunk_index),
                              static_cast<uint32_t>(servers.size()));
  }
  // The primary.
  FakeChunkServer& ServerOf(const Attributes& file, uint32_t chunk_index) {
    return *groups_[GroupIndexOf(file, chunk_index)].members.front();
  }

  // What the servers hold of the file, up to its committed size: each chunk's member of that number.
  std::vector<uint8_t> StoredBytes(InodeId inode, bool after_restart, size_t member = 0) {
    const Attributes file = metadata->Get(inode);
    std::vector<uint8_t> bytes(file.size_bytes);
    if (!file.data.valid()) return bytes;
    for (const ChunkPiece& piece : SplitRange(file.layout, {0, file.size_bytes})) {
      const std::vector<uint8_t> chunk = groups_[GroupIndexOf(file, piece.chunk_index)].members[member]->ChunkBytes(
          {file.data, piece.chunk_index}, after_restart);
      for (uint64_t i = 0; i < piece.length && piece.chunk_offset + i < chunk.size(); ++i) {
        bytes[piece.file_offset + i] = chunk[piece.chunk_offset + i];
      }
    }
    return bytes;
  }

  void SetScript(const FakeScript& script) {
    for (const auto& server : servers) server->SetScript(script);
  }
  uint64_t Writes() const {
    uint64_t writes = 0;
    for (const auto& server : servers) writes += server->counts().writes;
    return writes;
  }
  uint64_t Reads() const {
    uint64_t reads = 0;
    for (const auto& server : servers) reads += server->counts().reads;
    return reads;
  }
  uint64_t Commits() const {
    uint64_t commits = 0;
    for (const auto& server : servers) commits += server->counts().commits;
    return commits;
  }

  const FileLayout layout;
  std::vector<std::unique_ptr<rpc::EventLoop>> loops;
  std::vector<std::unique_ptr<FakeChunkServer>> servers;
  std::vector<std::unique_ptr<NetworkCut>> ways;  // from the client to the servers, if they can be cut
  std::unique_ptr<FakeMetadata> metadata;

 private:
  std::vector<FakeChunkServer*> HomeOf(size_t index) const {
    std::vector<FakeChunkServer*> home;
    for (size_t i = 0; i < replicas_; ++i) home.push_back(servers[(index + i) % servers.size()].get());
    return home;
  }
  void TellServers() {
    for (const auto& server : servers) {
      for (size_t i = 0; i < groups_.size(); ++i) server->SetGroup(GroupAt(i), groups_[i], map_version_);
    }
  }

  const size_t replicas_;
  uint64_t map_version_ = 1;
  std::vector<FakeGroup> groups_;  // that are to be, as the map has them
};

class DataPlaneFixture : public testing::Test {
 protected:
  static DataPlaneOptions DefaultOptions() {
    DataPlaneOptions options;
    options.write_buffer_bytes = 16 << 20;
    options.read_cache_bytes = 16 << 20;
    options.read_ahead_bytes_max = 1 << 20;
    options.flush_age_ms = 60'000;  // never by itself, unless the test wants it
    return options;
  }

  // Three servers, each chunk on all of them.
  static FakeClusterOptions ThreeCopies() { return FakeClusterOptions{.servers = 3, .replicas = 3}; }

  void Start(const DataPlaneOptions& options = DefaultOptions(), const FakeClusterOptions& cluster_options = {}) {
    cluster = std::make_unique<FakeCluster>(cluster_options);
    auto created = DataPlane::Create(options, cluster->LoopPointers(), cluster->metadata.get());
    ASSERT_TRUE(created.ok()) << created.status().ToString();
    plane = std::move(*created);
  }
  ~DataPlaneFixture() override { plane = nullptr; }

  std::shared_ptr<InodeData> NewFile() {
    file = cluster->metadata->MakeFile().inode;
    return plane->Attach(cluster->metadata->Get(file));
  }

  static Status WriteAll(InodeData& data, uint64_t offset, std::span<const uint8_t> bytes) {
    return WaitStatus([&](StatusCallback done) { data.Write(offset, bytes, std::move(done)); });
  }
  static Status Append(InodeData& data, std::span<const uint8_t> bytes) {
    return WaitStatus([&](StatusCallback done) { data.Append(bytes, std::move(done)); });
  }
  static Status Flush(InodeData& data) {
    return WaitStatus([&](StatusCallback done) { data.Flush(std::move(done)); });
  }
  static Status Sync(InodeData& data) {
    return WaitStatus([&](StatusCallback done) { data.Sync(std::move(done)); });
  }
  static Result<std::vector<uint8_t>> ReadBytes(InodeData& data, ByteRange range,
                                                const std::shared_ptr<ReadAheadState>& read_ahead = nullptr) {
    Result<ReadResult> result =
        Wait<ReadResult>([&](Callback<ReadResult> done) { data.Read(read_ahead, range, std::move(done)); });
    if (!result.ok()) return result.status();
    std::vector<uint8_t> bytes;
    for (const iovec& piece : result->pieces) {
      const auto* begin = static_cast<const uint8_t*>(piece.iov_base);
      bytes.insert(bytes.end(), begin, begin + piece.iov_len);
    }
    EXPECT_EQ(bytes.size(), result->bytes);
    return bytes;
  }
  Status TruncateTo(InodeData& data, uint64_t size) {
    const Attributes attributes = cluster->metadata->Truncate(file, size);
    return WaitStatus([&](StatusCallback done) { data.FinishTruncate(attributes, std::move(done)); });
  }

  std::unique_ptr<FakeCluster> cluster;
  std::unique_ptr<DataPlane> plane;
  InodeId file;  // the last one made
};

}  // namespace tarn::client
