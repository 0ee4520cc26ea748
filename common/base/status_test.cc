#include "common/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <string>

namespace tarn {
namespace {

// The numbers travel in frames and lie in logs: this test fails if one changes.
TEST(Status, NumbersNamesAndErrnosAreFixed) {
  struct Row {
    StatusCode code;
    int number;
    const char* name;
    int error_number;
  };
  const Row rows[] = {
      {StatusCode::kOk, 0, "kOk", 0},
      {StatusCode::kNotFound, 1, "kNotFound", ENOENT},
      {StatusCode::kExists, 2, "kExists", EEXIST},
      {StatusCode::kNotDirectory, 3, "kNotDirectory", ENOTDIR},
      {StatusCode::kIsDirectory, 4, "kIsDirectory", EISDIR},
      {StatusCode::kNotEmpty, 5, "kNotEmpty", ENOTEMPTY},
      {StatusCode::kPermission, 6, "kPermission", EACCES},
      {StatusCode::kNotPermitted, 7, "kNotPermitted", EPERM},
      {StatusCode::kNameTooLong, 8, "kNameTooLong", ENAMETOOLONG},
      {StatusCode::kTooManyLinks, 9, "kTooManyLinks", EMLINK},
      {StatusCode::kNoSpace, 10, "kNoSpace", ENOSPC},
      {StatusCode::kQuota, 11, "kQuota", EDQUOT},
      {StatusCode::kInvalidArgument, 12, "kInvalidArgument", EINVAL},
      {StatusCode::kCrossDevice, 13, "kCrossDevice", EXDEV},
      {StatusCode::kFileTooLarge, 14, "kFileTooLarge", EFBIG},
      {StatusCode::kNoAttribute, 15, "kNoAttribute", ENODATA},
      {StatusCode::kTooLong, 16, "kTooLong", ERANGE},
      {StatusCode::kStaleHandle, 17, "kStaleHandle", ESTALE},
      {StatusCode::kNotSupported, 18, "kNotSupported", EOPNOTSUPP},
      {StatusCode::kReadOnly, 19, "kReadOnly", EROFS},
      {StatusCode::kBusy, 20, "kBusy", EBUSY},
      {StatusCode::kBadHandle, 21, "kBadHandle", EBADF},
      {StatusCode::kNoMemory, 22, "kNoMemory", ENOMEM},
      {StatusCode::kInterrupted, 23, "kInterrupted", EINTR},
      {StatusCode::kArgumentTooBig, 24, "kArgumentTooBig", E2BIG},
      {StatusCode::kWouldBlock, 25, "kWouldBlock", EAGAIN},
      {StatusCode::kDeadlock, 26, "kDeadlock", EDEADLK},
      {StatusCode::kNoLocks, 27, "kNoLocks", ENOLCK},
      {StatusCode::kIoError, 40, "kIoError", EIO},
      {StatusCode::kCorruption, 41, "kCorruption", EIO},
      {StatusCode::kUnavailable, 42, "kUnavailable", EIO},
      {StatusCode::kTimeout, 43, "kTimeout", EIO},
      {StatusCode::kCancelled, 44, "kCancelled", ECANCELED},
      {StatusCode::kResourceExhausted, 45, "kResourceExhausted", EAGAIN},
      {StatusCode::kInternal, 46, "kInternal", EIO},
      {StatusCode::kNotLeader, 60, "kNotLeader", EIO},
      {StatusCode::kStaleEpoch, 61, "kStaleEpoch", EIO},
      {StatusCode::kStaleTruncate, 62, "kStaleTruncate", ESTALE},
      {StatusCode::kTruncatePending, 63, "kTruncatePending", EIO},
      {StatusCode::kUnknownSession, 64, "kUnknownSession", EIO},
      {StatusCode::kStaleSequence, 65, "kStaleSequence", EIO},
      {StatusCode::kFenced, 66, "kFenced", EIO},
      {StatusCode::kWrongIncarnation, 67, "kWrongIncarnation", EIO},
      {StatusCode::kAskPrimary, 68, "kAskPrimary", EIO},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(static_cast<int>(row.code), row.number) << row.name;
    EXPECT_EQ(StatusCodeName(row.code), row.name);
    EXPECT_EQ(ToErrno(row.code), row.error_number) << row.name;
  }
  // No number outside the table has a name, so the table above is complete.
  std::set<int> known;
  for (const Row& row : rows) known.insert(row.number);
  for (int number = 0; number < 1000; ++number) {
    const bool is_named = StatusCodeName(static_cast<StatusCode>(number)).starts_with("k");
    EXPECT_EQ(is_named, known.contains(number)) << number;
  }
}

TEST(Status, ErrnoBecomesThePlainestCode) {
  EXPECT_EQ(Status::FromErrno(ENOENT, "open x").code(), StatusCode::kNotFound);
  EXPECT_EQ(Status::FromErrno(EIO, "read x").code(), StatusCode::kIoError);
  EXPECT_EQ(Status::FromErrno(ESTALE, "x").code(), StatusCode::kStaleHandle);
  EXPECT_EQ(Status::FromErrno(ENOTCONN, "x").code(), StatusCode::kIoError);
  EXPECT_EQ(Status::FromErrno(ENOENT, "open /data/LOCK").ToString(),
            "kNotFound: open /data/LOCK: No such file or directory");
}

TEST(Status, ContextIsAddedInFront) {
  const Status status = Status(StatusCode::kTimeout, "no answer after 500 ms").WithContext("read chunk 17:3");
  EXPECT_EQ(status.ToString(), "kTimeout: read chunk 17:3: no answer after 500 ms");
  EXPECT_TRUE(Status::Ok().WithContext("nothing").ok());
}

Result<int> Half(int number) {
  if (number % 2 != 0) return Status(StatusCode::kInvalidArgument, "odd");
  return number / 2;
}

Result<int> Quarter(int number) {
  ASSIGN_OR_RETURN(const int half, Half(number));
  ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

TEST(Result, MacrosPassValuesAndErrorsOn) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(6).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tarn
