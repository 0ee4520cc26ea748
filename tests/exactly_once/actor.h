// One client of the metadata servers, with a session of its own and a directory where nobody else works.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/blocking.h"
#include "client/meta/metadata_client.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/rpc/event_loop.h"

namespace tarn::testing {

struct ActorOptions {
  std::vector<std::string> addresses;
  int64_t call_timeout_ms = 5'000;
  bool chatty = false;  // also reads all the time, so that its connection is never silent
};

// One thread uses it.
class Actor {
 public:
  // `loop` outlives it.
  Actor(rpc::EventLoop* loop, const ActorOptions& options);
  // Does not wait for the end of the session.
  ~Actor();
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;

  Status OpenSession() {
    return client::WaitStatus([&](StatusCallback done) { metadata_->OpenSession(VolumeId(), std::move(done)); });
  }
  // Ends the process if that fails.
  void MakeDirectory(uint64_t parent, const std::string& name);
  void Close() { metadata_->Shutdown(30'000); }

  using StatusCallback = client::StatusCallback;
  Result<proto::MutationReply> Mutate(const proto::Mutation& mutation);
  // The same, for steps that have to succeed.
  proto::MutationReply Must(const proto::Mutation& mutation);
  template <typename Reply, typename Request>
  Result<Reply> Read(rpc::Method method, const Request& request) {
    return client::Wait<Reply>([&](client::Callback<Reply> done) { metadata_->Read<Reply>(method, request, std::move(done)); });
  }
  // nullopt: there is no such inode, or name in its directory.
  std::optional<proto::Attributes> Get(uint64_t inode);
  std::optional<proto::Attributes> Find(const std::string& name);

  uint64_t directory() const { return directory_; }
  uint64_t session() const { return metadata_->session().value(); }
  // While it lives the actor reads in the background.
  void BeginToChat();

 private:
  void ReadOnce();

  rpc::EventLoop* const loop_;
  SystemClock clock_;
  SystemRandom random_;
  const bool chatty_;
  std::unique_ptr<client::MetadataClient> metadata_;
  uint64_t directory_ = 0;
  std::shared_ptr<bool> chats_ = std::make_shared<bool>(false);  // touched on the loop's thread
};

}  // namespace tarn::testing
