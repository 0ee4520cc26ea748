// Speed of the chunk store without any network. The directory is a fresh one under /tmp, so that is the disk that
// is measured.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <random>
#include <string>

#include "chunkserver/store/chunk_store.h"
#include "common/base/buffer.h"
#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/base/worker_pool.h"
#include "common/checksum/block_sums.h"
#include "common/fault/fault_points.h"

namespace tarn::store {
namespace {

class BenchStore {
 public:
  BenchStore() {
    std::string pattern = "/tmp/store_bench_XXXXXX";
    directory_ = mkdtemp(pattern.data());
    Result<std::unique_ptr<ChunkStore>> opened =
        ChunkStore::Open({.directory = directory_ + "/target"}, {.random = &random_, .clock = &clock_, .faults = &faults_, .open_segments = {}});
    CHECK(opened.ok(), opened.status().ToString());
    store_ = std::move(*opened);
  }
  ~BenchStore() {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }
  ChunkStore* operator->() { return store_.get(); }

  void Write(ChunkId chunk, uint64_t offset, std::span<const uint8_t> payload, std::string_view sums) {
    const Result<WriteOutcome> written = store_->Write({.chunk = chunk, .writer = {}, .offset = offset, .payload = payload, .piece_sums = sums, .view = {}});
    CHECK(written.ok(), written.status().ToString());
  }

 private:
  std::string directory_;
  SystemRandom random_;
  SystemClock clock_;
  fault::FaultPoints faults_;
  std::unique_ptr<ChunkStore> store_;
};

Buffer RandomBytes(size_t size) {
  Buffer bytes(size);
  std::mt19937_64 engine(7);
  for (size_t i = 0; i + 8 <= size; i += 8) {
    const uint64_t word = engine();
    std::copy_n(reinterpret_cast<const uint8_t*>(&word), 8, bytes.data() + i);
  }
  return bytes;
}

// Lets at most `slots` operations be under way.
class Slots {
 public:
  explicit Slots(int slots) : free_(slots), all_(slots) {}
  void Take() {
    MutexLock lock(mutex_);
    while (free_ == 0) changed_.Wait(lock);
    --free_;
  }
  void Give() {
    MutexLock lock(mutex_);
    ++free_;
    changed_.NotifyAll();
  }
  void WaitForAll() {
    MutexLock lock(mutex_);
    while (free_ < all_) changed_.Wait(lock);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int free_ GUARDED_BY(mutex_);
  const int all_;
};

// 112 KiB objects, each durable before it counts, a fixed number in flight.
void DurableIngest(benchmark::State& state) {
  BenchStore store;
  const Buffer payload = RandomBytes(112 << 10);
  const std::string sums = ComputePieceSums(0, payload.span());
  Slots slots(static_cast<int>(state.range(0)));
  const auto workers = WorkerPool::Start("write", 2, 1024);
  uint64_t data = 0;
  for (auto _ : state) {
    slots.Take();
    const ChunkId id{DataId(++data), 0};
    const bool queued = workers->Submit([&, id] {
      store.Write(id, 0, payload.span(), sums);
      store->WhenDurable([&](Status) { slots.Give(); });
    });
    CHECK(queued, "the queue is longer than the slots");
  }
  slots.WaitForAll();
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * payload.size()));
}
BENCHMARK(DurableIngest)->Arg(1)->Arg(8)->Arg(64)->Arg(256)->UseRealTime()->MeasureProcessCPUTime()->MinTime(3);

// One chunk of 64 MiB after the other, 1 MiB at a time, committed at the end.
void SequentialWrite(benchmark::State& state) {
  BenchStore store;
  const Buffer payload = RandomBytes(1 << 20);
  const std::string sums = ComputePieceSums(0, payload.span());
  uint64_t position = 0;
  for (auto _ : state) {
    store.Write({DataId(1 + position / 64), 0}, position % 64 << 20, payload.span(), sums);
    ++position;
  }
  CHECK(store->Commit().ok(), "commit");
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() << 20));
}
BENCHMARK(SequentialWrite)->UseRealTime()->MeasureProcessCPUTime()->MinTime(3);

void RandomWrite4K(benchmark::State& state) {
  BenchStore store;
  const Buffer megabyte = RandomBytes(1 << 20);
  const std::string sums = ComputePieceSums(0, megabyte.span());
  for (uint32_t i = 0; i < 256; ++i) store.Write({DataId(1 + i / 64), 0}, uint64_t{i % 64} << 20, megabyte.span(), sums);
  std::mt19937_64 engine(1);
  const auto block = megabyte.span().first(4096);
  const std::string sum = sums.substr(0, 8);
  for (auto _ : state) store.Write({DataId(1 + engine() % 4), 0}, engine() % 16384 * 4096, block, sum);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(RandomWrite4K)->UseRealTime()->MeasureProcessCPUTime()->MinTime(3);

// From the page cache, as the service does it on a loop thread.
void ReadCached(benchmark::State& state) {
  BenchStore store;
  const Buffer megabyte = RandomBytes(1 << 20);
  const std::string sums = ComputePieceSums(0, megabyte.span());
  for (uint32_t i = 0; i < 256; ++i) store.Write({DataId(1 + i / 64), 0}, uint64_t{i % 64} << 20, megabyte.span(), sums);
  CHECK(store->Commit().ok(), "commit");
  const uint32_t length = static_cast<uint32_t>(state.range(0));
  Buffer bytes(length);
  std::mt19937_64 engine(1);
  for (auto _ : state) {
    const ReadRequest request{.chunk = {DataId(1 + engine() % 4), 0}, .offset = engine() % ((64u << 20) / length) * length, .length = length, .view = {}};
    const auto plan = store->PlanReadInMemory(request);
    CHECK(plan && plan->ok(), "the chunk is in memory");
    CHECK(ChunkReader::ReadCached(**plan, bytes.span()), "the pages are in memory");
    benchmark::DoNotOptimize(bytes.data());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * length));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(ReadCached)->Arg(4096)->Arg(112 << 10)->Arg(1 << 20);

// The part of a large read that goes before sendfile.
void PlanAndProbe(benchmark::State& state) {
  BenchStore store;
  const Buffer megabyte = RandomBytes(1 << 20);
  const std::string sums = ComputePieceSums(0, megabyte.span());
  for (uint32_t i = 0; i < 64; ++i) store.Write({DataId(1), 0}, uint64_t{i} << 20, megabyte.span(), sums);
  CHECK(store->Commit().ok(), "commit");
  std::mt19937_64 engine(1);
  for (auto _ : state) {
    const auto plan = store->PlanReadInMemory({.chunk = {DataId(1), 0}, .offset = engine() % 64 << 20, .length = 1 << 20, .view = {}});
    CHECK(plan && plan->ok(), "the chunk is in memory");
    benchmark::DoNotOptimize(ChunkReader::IsCached(**plan));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(PlanAndProbe);

// The inventory of a group, in pages of 1000; chunks of other groups lie between.
void ListGroup(benchmark::State& state) {
  BenchStore store;
  const Buffer block = RandomBytes(4096);
  const auto payload = block.span().first(512);
  const std::string sums = ComputePieceSums(0, payload);
  const uint64_t chunks = static_cast<uint64_t>(state.range(0));
  for (uint64_t i = 0; i < 2 * chunks; ++i) {
    const Result<ChangeOutcome> written =
        store->ApplyWrite({.chunk = {DataId(1 + i), 0}, .writer = {}, .offset = 0, .payload = payload, .piece_sums = sums, .view = {}},
                          {.group = GroupId(static_cast<uint32_t>(1 + i % 2)), .epoch = Epoch(1), .base = {}});
    CHECK(written.ok(), written.status().ToString());
  }
  for (auto _ : state) {
    std::optional<ChunkId> after;
    uint64_t found = 0;
    for (bool end = false; !end;) {
      const Result<InventoryPage> page = store->ListGroup(GroupId(1), after, 1'000);
      CHECK(page.ok(), page.status().ToString());
      found += page->chunks.size();
      if (!page->chunks.empty()) after = page->chunks.back().chunk;
      end = page->end;
    }
    CHECK(found == chunks, "all of the group and nothing else");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(ListGroup)->Arg(100'000)->Unit(benchmark::kMillisecond)->Iterations(5);

}  // namespace
}  // namespace tarn::store
