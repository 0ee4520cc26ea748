#include "common/base/status.h"

#include <array>
#include <cerrno>
#include <cstring>

namespace tarn {
namespace {

struct CodeRow {
  StatusCode code;
  const char* name;
  int error_number;
};

// The one table of codes. FromErrno takes the first row with the errno it looks for, so the plainest meaning comes
// first.
constexpr std::array kCodes = {
    CodeRow{StatusCode::kOk, "kOk", 0},
    CodeRow{StatusCode::kNotFound, "kNotFound", ENOENT},
    CodeRow{StatusCode::kExists, "kExists", EEXIST},
    CodeRow{StatusCode::kNotDirectory, "kNotDirectory", ENOTDIR},
    CodeRow{StatusCode::kIsDirectory, "kIsDirectory", EISDIR},
    CodeRow{StatusCode::kNotEmpty, "kNotEmpty", ENOTEMPTY},
    CodeRow{StatusCode::kPermission, "kPermission", EACCES},
    CodeRow{StatusCode::kNotPermitted, "kNotPermitted", EPERM},
    CodeRow{StatusCode::kNameTooLong, "kNameTooLong", ENAMETOOLONG},
    CodeRow{StatusCode::kTooManyLinks, "kTooManyLinks", EMLINK},
    CodeRow{StatusCode::kNoSpace, "kNoSpace", ENOSPC},
    CodeRow{StatusCode::kQuota, "kQuota", EDQUOT},
    CodeRow{StatusCode::kInvalidArgument, "kInvalidArgument", EINVAL},
    CodeRow{StatusCode::kCrossDevice, "kCrossDevice", EXDEV},
    CodeRow{StatusCode::kFileTooLarge, "kFileTooLarge", EFBIG},
    CodeRow{StatusCode::kNoAttribute, "kNoAttribute", ENODATA},
    CodeRow{StatusCode::kTooLong, "kTooLong", ERANGE},
    CodeRow{StatusCode::kStaleHandle, "kStaleHandle", ESTALE},
    CodeRow{StatusCode::kNotSupported, "kNotSupported", EOPNOTSUPP},
    CodeRow{StatusCode::kReadOnly, "kReadOnly", EROFS},
    CodeRow{StatusCode::kBusy, "kBusy", EBUSY},
    CodeRow{StatusCode::kBadHandle, "kBadHandle", EBADF},
    CodeRow{StatusCode::kNoMemory, "kNoMemory", ENOMEM},
    CodeRow{StatusCode::kInterrupted, "kInterrupted", EINTR},
    CodeRow{StatusCode::kArgumentTooBig, "kArgumentTooBig", E2BIG},
    CodeRow{StatusCode::kWouldBlock, "kWouldBlock", EAGAIN},
    CodeRow{StatusCode::kDeadlock, "kDeadlock", EDEADLK},
    CodeRow{StatusCode::kNoLocks, "kNoLocks", ENOLCK},
    CodeRow{StatusCode::kIoError, "kIoError", EIO},
    CodeRow{StatusCode::kCorruption, "kCorruption", EIO},
    CodeRow{StatusCode::kUnavailable, "kUnavailable", EIO},
    CodeRow{StatusCode::kTimeout, "kTimeout", EIO},
    CodeRow{StatusCode::kCancelled, "kCancelled", ECANCELED},
    CodeRow{StatusCode::kResourceExhausted, "kResourceExhausted", EAGAIN},
    CodeRow{StatusCode::kInternal, "kInternal", EIO},
    CodeRow{StatusCode::kNotLeader, "kNotLeader", EIO},
    CodeRow{StatusCode::kStaleEpoch, "kStaleEpoch", EIO},
    CodeRow{StatusCode::kStaleTruncate, "kStaleTruncate", ESTALE},
    CodeRow{StatusCode::kTruncatePending, "kTruncatePending", EIO},
    CodeRow{StatusCode::kUnknownSession, "kUnknownSession", EIO},
    CodeRow{StatusCode::kStaleSequence, "kStaleSequence", EIO},
    CodeRow{StatusCode::kFenced, "kFenced", EIO},
    CodeRow{StatusCode::kWrongIncarnation, "kWrongIncarnation", EIO},
    CodeRow{StatusCode::kAskPrimary, "kAskPrimary", EIO},
};

const CodeRow* FindCode(StatusCode code) {
  for (const CodeRow& row : kCodes) {
    if (row.code == code) return &row;
  }
  return nullptr;
}

}  // namespace

std::string StatusCodeName(StatusCode code) {
  const CodeRow* row = FindCode(code);
  return row != nullptr ? row->name : "unknown code " + std::to_string(static_cast<int>(code));
}

int ToErrno(StatusCode code) {
  const CodeRow* row = FindCode(code);
  return row != nullptr ? row->error_number : EIO;
}

Status Status::FromErrno(int error_number, std::string_view what) {
  StatusCode code = StatusCode::kIoError;
  for (const CodeRow& row : kCodes) {
    if (row.error_number == error_number) {
      code = row.code;
      break;
    }
  }
  CHECK(code != StatusCode::kOk, "FromErrno needs an error");
  std::array<char, 128> text{};
  const char* reason = strerror_r(error_number, text.data(), text.size());
  return Status(code, std::string(what) + ": " + reason);
}

Status Status::WithContext(std::string_view context) const {
  if (ok()) return *this;
  return Status(code_, std::string(context) + ": " + message_);
}

std::string Status::ToString() const { return ok() ? "kOk" : StatusCodeName(code_) + ": " + message_; }

}  // namespace tarn
