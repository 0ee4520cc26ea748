#include "fuse-client/operations/blocked_locks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tarn::fuse {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class BlockedLocksTest : public testing::Test {
 protected:
  std::vector<uint64_t> cancelled_;
  BlockedLocks blocked_{[this](uint64_t ticket) { cancelled_.push_back(ticket); }};
};

TEST_F(BlockedLocksTest, AnInterruptCancelsItsRequestOnly) {
  blocked_.Begin(2);
  blocked_.SetTicket(2, 20);
  blocked_.Begin(4);
  blocked_.SetTicket(4, 40);
  blocked_.Interrupt(4);
  EXPECT_THAT(cancelled_, ElementsAre(40));
}

TEST_F(BlockedLocksTest, AnInterruptMayComeFirst) {
  blocked_.Interrupt(2);
  blocked_.Begin(2);
  blocked_.SetTicket(2, 20);
  blocked_.Begin(4);
  blocked_.Interrupt(4);
  EXPECT_THAT(cancelled_, ElementsAre(20));
  blocked_.SetTicket(4, 40);
  EXPECT_THAT(cancelled_, ElementsAre(20, 40));
}

TEST_F(BlockedLocksTest, WhatHasEndedIsLeftAlone) {
  blocked_.Begin(2);
  blocked_.End(2);  // answered before the library returned
  blocked_.SetTicket(2, 20);
  blocked_.Interrupt(2);
  EXPECT_THAT(cancelled_, IsEmpty());
}

}  // namespace
}  // namespace tarn::fuse
