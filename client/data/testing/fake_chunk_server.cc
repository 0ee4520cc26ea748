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

FakeRequest Parse(rpc::Method method, const std::string& bytes, size_t payload_bytes) {
  FakeRequest request{.method = method, .target = {}, .data = {}};
  if (method == rpc::Method::kReadChunk) {
    proto::ReadChunkRequest message;
    CHECK(message.ParseFromString(bytes), "a read request");
    Describe(message, &request);
    request.offset = message.offset_bytes();
    request.length = message.length_bytes();
  } else if (method == rpc::Method::kWriteChunk) {
    proto::WriteChunkRequest message;
    CHECK(message.ParseFromString(bytes), "a write request");
    Describe(message, &request);
    request.offset = message.offset_bytes();
    request.length = payload_bytes;
    request.sequence = message.sequence();
    request.durable = message.durable();
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
}

void FakeChunkServer::SetEpoch(uint64_t epoch, uint64_t map_version) {
  MutexLock lock(mutex_);
  epoch_ = epoch;
  map_version_ = map_version;
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
  Held held{request.method, std::string(reinterpret_cast<const char*>(request.message.data()), request.message.size()),
            std::move(request.payload), std::move(responder)};
  FakeAction action = FakeAction::kServe;
  {
    MutexLock lock(mutex_);
    counts_.reads += held.method == rpc::Method::kReadChunk;
    counts_.writes += held.method == rpc::Method::kWriteChunk;
    counts_.commits += held.method == rpc::Method::kCommitTarget;
    counts_.truncates += held.method == rpc::Method::kTruncateChunk;
    changed_.NotifyAll();
    if (script_) action = script_(Parse(held.method, held.message, held.payload.size()));
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

Status FakeChunkServer::CheckAddress(const proto::ChunkAddress& address) {
  if (address.target() != options_.target.value()) return Status(StatusCode::kInvalidArgument, "another target");
  if (address.epoch() != epoch_) return Status(StatusCode::kStaleEpoch, "epoch " + std::to_string(address.epoch()));
  if (address.data_id() == 0) return Status(StatusCode::kInvalidArgument, "no data id");
  return Status::Ok();
}

Result<bool> FakeChunkServer::Admit(uint64_t session, uint64_t sequence, uint64_t acked_through) {
  Window& window = windows_[session];
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
    RETURN_IF_ERROR(CheckAddress(message.chunk()));
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

Status FakeChunkServer::Write(Held& request, FakeAction action) {
  proto::WriteChunkRequest message;
  CHECK(message.ParseFromString(request.message), "a write request");
  const uint64_t begin = message.offset_bytes();
  const uint64_t end = begin + request.payload.size();
  if (FindBadPiece(begin, request.payload.span(), message.piece_sums()))
    return Status(StatusCode::kCorruption, "the payload's sums do not hold");
  proto::WriteChunkReply reply;
  {
    MutexLock lock(mutex_);
    RETURN_IF_ERROR(CheckAddress(message.chunk()));
    ASSIGN_OR_RETURN(const bool first, Admit(message.session(), message.sequence(), message.acked_through()));
    const ChunkId id = IdOf(message.chunk());
    if (first) {
      Chunk& chunk = chunks_[id];
      const Status status = ApplyView(chunk, message.truncate());
      if (!status.ok()) {
        windows_[message.session()].applied.erase(message.sequence());
        return status;
      }
      const uint64_t old_size = chunk.bytes.size();
      if (chunk.bytes.size() < end) chunk.bytes.resize(end);
      std::memcpy(chunk.bytes.data() + begin, request.payload.data(), request.payload.size());
      UpdateSums(chunk, std::min(old_size, begin), end);
      ++chunk.version;
      not_durable_.insert(id);
      ++counts_.writes_applied;
      counts_.bytes_written += request.payload.size();
    }
    if (message.durable()) MakeDurable();
    reply.set_version(chunks_[id].version);
    reply.set_chunk_bytes(chunks_[id].bytes.size());
    reply.set_durable(message.durable());
    reply.set_incarnation(incarnation_);
    changed_.NotifyAll();
  }
  Answer(request, reply, Buffer(), action);
  return Status::Ok();
}

Status FakeChunkServer::Truncate(Held& request, FakeAction action) {
  proto::TruncateChunkRequest message;
  CHECK(message.ParseFromString(request.message), "a truncate request");
  proto::TruncateChunkReply reply;
  {
    MutexLock lock(mutex_);
    RETURN_IF_ERROR(CheckAddress(message.chunk()));
    ASSIGN_OR_RETURN(const bool first, Admit(message.session(), message.sequence(), 0));
    const ChunkId id = IdOf(message.chunk());
    if (first) {
      RETURN_IF_ERROR(ApplyView(chunks_[id], message.truncate()));
      not_durable_.insert(id);
    }
    reply.set_incarnation(incarnation_);
  }
  Answer(request, reply, Buffer(), action);
  return Status::Ok();
}

Status FakeChunkServer::Commit(Held& request, FakeAction action) {
  proto::CommitTargetRequest message;
  CHECK(message.ParseFromString(request.message), "a commit request");
  proto::CommitTargetReply reply;
  {
    MutexLock lock(mutex_);
    if (message.target() != options_.target.value()) return Status(StatusCode::kInvalidArgument, "another target");
    MakeDurable();
    reply.set_incarnation(incarnation_);
  }
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
