// Requests of clients that do not reach the server they are meant for (docs/replication.md, "Through another server").
//
// A server that gets one for a target of its own serves it as if it had come directly; for a target of another server it passes it on, once, over
// its own connection and only to servers that its cluster map names. Bounded in bytes and requests; a client that is refused comes again.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>

#include "chunkserver/replication/environment.h"
#include "chunkserver/service/target_set.h"
#include "chunkserver/service/write_budget.h"
#include "common/base/buffer_pool.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/rpc/frame_server.h"

namespace tarn::proto {
class RelayRequest;
}

namespace tarn::chunk {

// All outlive the service and its last request.
struct RelayServiceParts {
  const TargetSet* targets = nullptr;
  replication::PeerNetwork* network = nullptr;
  BufferPool* buffers = nullptr;
  const Clock* clock = nullptr;
  Incarnation incarnation;      // of this process
  rpc::RequestHandler serve;    // what serves clients' requests
};

// Thread-safe.
class RelayService {
 public:
  // Of payloads and replies on their way through this server at a time; each request counts for kRequestBytes more.
  static constexpr uint64_t kBytesMax = 64u << 20;
  static constexpr uint64_t kRequestBytes = 64u << 10;
  static constexpr int64_t kTimeoutMsMax = 30'000;

  explicit RelayService(RelayServiceParts parts) : parts_(std::move(parts)), budget_(kBytesMax) {}
  RelayService(const RelayService&) = delete;
  RelayService& operator=(const RelayService&) = delete;

  // A RelayRequest. kWrongIncarnation: for a target that is not here, and relayed already. kUnavailable: for another process than this one, or the
  // server is not reached from here. kResourceExhausted: too much is under way.
  void Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder);

  // Passed on since the start.
  uint64_t passed_on() const { return passed_on_.load(std::memory_order_relaxed); }

 private:
  void Serve(const proto::RelayRequest& message, rpc::Request request, std::unique_ptr<rpc::Responder> responder);
  void PassOn(const std::shared_ptr<proto::RelayRequest>& message, rpc::Request request, std::unique_ptr<rpc::Responder> responder);
  // Says in the log that requests to a target are passed on, unless it was said lately.
  void Note(TargetId target, const std::string& for_whom);

  const RelayServiceParts parts_;
  WriteBudget budget_;
  std::atomic<uint64_t> passed_on_{0};

  Mutex mutex_;
  std::unordered_map<TargetId, int64_t> last_ms_ GUARDED_BY(mutex_);  // when a request to it was passed on
};

}  // namespace tarn::chunk
