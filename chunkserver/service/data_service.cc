#include "chunkserver/service/data_service.h"

#include <google/protobuf/arena.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "chunkserver/replication/target_replication.h"
#include "chunkserver/service/disk_read.h"
#include "chunkserver/store/chunk_reader.h"
#include "common/rpc/event_loop.h"
#include "proto/metadata.pb.h"

namespace tarn::chunk {
namespace {

// Up to here a copy is cheaper than sendfile's set-up.
constexpr uint32_t kCopyBytesMax = 64u << 10;
constexpr uint32_t kDataIdsListedMax = 65'536;  // of one answer
// What is brought from the disk on a loop. A read of more bytes keeps the loop from others for longer than it takes to wake a thread, and
// several threads copy on several processors.
constexpr uint32_t kLoopBytesMax = 128u << 10;
constexpr size_t kLoopPiecesMax = 8;
// Room for a parsed read.
constexpr size_t kReadArenaBytes = 512;

ChunkId ChunkOf(const proto::ChunkAddress& address) { return {DataId(address.data_id()), address.chunk_index()}; }

store::TruncateView ViewOf(const proto::TruncateView& view) { return {view.generation(), view.truncated_chunk_bytes()}; }

proto::ReadChunkReply ReplyOf(const store::ReadPlan& plan) {
  proto::ReadChunkReply reply;
  reply.set_chunk_bytes(plan.chunk_bytes);
  reply.set_version(plan.version);
  reply.set_block_sums(plan.sums);
  return reply;
}

// Whether the file's pages go to the socket as they are. Not short ones (a copy is cheaper), and not holes, which no file has.
bool SendsPages(const store::ReadPlan& plan) {
  return plan.length > kCopyBytesMax && std::none_of(plan.pieces.begin(), plan.pieces.end(), [](const store::ReadPiece& piece) { return piece.fd < 0; });
}

void ReplyPages(const store::ReadPlan& plan, rpc::Responder& responder) {
  std::vector<rpc::FilePayload> parts;
  parts.reserve(plan.pieces.size());
  for (const store::ReadPiece& piece : plan.pieces) parts.push_back({piece.fd, piece.file_offset, piece.length, plan.lease});
  responder.ReplyFile(ReplyOf(plan), std::move(parts));
}

void FailStaleEpoch(rpc::Responder& responder, uint64_t map_version) {
  proto::ErrorDetail detail;
  detail.set_message("another epoch of the placement group is current");
  detail.set_map_version(map_version);
  responder.Fail(Status(StatusCode::kStaleEpoch, detail.message()), detail);
}

void FailChange(const replication::ChangeAnswer& answer, rpc::Responder& responder) {
  proto::ErrorDetail detail;
  detail.set_map_version(answer.map_version);
  responder.Fail(answer.status, detail);
}

void FailNotAdmitted(const replication::ReadVerdict& verdict, rpc::Responder& responder) {
  switch (verdict.code) {
    case StatusCode::kStaleEpoch: return FailStaleEpoch(responder, verdict.map_version);
    case StatusCode::kAskPrimary: return responder.Fail(Status(verdict.code, "this copy may not answer now, the group's primary does"));
    default: return responder.Fail(Status(verdict.code, "this copy may not answer now"));
  }
}

// Parses into a message that outlives the handler; null if it was answered with the reason.
template <typename Message>
std::shared_ptr<Message> ParseOrFail(const rpc::Request& request, rpc::Responder& responder) {
  auto message = std::make_shared<Message>();
  if (Status status = rpc::ParseRequest(request, message.get()); !status.ok()) {
    responder.Fail(status);
    return nullptr;
  }
  return message;
}

}  // namespace

void DataService::Handle(rpc::Request request, std::unique_ptr<rpc::Responder> unique_responder) {
  const ResponderPtr responder(std::move(unique_responder));
  switch (request.method) {
    case rpc::Method::kReadChunk:
      HandleRead(request, responder);
      return;
    case rpc::Method::kWriteChunk:
      if (const auto message = ParseOrFail<proto::WriteChunkRequest>(request, *responder)) {
        AdmitWrite(message, std::move(request.payload), responder);
      }
      return;
    case rpc::Method::kTruncateChunk:
      if (const auto message = ParseOrFail<proto::TruncateChunkRequest>(request, *responder)) {
        WithCurrentGroup(message->chunk(), responder, [=, this](HostedTarget& target) { Truncate(target, message, responder); });
      }
      return;
    case rpc::Method::kCommitTarget:
      if (const auto message = ParseOrFail<proto::CommitTargetRequest>(request, *responder)) Commit(*message, responder);
      return;
    case rpc::Method::kStatData:
      if (const auto message = ParseOrFail<proto::StatDataRequest>(request, *responder)) {
        HostedTarget* const target = FindOrFail(TargetId(message->target()), *responder);
        if (target != nullptr) OnWorker(*target, responder, [=, this] { StatData(*target, *message, responder); });
      }
      return;
    case rpc::Method::kListData:
      if (const auto message = ParseOrFail<proto::ListDataRequest>(request, *responder)) {
        HostedTarget* const target = FindOrFail(TargetId(message->target()), *responder);
        if (target != nullptr) OnWorker(*target, responder, [=] { ListData(*target, *message, *responder); });
      }
      return;
    default: responder->Fail(Status(StatusCode::kNotSupported, "a chunk server does not serve this method"));
  }
}

// Most reads are answered here and now, from memory: nothing of them is kept on the heap.
void DataService::HandleRead(const rpc::Request& request, const ResponderPtr& responder) {
  alignas(8) std::array<char, kReadArenaBytes> block;
  google::protobuf::ArenaOptions options;
  options.initial_block = block.data();
  options.initial_block_size = block.size();
  google::protobuf::Arena arena(options);
  auto* const message = google::protobuf::Arena::CreateMessage<proto::ReadChunkRequest>(&arena);
  if (Status status = rpc::ParseRequest(request, message); !status.ok()) return responder->Fail(status);
  if (message->has_elastic()) return ReadElastic(*message, responder);
  ReadCall read;
  read.request.chunk = ChunkOf(message->chunk());
  read.request.offset = message->offset_bytes();
  read.request.length = message->length_bytes();
  read.request.view = ViewOf(message->truncate());
  read.group = GroupId(message->chunk().group());
  read.epoch = Epoch(message->chunk().epoch());
  read.verify_at_source = message->verify_at_source();
  read.primary_is_silent = message->primary_is_silent();
  read.loop = request.loop;
  if (parts_.view->groups()->Check(message->chunk()) == GroupTable::Verdict::kCurrent) {
    HostedTarget* const target = FindOrFail(TargetId(message->chunk().target()), *responder);
    if (target != nullptr) Read(*target, read, responder);
    return;
  }
  WithCurrentGroup(message->chunk(), responder, [=, this](HostedTarget& target) { Read(target, read, responder); });
}

void DataService::ReadElastic(const proto::ReadChunkRequest& message, const ResponderPtr& responder) {
  HostedTarget* const target = parts_.targets->Find(TargetId(message.chunk().target()));
  if (target == nullptr || target->elastic() == nullptr) {
    return responder->Fail(Status(StatusCode::kAskPrimary, "this server has no such elastic target"));
  }
  store::ReadRequest request{.chunk = ChunkOf(message.chunk()), .offset = message.offset_bytes(), .length = message.length_bytes(), .view = {}};
  if (Status status = store::ValidateRead(request); !status.ok()) return responder->Fail(status);
  if (request.length == 0) return responder->Fail(Status(StatusCode::kInvalidArgument, "an elastic target reads no empty ranges"));
  const elastic::ReadCall call{.chunk = request.chunk,
                               .generation = {.map_incarnation = message.elastic().map_incarnation(),
                                              .data = message.data_generation(),
                                              .truncate = message.truncate().generation()},
                               .range = {.offset = request.offset, .length = request.length},
                               .group = GroupId(message.chunk().group()),
                               .session = SessionId(message.session()),
                               .truncated_chunk_bytes = message.truncate().truncated_chunk_bytes(),
                               .from_elastic = message.elastic().from_elastic()};
  const auto answer = [responder](elastic::ReadAnswer answered) {
    if (!answered.status.ok()) return responder->Fail(answered.status);
    if (!answered.pages) return responder->Reply(answered.reply, std::move(answered.payload));
    std::vector<rpc::FilePayload> parts;
    for (const store::ReadPiece& piece : answered.pages->pieces) parts.push_back({piece.fd, piece.file_offset, piece.length, answered.pages->lease});
    responder->ReplyFile(answered.reply, std::move(parts));
  };
  message.verify_at_source() ? target->elastic()->Verify(call, answer) : target->elastic()->Read(call, answer);
}

HostedTarget* DataService::FindOrFail(TargetId id, rpc::Responder& responder) {
  HostedTarget* const target = parts_.targets->Find(id);
  if (target == nullptr) {
    responder.Fail(Status(StatusCode::kWrongIncarnation, "this server does not have that target"));
    return nullptr;
  }
  if (target->elastic() != nullptr) {
    responder.Fail(Status(StatusCode::kNotSupported, "an elastic target is no member of a group"));
    return nullptr;
  }
  // A client asks another copy then, and does not wait for this one.
  if (target->store() == nullptr) {
    responder.Fail(Status(StatusCode::kIoError, "the disk of that target fails"));
    return nullptr;
  }
  if (target->replication() == nullptr) {
    responder.Fail(Status(StatusCode::kUnavailable, "the chunk server is registering"));
    return nullptr;
  }
  return target;
}

void DataService::WithCurrentGroup(const proto::ChunkAddress& address, const ResponderPtr& responder, std::function<void(HostedTarget&)> serve) {
  const TargetId id(address.target());
  const auto groups = parts_.view->groups();
  switch (groups->Check(address)) {
    case GroupTable::Verdict::kCurrent:
      if (HostedTarget* const target = FindOrFail(id, *responder)) serve(*target);
      return;
    case GroupTable::Verdict::kRequestIsOlder: FailStaleEpoch(*responder, groups->version()); return;
    case GroupTable::Verdict::kWrongTarget: responder->Fail(Status(StatusCode::kWrongIncarnation, "this server does not have that target")); return;
    case GroupTable::Verdict::kTableIsOlder: break;
  }
  parts_.link->Refresh([=, this, serve = std::move(serve)](const Status& /*refreshed*/) {
    const auto newer = parts_.view->groups();
    if (newer->Check(address) != GroupTable::Verdict::kCurrent) return FailStaleEpoch(*responder, newer->version());
    if (HostedTarget* const target = FindOrFail(id, *responder)) serve(*target);
  });
}

void DataService::OnWorker(HostedTarget& target, const ResponderPtr& responder, std::function<void()> work) {
  if (!target.workers()->Submit(std::move(work))) responder->Fail(Status(StatusCode::kResourceExhausted, "too many requests wait for the disk"));
}

void DataService::Read(HostedTarget& target, const ReadCall& read, const ResponderPtr& responder) {
  const replication::ReadVerdict verdict = target.replication()->AdmitRead(read.group, read.epoch, read.request.chunk);
  if (verdict.code == StatusCode::kOk) return ReadAdmitted(target, read, responder);
  if (verdict.code != StatusCode::kAskPrimary || !read.primary_is_silent) return FailNotAdmitted(verdict, *responder);
  parts_.link->Refresh([=, this, &target](const Status& refreshed) {
    if (!refreshed.ok()) return FailNotAdmitted(verdict, *responder);
    const replication::ReadVerdict confirmed = target.replication()->AdmitConfirmedRead(read.group, read.epoch, read.request.chunk);
    if (confirmed.code != StatusCode::kOk) return FailNotAdmitted(confirmed, *responder);
    ReadAdmitted(target, read, responder);
  });
}

void DataService::ReadAdmitted(HostedTarget& target, const ReadCall& read, const ResponderPtr& responder) {
  if (read.verify_at_source) {
    OnWorker(target, responder, [=, this, &target] { ReadVerified(target, read, /*may_repair=*/true, responder); });
  } else if (!ReadOnLoop(target, read, responder)) {
    ReadOnWorker(target, read.request, responder);
  }
}

bool DataService::ReadOnLoop(HostedTarget& target, const ReadCall& read, const ResponderPtr& responder) {
  std::optional<Result<store::ReadPlan>> planned = target.store()->PlanReadInMemory(read.request);
  if (!planned) return false;
  if (!planned->ok()) {
    responder->Fail(planned->status());
    return true;
  }
  store::ReadPlan& plan = **planned;
  if (plan.length == 0) {
    responder->Reply(ReplyOf(plan));
    return true;
  }
  const bool may_wait = target.disk_gate().is_open();
  Buffer bytes;
  if (SendsPages(plan)) {
    if (store::ChunkReader::IsCached(plan)) {
      target.NoteRead(plan.length);
      ReplyPages(plan, *responder);
      return true;
    }
  } else if (may_wait || store::ChunkReader::IsCached(plan)) {
    // Measured on Linux 6.18: even with RWF_NOWAIT the kernel begins to fetch what is missing.
    bytes = parts_.buffers->Allocate(plan.length);
    if (store::ChunkReader::ReadCached(plan, bytes.span())) {
      target.NoteRead(plan.length);
      responder->Reply(ReplyOf(plan), std::move(bytes));
      return true;
    }
  }
  return may_wait && ReadFromDisk(target, read, std::move(plan), std::move(bytes), responder);
}

bool DataService::ReadFromDisk(HostedTarget& target, const ReadCall& read, store::ReadPlan plan, Buffer bytes, const ResponderPtr& responder) {
  if (!parts_.may_use_io_uring || io_uring_refused_.load(std::memory_order_relaxed)) return false;
  if (plan.length > kLoopBytesMax || plan.pieces.size() > kLoopPiecesMax) return false;
  if (read.loop == nullptr || !read.loop->InLoopThread()) return false;
  const Result<rpc::FileReadRing*> ring = read.loop->FileReads();
  if (!ring.ok()) {
    if (!io_uring_refused_.exchange(true)) spdlog::info("threads read what is not in memory reason=\"{}\"", ring.status().message());
    return false;
  }
  if (bytes.empty()) bytes = parts_.buffers->Allocate(plan.length);
  DiskRead::Start(**ring, target.disk_gate(), std::move(plan), std::move(bytes),
                  [=, this, &target, request = read.request](bool is_complete, const store::ReadPlan& done_plan, Buffer done_bytes) {
                    if (!is_complete) return ReadOnWorker(target, request, responder);
                    target.NoteRead(done_plan.length);
                    // The pages are in memory now: copying them once more, into the socket, is saved.
                    if (SendsPages(done_plan)) return ReplyPages(done_plan, *responder);
                    responder->Reply(ReplyOf(done_plan), std::move(done_bytes));
                  });
  return true;
}

void DataService::ReadOnWorker(HostedTarget& target, const store::ReadRequest& read, const ResponderPtr& responder) {
  // Shared, since a task must be copyable.
  const auto passage = std::make_shared<DiskReadGate::Passage>(target.disk_gate());
  OnWorker(target, responder, [=, this, &target] {
    ReadBlocking(target, read, responder);
    (void)passage;  // until here
  });
}

void DataService::ReadBlocking(HostedTarget& target, const store::ReadRequest& read, const ResponderPtr& responder) {
  const Result<store::ReadPlan> plan = target.store()->PlanRead(read);
  if (!plan.ok()) return responder->Fail(plan.status());
  Buffer bytes = parts_.buffers->Allocate(plan->length);
  if (plan->length > 0) {
    if (Status status = target.store()->ReadPlanned(read, *plan, bytes.span()); !status.ok()) return responder->Fail(status);
  }
  target.NoteRead(plan->length);
  // Reading has brought the pages in, and found what the disk cannot give; copying the bytes once more, into the socket, is saved.
  if (SendsPages(*plan)) return ReplyPages(*plan, *responder);
  responder->Reply(ReplyOf(*plan), std::move(bytes));
}

void DataService::ReadVerified(HostedTarget& target, const ReadCall& read, bool may_repair, const ResponderPtr& responder) {
  std::vector<uint8_t> bytes;
  const Result<store::ReadPlan> plan = target.store()->ReadVerified(read.request, &bytes);
  if (!plan.ok()) {
    const Status damage = plan.status();
    if (!store::IsUnreadable(damage) || !may_repair) return responder->Fail(damage);
    target.replication()->RepairChunk(read.group, read.request.chunk, [=, this, &target](const Status& repaired) {
      if (!repaired.ok()) return responder->Fail(damage);
      OnWorker(target, responder, [=, this, &target] { ReadVerified(target, read, /*may_repair=*/false, responder); });
    });
    return;
  }
  Buffer payload = parts_.buffers->Allocate(bytes.size());
  if (!bytes.empty()) std::memcpy(payload.data(), bytes.data(), bytes.size());
  responder->Reply(ReplyOf(*plan), std::move(payload));
}

void DataService::AdmitWrite(const std::shared_ptr<proto::WriteChunkRequest>& request, Buffer payload, const ResponderPtr& responder) {
  auto share = parts_.write_budget->Admit(payload.size());
  if (share == nullptr) return responder->Fail(Status(StatusCode::kResourceExhausted, "too many bytes of writes wait for the disk"));
  const auto admitted = std::make_shared<WritePayload>(std::move(share), std::move(payload));
  WithCurrentGroup(request->chunk(), responder, [=, this](HostedTarget& target) { Write(target, request, admitted, responder); });
}

void DataService::Write(HostedTarget& target, const std::shared_ptr<proto::WriteChunkRequest>& request, std::shared_ptr<WritePayload> payload,
                        const ResponderPtr& responder) {
  const std::span<const uint8_t> bytes = payload->bytes.span();
  target.replication()->Write({.request = request, .payload = bytes, .holder = std::move(payload)}, [=, this](const replication::ChangeAnswer& answer) {
    if (!answer.status.ok()) return FailChange(answer, *responder);
    proto::WriteChunkReply reply;
    reply.set_epoch(answer.outcome.stamp.epoch.value());
    reply.set_version(answer.outcome.stamp.version);
    for (const ByteRange& range : answer.superseded) {
      proto::ChunkRange* const row = reply.add_superseded();
      row->set_offset_bytes(static_cast<uint32_t>(range.offset));
      row->set_length_bytes(static_cast<uint32_t>(range.length));
    }
    reply.set_chunk_bytes(answer.outcome.chunk_bytes);
    reply.set_durable(answer.durable);
    reply.set_incarnation(parts_.incarnation);
    responder->Reply(reply);
  });
}

// Answered when durable: the client then tells the metadata server that the cut is done, which nobody may have to take back.
void DataService::Truncate(HostedTarget& target, const std::shared_ptr<proto::TruncateChunkRequest>& request, const ResponderPtr& responder) {
  target.replication()->Truncate(request, [=, this](const replication::ChangeAnswer& answer) {
    if (!answer.status.ok()) return FailChange(answer, *responder);
    proto::TruncateChunkReply reply;
    reply.set_durable(answer.durable);
    reply.set_incarnation(parts_.incarnation);
    responder->Reply(reply);
  });
}

void DataService::Commit(const proto::CommitTargetRequest& request, const ResponderPtr& responder) {
  HostedTarget* const target = FindOrFail(TargetId(request.target()), *responder);
  if (target == nullptr) return;
  const auto answer = [incarnation = parts_.incarnation, responder](const Status& status, const std::vector<GroupId>& not_primary) {
    if (!status.ok()) return responder->Fail(status);
    proto::CommitTargetReply reply;
    reply.set_incarnation(incarnation);
    for (const GroupId group : not_primary) reply.add_not_primary(group.value());
    responder->Reply(reply);
  };
  std::vector<GroupId> groups;
  for (const uint32_t group : request.groups()) groups.emplace_back(group);
  target->replication()->Commit(groups, answer);
}

void DataService::StatData(HostedTarget& target, const proto::StatDataRequest& request, const ResponderPtr& responder) {
  const Result<std::vector<store::ChunkInfo>> chunks = target.store()->StatData(DataId(request.data_id()));
  if (!chunks.ok()) return responder->Fail(chunks.status());
  proto::StatDataReply reply;
  for (const store::ChunkInfo& chunk : *chunks) {
    proto::StatDataReply::Chunk* row = reply.add_chunks();
    row->set_index(chunk.index);
    row->set_bytes(chunk.bytes);
    row->set_version(chunk.stamp.version);
    row->set_epoch(chunk.stamp.epoch.value());
  }
  responder->Reply(reply);
}

void DataService::ListData(HostedTarget& target, const proto::ListDataRequest& request, rpc::Responder& responder) {
  if (request.entries_max() == 0 || request.entries_max() > kDataIdsListedMax)
    return responder.Fail(Status(StatusCode::kInvalidArgument, "1 to " + std::to_string(kDataIdsListedMax) + " data ids can be listed at once"));
  const std::optional<DataId> after = request.after() != 0 ? std::optional(DataId(request.after())) : std::nullopt;
  const Result<store::DataIdPage> page = target.store()->ListDataIds(after, request.entries_max());
  if (!page.ok()) return responder.Fail(page.status());
  proto::ListDataReply reply;
  for (const DataId data : page->ids) reply.add_data_ids(data.value());
  reply.set_end(page->end);
  responder.Reply(reply);
}

}  // namespace tarn::chunk
