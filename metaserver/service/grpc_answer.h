// How the gRPC services of a metadata server tell a failure.
#pragma once

#include <grpcpp/support/status.h>

#include "common/rpc/grpc_status.h"
#include "metaserver/service/service_context.h"

namespace tarn::meta {

// A member that does not lead is UNAVAILABLE, with the leader's address if it is known.
inline grpc::Status GrpcAnswer(const ServiceContext& context, const Status& status) {
  if (status.code() != StatusCode::kNotLeader) return rpc::ToGrpcStatus(status);
  return rpc::ToGrpcStatus(
      Status(StatusCode::kUnavailable, context.Leads() ? "leader=" + context.self.grpc_address : status.message()));
}

}  // namespace tarn::meta
