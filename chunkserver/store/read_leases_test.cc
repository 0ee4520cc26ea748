#include "chunkserver/store/read_leases.h"

#include <gtest/gtest.h>

namespace tarn::store {
namespace {

TEST(ReadLeases, ABarrierWaitsForTheLeasesBeforeIt) {
  ReadLeases leases;
  ReadLeases::Lease before = leases.Take();
  const ReadLeases::Barrier barrier = leases.MakeBarrier();
  const ReadLeases::Lease after = leases.Take();
  EXPECT_FALSE(barrier.passed());
  before.reset();
  EXPECT_TRUE(barrier.passed());
}

// Two users make barriers, and neither waits for the other's.
TEST(ReadLeases, ABarrierWaitsForLeasesFromBeforeAnEarlierBarrierToo) {
  ReadLeases leases;
  ReadLeases::Lease old = leases.Take();
  (void)leases.MakeBarrier();
  ReadLeases::Lease newer = leases.Take();
  const ReadLeases::Barrier barrier = leases.MakeBarrier();
  newer.reset();
  EXPECT_FALSE(barrier.passed()) << "the old lease was taken before it as well";
  old.reset();
  EXPECT_TRUE(barrier.passed());
}

}  // namespace
}  // namespace tarn::store
