// A connection of the client library to a simulated member: rpc::FrameClient over the simulated network.
//
// Fault model: that of TCP. What is sent over it comes in order and once, or the connection is at its end: a lost packet
// costs time, a cut link holds everything up until it heals. A member that has died or restarted resets the connection,
// as far as that news gets through; one that is cut off or stopped leaves it silent. What was sent before the client
// closed it still arrives. The requests of one connection are handled one after another.
//
// Planted bugs that are a client's: what it says and hears is changed here (plan.h).
// One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/rpc/frame_client.h"
#include "proto/hello.pb.h"
#include "tests/sim/sim_process.h"
#include "tests/sim/member.h"

namespace tarn::sim {

class Connection final : public rpc::FrameClient {
 public:
  Connection(Cluster* cluster, std::shared_ptr<SimProcess> process, Endpoint client,
             const rpc::FrameClientOptions& options, const proto::HelloRequest& hello);
  ~Connection() override = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // What the channel is given to connect with.
  static rpc::ConnectFunction Connector(Cluster* cluster, std::shared_ptr<SimProcess> process, Endpoint client);

  void Call(rpc::Method method, const google::protobuf::MessageLite& request, const rpc::CallOptions& options,
            rpc::ReplyCallback callback) override;
  void Withdraw(std::span<uint8_t> /*payload_destination*/) override {}
  void Close() override;
  bool usable() const override { return !broken_; }
  proto::HelloReply hello_reply() const override { return {}; }
  const std::string& address() const override { return options_.address; }

 private:
  class ServerEnd;
  struct Pending {
    rpc::Method method = rpc::Method::kPing;
    std::string request;
    rpc::ReplyCallback callback;
  };

  void OnFrame(uint64_t call, rpc::Method method, const std::string& request);
  void OnAnswer(uint64_t call, const Answer& answer);
  void OnPush(rpc::Method method, const std::string& message);
  void Finish(uint64_t call, const rpc::Reply& reply);
  void Break();
  std::string Falsified(rpc::Method method, std::string request) const;
  bool SwallowsPush(const std::string& message);
  std::string FalsifiedAnswer(rpc::Method method, const Answer& answer) const;
  std::shared_ptr<Connection> self() { return std::static_pointer_cast<Connection>(shared_from_this()); }

  Cluster* const cluster_;
  const std::shared_ptr<SimProcess> process_;
  const Endpoint client_;
  const uint64_t member_;
  const rpc::FrameClientOptions options_;
  const proto::HelloRequest hello_;

  // The client's end.
  bool broken_ = false;
  uint64_t next_call_ = 1;
  std::map<uint64_t, Pending> pending_;
  Network::Stream to_member_;
  Network::Stream to_client_;
  // The member's end; null before anything has come.
  std::shared_ptr<ServerEnd> server_;
};

}  // namespace tarn::sim
