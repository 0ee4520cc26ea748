// "leader=HOST:PORT" in a gRPC refusal: whom to ask instead (proto/cluster.proto, ClusterService).
#pragma once

#include <grpcpp/support/status.h>

#include <string>
#include <string_view>

namespace tarn::rpc {

inline constexpr std::string_view kLeaderHint = "leader=";

// The gRPC address; empty if there is none.
inline std::string LeaderHint(const grpc::Status& status) {
  const std::string& message = status.error_message();
  const size_t at = message.find(kLeaderHint);
  if (at == std::string::npos) return {};
  const size_t begin = at + kLeaderHint.size();
  return message.substr(begin, message.find_first_of(" ,;", begin) - begin);
}

}  // namespace tarn::rpc
