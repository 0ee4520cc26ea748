#include "client/meta/mutation_window.h"

#include <gtest/gtest.h>

namespace tarn::client {
namespace {

TEST(MutationWindow, NumbersRiseFromOne) {
  MutationWindow window;
  EXPECT_EQ(window.Issue(), 1u);
  EXPECT_EQ(window.Issue(), 2u);
  EXPECT_EQ(window.acked_through(), 0u);
  EXPECT_EQ(window.in_flight(), 2u);
}

TEST(MutationWindow, AckedThroughStopsAtTheFirstGap) {
  MutationWindow window;
  for (int i = 0; i < 5; ++i) window.Issue();
  window.Done(2);
  window.Done(3);
  EXPECT_EQ(window.acked_through(), 0u);
  window.Done(1);
  EXPECT_EQ(window.acked_through(), 3u);
  window.Done(5);
  EXPECT_EQ(window.acked_through(), 3u);
  window.Done(4);
  EXPECT_EQ(window.acked_through(), 5u);
  EXPECT_EQ(window.in_flight(), 0u);
  EXPECT_EQ(window.Issue(), 6u);
}

TEST(MutationWindow, RepeatsAndUnknownNumbersAreIgnored) {
  MutationWindow window;
  window.Issue();
  window.Issue();
  window.Done(2);
  window.Done(2);
  window.Done(9);
  window.Done(0);
  EXPECT_EQ(window.in_flight(), 1u);
  window.Done(1);
  window.Done(1);
  EXPECT_EQ(window.acked_through(), 2u);
  EXPECT_EQ(window.in_flight(), 0u);
}

}  // namespace
}  // namespace tarn::client
