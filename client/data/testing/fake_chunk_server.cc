#include "client/data/testing/fake_chunk_server.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/checksum/block_sums.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"
#include "proto/types.pb.h"

namespace tarn::client {
namespace {

ChunkId IdOf(const proto::ChunkAddress& address) { return {DataId(address.data_id()), address.chunk_index()}; }

Status Refusal(FakeAction action) {
  switch (action) {
    case FakeAction::kStaleEpoch:
      return Status(StatusCode::kStaleEpoch, "scripted");
    case FakeAction::kNoSpace:
      return Status(StatusCode::kNoSpace, "scripted: the disk is full");
    case FakeAction::kUnavailable:
      return Status(StatusCode::kUnavailable, "scripted");
    case FakeAction::kAskPrimary:
      return Status(StatusCode::kAskPrimary, "scripted");
    default:
      return Status::Ok();
  }
}

template <typename Message>
void Describe(const Message& message, FakeRequest* request) {
  request->data = DataId(message.chunk().data_id());
  request->chunk_index = message.chunk().chunk_index();
  request->target = TargetId(message.chunk().target());
}

// Wraps what the server says.
class RelayedResponder final : public rpc::Responder {
 public:
  explicit RelayedResponder(std::unique_ptr<rpc::Responder> responder) : responder_(std::move(responder)) {}
  void Reply(const google::protobuf::MessageLite& message) override {
    responder_->Reply(Wrap(StatusCode::kOk, message));
  }
  void Reply(const google::protobuf::MessageLite& message, Buffer payload) override {
    responder_->Reply(Wrap(StatusCode::kOk, message), std::move(payload));
  }
  void ReplyFile(const google::protobuf::MessageLite&, std::vector<rpc::FilePayload>) override {
    CHECK(false, "the fake has no files");
  }
  void Fail(const Status& status) override { Fail(status, proto::ErrorDetail()); }
  void Fail(const Status& status, proto::ErrorDetail detail) override {
    detail.set_message(status.message());
    responder_->Reply(Wrap(status.code(), detail));
  }

 private:
  static proto::RelayReply Wrap(StatusCode code, const google::protobuf::MessageLite& message) {
    proto::RelayReply reply;
    reply.set_status(static_cast<uint32_t>(code));
    reply.set_message(message.SerializeAsString());
    return reply;
  }
  const std::unique_ptr<rpc::Responder> responder_;
};

FakeRequest Parse(rpc::Method method, const std::string& bytes, size_t payload_bytes) {
  FakeRequest request{.method = method, .target = {}, .data = {}};
  if (method == rpc::Method::kReadChunk) {
    proto::ReadChunkRequest message;
    CHECK(message.ParseFromString(bytes), "a read request");
    Describe(message, &request);
    request.offset = message.offset_bytes();
    request.length = message.length_bytes();
    request.verify_at_source = message.verify_at_source();
    request.primary_is_silent = message.primary_is_silent();
  } else if (method == rpc::Method::kWriteChunk) {
    proto::WriteChunkRequest message;
    CHECK(message.ParseFromString(bytes), "a write request");
    Describe(message, &request);
    request.offset = message.offset_bytes();
    request.length = payload_bytes;
    request.sequence = message.sequence();
    request.durable = message.durable();
    request.sent_again = message.has_acknowledged();
    request.acknowledged_version = message.acknowledged().version();
  } else if (method == rpc::Method::kTruncateChunk) {
    proto::TruncateChunkRequest message;
    CHECK(message.ParseFromString(bytes), "a truncate request");
    Describe(message, &request);
    request.sequence = message.sequence();
  }
  return request;
}

}  // namespace

FakeChunkServer::FakeChunkServer(const Options& options) : options_(options), address_("127.0.0.1:0") { Listen(); }

FakeChunkServer::~FakeChunkServer() { Stop(); }

void FakeChunkServer::Listen() {
  rpc::FrameServerOptions options{
      .listen = address_, .loop_threads = options_.loop_threads, .thread_name = "fake-chunk", .buffers = nullptr};
  uint64_t incarnation = 0;
  {
    MutexLock lock(mutex_);
    incarnation = incarnation_;
  }
  auto server = rpc::FrameServer::Start(
      options,
      [incarnation](const proto::HelloRequest&, proto::HelloReply* reply) {
        reply->set_role(proto::PEER_ROLE_CHUNKSERVER);
        reply->set_incarnation(incarnation);
        return Status::Ok();
      },
      [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
        OnRequest(std::move(request), std::move(responder));
      });
  CHECK(server.ok(), server.status().ToString());
  server_ = std::move(*server);
  address_ = server_->address();
  running_ = true;
}

void FakeChunkServer::SetGroup(GroupId id, const FakeGroup& group, uint64_t map_version) {
  MutexLock lock(mutex_);
  groups_[id] = group;
  syncing_.erase(id);
  map_version_ = map_version;
}

void FakeChunkServer::BringUpToDate(GroupId id, FakeChunkServer& follower) {
  // In one piece with what is served here. Nobody else holds two of these locks.
  MutexLock lock(mutex_);
  MutexLock follower_lock(follower.mutex_);
  for (Chunks* chunks : {&follower.chunks_, &follower.durable_}) {
    std::erase_if(*chunks, [&](const auto& entry) { return entry.second.group == id; });
    for (const auto& [chunk, content] : chunks_) {
      if (content.group == id) (*chunks)[chunk] = content;
    }
  }
  std::erase_if(follower.windows_, [&](const auto& entry) { return entry.first.second == id; });
  for (const auto& [window, state] : windows_) {
    if (window.second == id) follower.windows_[window] = state;
  }
  syncing_[id].push_back(&follower);
}

void FakeChunkServer::SetLaterWrites(std::function<std::vector<ByteRange>(const FakeRequest&)> later) {
  MutexLock lock(mutex_);
  later_writes_ = std::move(later);
}

void FakeChunkServer::SetRelaysTo(std::vector<FakeChunkServer*> others) {
  MutexLock lock(mutex_);
  relays_to_ = std::move(others);
}

Incarnation FakeChunkServer::incarnation() const {
  MutexLock lock(mutex_);
  return Incarnation(incarnation_);
}

void FakeChunkServer::SetScript(FakeScript script) {
  MutexLock lock(mutex_);
  script_ = std::move(script);
}

void FakeChunkServer::Release() {
  std::vector<Held> held;
  {
    MutexLock lock(mutex_);
    held.swap(held_);
  }
  for (Held& request : held) Serve(std::move(request), FakeAction::kServe);
}

void FakeChunkServer::Stop() {
  running_ = false;
  server_ = nullptr;
  MutexLock lock(mutex_);
  held_.clear();
  never_answered_.clear();
  if (options_.forgets_at_restart) chunks_ = durable_;
  not_durable_.clear();
  windows_.clear();
  ++incarnation_;
}

void FakeChunkServer::Start() { Listen(); }

FakeChunkServer::Counts FakeChunkServer::counts() const {
  MutexLock lock(mutex_);
  return counts_;
}

void FakeChunkServer::WaitFor(const std::function<bool(const Counts&)>& condition) {
  MutexLock lock(mutex_);
  while (!condition(counts_)) changed_.Wait(lock);
}

size_t FakeChunkServer::held() const {
  MutexLock lock(mutex_);
  return held_.size();
}

void FakeChunkServer::WaitForHeld(size_t requests) {
  MutexLock lock(mutex_);
  while (held_.size() < requests) changed_.Wait(lock);
}

std::vector<uint8_t> FakeChunkServer::ChunkBytes(ChunkId chunk, bool after_restart) const {
  MutexLock lock(mutex_);
  const Chunks& chunks = after_restart ? durable_ : chunks_;
  const auto found = chunks.find(chunk);
  return found == chunks.end() ? std::vector<uint8_t>() : found->second.bytes;
}

// ---- Requests ----

void FakeChunkServer::OnRequest(rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
  if (request.method == rpc::Method::kRelay) {
    const Status relayed = Relay(request, request.payload, responder);
    if (!relayed.ok()) responder->Fail(relayed);
    return;
  }
  Take({request.method, std::string(reinterpret_cast<const char*>(request.message.data()), request.message.size()),
        std::move(request.payload), std::move(responder)},
       /*relayed=*/false);
}

Status FakeChunkServer::Relay(const rpc::Request& request, Buffer& payload, std::unique_ptr<rpc::Responder>& responder) {
  proto::RelayRequest message;
  RETURN_IF_ERROR(rpc::ParseRequest(request, &message));
  FakeChunkServer* to = nullptr;
  {
    MutexLock lock(mutex_);
    if (relays_to_.empty()) return Status(StatusCode::kNotSupported, "an older server");
    for (FakeChunkServer* other : relays_to_) {
      if (other->target().value() == message.target()) to = other;
    }
    ++counts_.passed_on;
  }
  if (to == nullptr || to == this || !to->running_) return Status(StatusCode::kUnavailable, "no such server is reached");
  if (to->incarnation().value() != message.incarnation())
    return Status(StatusCode::kUnavailable, "meant for another process");
  to->Take({static_cast<rpc::Method>(message.method()), message.message(), std::move(payload),
            std::make_unique<RelayedResponder>(std::move(responder))},
           /*relayed=*/true);
  return Status::Ok();
}

void FakeChunkServer::Take(Held held, bool relayed) {
  FakeAction action = FakeAction::kServe;
  {
    MutexLock lock(mutex_);
    counts_.reads += held.method == rpc::Method::kReadChunk;
    counts_.writes += held.method == rpc::Method::kWriteChunk;
    counts_.commits += held.method == rpc::Method::kCommitTarget;
    counts_.truncates += held.method == rpc::Method::kTruncateChunk;
    counts_.relayed += relayed;
    changed_.NotifyAll();
    FakeRequest parsed = Parse(held.method, held.message, held.payload.size());
    parsed.relayed = relayed;
    counts_.source_checks += parsed.verify_at_source;
    if (script_) action = script_(parsed);
    if (action == FakeAction::kHold) {
      held_.push_back(std::move(held));
      return;
    }
    if (action == FakeAction::kIgnore) {
      never_answered_.push_back(std::move(held.responder));
      return;
    }
  }
  Serve(std::move(held), action);
}

void FakeChunkServer::Serve(Held request, FakeAction action) {
  Status status = Refusal(action);
  if (status.ok()) {
    switch (request.method) {
      case rpc::Method::kReadChunk:
        status = Read(request, action);
        break;
      case rpc::Method::kWriteChunk:
        status = Write(request, action);
        break;
      case rpc::Method::kTruncateChunk:
        status = Truncate(request, action);
        break;
      case rpc::Method::kCommitTarget:
        status = Commit(request, action);
        break;
      case rpc::Method::kStatData:
        status = StatData(request, action);
        break;
      default:
        status = Status(StatusCode::kNotSupported, "no method of a chunk server");
    }
  }
  if (status.ok()) return;
  proto::ErrorDetail detail;
  detail.set_message(status.message());
  if (status.code() == StatusCode::kStaleEpoch) {
    MutexLock lock(mutex_);
    detail.set_map_version(map_version_);
  }
  request.responder->Fail(status, detail);
}

void FakeChunkServer::Answer(Held& request, const google::protobuf::MessageLite& reply, Buffer payload,
                             FakeAction action) {
  if (action == FakeAction::kDropReply) {
    MutexLock lock(mutex_);
    never_answered_.push_back(std::move(request.responder));
    return;
  }
  if (payload.empty()) {
    request.responder->Reply(reply);
  } else {
    request.responder->Reply(reply, std::move(payload));
  }
}

Status FakeChunkServer::CheckAddress(const proto::ChunkAddress& address, bool of_primary) {
  if (address.target() != options_.target.value()) return Status(StatusCode::kInvalidArgument, "another target");
  if (address.data_id() == 0) return Status(StatusCode::kInvalidArgument, "no data id");
  const GroupId id(address.group());
  const auto found = groups_.find(id);
  const uint64_t epoch = found == groups_.end() ? FakeGroup().epoch : found->second.epoch;
  if (address.epoch() != epoch) return Status(StatusCode::kStaleEpoch, "epoch " + std::to_string(address.epoch()));
  if (of_primary && !IsPrimary(id)) return Status(StatusCode::kStaleEpoch, "not the primary");
  if (found == groups_.end()) return Status::Ok();
  const auto& members = found->second.members;
  if (std::find(members.begin(), members.end(), this) == members.end())
    return Status(StatusCode::kStaleEpoch, "not a member");
  return Status::Ok();
}

bool FakeChunkServer::IsPrimary(GroupId group) const {
  const auto found = groups_.find(group);
  return found == groups_.end() || found->second.members.front() == this;
}

Result<std::vector<FakeChunkServer*>> FakeChunkServer::FollowersOf(GroupId group) {
  std::vector<FakeChunkServer*> followers;
  if (const auto found = groups_.find(group); found != groups_.end()) followers = found->second.members;
  std::erase(followers, this);
  for (const FakeChunkServer* follower : followers) {
    if (!follower->running_) return Status(StatusCode::kUnavailable, "a member does not acknowledge");
  }
  if (const auto found = syncing_.find(group); found != syncing_.end())
    followers.insert(followers.end(), found->second.begin(), found->second.end());
  return followers;
}

Result<bool> FakeChunkServer::Admit(const WindowId& id, uint64_t sequence, uint64_t acked_through) {
  Window& window = windows_[id];
  window.acked_through = std::max(window.acked_through, acked_through);
  window.applied.erase(window.applied.begin(), window.applied.upper_bound(window.acked_through));
  if (sequence <= window.acked_through)
    return Status(StatusCode::kStaleSequence, "sequence " + std::to_string(sequence));
  return window.applied.insert(sequence).second;
}

Status FakeChunkServer::ApplyView(Chunk& chunk, const proto::TruncateView& view) {
  if (view.generation() < chunk.generation)
    return Status(StatusCode::kStaleTruncate, "generation " + std::to_string(view.generation()));
  if (view.generation() > chunk.generation) {
    chunk.generation = view.generation();
    if (chunk.bytes.size() > view.truncated_chunk_bytes()) {
      chunk.bytes.resize(view.truncated_chunk_bytes());
      chunk.sums.resize(PieceCount(0, chunk.bytes.size()) * kSumBytes);
      if (!chunk.bytes.empty()) UpdateSums(chunk, chunk.bytes.size() - 1, chunk.bytes.size());
    }
  }
  return Status::Ok();
}

void FakeChunkServer::UpdateSums(Chunk& chunk, uint64_t begin, uint64_t end) {
  chunk.sums.resize(PieceCount(0, chunk.bytes.size()) * kSumBytes);
  const uint64_t first = begin / kSumBlockBytes * kSumBlockBytes;
  const uint64_t last =
      std::min<uint64_t>(chunk.bytes.size(), (end + kSumBlockBytes - 1) / kSumBlockBytes * kSumBlockBytes);
  const std::string sums = ComputePieceSums(first, {chunk.bytes.data() + first, last - first});
  std::memcpy(chunk.sums.data() + first / kSumBlockBytes * kSumBytes, sums.data(), sums.size());
}

void FakeChunkServer::MakeDurable() {
  if (!options_.forgets_at_restart) return;
  for (const ChunkId& chunk : not_durable_) durable_[chunk] = chunks_[chunk];
  not_durable_.clear();
}

Status FakeChunkServer::Read(Held& request, FakeAction action) {
  proto::ReadChunkRequest message;
  CHECK(message.ParseFromString(request.message), "a read request");
  if (message.offset_bytes() % kSumBlockBytes != 0 || message.length_bytes() % kSumBlockBytes != 0 ||
      message.length_bytes() == 0) {
    return Status(StatusCode::kInvalidArgument, "reads are whole blocks");
  }
  proto::ReadChunkReply reply;
  Buffer payload;
  {
    MutexLock lock(mutex_);
    RETURN_IF_ERROR(CheckAddress(message.chunk(), /*of_primary=*/false));
    if (action == FakeAction::kRot && message.verify_at_source())
      return Status(StatusCode::kCorruption, "scripted: the stored byte is rotten");
    const auto found = chunks_.find(IdOf(message.chunk()));
    if (found != chunks_.end()) {
      const Chunk& chunk = found->second;
      // As if cut, without writing anything.
      const bool newer = message.truncate().generation() > chunk.generation;
      const uint64_t size = newer ? std::min<uint64_t>(chunk.bytes.size(), message.truncate().truncated_chunk_bytes())
                                  : chunk.bytes.size();
      reply.set_chunk_bytes(size);
      reply.set_version(chunk.version);
      if (message.offset_bytes() < size) {
        const uint64_t length = std::min<uint64_t>(message.length_bytes(), size - message.offset_bytes());
        payload = Buffer(length);
        std::memcpy(payload.data(), chunk.bytes.data() + message.offset_bytes(), length);
        const uint64_t first = message.offset_bytes() / kSumBlockBytes;
        std::string sums = chunk.sums.substr(first * kSumBytes, PieceCount(message.offset_bytes(), length) * kSumBytes);
        if (size < chunk.bytes.size()) sums = ComputePieceSums(message.offset_bytes(), payload.span());
        reply.set_block_sums(std::move(sums));
      }
    }
  }
  if ((action == FakeAction::kFlipByte || action == FakeAction::kRot) && !payload.empty())
    payload.data()[payload.size() / 2] ^= 0x40;
  Answer(request, reply, std::move(payload), action);
  return Status::Ok();
}

Status FakeChunkServer::ApplyWrite(const proto::WriteChunkRequest& message, std::span<const uint8_t> payload) {
  const ChunkId id = IdOf(message.chunk());
  const uint64_t begin = message.offset_bytes();
  const uint64_t end = begin + payload.size();
  Chunk& chunk = chunks_[id];
  chunk.group = GroupId(message.chunk().group());
  RETURN_IF_ERROR(ApplyView(chunk, message.truncate()));
  const uint64_t old_size = chunk.bytes.size();
  if (chunk.bytes.size() < end) chunk.bytes.resize(end);
  std::memcpy(chunk.bytes.data() + begin, payload.data(), payload.size());
  UpdateSums(chunk, std::min(old_size, begin), end);
  ++chunk.version;
  not_durable_.insert(id);
  return Status::Ok();
}

Status FakeChunkServer::Write(Held& request, FakeAction action) {
  proto::WriteChunkRequest message;
  CHECK(message.ParseFromString(request.message), "a write request");
  if (FindBadPiece(message.offset_bytes(), request.payload.span(), message.piece_sums()))
    return Status(StatusCode::kCorruption, "the payload's sums do not hold");
  proto::WriteChunkReply reply;
  std::vector<FakeChunkServer*> followers;
  {
    MutexLock lock(mutex_);
    RETURN_IF_ERROR(CheckAddress(message.chunk(), /*of_primary=*/true));
    const WindowId window{message.session(), GroupId(message.chunk().group())};
    ASSIGN_OR_RETURN(followers, FollowersOf(window.second));
    const ChunkId id = IdOf(message.chunk());
    if (message.has_acknowledged() && later_writes_ != nullptr) {
      for (const ByteRange& range : later_writes_(Parse(request.method, request.message, request.payload.size()))) {
        reply.add_superseded()->set_offset_bytes(static_cast<uint32_t>(range.offset));
        reply.mutable_superseded(reply.superseded_size() - 1)->set_length_bytes(static_cast<uint32_t>(range.length));
      }
    }
    const bool applies = reply.superseded().empty();
    ASSIGN_OR_RETURN(const bool first, Admit(window, message.sequence(), message.acked_through()));
    if (first && applies) {
      const Status status = ApplyWrite(message, request.payload.span());
      if (!status.ok()) {
        windows_[window].applied.erase(message.sequence());
        return status;
      }
      ++counts_.writes_applied;
      counts_.bytes_written += request.payload.size();
    } else {
      followers.clear();
    }
    if (message.durable()) MakeDurable();
    reply.set_epoch(message.chunk().epoch());
    reply.set_version(chunks_[id].version);
    reply.set_chunk_bytes(chunks_[id].bytes.size());
    reply.set_durable(message.durable());
    reply.set_incarnation(incarnation_);
    changed_.NotifyAll();
  }
  for (FakeChunkServer* follower : followers) follower->Follow(message, request.payload.span());
  Answer(request, reply, Buffer(), action);
  return Status::Ok();
}

Status FakeChunkServer::Truncate(Held& request, FakeAction action) {
  proto::TruncateChunkRequest message;
  CHECK(message.ParseFromString(request.message), "a truncate request");
  proto::TruncateChunkReply reply;
  std::vector<FakeChunkServer*> followers;
  {
    MutexLock lock(mutex_);
    RETURN_IF_ERROR(CheckAddress(message.chunk(), /*of_primary=*/true));
    const WindowId window{message.session(), GroupId(message.chunk().group())};
    ASSIGN_OR_RETURN(followers, FollowersOf(window.second));
    ASSIGN_OR_RETURN(const bool first, Admit(window, message.sequence(), 0));
    const ChunkId id = IdOf(message.chunk());
    if (first) {
      Chunk& chunk = chunks_[id];
      chunk.group = window.second;
      RETURN_IF_ERROR(ApplyView(chunk, message.truncate()));
      not_durable_.insert(id);
    } else {
      followers.clear();
    }
    reply.set_incarnation(incarnation_);
  }
  for (FakeChunkServer* follower : followers) follower->Follow(message);
  Answer(request, reply, Buffer(), action);
  return Status::Ok();
}

void FakeChunkServer::Follow(const proto::WriteChunkRequest& message, std::span<const uint8_t> payload) {
  MutexLock lock(mutex_);
  windows_[{message.session(), GroupId(message.chunk().group())}].applied.insert(message.sequence());
  CHECK(ApplyWrite(message, payload).ok(), "a member has what its primary has");
  if (message.durable()) MakeDurable();
}

void FakeChunkServer::Follow(const proto::TruncateChunkRequest& message) {
  MutexLock lock(mutex_);
  const GroupId group(message.chunk().group());
  windows_[{message.session(), group}].applied.insert(message.sequence());
  Chunk& chunk = chunks_[IdOf(message.chunk())];
  chunk.group = group;
  CHECK(ApplyView(chunk, message.truncate()).ok(), "a member has what its primary has");
  not_durable_.insert(IdOf(message.chunk()));
}

void FakeChunkServer::FollowCommit() {
  MutexLock lock(mutex_);
  MakeDurable();
}

Status FakeChunkServer::Commit(Held& request, FakeAction action) {
  proto::CommitTargetRequest message;
  CHECK(message.ParseFromString(request.message), "a commit request");
  proto::CommitTargetReply reply;
  std::set<FakeChunkServer*> followers;
  {
    MutexLock lock(mutex_);
    if (message.target() != options_.target.value()) return Status(StatusCode::kInvalidArgument, "another target");
    for (const uint32_t id : message.groups()) {
      const GroupId group(id);
      if (!IsPrimary(group)) {
        reply.add_not_primary(id);
        continue;
      }
      ASSIGN_OR_RETURN(const std::vector<FakeChunkServer*> members, FollowersOf(group));
      followers.insert(members.begin(), members.end());
    }
    MakeDurable();
    reply.set_incarnation(incarnation_);
  }
  for (FakeChunkServer* follower : followers) follower->FollowCommit();
  Answer(request, reply, Buffer(), action);
  return Status::Ok();
}

Status FakeChunkServer::StatData(Held& request, FakeAction action) {
  proto::StatDataRequest message;
  CHECK(message.ParseFromString(request.message), "a stat request");
  proto::StatDataReply reply;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, chunk] : chunks_) {
      if (id.data.value() != message.data_id()) continue;
      auto* entry = reply.add_chunks();
      entry->set_index(id.index);
      entry->set_bytes(chunk.bytes.size());
      entry->set_version(chunk.version);
    }
  }
  Answer(request, reply, Buffer(), action);
  return Status::Ok();
}

}  // namespace tarn::client
