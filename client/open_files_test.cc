#include "client/open_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tarn::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(OpenFiles, WhatWasReportedForAnOpeningIsNamedToTheNextLeaderToo) {
  OpenFiles files;
  files.BeginOpening();
  EXPECT_TRUE(files.ReportIfOpen(InodeId(7), /*removed=*/true)) << "it may be the one";
  EXPECT_THAT(files.AllOpen(/*reports=*/true), ElementsAre(InodeId(7)));
  EXPECT_THAT(files.OpenBelow(InodeId(1), /*reports=*/true), ElementsAre(InodeId(7)));
  EXPECT_THAT(files.EndOpening(), ElementsAre(InodeId(7))) << "it was not: to be released";
  EXPECT_THAT(files.AllOpen(/*reports=*/true), IsEmpty());
}

TEST(OpenFiles, WhatIsOpenedWaitsForTheEndOfARemovalThatIsNotHeld) {
  OpenFiles files;
  ASSERT_FALSE(files.BeginRemoval()) << "nothing is open";
  int opened = 0;
  files.BeginOpening(InodeId(7));
  files.WhenRemoved([&] { ++opened; });
  EXPECT_EQ(opened, 0) << "it may be the one that goes";
  ASSERT_TRUE(files.BeginRemoval()) << "something is about to be open";
  files.EndRemoval(/*held=*/true);
  EXPECT_EQ(opened, 0);
  files.EndRemoval(/*held=*/false);
  EXPECT_EQ(opened, 1);
  files.BeginOpening(InodeId(8));
  files.WhenRemoved([&] { ++opened; });
  EXPECT_EQ(opened, 2);
  EXPECT_THAT(files.EndOpening(InodeId(7)), IsEmpty());
  EXPECT_THAT(files.EndOpening(InodeId(8)), IsEmpty());
}

}  // namespace
}  // namespace tarn::client
