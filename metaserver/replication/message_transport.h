// How the members' messages travel: a seam that the network side implements (over lean frames, method kRaftMessage) and
// tests replace.
//
// Best effort: messages may be lost, repeated, delayed and reordered; the protocol sends again what matters. So Send
// never waits, queues are bounded, and what does not fit is dropped. Incoming messages are given to
// RaftReplicator::Receive; their content is checked there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace tarn::meta {

// No message is longer: it fits into the payload of one frame.
inline constexpr size_t kRaftMessageBytesMax = 4u << 20;

// Thread-safe.
class MessageTransport {
 public:
  virtual ~MessageTransport() = default;
  // `address` is what the group's configuration says of the member (lean frames, HOST:PORT); a transport that knows a
  // newer one may use that. Called on the replicator's loop thread: must not block, nor call the replicator.
  virtual void Send(uint64_t to_member, const std::string& address, std::string message) = 0;
};

}  // namespace tarn::meta
