// How fast block sums are computed and checked, in cache and from memory. Run on an idle core:
//   block_sums_bench --benchmark_min_time=0.5
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "common/checksum/block_sums.h"

namespace tarn {
namespace {

void BM_Xxh3(benchmark::State& state) {
  const std::vector<uint8_t> bytes(static_cast<size_t>(state.range(0)), 7);
  for (auto _ : state) benchmark::DoNotOptimize(Xxh3(bytes));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(BM_Xxh3)->Arg(64)->Arg(4096)->Arg(1 << 20)->Arg(256 << 20);

void BM_FindBadPiece(benchmark::State& state) {
  const std::vector<uint8_t> bytes(static_cast<size_t>(state.range(0)), 7);
  const std::string sums = ComputePieceSums(0, bytes);
  for (auto _ : state) benchmark::DoNotOptimize(FindBadPiece(0, bytes, sums));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(BM_FindBadPiece)->Arg(4096)->Arg(112 << 10)->Arg(1 << 20)->Arg(256 << 20);

}  // namespace
}  // namespace tarn
