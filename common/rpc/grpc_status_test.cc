#include "common/rpc/grpc_status.h"

#include <gtest/gtest.h>

namespace tarn::rpc {
namespace {

TEST(GrpcStatus, EveryCodeComesBackWhole) {
  for (int number = 1; number < 100; ++number) {
    const Status status(static_cast<StatusCode>(number), "text");
    const grpc::Status over_the_wire = ToGrpcStatus(status);
    EXPECT_FALSE(over_the_wire.ok());
    const Status back = FromGrpcStatus(over_the_wire);
    EXPECT_EQ(back.code(), status.code());
    EXPECT_EQ(back.message(), "text");
  }
  EXPECT_TRUE(ToGrpcStatus(Status::Ok()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
}

TEST(GrpcStatus, CodesOfTheTransportGetTheNearestOfOurs) {
  const auto code = [](grpc::StatusCode grpc_code, const char* details = "") {
    return FromGrpcStatus(grpc::Status(grpc_code, "x", details)).code();
  };
  EXPECT_EQ(code(grpc::StatusCode::UNAVAILABLE), StatusCode::kUnavailable);
  EXPECT_EQ(code(grpc::StatusCode::DEADLINE_EXCEEDED), StatusCode::kTimeout);
  EXPECT_EQ(code(grpc::StatusCode::UNIMPLEMENTED), StatusCode::kNotSupported);
  EXPECT_EQ(code(grpc::StatusCode::CANCELLED), StatusCode::kCancelled);
  EXPECT_EQ(code(grpc::StatusCode::UNKNOWN), StatusCode::kInternal);
  EXPECT_EQ(code(grpc::StatusCode::NOT_FOUND, "tarn-status x"), StatusCode::kNotFound);
  EXPECT_EQ(code(grpc::StatusCode::NOT_FOUND, "tarn-status 0"), StatusCode::kNotFound);
}

TEST(GrpcStatus, OursMapToWhatGrpcToolsExpect) {
  EXPECT_EQ(ToGrpcStatus(Status(StatusCode::kNotLeader, "")).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ToGrpcStatus(Status(StatusCode::kCorruption, "")).error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(ToGrpcStatus(Status(StatusCode::kIoError, "")).error_code(), grpc::StatusCode::INTERNAL);
}

}  // namespace
}  // namespace tarn::rpc
