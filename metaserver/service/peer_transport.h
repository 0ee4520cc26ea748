// The log's messages between the members of the group, over lean frames: one connection to each member, made when it is
// needed and again when it broke.
//
// Nothing waits and nothing is kept: a message for a member that is not connected, or that leaves too many bytes
// unanswered, is dropped; the log sends again what matters. An address may have changed hands: what does not answer
// under the member's id gets no further message for a while, and every message names whom it is for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "metaserver/replication/message_transport.h"
#include "proto/hello.pb.h"
#include "proto/member.pb.h"

namespace tarn::meta {

struct PeerTransportOptions {
  std::string cluster_id;
  uint64_t member_id = 0;
  std::string address;  // of this member, as others reach it
  std::string grpc_address;
  uint64_t pid = 0;
  uint64_t unanswered_bytes_max = 32u << 20;  // per member
  int64_t connect_timeout_ms = 1'000;
  int64_t answer_timeout_ms = 2'000;
  int64_t reconnect_pause_ms = 50;
  int64_t wrong_member_pause_ms = 1'000;
};

// Thread-safe.
class PeerTransport final : public MessageTransport {
 public:
  // Where a member is now; empty: not known.
  using AddressOf = std::function<std::string(uint64_t member)>;
  // On the loop's thread: a leader says that this member was removed from the group.
  using Removed = std::function<void(const Status&)>;

  // `loop` and `clock` outlive it; the loop ends before what the callbacks use.
  PeerTransport(const PeerTransportOptions& options, rpc::EventLoop* loop, const Clock* clock, AddressOf address_of,
                Removed removed);
  ~PeerTransport() override;
  PeerTransport(const PeerTransport&) = delete;
  PeerTransport& operator=(const PeerTransport&) = delete;

  // `address` is a name of the log's, not an address: what is not known otherwise cannot be reached.
  void Send(uint64_t to_member, const std::string& address, std::string message) override;
  // Tells the member where this one is.
  void Announce(uint64_t to_member) { Send(to_member, "", ""); }
  // Later messages are dropped.
  void Close();

 private:
  struct Shared;
  const std::shared_ptr<Shared> shared_;  // also held by what is in flight
};

}  // namespace tarn::meta
