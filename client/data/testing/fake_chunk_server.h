// A chunk server in memory that speaks the data protocol over real sockets, for tests and benchmarks: what was not
// committed is lost by a restart, and a script decides what goes wrong.
//
// Its rules are those of the protocol (proto/data.proto): epochs, members, truncate views, sums, sequence windows. It
// is strict where a real server might be lenient, so that a client's mistake shows as an error or as wrong bytes.
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/byte_range.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/frame_server.h"

namespace tarn::proto {
class ChunkAddress;
class TruncateChunkRequest;
class TruncateView;
class WriteChunkRequest;
}  // namespace tarn::proto

namespace tarn::client {

// What shall happen to a request.
enum class FakeAction : uint8_t {
  kServe,
  kIgnore,       // neither done nor answered
  kDropReply,    // done, not answered
  kStaleEpoch,   // refused
  kNoSpace,      // refused
  kUnavailable,  // refused
  kAskPrimary,   // refused
  kFlipByte,     // served; a read's payload has a byte changed on the way (also the sum check at the source passes)
  kRot,          // served; as if the stored byte had changed: the check at the source finds it
  kHold,         // waits for Release
};

struct FakeRequest {
  rpc::Method method = rpc::Method::kPing;
  TargetId target;
  DataId data;
  uint32_t chunk_index = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint64_t sequence = 0;
  bool durable = false;
  bool relayed = false;            // came through another server
  bool primary_is_silent = false;  // of a read
  bool verify_at_source = false;
  bool sent_again = false;            // a write that was acknowledged before,
  uint64_t acknowledged_version = 0;  // with this version
};
using FakeScript = std::function<FakeAction(const FakeRequest&)>;

class FakeChunkServer;

// A placement group: the first member is the primary. They outlive each other's last request.
struct FakeGroup {
  uint64_t epoch = 1;
  std::vector<FakeChunkServer*> members;
};

class FakeChunkServer {
 public:
  struct Options {
    TargetId target{1};
    // For benchmarks: keeps no durable copy (a restart loses nothing).
    bool forgets_at_restart = true;
    uint32_t loop_threads = 1;
  };
  struct Counts {
    uint64_t reads = 0;
    uint64_t source_checks = 0;  // of the reads
    uint64_t writes = 0;         // that came in, repeats included
    uint64_t writes_applied = 0;
    uint64_t commits = 0;
    uint64_t truncates = 0;
    uint64_t bytes_written = 0;
    uint64_t relayed = 0;    // of all that came in, through other servers
    uint64_t passed_on = 0;  // to other servers
  };

  explicit FakeChunkServer(const Options& options);
  ~FakeChunkServer();
  FakeChunkServer(const FakeChunkServer&) = delete;
  FakeChunkServer& operator=(const FakeChunkServer&) = delete;

  // The same for its whole life.
  const std::string& address() const { return address_; }
  TargetId target() const { return options_.target; }

  // Of groups that it was not told of it is the only member, in epoch 1.
  void SetGroup(GroupId id, const FakeGroup& group, uint64_t map_version);
  // This primary gives `follower` all it has of the group, stable, and every write from now on.
  void BringUpToDate(GroupId id, FakeChunkServer& follower);
  // Passes requests on to these, as long as they run. Without any it is a server that does not know how.
  void SetRelaysTo(std::vector<FakeChunkServer*> others);
  // Changes with every start.
  Incarnation incarnation() const;
  // Asked, on the server's thread, for every request. Null: everything is served.
  void SetScript(FakeScript script);
  // Asked for every write that says it was acknowledged before: where later bytes lie. Null: nowhere.
  void SetLaterWrites(std::function<std::vector<ByteRange>(const FakeRequest&)> later);
  // Serves what was held, in the order it came.
  void Release();
  // Ends every connection; what was not committed is forgotten. Starts again under a new incarnation.
  void Stop();
  void Start();
  void Restart() {
    Stop();
    Start();
  }

  Counts counts() const;
  // Until the condition holds for the counts.
  void WaitFor(const std::function<bool(const Counts&)>& condition);
  size_t held() const;
  void WaitForHeld(size_t requests);

  // What a reader would see of the chunk now (or after a restart), without its truncate view. Empty if there is none.
  std::vector<uint8_t> ChunkBytes(ChunkId chunk, bool after_restart) const;

 private:
  struct Chunk {
    std::vector<uint8_t> bytes;
    std::string sums;  // of its blocks
    uint64_t generation = 0;
    uint64_t version = 0;
    GroupId group;
  };
  struct Window {
    uint64_t acked_through = 0;
    std::set<uint64_t> applied;
  };
  using WindowId = std::pair<uint64_t, GroupId>;  // of a session
  using Chunks = std::map<ChunkId, Chunk>;
  struct Held {
    rpc::Method method;
    std::string message;
    Buffer payload;
    std::unique_ptr<rpc::Responder> responder;
  };

  void Listen();
  void OnRequest(rpc::Request request, std::unique_ptr<rpc::Responder> responder);
  // Serves what is wrapped, or passes it on; an error: neither. The responder is taken only if it is ok.
  Status Relay(const rpc::Request& request, Buffer& payload, std::unique_ptr<rpc::Responder>& responder);
  void Take(Held request, bool relayed);
  void Serve(Held request, FakeAction action);
  Status Read(Held& request, FakeAction action);
  Status Write(Held& request, FakeAction action);
  Status Truncate(Held& request, FakeAction action);
  Status Commit(Held& request, FakeAction action);
  Status StatData(Held& request, FakeAction action);

  // Reads may be asked of any member, everything else of the primary.
  Status CheckAddress(const proto::ChunkAddress& address, bool of_primary) REQUIRES(mutex_);
  bool IsPrimary(GroupId group) const REQUIRES(mutex_);
  // Who gets what this primary does. kUnavailable if one of them does not run.
  Result<std::vector<FakeChunkServer*>> FollowersOf(GroupId group) REQUIRES(mutex_);
  // What the primary has done, at another member.
  void Follow(const proto::WriteChunkRequest& message, std::span<const uint8_t> payload);
  void Follow(const proto::TruncateChunkRequest& message);
  void FollowCommit();
  Status ApplyWrite(const proto::WriteChunkRequest& message, std::span<const uint8_t> payload) REQUIRES(mutex_);
  // False: a repeat of something done.
  Result<bool> Admit(const WindowId& id, uint64_t sequence, uint64_t acked_through) REQUIRES(mutex_);
  Status ApplyView(Chunk& chunk, const proto::TruncateView& view) REQUIRES(mutex_);
  void UpdateSums(Chunk& chunk, uint64_t begin, uint64_t end) REQUIRES(mutex_);
  void MakeDurable() REQUIRES(mutex_);
  void Answer(Held& request, const google::protobuf::MessageLite& reply, Buffer payload, FakeAction action);

  const Options options_;
  std::string address_;

  mutable Mutex mutex_;
  CondVar changed_;
  Chunks chunks_ GUARDED_BY(mutex_);
  Chunks durable_ GUARDED_BY(mutex_);
  std::set<ChunkId> not_durable_ GUARDED_BY(mutex_);
  std::map<WindowId, Window> windows_ GUARDED_BY(mutex_);
  std::map<GroupId, FakeGroup> groups_ GUARDED_BY(mutex_);
  std::map<GroupId, std::vector<FakeChunkServer*>> syncing_ GUARDED_BY(mutex_);
  std::atomic<bool> running_{false};
  uint64_t incarnation_ GUARDED_BY(mutex_) = 1000;
  uint64_t map_version_ GUARDED_BY(mutex_) = 1;
  std::vector<FakeChunkServer*> relays_to_ GUARDED_BY(mutex_);
  FakeScript script_ GUARDED_BY(mutex_);
  std::function<std::vector<ByteRange>(const FakeRequest&)> later_writes_ GUARDED_BY(mutex_);
  Counts counts_ GUARDED_BY(mutex_);
  std::vector<Held> held_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<rpc::Responder>> never_answered_ GUARDED_BY(mutex_);

  // Last: destroyed, with its threads, before what they use.
  std::unique_ptr<rpc::FrameServer> server_;
};

}  // namespace tarn::client
