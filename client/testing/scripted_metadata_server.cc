#include "client/testing/scripted_metadata_server.h"

#include <chrono>
#include <utility>

#include "proto/hello.pb.h"

namespace tarn::client::testing {

ScriptedMetadataServer::ScriptedMetadataServer(const std::string& listen) {
  rpc::FrameServerOptions options;
  options.listen = listen;
  auto server = rpc::FrameServer::Start(
      options,
      [](const proto::HelloRequest&, proto::HelloReply* reply) {
        reply->set_role(proto::PEER_ROLE_METASERVER);
        return Status::Ok();
      },
      [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
        ReceivedRequest received;
        received.method = request.method;
        received.message.assign(reinterpret_cast<const char*>(request.message.data()), request.message.size());
        received.peer = request.peer;
        received.responder = std::move(responder);
        MutexLock lock(mutex_);
        received_.push_back(std::move(received));
        arrived_.NotifyAll();
      });
  CHECK(server.ok(), server.status().ToString());
  server_ = *std::move(server);
}

ScriptedMetadataServer::~ScriptedMetadataServer() { server_.reset(); }

ReceivedRequest ScriptedMetadataServer::Next() {
  MutexLock lock(mutex_);
  while (received_.empty()) {
    CHECK(arrived_.WaitFor(lock, std::chrono::seconds(10)), "no request came");
  }
  ReceivedRequest next = std::move(received_.front());
  received_.pop_front();
  return next;
}

void ScriptedMetadataServer::AnswerOpenSession(uint64_t session, uint32_t lease_ms) {
  ReceivedRequest request = Next();
  CHECK(request.method == rpc::Method::kMutate && request.mutation().has_open_session(), "expected an open session");
  proto::MutationReply reply;
  reply.set_session(session);
  reply.set_lease_ms(lease_ms);
  request.responder->Reply(reply);
}

size_t ScriptedMetadataServer::waiting() const {
  MutexLock lock(mutex_);
  return received_.size();
}

}  // namespace tarn::client::testing
