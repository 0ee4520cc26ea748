#include "common/rpc/grpc_status.h"

#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>

namespace tarn::rpc {
namespace {

// In front of the decimal code in the error details.
constexpr std::string_view kDetailsPrefix = "tarn-status ";

struct GrpcRow {
  StatusCode code;
  grpc::StatusCode grpc_code;
};

// FromGrpcStatus takes the first row of the gRPC code it looks for, so the plainest meaning comes first. Codes of ours
// that are not listed travel as INTERNAL (and come back whole from the details).
constexpr std::array kGrpcCodes = {
    GrpcRow{StatusCode::kNotFound, grpc::StatusCode::NOT_FOUND},
    GrpcRow{StatusCode::kExists, grpc::StatusCode::ALREADY_EXISTS},
    GrpcRow{StatusCode::kPermission, grpc::StatusCode::PERMISSION_DENIED},
    GrpcRow{StatusCode::kNotPermitted, grpc::StatusCode::PERMISSION_DENIED},
    GrpcRow{StatusCode::kPermission, grpc::StatusCode::UNAUTHENTICATED},
    GrpcRow{StatusCode::kInvalidArgument, grpc::StatusCode::INVALID_ARGUMENT},
    GrpcRow{StatusCode::kNameTooLong, grpc::StatusCode::INVALID_ARGUMENT},
    GrpcRow{StatusCode::kTooLong, grpc::StatusCode::OUT_OF_RANGE},
    GrpcRow{StatusCode::kFileTooLarge, grpc::StatusCode::OUT_OF_RANGE},
    GrpcRow{StatusCode::kNotSupported, grpc::StatusCode::UNIMPLEMENTED},
    GrpcRow{StatusCode::kBusy, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kNotEmpty, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kNotDirectory, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kIsDirectory, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kNotLeader, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kStaleEpoch, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kUnknownSession, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kWrongIncarnation, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kAskPrimary, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kFenced, grpc::StatusCode::FAILED_PRECONDITION},
    GrpcRow{StatusCode::kResourceExhausted, grpc::StatusCode::RESOURCE_EXHAUSTED},
    GrpcRow{StatusCode::kNoSpace, grpc::StatusCode::RESOURCE_EXHAUSTED},
    GrpcRow{StatusCode::kQuota, grpc::StatusCode::RESOURCE_EXHAUSTED},
    GrpcRow{StatusCode::kNoMemory, grpc::StatusCode::RESOURCE_EXHAUSTED},
    GrpcRow{StatusCode::kCorruption, grpc::StatusCode::DATA_LOSS},
    GrpcRow{StatusCode::kUnavailable, grpc::StatusCode::UNAVAILABLE},
    GrpcRow{StatusCode::kTimeout, grpc::StatusCode::DEADLINE_EXCEEDED},
    GrpcRow{StatusCode::kCancelled, grpc::StatusCode::CANCELLED},
    GrpcRow{StatusCode::kBusy, grpc::StatusCode::ABORTED},
    GrpcRow{StatusCode::kInternal, grpc::StatusCode::INTERNAL},
};

// What the details carry; kOk if they carry no code of ours.
StatusCode CodeOfDetails(std::string_view details) {
  if (!details.starts_with(kDetailsPrefix)) return StatusCode::kOk;
  details.remove_prefix(kDetailsPrefix.size());
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(details.data(), details.data() + details.size(), number);
  if (error != std::errc() || end != details.data() + details.size()) return StatusCode::kOk;
  return static_cast<StatusCode>(number);
}

}  // namespace

grpc::Status ToGrpcStatus(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  grpc::StatusCode grpc_code = grpc::StatusCode::INTERNAL;
  for (const GrpcRow& row : kGrpcCodes) {
    if (row.code == status.code()) {
      grpc_code = row.grpc_code;
      break;
    }
  }
  return grpc::Status(grpc_code, status.message(),
                      std::string(kDetailsPrefix) + std::to_string(static_cast<int>(status.code())));
}

Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return Status::Ok();
  if (const StatusCode code = CodeOfDetails(status.error_details()); code != StatusCode::kOk)
    return Status(code, status.error_message());
  for (const GrpcRow& row : kGrpcCodes) {
    if (row.grpc_code == status.error_code()) return Status(row.code, status.error_message());
  }
  return Status(StatusCode::kInternal, status.error_message());
}

}  // namespace tarn::rpc
