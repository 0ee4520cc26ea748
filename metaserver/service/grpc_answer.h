// How the gRPC services of a metadata server tell a failure.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "common/rpc/grpc_status.h"
#include "metaserver/service/service_context.h"

namespace tarn::meta {

// A member that does not lead is UNAVAILABLE, with the leader's address if it is known.
inline grpc::Status GrpcAnswer(const ServiceContext& context, const Status& status) {
  const grpc::Status answer = rpc::ToGrpcStatus(status);
  if (status.code() != StatusCode::kNotLeader) return answer;
  const std::string leader = context.Leader().grpc_address();
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, leader.empty() ? status.message() : "leader=" + leader,
                      answer.error_details());
}

}  // namespace tarn::meta
