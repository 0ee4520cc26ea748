#include "chunkserver/store/session_windows.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace tarn::store
