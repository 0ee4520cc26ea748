// The one table between our codes and gRPC's. The code itself rides in the error details, so that nothing is lost on the way.
#pragma once

#include <grpcpp/support/status.h>

#include "common/base/status.h"

namespace tarn::rpc {

grpc::Status ToGrpcStatus(const Status& status);
// Of a peer that sent no code of ours (transport errors): the nearest one.
Status FromGrpcStatus(const grpc::Status& status);

}  // namespace tarn::rpc
