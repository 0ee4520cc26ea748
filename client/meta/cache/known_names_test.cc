#include "client/meta/cache/known_names.h"

#include <gtest/gtest.h>

namespace tarn::client {
namespace {

constexpr InodeId kDirectory{100};
constexpr InodeId kOther{101};
constexpr Cover kCover{.slot = 1, .generation = 1};
constexpr Cover kLaterCover{.slot = 1, .generation = 2};

class KnownNamesTest : public ::testing::Test {
 protected:
  void Make(uint64_t name, uint64_t entries, InodeId directory = kDirectory, Cover cover = kCover) {
    names_.BeginMaking(directory, name);
    names_.EndMaking(directory, entries, cover);
  }
  bool IsAbsent(uint64_t name, InodeId directory = kDirectory) {
    return names_.FindAbsent(directory, name) == kCover;
  }

  KnownNames names_;
};

TEST_F(KnownNamesTest, AfterTheFirstNameOfADirectoryItIsKnownWhatElseIsThere) {
  EXPECT_FALSE(IsAbsent(2));
  Make(1, 1);
  EXPECT_TRUE(IsAbsent(2));
  EXPECT_FALSE(IsAbsent(1));
  EXPECT_FALSE(IsAbsent(2, kOther));
  Make(2, 2);
  EXPECT_FALSE(IsAbsent(2));
  EXPECT_TRUE(IsAbsent(3));
}

TEST_F(KnownNamesTest, ADirectoryThatHadNamesBeforeIsNotKnown) {
  Make(1, 2);
  EXPECT_FALSE(IsAbsent(2));
}

TEST_F(KnownNamesTest, NothingIsKnownWithoutAnInterestSinceBeforeOrWithoutTheCount) {
  names_.BeginMaking(kDirectory, 1);
  names_.EndMaking(kDirectory, 1, std::nullopt);
  EXPECT_FALSE(IsAbsent(2));
  names_.BeginMaking(kDirectory, 1);
  names_.EndMaking(kDirectory, std::nullopt, kCover);
  EXPECT_FALSE(IsAbsent(2));
}

TEST_F(KnownNamesTest, ANameIsTakenToExistFromBeforeItIsMadeWhateverBecomesOfIt) {
  Make(1, 1);
  names_.BeginMaking(kDirectory, 2);
  EXPECT_FALSE(IsAbsent(2));
  names_.EndMaking(kDirectory, std::nullopt, std::nullopt);
  EXPECT_FALSE(IsAbsent(2));
}

// The second name was made after the first, and its answer came before that of the first.
TEST_F(KnownNamesTest, ChangesThatWereUnderWayTogetherAreAllNoted) {
  names_.BeginMaking(kDirectory, 1);
  names_.BeginMaking(kDirectory, 2);
  names_.EndMaking(kDirectory, 2, kCover);
  names_.EndMaking(kDirectory, 1, kCover);
  EXPECT_FALSE(IsAbsent(1));
  EXPECT_FALSE(IsAbsent(2));
  EXPECT_TRUE(IsAbsent(3));
}

TEST_F(KnownNamesTest, AnothersChangeEndsIt) {
  Make(1, 1);
  names_.ChangedByOthers(kOther);
  EXPECT_TRUE(IsAbsent(2));
  names_.ChangedByOthers(kDirectory);
  EXPECT_FALSE(IsAbsent(2));
}

TEST_F(KnownNamesTest, AnothersChangeWhileTheFirstNameIsMadePreventsIt) {
  names_.BeginMaking(kDirectory, 1);
  names_.ChangedByOthers(kDirectory);
  names_.EndMaking(kDirectory, 1, kCover);
  EXPECT_FALSE(IsAbsent(2));
  names_.BeginMaking(kDirectory, 1);
  names_.Clear();
  names_.EndMaking(kDirectory, 1, kCover);
  EXPECT_FALSE(IsAbsent(2));
  Make(1, 1);
  EXPECT_TRUE(IsAbsent(2));
}

TEST_F(KnownNamesTest, WhatWasKnownUnderAnEarlierInterestIsNotKnownUnderALaterOne) {
  Make(1, 1);
  Make(2, 1, kDirectory, kLaterCover);  // 1 was removed, by whomever
  EXPECT_FALSE(IsAbsent(3));
  EXPECT_EQ(names_.FindAbsent(kDirectory, 3), kLaterCover);
}

TEST_F(KnownNamesTest, TooManyAtOnceAreNotFollowed) {
  for (uint64_t name = 0; name < 2000; ++name) names_.BeginMaking(kDirectory, name);
  names_.EndMaking(kDirectory, 1, kCover);
  EXPECT_FALSE(IsAbsent(5000));
}

TEST_F(KnownNamesTest, IsBounded) {
  for (uint64_t i = 0; i < KnownNames::kDirectoriesMax; ++i) Make(1, 1, InodeId(1000 + i));
  EXPECT_TRUE(IsAbsent(2, InodeId(1000)));  // used: stays
  Make(1, 1);
  EXPECT_TRUE(IsAbsent(2));
  EXPECT_TRUE(IsAbsent(2, InodeId(1000)));
  EXPECT_FALSE(IsAbsent(2, InodeId(1001)));
  for (uint64_t name = 2; name < KnownNames::kNamesMax + 10; ++name) Make(name, name);
  EXPECT_FALSE(IsAbsent(0));
}

}  // namespace
}  // namespace tarn::client
