// What replication needs of the world around it, so that a simulator can be that world.
//
// Implementations are thread-safe and outlive the engine's last callback.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/frame.h"

namespace google::protobuf {
class MessageLite;
}
namespace tarn::proto {
class GroupReport;
}

namespace tarn::replication {

struct PeerReply {
  Status status;                     // of the transport or of the peer
  uint64_t map_version = 0;          // kStaleEpoch: what the peer has
  std::span<const uint8_t> message;  // valid during the callback only
  std::span<const uint8_t> payload;  // likewise
};
using PeerCallback = std::function<void(const PeerReply&)>;

// The way to other targets' servers. A call is sent once: no repeats.
class PeerNetwork {
 public:
  virtual ~PeerNetwork() = default;
  // `payload` stays alive until the callback, which runs exactly once (kTimeout, kUnavailable: it may have arrived all the same), never
  // before Call returns, on a thread that must not block.
  virtual void Call(TargetId to, rpc::Method method, const google::protobuf::MessageLite& request, std::span<const uint8_t> payload, int64_t timeout_ms,
                    PeerCallback callback) = 0;
};

// The way to the metadata leader.
class GroupAuthority {
 public:
  virtual ~GroupAuthority() = default;
  // Delivered at least once while the report's epoch is current; what was decided comes back as a new map (AdoptMap).
  virtual void Report(const proto::GroupReport& report) = 0;
  // A map of at least this version is wanted; comes through AdoptMap.
  virtual void WantMap(uint64_t version) = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // On a thread that may block on the disk. Always runs, in any order.
  virtual void Run(std::function<void()> task) = 0;
  // After a time; on a thread that must not block.
  virtual void RunAfter(int64_t delay_ms, std::function<void()> task) = 0;
  // CLOCK_BOOTTIME: runs on while the machine is suspended.
  virtual int64_t BoottimeNs() = 0;
};

}  // namespace tarn::replication
