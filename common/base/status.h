// Errors as values: Status, and Result<T> (a value or a Status).
//
// One enum of codes for the whole system; its numbers travel in frames and in the replicated log, so they never change. One table maps
// codes to errno (ToErrno), one to gRPC (common/rpc/grpc_status.h). Context is added on the way up with Status::WithContext.
// Thread-compatible value types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/check.h"

namespace tarn {

// The numbers are part of the wire format (docs/formats.md, "Status codes").
enum class [[nodiscard]] StatusCode : uint16_t {
  kOk = 0,
  // POSIX answers: what an application is meant to see.
  kNotFound = 1,            // ENOENT
  kExists = 2,              // EEXIST
  kNotDirectory = 3,        // ENOTDIR
  kIsDirectory = 4,         // EISDIR
  kNotEmpty = 5,            // ENOTEMPTY
  kPermission = 6,          // EACCES
  kNotPermitted = 7,        // EPERM
  kNameTooLong = 8,         // ENAMETOOLONG
  kTooManyLinks = 9,        // EMLINK
  kNoSpace = 10,            // ENOSPC
  kQuota = 11,              // EDQUOT
  kInvalidArgument = 12,    // EINVAL
  kCrossDevice = 13,        // EXDEV
  kFileTooLarge = 14,       // EFBIG
  kNoAttribute = 15,        // ENODATA
  kTooLong = 16,            // ERANGE (a buffer or a value too small or too large)
  kStaleHandle = 17,        // ESTALE
  kNotSupported = 18,       // EOPNOTSUPP
  kReadOnly = 19,           // EROFS
  kBusy = 20,               // EBUSY
  kBadHandle = 21,          // EBADF
  kNoMemory = 22,           // ENOMEM
  kInterrupted = 23,        // EINTR
  kArgumentTooBig = 24,     // E2BIG
  kWouldBlock = 25,         // EAGAIN: another owner has the lock
  kDeadlock = 26,           // EDEADLK
  kNoLocks = 27,            // ENOLCK: a bound on locks
  // The system's own.
  kIoError = 40,            // EIO
  kCorruption = 41,         // EIO: a checksum or a format did not hold
  kUnavailable = 42,        // EIO after retries: a server does not answer
  kTimeout = 43,            // EIO after retries (ETIMEDOUT for tools)
  kCancelled = 44,          // ECANCELED: shutting down
  kResourceExhausted = 45,  // EAGAIN: a bound was reached, try again
  kInternal = 46,           // EIO
  // Protocol: handled by the client library, not shown to applications.
  kNotLeader = 60,
  kStaleEpoch = 61,         // fetch the cluster map and try again
  kStaleTruncate = 62,      // data id or truncate generation moved on: fetch the attributes again
  kTruncatePending = 63,    // finish the earlier truncate first
  kUnknownSession = 64,     // expired or never opened
  kStaleSequence = 65,      // a late copy of something already done
  kFenced = 66,
  kWrongIncarnation = 67,
  kAskPrimary = 68,         // this member of the group may not answer now, its primary does
};

// "kNotFound" and so on; "unknown code N" for a number that is not in the enum.
std::string StatusCodeName(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return Status(); }
  // From an errno value; `what` says what was being done ("open /data/LOCK").
  static Status FromErrno(int error_number, std::string_view what);

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // "context: message"; ok stays ok.
  Status WithContext(std::string_view context) const;
  // For logs: "kNotFound: message".
  std::string ToString() const;

  friend bool operator==(const Status& a, const Status& b) { return a.code_ == b.code_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// The positive errno value an application sees for this code; 0 for kOk, EIO for what should never reach one.
int ToErrno(StatusCode code);
inline int ToErrno(const Status& status) { return ToErrno(status.code()); }

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}              // NOLINT(google-explicit-constructor): reads as `return value;`
  Result(Status status) : status_(std::move(status)) {       // NOLINT(google-explicit-constructor): reads as `return status;`
    CHECK(!status_.ok(), "a Result without a value needs an error");
  }
  Result(StatusCode code, std::string message) : Result(Status(code, std::move(message))) {}

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  T& value() & { return Checked(); }
  const T& value() const& { return const_cast<Result*>(this)->Checked(); }
  T&& value() && { return std::move(Checked()); }
  T& operator*() & { return Checked(); }
  const T& operator*() const& { return const_cast<Result*>(this)->Checked(); }
  T&& operator*() && { return std::move(Checked()); }
  T* operator->() { return &Checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->Checked(); }

 private:
  T& Checked() {
    CHECK(value_.has_value(), status_.ToString());
    return *value_;
  }

  Status status_;
  std::optional<T> value_;
};

}  // namespace tarn

// The variable's name is one that no expression uses: `Status x = (x)` would read itself.
#define RETURN_IF_ERROR(expression)                                                                      \
  do {                                                                                                   \
    if (::tarn::Status return_if_error_status = (expression); !return_if_error_status.ok()) {            \
      return return_if_error_status;                                                                     \
    }                                                                                                    \
  } while (false)

#define TARN_CONCAT_INNER(a, b) a##b
#define TARN_CONCAT(a, b) TARN_CONCAT_INNER(a, b)
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_INNER(TARN_CONCAT(result_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_INNER(result, declaration, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) {                                           \
    return result.status();                                     \
  }                                                             \
  declaration = std::move(result).value()
