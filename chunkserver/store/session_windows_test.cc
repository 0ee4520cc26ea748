#include "chunkserver/store/session_windows.h"

#include <gtest/gtest.h>

namespace tarn::store {
namespace {

constexpr SessionId kSession{5};

SessionWindows::Seen See(SessionWindows* windows, uint64_t sequence, uint64_t acked_through = 0, SessionId session = kSession) {
  const Result<SessionWindows::Seen> seen = windows->Check(session, Sequence(sequence), Sequence(acked_through));
  EXPECT_TRUE(seen.ok()) << seen.status().ToString();
  return seen.ok() ? *seen : SessionWindows::Seen::kNew;
}

TEST(SessionWindows, ARepeatIsKnown) {
  SessionWindows windows;
  EXPECT_EQ(See(&windows, 1), SessionWindows::Seen::kNew);
  EXPECT_EQ(See(&windows, 1), SessionWindows::Seen::kNew) << "only what was applied is known";
  windows.MarkApplied(kSession, Sequence(1));
  EXPECT_EQ(See(&windows, 1), SessionWindows::Seen::kApplied);
  EXPECT_EQ(See(&windows, 2), SessionWindows::Seen::kNew);
  EXPECT_EQ(See(&windows, 1, 0, SessionId(6)), SessionWindows::Seen::kNew) << "of another session";
}

TEST(SessionWindows, WhatIsAcknowledgedIsForgottenAndRefused) {
  SessionWindows windows;
  windows.MarkApplied(kSession, Sequence(3));
  EXPECT_EQ(See(&windows, 9, 7), SessionWindows::Seen::kNew);
  EXPECT_EQ(windows.Check(kSession, Sequence(7), Sequence(0)).status().code(), StatusCode::kStaleSequence);
  EXPECT_EQ(windows.Check(kSession, Sequence(3), Sequence(0)).status().code(), StatusCode::kStaleSequence);
  EXPECT_EQ(See(&windows, 8), SessionWindows::Seen::kNew);
}

TEST(SessionWindows, AWindowThatIsNeverAcknowledgedFillsUp) {
  SessionWindows windows;
  for (uint64_t sequence = 1; sequence <= SessionWindows::kWindowMax; ++sequence) windows.MarkApplied(kSession, Sequence(sequence));
  const Sequence next(SessionWindows::kWindowMax + 1);
  EXPECT_EQ(windows.Check(kSession, next, Sequence(0)).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(windows.Check(kSession, next, Sequence(100)).ok());
}

TEST(SessionWindows, TheQuietestSessionIsForgotten) {
  SessionWindows windows;
  windows.MarkApplied(SessionId(1), Sequence(1));
  windows.MarkApplied(SessionId(2), Sequence(1));
  EXPECT_EQ(See(&windows, 1, 0, SessionId(1)), SessionWindows::Seen::kApplied);  // now session 2 is the quietest
  for (uint64_t session = 3; session < 2 + SessionWindows::kSessionsMax; ++session) windows.MarkApplied(SessionId(session), Sequence(1));
  EXPECT_EQ(See(&windows, 1, 0, SessionId(1)), SessionWindows::Seen::kApplied);
  EXPECT_EQ(See(&windows, 1, 0, SessionId(2)), SessionWindows::Seen::kNew);
}

}  // namespace
}  // namespace tarn::store
