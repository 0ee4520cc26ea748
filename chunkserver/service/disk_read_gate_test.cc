#include "chunkserver/service/disk_read_gate.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace tarn::chunk {
namespace {

constexpr int64_t kSilentMs = DiskReadGate::kSilentNs / 1'000'000;

TEST(DiskReadGate, IsShutAtTheBound) {
  FakeClock clock;
  DiskReadGate gate(&clock);
  std::vector<std::unique_ptr<DiskReadGate::Passage>> passages;
  for (uint32_t i = 0; i < DiskReadGate::kReadsMax; ++i) {
    ASSERT_TRUE(gate.is_open()) << i;
    passages.push_back(std::make_unique<DiskReadGate::Passage>(gate));
  }
  EXPECT_FALSE(gate.is_open());
  passages.pop_back();
  EXPECT_TRUE(gate.is_open());
}

TEST(DiskReadGate, IsShutWhileADiskIsSilent) {
  FakeClock clock;
  DiskReadGate gate(&clock);
  clock.AdvanceMs(10 * kSilentMs);
  EXPECT_TRUE(gate.is_open()) << "nothing is under way";
  auto first = std::make_unique<DiskReadGate::Passage>(gate);
  clock.AdvanceMs(kSilentMs - 1);
  EXPECT_TRUE(gate.is_open());
  auto second = std::make_unique<DiskReadGate::Passage>(gate);
  clock.AdvanceMs(1);
  EXPECT_FALSE(gate.is_open()) << "that another read began is no answer";
  second.reset();
  EXPECT_TRUE(gate.is_open()) << "the disk has answered";
  clock.AdvanceMs(kSilentMs);
  EXPECT_FALSE(gate.is_open()) << "the first one still waits";
  first.reset();
  clock.AdvanceMs(kSilentMs);
  EXPECT_TRUE(gate.is_open());
}

}  // namespace
}  // namespace tarn::chunk
