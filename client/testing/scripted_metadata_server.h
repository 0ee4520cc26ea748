// A metadata server that does what the test says: requests queue up, and the test answers each one itself.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/frame_server.h"
#include "proto/metadata.pb.h"

namespace tarn::client::testing {

// A request that waits for its answer. Destroyed unanswered while the server lives, it answers kInternal.
struct ReceivedRequest {
  rpc::Method method = rpc::Method::kPing;
  std::string message;
  std::shared_ptr<rpc::Peer> peer;
  std::unique_ptr<rpc::Responder> responder;

  template <typename Message>
  Message As() const {
    Message parsed;
    CHECK(parsed.ParseFromString(message), "the client sent something else");
    return parsed;
  }
  proto::Mutation mutation() const { return As<proto::Mutation>(); }
};

// Thread-safe.
class ScriptedMetadataServer {
 public:
  // `listen` with port 0, or the address of a server that is gone, to take its place.
  explicit ScriptedMetadataServer(const std::string& listen = "127.0.0.1:0");
  // Connections break; what was not answered is lost.
  ~ScriptedMetadataServer();
  ScriptedMetadataServer(const ScriptedMetadataServer&) = delete;
  ScriptedMetadataServer& operator=(const ScriptedMetadataServer&) = delete;

  std::string address() const { return server_->address(); }
  // The next request, in order of arrival. Ends the process if none comes in ten seconds.
  ReceivedRequest Next();
  // The next request, which is answered with a session of this id.
  void AnswerOpenSession(uint64_t session, uint32_t lease_ms = 600'000);
  size_t waiting() const;

 private:
  mutable Mutex mutex_;
  CondVar arrived_;
  std::deque<ReceivedRequest> received_ GUARDED_BY(mutex_);
  std::unique_ptr<rpc::FrameServer> server_;
};

}  // namespace tarn::client::testing
