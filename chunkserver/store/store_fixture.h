// For tests: a store in a directory of its own, which can be stopped in every way there is.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "chunkserver/store/chunk_store.h"
#include "chunkserver/store/lossy_disk.h"
#include "chunkserver/store/segment_log.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/checksum/block_sums.h"
#include "common/fault/fault_points.h"

namespace tarn::store {

// One store. A test may have several.
class StoreHarness {
 public:
  StoreHarness() {
    std::string pattern = testing::TempDir() + "chunk_store_XXXXXX";
    directory_ = mkdtemp(pattern.data());
    options_.directory = directory_ + "/target";
    options_.background_maintenance = false;
    options_.segment_bytes = 2 << 20;
    options_.reserve_bytes = 1;
    options_.cache_bytes = 16 << 20;
  }
  ~StoreHarness() {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }
  StoreHarness(const StoreHarness&) = delete;
  StoreHarness& operator=(const StoreHarness&) = delete;

  Status TryOpen() {
    StoreEnvironment environment{.random = &random_, .clock = &clock_, .faults = faults_.get(), .open_segments = {}};
    if (is_lossy_) environment.open_segments = [this](const std::string& path) { return disk_.Open(path); };
    Result<std::unique_ptr<ChunkStore>> opened = ChunkStore::Open(options_, environment);
    if (!opened.ok()) return opened.status();
    store_ = std::move(*opened);
    return Status::Ok();
  }
  void Open() {
    const Status opened = TryOpen();
    ASSERT_TRUE(opened.ok()) << opened.ToString();
  }
  void Close() {
    const Status closed = store_->Close();
    ASSERT_TRUE(closed.ok()) << closed.ToString();
    store_.reset();
  }
  void Reopen() {
    Close();
    Open();
  }
  // As if the process had been killed: the page cache survives.
  void Kill() { store_.reset(); }
  void ArmFaults(std::string_view spec) {
    const fault::FaultPointName known[] = {kFaultSkipSync, kFaultSyncError, kFaultWriteError, kFaultReadError, kFaultCrashAfterData};
    Result<std::unique_ptr<fault::FaultPoints>> armed = fault::FaultPoints::Parse(spec, known);
    ASSERT_TRUE(armed.ok()) << armed.status().ToString();
    faults_ = std::move(*armed);
  }

  static ChunkId Id(uint64_t data, uint32_t index = 0) { return ChunkId{DataId(data), index}; }

  Result<WriteOutcome> TryWrite(ChunkId chunk, uint64_t offset, std::string_view bytes, const TruncateView& view = {},
                                const WriterIdentity& writer = {}) {
    const std::span<const uint8_t> payload(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    const std::string sums = ComputePieceSums(offset, payload);
    return store_->Write(WriteRequest{.chunk = chunk, .writer = writer, .offset = offset, .payload = payload, .piece_sums = sums, .view = view});
  }
  void Write(ChunkId chunk, uint64_t offset, std::string_view bytes, const TruncateView& view = {}) {
    const Result<WriteOutcome> written = TryWrite(chunk, offset, bytes, view);
    ASSERT_TRUE(written.ok()) << written.status().ToString();
  }

  // Bytes that differ from block to block and from seed to seed.
  static std::string Pattern(size_t length, uint64_t seed) {
    std::string bytes(length, '\0');
    std::mt19937_64 engine(seed);
    for (size_t i = 0; i < length; i += 8) {
      const uint64_t word = engine();
      bytes.replace(i, std::min<size_t>(8, length - i), reinterpret_cast<const char*>(&word), std::min<size_t>(8, length - i));
    }
    return bytes;
  }

  std::string directory_;
  StoreOptions options_;
  SystemRandom random_;
  SystemClock clock_;
  std::unique_ptr<fault::FaultPoints> faults_ = std::make_unique<fault::FaultPoints>();
  bool is_lossy_ = false;
  LossyDisk disk_;
  std::unique_ptr<ChunkStore> store_;
};

class StoreFixture : public testing::Test, protected StoreHarness {};

}  // namespace tarn::store
