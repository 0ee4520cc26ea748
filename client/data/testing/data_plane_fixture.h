// A data plane over fake chunk servers and fake metadata: real sockets, real threads, scripted faults.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/blocking.h"
#include "client/data/data_plane.h"
#include "client/data/testing/fake_chunk_server.h"
#include "client/data/testing/fake_metadata.h"
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
  FileLayout layout{.group_set = GroupSetVersion(1),
                    .seed = 0,
                    .stripe_unit_bytes = 64 << 10,
                    .width = 3,
                    .chunk_size_bytes = 256 << 10};
  uint32_t server_loop_threads = 1;
  bool forgets_at_restart = true;
};

// Group i + 1 lies on server i.
class FakeCluster {
 public:
  explicit FakeCluster(const FakeClusterOptions& options) : layout(options.layout) {
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
    metadata = std::make_unique<FakeMetadata>(loops[0].get(), options.layout);
    metadata->SetMap(MakeMap(1, 1));
  }

  proto::ClusterMap MakeMap(uint64_t version, uint64_t epoch) const {
    proto::ClusterMap map;
    map.set_version(version);
    auto* set = map.add_group_sets();
    set->set_version(1);
    for (const auto& server : servers) {
      const auto id = static_cast<uint32_t>(server->target().value());
      auto* target = map.add_targets();
      target->set_id(id);
      target->set_address(server->address());
      auto* group = map.add_groups();
      group->set_id(id);
      group->set_epoch(epoch);
      group->add_targets(id);
      set->add_groups(id);
    }
    return map;
  }

  std::vector<rpc::EventLoop*> LoopPointers() const {
    std::vector<rpc::EventLoop*> pointers;
    for (const auto& loop : loops) pointers.push_back(loop.get());
    return pointers;
  }

  FakeChunkServer& ServerOf(const Attributes& file, uint32_t chunk_index) {
    const uint32_t group =
        GroupIndexOfColumn(file.layout, ColumnOfChunk(file.layout, chunk_index), static_cast<uint32_t>(servers.size()));
    return *servers[group];
  }

  // What the servers hold of the file, up to its committed size.
  std::vector<uint8_t> StoredBytes(InodeId inode, bool after_restart) {
    const Attributes file = metadata->Get(inode);
    std::vector<uint8_t> bytes(file.size_bytes);
    if (!file.data.valid()) return bytes;
    for (const ChunkPiece& piece : SplitRange(file.layout, {0, file.size_bytes})) {
      const std::vector<uint8_t> chunk =
          ServerOf(file, piece.chunk_index).ChunkBytes({file.data, piece.chunk_index}, after_restart);
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
  std::unique_ptr<FakeMetadata> metadata;
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
