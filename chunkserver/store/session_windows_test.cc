#include "chunkserver/store/session_windows.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "chunkserver/store/clean_mark.h"

namespace tarn::store {
namespace {

constexpr GroupId kGroup{3};
constexpr SessionId kSession{5};

WriteNumber Number(uint64_t sequence, uint64_t acked_through = 0, SessionId session = kSession, GroupId group = kGroup) {
  return {group, session, Sequence(sequence), Sequence(acked_through)};
}

SessionWindows::Seen See(SessionWindows* windows, const WriteNumber& write) {
  const Result<SessionWindows::Seen> seen = windows->Check(write);
  EXPECT_TRUE(seen.ok()) << seen.status().ToString();
  return seen.ok() ? *seen : SessionWindows::Seen::kNew;
}

TEST(SessionWindows, ARepeatIsKnown) {
  SessionWindows windows;
  EXPECT_EQ(See(&windows, Number(1)), SessionWindows::Seen::kNew);
  EXPECT_EQ(See(&windows, Number(1)), SessionWindows::Seen::kNew) << "only what was applied is known";
  windows.MarkApplied(Number(1));
  EXPECT_EQ(See(&windows, Number(1)), SessionWindows::Seen::kApplied);
  EXPECT_EQ(See(&windows, Number(2)), SessionWindows::Seen::kNew);
  EXPECT_EQ(See(&windows, Number(1, 0, SessionId(6))), SessionWindows::Seen::kNew) << "of another session";
  EXPECT_EQ(See(&windows, Number(1, 0, kSession, GroupId(4))), SessionWindows::Seen::kNew) << "in another group";
}

TEST(SessionWindows, WhatIsAcknowledgedIsForgottenAndRefused) {
  SessionWindows windows;
  windows.MarkApplied(Number(3));
  EXPECT_EQ(See(&windows, Number(9, 7)), SessionWindows::Seen::kNew);
  EXPECT_EQ(windows.Check(Number(7)).status().code(), StatusCode::kStaleSequence);
  EXPECT_EQ(windows.Check(Number(3)).status().code(), StatusCode::kStaleSequence);
  EXPECT_EQ(See(&windows, Number(8)), SessionWindows::Seen::kNew);
}

TEST(SessionWindows, AMemberThatOnlyMarksKeepsNoMoreThanIsNotAcknowledged) {
  SessionWindows windows;
  for (uint64_t sequence = 1; sequence <= 100; ++sequence) windows.MarkApplied(Number(sequence, sequence - 1));
  const std::vector<SessionWindow> found = windows.Of(kGroup);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].acked_through, Sequence(99));
  EXPECT_EQ(found[0].applied, std::vector<Sequence>{Sequence(100)});
}

TEST(SessionWindows, AWindowThatIsNeverAcknowledgedFillsUp) {
  SessionWindows windows;
  for (uint64_t sequence = 1; sequence <= SessionWindows::kWindowMax; ++sequence) windows.MarkApplied(Number(sequence));
  const uint64_t next = SessionWindows::kWindowMax + 1;
  EXPECT_EQ(windows.Check(Number(next)).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(windows.Check(Number(next, 100)).ok());
}

TEST(SessionWindows, TheQuietestIsForgotten) {
  SessionWindows windows;
  windows.MarkApplied(Number(1, 0, SessionId(1)));
  windows.MarkApplied(Number(1, 0, SessionId(2), GroupId(4)));
  EXPECT_EQ(See(&windows, Number(1, 0, SessionId(1))), SessionWindows::Seen::kApplied);  // now session 2 is the quietest
  for (uint64_t session = 3; session < 2 + SessionWindows::kWindowsMax; ++session) windows.MarkApplied(Number(1, 0, SessionId(session)));
  EXPECT_EQ(See(&windows, Number(1, 0, SessionId(1))), SessionWindows::Seen::kApplied);
  EXPECT_TRUE(windows.Of(GroupId(4)).empty());
}

TEST(SessionWindows, InstalledWindowsTakeThePlaceOfTheGroups) {
  SessionWindows primary;
  primary.MarkApplied(Number(5, 2));
  primary.MarkApplied(Number(9, 2));
  primary.MarkApplied(Number(1, 0, SessionId(6)));
  SessionWindows member;
  member.MarkApplied(Number(7, 2));
  member.MarkApplied(Number(1, 0, SessionId(8)));
  member.MarkApplied(Number(1, 0, kSession, GroupId(4)));
  member.Install(kGroup, primary.Of(kGroup), true);
  EXPECT_EQ(See(&member, Number(5)), SessionWindows::Seen::kApplied);
  EXPECT_EQ(See(&member, Number(9)), SessionWindows::Seen::kApplied);
  EXPECT_EQ(See(&member, Number(7)), SessionWindows::Seen::kNew) << "it was never acknowledged";
  EXPECT_EQ(member.Check(Number(2)).status().code(), StatusCode::kStaleSequence);
  EXPECT_EQ(See(&member, Number(1, 0, SessionId(6))), SessionWindows::Seen::kApplied);
  EXPECT_EQ(See(&member, Number(1, 0, SessionId(8))), SessionWindows::Seen::kNew);
  EXPECT_EQ(See(&member, Number(1, 0, kSession, GroupId(4))), SessionWindows::Seen::kApplied) << "other groups stay";
}

TEST(SessionWindows, InstalledWindowsCanBeAdded) {
  SessionWindows member;
  member.MarkApplied(Number(4, 1));
  member.MarkApplied(Number(7, 1));
  const SessionWindow more[] = {{kSession, Sequence(5), {Sequence(3), Sequence(9)}}};
  member.Install(kGroup, more, false);
  const std::vector<SessionWindow> found = member.Of(kGroup);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].acked_through, Sequence(5));
  EXPECT_EQ(found[0].applied, (std::vector<Sequence>{Sequence(7), Sequence(9)}));
}

// The bytes of a mark stay as they are: docs/formats.md.
TEST(CleanMark, IsWrittenAsDocumented) {
  const std::vector<GroupWindow> windows = {{GroupId(7), {SessionId(0x0102030405060708), Sequence(9), {Sequence(11)}}}};
  const std::string mark = EncodeCleanMark(windows);
  const std::string_view start(
      "clean\nTRNW\1\0\0\0\1\0\0\0\0\0\0\0"
      "\7\0\0\0\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01\x09\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\x0b\0\0\0\0\0\0\0",
      22 + 40);
  ASSERT_EQ(mark.size(), start.size() + 8);
  EXPECT_EQ(std::string_view(mark).substr(0, start.size()), start);
  const auto read = DecodeCleanMark(mark);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  ASSERT_EQ(read->size(), 1u);
  EXPECT_EQ((*read)[0].group, GroupId(7));
  EXPECT_EQ((*read)[0].window.session, SessionId(0x0102030405060708));
  EXPECT_EQ((*read)[0].window.acked_through, Sequence(9));
  EXPECT_EQ((*read)[0].window.applied, (std::vector<Sequence>{Sequence(11)}));
  EXPECT_TRUE(DecodeCleanMark(EncodeCleanMark({}))->empty());
}

TEST(CleanMark, DamageIsSeenWhereverItIs) {
  const std::string mark = EncodeCleanMark({{GroupId(7), {SessionId(1), Sequence(9), {Sequence(11), Sequence(12)}}}});
  for (size_t i = 0; i < mark.size(); ++i) {
    std::string damaged = mark;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_EQ(DecodeCleanMark(damaged).status().code(), StatusCode::kCorruption) << i;
    if (i == 6) continue;  // a mark of an earlier version
    EXPECT_EQ(DecodeCleanMark(std::string_view(mark).substr(0, i)).status().code(), StatusCode::kCorruption) << i;
  }
}

TEST(CleanMark, TheQuietestAreLeftOutOfALargeOne) {
  SessionWindows windows;
  for (uint64_t session = 1; session <= 20; ++session) {
    for (uint64_t sequence = 2; sequence < 60'002; ++sequence) windows.MarkApplied(Number(sequence, 1, SessionId(session)));
  }
  const std::string mark = EncodeCleanMark(windows.All());
  EXPECT_LE(mark.size(), kCleanMarkBytesMax + 64);
  const auto read = DecodeCleanMark(mark);
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->size(), 17u);
  EXPECT_EQ(read->front().window.session, SessionId(4));
  EXPECT_EQ(read->back().window.session, SessionId(20));
}

}  // namespace
}  // namespace tarn::store
