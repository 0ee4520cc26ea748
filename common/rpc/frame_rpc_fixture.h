// A server whose handler the test chooses, and clients of it, over real sockets.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "common/rpc/frame_server.h"
#include "proto/hello.pb.h"
#include "proto/metadata.pb.h"
#include "proto/types.pb.h"

namespace tarn::rpc {

// Counts callbacks; Wait() returns when `expected` have come. Thread-safe.
class CallCounter {
 public:
  void Add() {
    MutexLock lock(mutex_);
    ++count_;
    changed_.NotifyAll();
  }
  void Wait(int expected) {
    MutexLock lock(mutex_);
    while (count_ < expected) changed_.Wait(lock);
  }
  int count() {
    MutexLock lock(mutex_);
    return count_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ GUARDED_BY(mutex_) = 0;
};

// Responders kept by a handler that does not answer at once. Thread-safe.
class HeldResponders {
 public:
  void Hold(std::unique_ptr<Responder> responder) {
    MutexLock lock(mutex_);
    held_.push_back(std::move(responder));
    changed_.NotifyAll();
  }
  std::vector<std::unique_ptr<Responder>> WaitForAndTake(size_t expected) {
    MutexLock lock(mutex_);
    while (held_.size() < expected) changed_.Wait(lock);
    return std::exchange(held_, {});
  }
  size_t size() {
    MutexLock lock(mutex_);
    return held_.size();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::unique_ptr<Responder>> held_ GUARDED_BY(mutex_);
};

class FrameRpc : public testing::Test {
 protected:
  FrameRpc() {
    auto loop = EventLoop::Start("client");
    EXPECT_TRUE(loop.ok());
    client_loop_ = std::move(*loop);
    hello_.set_role(proto::PEER_ROLE_TOOL);
    hello_.set_peer_name("test");
  }

  // By TCP, unless the options say otherwise.
  void StartServer(RequestHandler handler) {
    FrameServerOptions options;
    options.offers_local_sockets = false;
    StartServer(options, std::move(handler));
  }
  void StartServer(const FrameServerOptions& options, RequestHandler handler) {
    auto server = FrameServer::Start(
        options,
        [](const proto::HelloRequest& request, proto::HelloReply* reply) {
          if (request.token() == "wrong") return Status(StatusCode::kPermission, "the token is not valid");
          reply->set_role(proto::PEER_ROLE_METASERVER);
          reply->set_server_id(7);
          reply->set_features(0b0110);
          return Status::Ok();
        },
        std::move(handler));
    ASSERT_TRUE(server.ok()) << server.status().ToString();
    server_ = std::move(*server);
  }

  FrameClientOptions Options() const {
    FrameClientOptions options;
    options.address = server_ != nullptr ? server_->address() : "";
    return options;
  }
  std::shared_ptr<FrameClient> Connect() { return Connect(Options()); }
  std::shared_ptr<FrameClient> Connect(const FrameClientOptions& options) {
    return FrameClient::Create(client_loop_.get(), options, hello_);
  }

  // Answers a Lookup with its own name.
  static void Echo(const Request& request, Responder& responder) {
    proto::LookupRequest lookup;
    if (const Status parsed = ParseRequest(request, &lookup); !parsed.ok()) return responder.Fail(parsed);
    responder.Reply(lookup);
  }
  static RequestHandler EchoHandler() {
    return [](Request request, std::unique_ptr<Responder> responder) { Echo(request, *responder); };
  }
  static proto::LookupRequest Named(const std::string& name) {
    proto::LookupRequest request;
    request.set_name(name);
    return request;
  }

  proto::HelloRequest hello_;
  HeldResponders held_;  // outlives the server, whose handlers may use it until it has ended
  std::unique_ptr<EventLoop> client_loop_;
  std::unique_ptr<FrameServer> server_;
};

}  // namespace tarn::rpc
