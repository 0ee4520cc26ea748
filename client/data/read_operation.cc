#include "client/data/read_operation.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "client/data/stack_arena.h"
#include "common/base/check.h"
#include "common/checksum/block_sums.h"
#include "proto/types.pb.h"

namespace tarn::client {
namespace {

// The only copy is read twice before it is asked to check its bytes: they may have changed on the way.
constexpr uint32_t kPlainReadsOfOnlyCopy = 2;
// While requests hang, members that failed are asked again after this time.
constexpr int64_t kRoundMinNs = 100'000'000;
// Of a group; more are not looked at.
constexpr size_t kMembersMax = 64;
constexpr uint32_t kSourceChecksMax = 4;

uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
  return value ^ (value >> 31);
}

// An answer that says something of this member only, whatever the others have.
bool IsOfMember(StatusCode code) {
  return code == StatusCode::kIoError || code == StatusCode::kInternal || code == StatusCode::kWrongIncarnation ||
         code == StatusCode::kCorruption;
}

// `elastic`: the map's incarnation, if the route leads to an elastic target.
void FillRead(const ChunkReference& chunk, const Route& route, std::optional<uint32_t> elastic, SessionId session,
              uint64_t offset, size_t length, proto::ReadChunkRequest* request) {
  FillAddress(chunk, route, request->mutable_chunk());
  FillTruncate(chunk, request->mutable_truncate());
  request->set_session(session.value());
  request->set_offset_bytes(static_cast<uint32_t>(offset));
  request->set_length_bytes(static_cast<uint32_t>(length));
  request->set_data_generation(chunk.data_generation);
  if (elastic) request->mutable_elastic()->set_map_incarnation(*elastic);
}

// Has a member read its bytes past its caches, and mend them if they are bad; an elastic target drops them. Nobody waits
// for it; the bytes are thrown away.
void StartSourceCheck(const std::shared_ptr<ChunkClient::Core>& core, size_t loop_index, const ChunkReference& chunk,
                      const Route& route, std::optional<uint32_t> elastic, SessionId session, uint64_t offset,
                      size_t length) {
  const auto server = core->ServerAt(route.address);
  if (server == nullptr) return;
  const int64_t now_ns = core->clock->MonotonicNs();
  const std::shared_ptr<ServerLink> link = ChunkClient::Core::LinksTo(*server, now_ns).reads[loop_index];
  const ServerLink::Connection connection = link->Get(now_ns);
  if (connection.client == nullptr) return;
  if (core->source_checks_under_way.fetch_add(1) >= kSourceChecksMax) {
    core->source_checks_under_way.fetch_sub(1);  // a scrub will find it
    return;
  }
  proto::ReadChunkRequest request;
  FillRead(chunk, route, elastic, session, offset, length, &request);
  request.set_verify_at_source(true);
  const auto bytes = std::make_shared<Buffer>(length);
  core->counters.requests.fetch_add(1, std::memory_order_relaxed);
  core->OperationBegins();
  link->NoteSent(now_ns);
  const std::string where = "chunk " + ChunkText(chunk) + " at target " + std::to_string(route.target.value());
  connection.client->Call(
      rpc::Method::kReadChunk, request,
      rpc::CallOptions{
          .timeout_ms = core->options.request_timeout_ms, .payload = {}, .payload_destination = bytes->span()},
      [core, link, bytes, where](const rpc::Reply& reply) {
        const StatusCode code = reply.status.code();
        link->NoteOver(core->clock->MonotonicNs(), code == StatusCode::kOk || code == StatusCode::kCorruption || code == StatusCode::kAskPrimary);
        if (code == StatusCode::kOk) spdlog::info("{}: its bytes are good now", where);
        if (code == StatusCode::kCorruption) spdlog::error("{}: {}", where, reply.status.message());
        core->source_checks_under_way.fetch_sub(1);
        core->OperationOver();
      });
}

}  // namespace

ReadOperation::ReadOperation(std::shared_ptr<ChunkClient::Core> core, const ChunkReference& chunk, uint64_t offset,
                             std::span<uint8_t> destination, StatusCallback done)
    : ChunkOperation(std::move(core)),
      chunk_(chunk),
      offset_(offset),
      destination_(destination),
      done_(std::move(done)),
      session_(core_->Session()),
      loop_index_(core_->LoopForRead()),
      may_ask_elastic_(chunk.settled) {}

std::string ReadOperation::Describe() const { return "read chunk " + ChunkText(chunk_); }

void ReadOperation::Finish(const Status& status) {
  if (watched_ && loop()->InLoopThread()) {
    core_->slow_reads[loop_index_]->Remove(*watched_);
    watched_.reset();
  }
  if (status.code() == StatusCode::kCorruption) spdlog::error("{}", status.message());
  std::exchange(done_, nullptr)(status);
}

// ---- Choosing and asking ----

void ReadOperation::Attempt() {
  if (core_->closed()) return FailClosed();
  if (!BeginRound()) return last_error_.code() == StatusCode::kCancelled ? FailClosed() : AwaitMap(0, last_error_);
  if (calls_made_ == 0 && (has_copies() || may_ask_elastic_)) core_->hedges.NoteRead();
  if (!AskNext()) EndRound(last_error_);
}

bool ReadOperation::BeginRound() {
  std::shared_ptr<const PlacementRoutes> routes = core_->Routes();
  if (routes == nullptr) {
    last_error_ = Status(StatusCode::kCancelled, "the client is shutting down");
    return false;
  }
  const auto group = routes->OfColumn(chunk_.layout, ColumnOfChunk(chunk_.layout, chunk_.chunk_index));
  if (!group.ok()) {
    last_error_ = group.status();
    return false;
  }
  routes_ = std::move(routes);
  group_ = *group;
  round_began_ns_ = core_->clock->MonotonicNs();
  tried_ = 0;
  calls_in_round_ = 0;
  connection_wait_ms_ = 0;
  bad_bytes_ = false;
  newer_map_wanted_.reset();
  return true;
}

// On this node first, then in an order that spreads sessions and chunks over the members; those that failed or were
// silent lately come last.
ReadOperation::Choice ReadOperation::Choose(int64_t now_ns) {
  const std::vector<GroupMember>& members = group_->members;
  const size_t count = std::min<size_t>(members.size(), kMembersMax);
  Choice avoided;
  // True if this one is to be asked.
  const auto consider = [&](size_t index, Choice* choice) {
    const GroupMember& member = members[index];
    if ((tried_ >> index & 1) != 0 || member.address.empty()) return false;
    for (const Call& call : calls_) {
      if (call.active && call.route.target == member.target) return false;
    }
    const MemberNotes* const notes = FindNotes(member.target);
    if (notes != nullptr && notes->given_up) return false;
    *choice = Choice{index, nullptr, core_->ServerAt(member.address), false};
    if (choice->server == nullptr) return false;  // closed
    if (count == 1 || (IsReached(*choice->server) && choice->server->health.MayAsk(now_ns))) return true;
    if (avoided.server == nullptr) avoided = Choice{index, nullptr, choice->server, /*avoided=*/true};
    return false;
  };
  Choice choice;
  if (count > 1 && !core_->options.node.empty()) {
    for (size_t i = 0; i < count; ++i) {
      if (members[i].node == core_->options.node && consider(i, &choice)) return choice;
    }
    avoided = Choice();
  }
  if (may_ask_elastic_) {
    choice = ChooseElastic(now_ns);
    if (choice.server != nullptr) return choice;
  }
  const uint64_t spread = session_.value() ^ Mix(chunk_.data.value() * 0x9E3779B97F4A7C15ull + chunk_.chunk_index);
  const size_t begin = count == 1 ? 0 : Mix(spread) % count;
  for (size_t i = 0; i < count; ++i) {
    if (consider((begin + i) % count, &choice)) return choice;
  }
  return avoided;
}

bool ReadOperation::IsReached(const ChunkServer& server) const {
  if (!server.reach.is_down()) return true;
  core_->WatchServers();  // so that it is found when it is reached again
  return false;
}

std::optional<uint32_t> ReadOperation::ElasticIncarnation(bool elastic) const {
  return elastic ? std::optional(routes_->map_incarnation()) : std::nullopt;
}

ReadOperation::Choice ReadOperation::ChooseElastic(int64_t now_ns) {
  may_ask_elastic_ = false;
  // The only member may be on this node.
  const bool is_here = !core_->options.node.empty() && group_->primary().node == core_->options.node;
  const GroupMember* const target =
      has_copies() || !is_here ? routes_->ElasticFor({chunk_.data, chunk_.chunk_index}, core_->options.node) : nullptr;
  if (target == nullptr) return {};
  Choice choice{.member = 0, .elastic = target, .server = core_->ServerAt(target->address), .avoided = false};
  if (choice.server != nullptr && !(IsReached(*choice.server) && choice.server->health.MayAsk(now_ns))) choice.server = nullptr;
  return choice;
}

bool ReadOperation::AskNext() {
  const int64_t now_ns = core_->clock->MonotonicNs();
  for (;;) {
    const Choice choice = Choose(now_ns);
    if (choice.server == nullptr) {
      if (last_error_.ok()) last_error_ = Status(StatusCode::kUnavailable, "no member of the group can be asked");
      return false;
    }
    if (Ask(choice, now_ns)) return true;
  }
}

bool ReadOperation::Ask(const Choice& choice, int64_t now_ns) {
  const GroupMember& member = choice.elastic != nullptr ? *choice.elastic : group_->members[choice.member];
  if (choice.elastic == nullptr) tried_ |= uint64_t{1} << choice.member;
  route_ = Route{.group = group_->group, .epoch = group_->epoch, .target = member.target, .address = member.address};
  link_ = ChunkClient::Core::LinksTo(*choice.server, now_ns).reads[loop_index_];
  ServerLink::Connection connection = link_->Get(now_ns);
  if (connection.client == nullptr) {
    if (connection_wait_ms_ == 0 || connection.wait_ms < connection_wait_ms_) connection_wait_ms_ = connection.wait_ms;
    if (last_error_.ok()) last_error_ = Status(StatusCode::kUnavailable, "no connection");
    choice.server->health.NoteBad(now_ns);
    return false;
  }
  const bool destination_taken = std::any_of(calls_.begin(), calls_.end(), [&](const Call& call) {
    return call.active && call.place.data() == destination_.data();
  });
  Call& call = calls_[calls_[0].active ? 1 : 0];
  CHECK(!call.active, "at most two members are asked at a time");
  call.elastic = choice.elastic != nullptr;
  call.number = ++calls_made_;
  call.route = route_;
  call.server = choice.server;
  call.link = link_;
  call.client = std::move(connection.client);
  call.own = destination_taken ? Buffer(destination_.size()) : Buffer();
  call.place = destination_taken ? call.own.span() : destination_;
  call.sent_ns = now_ns;
  const MemberNotes* const notes = FindNotes(member.target);
  call.verify = notes != nullptr && notes->bad_answers >= (has_copies() ? 1 : kPlainReadsOfOnlyCopy);
  call.member = choice.member;
  call.primary_is_silent = !call.elastic && choice.member != 0 && PrimaryLetsWait();
  call.active = true;
  ++calls_in_round_;
  NoteAttempt(now_ns);
  Send(call);
  return true;
}

bool ReadOperation::PrimaryLetsWait() const {
  const GroupMember& primary = group_->primary();
  for (const Call& call : calls_) {
    if (call.active && call.route.target == primary.target) return true;
  }
  const auto server = core_->ServerAt(primary.address);
  return server != nullptr && server->health.IsAvoided();
}

void ReadOperation::Send(Call& call) {
  StackArena stack;
  auto* request = stack.Make<proto::ReadChunkRequest>();
  FillRead(chunk_, call.route, ElasticIncarnation(call.elastic), session_, offset_, destination_.size(), request);
  request->set_verify_at_source(call.verify);
  request->set_primary_is_silent(call.primary_is_silent);
  const rpc::CallOptions options{
      .timeout_ms = core_->options.request_timeout_ms, .payload = {}, .payload_destination = call.place};
  call.link->NoteSent(call.sent_ns);
  const auto self = std::static_pointer_cast<ReadOperation>(shared_from_this());
  const size_t index = static_cast<size_t>(&call - calls_.data());
  const bool on_loop = loop()->InLoopThread();
  const bool watch = has_copies() || call.elastic;
  if (watch && on_loop) Watch();
  if (!has_copies()) core_->WatchServers();  // nobody else can be asked while it is silent
  // From here on the answer may come at any time, on the loop's thread, and end the operation.
  const std::shared_ptr<rpc::FrameClient> client = call.client;
  client->Call(rpc::Method::kReadChunk, *request, options,
               [self, link = call.link, index, number = call.number](const rpc::Reply& reply) {
                 const StatusCode code = reply.status.code();
                 const bool answered =
                     code != StatusCode::kTimeout && code != StatusCode::kUnavailable && code != StatusCode::kCancelled;
                 link->NoteOver(self->core_->clock->MonotonicNs(), answered);
                 self->OnReply(index, number, reply);
               });
  if (!watch || on_loop) return;
  self->loop()->Post([self] {
    if (self->ActiveCalls() > 0) self->Watch();
  });
}

void ReadOperation::Watch() {
  if (watched_) return;
  watched_ = core_->slow_reads[loop_index_]->Add(std::static_pointer_cast<ReadOperation>(shared_from_this()));
}

void ReadOperation::CheckSlow(int64_t now_ns) {
  const size_t active = ActiveCalls();
  if (active == 0) return;
  int64_t age_ns = INT64_MAX;  // of the newest request
  bool silent = true;          // everybody that was asked
  for (const Call& call : calls_) {
    if (!call.active) continue;
    age_ns = std::min(age_ns, now_ns - call.sent_ns);
    silent &= call.link->SilentNs(now_ns) >= core_->hedges.delay_max_ns();
  }
  if (age_ns < core_->hedges.delay_ns() || (active == calls_.size() && !silent)) return;
  if (silent) {
    for (const Call& call : calls_) {
      if (!call.active) continue;
      call.server->health.NoteBad(now_ns);
      core_->DoubtServer(call.server);
    }
    core_->WantNewerMap();
  }
  Choice next = Choose(now_ns);
  if (next.server == nullptr && now_ns - round_began_ns_ >= kRoundMinNs && BeginRound()) next = Choose(now_ns);
  if (next.server == nullptr) return;
  // From a server that answers nobody a request goes to one that answers: that is no more work for anybody. Otherwise
  // it is work done twice, which is bounded.
  const bool moves =
      silent && !next.avoided && next.server->direct.reads[loop_index_]->AnswersWithin(now_ns, core_->hedges.delay_max_ns());
  if (!moves && !core_->hedges.TakeToken()) return;
  if (active == calls_.size()) Withdraw(calls_[0].sent_ns < calls_[1].sent_ns ? calls_[0] : calls_[1]);
  core_->counters.second_reads.fetch_add(1, std::memory_order_relaxed);
  if (!Ask(next, now_ns) && !moves) core_->hedges.ReturnToken();
}

// ---- Answers ----

void ReadOperation::OnReply(size_t index, uint32_t number, const rpc::Reply& reply) {
  Call& call = calls_[index];
  if (!call.active || call.number != number) return;  // withdrawn
  call.active = false;
  route_ = call.route;
  link_ = call.link;
  const std::shared_ptr<rpc::FrameClient> client = std::move(call.client);
  if (reply.status.code() == StatusCode::kTimeout) call.link->NoteTimeout(client, call.sent_ns);
  if (call.link == call.server->direct.reads[loop_index_]) {
    if (reply.status.ok()) core_->NoteDirectAnswer(*call.server);
    if (!client->usable()) core_->DoubtServer(call.server);
  }
  if (core_->closed()) {
    if (ActiveCalls() == 0) FailClosed();
    return;
  }
  if (!reply.status.ok()) return call.elastic ? OnElasticRefusal(call, reply.status) : OnRefusal(call, reply);
  const Status verdict = Check(reply);
  if (verdict.ok()) return OnGoodBytes(call, reply.payload);
  OnBadBytes(call, verdict);
}

Status ReadOperation::Check(const rpc::Reply& reply) const {
  StackArena stack;
  auto* message = stack.Make<proto::ReadChunkReply>();
  RETURN_IF_ERROR(rpc::ParseReply(reply, message));
  const auto bad = FindBadPiece(offset_, reply.payload, message->block_sums());
  if (!bad) return Status::Ok();
  return Status(StatusCode::kCorruption, "checksum of bytes from " +
                                             std::to_string((offset_ / kSumBlockBytes + *bad) * kSumBlockBytes) +
                                             " of the chunk does not hold");
}

void ReadOperation::OnGoodBytes(const Call& call, std::span<const uint8_t> payload) {
  if (call.elastic) {
    // How long it takes says nothing of members: it may have fetched the bytes.
    call.server->health.NoteGood();
    core_->counters.elastic_reads.fetch_add(1, std::memory_order_relaxed);
  } else if (has_copies()) {
    const int64_t now_ns = core_->clock->MonotonicNs();
    call.server->health.NoteGood();
    core_->hedges.NoteLatency(now_ns - call.sent_ns);
    call.server->health.NoteLatency(now_ns - call.sent_ns, core_->hedges.typical_ns(), now_ns);
    for (const Call& other : calls_) {
      if (other.active && !other.elastic) other.server->health.NoteLatency(now_ns - other.sent_ns, core_->hedges.typical_ns(), now_ns);
    }
  }
  // Before the destination is touched: the other request may be just being answered into it. Also if one member is left
  // by now: there were two when it was sent.
  for (Call& other : calls_) {
    if (other.active) Withdraw(other);
  }
  if (has_copies()) CheckBadMembersAtSource();
  if (!payload.empty() && payload.data() != destination_.data()) {
    std::memcpy(destination_.data(), payload.data(), payload.size());
  }
  std::memset(destination_.data() + payload.size(), 0, destination_.size() - payload.size());
  core_->counters.bytes_read.fetch_add(payload.size(), std::memory_order_relaxed);
  End(Status::Ok());
}

// It may have happened on the way. So first another member is asked, or this one again if it has the only copy; then
// those whose bytes were bad, with a check at the source.
void ReadOperation::OnBadBytes(const Call& call, const Status& why) {
  core_->counters.checksum_failures.fetch_add(1, std::memory_order_relaxed);
  if (call.elastic) {
    spdlog::warn("{}: {}, a member of the group is asked", Where(), why.message());
    StartSourceCheck(core_, loop_index_, chunk_, call.route, ElasticIncarnation(true), session_, offset_, destination_.size());
    core_->counters.elastic_fallbacks.fetch_add(1, std::memory_order_relaxed);
    return GoOn(Status(StatusCode::kUnavailable, why.message()));
  }
  MemberNotes& notes = NotesOf(call.route.target);
  ++notes.bad_answers;
  bad_bytes_ = true;
  if (call.verify) return GiveUpMember(call, Status(StatusCode::kCorruption, why.message()));
  spdlog::warn("{}: {}, reading again", Where(), why.message());
  GoOn(Status(StatusCode::kUnavailable, why.message()));
}

void ReadOperation::OnRefusal(const Call& call, const rpc::Reply& reply) {
  const StatusCode code = reply.status.code();
  if (code == StatusCode::kStaleEpoch) return OnStaleEpoch(rpc::ParseErrorDetail(reply).map_version(), reply.status);
  if (code == StatusCode::kAskPrimary) return OnAskPrimary(call, reply.status);
  if (IsTransient(code)) {
    if (code != StatusCode::kResourceExhausted) {
      call.server->health.NoteBad(core_->clock->MonotonicNs());
      core_->WantNewerMap();
    }
    return GoOn(reply.status);
  }
  // Of a request that did not ask for a check at the source it can only be a frame that made no sense.
  if (code == StatusCode::kCorruption && !call.verify) return OnBadBytes(call, reply.status);
  if (IsOfMember(code)) return GiveUpMember(call, reply.status);
  for (Call& other : calls_) {
    if (other.active) Withdraw(other);
  }
  Fail(reply.status);
}

// Whatever it is: members have the bytes, and it is not an error of the read.
void ReadOperation::OnElasticRefusal(const Call& call, const Status& why) {
  core_->counters.elastic_fallbacks.fetch_add(1, std::memory_order_relaxed);
  if (IsTransient(why.code()) && why.code() != StatusCode::kResourceExhausted) {
    call.server->health.NoteBad(core_->clock->MonotonicNs());
    core_->WantNewerMap();
  }
  GoOn(why);
}

void ReadOperation::OnStaleEpoch(uint64_t map_version, const Status& why) {
  // One whose own map is older has to catch up; others may have done so.
  const bool behind = map_version != 0 && map_version < routes_->map_version();
  if (!behind) newer_map_wanted_ = std::max(newer_map_wanted_.value_or(0), map_version);
  if (behind) return GoOn(why);
  last_error_ = why;
  if (ActiveCalls() == 0) EndRound(why);
}

void ReadOperation::OnAskPrimary(const Call& call, const Status& why) {
  last_error_ = why;
  const GroupMember& primary = group_->primary();
  if (call.route.target == primary.target) {  // not by its map
    newer_map_wanted_ = newer_map_wanted_.value_or(0);
    if (ActiveCalls() == 0) EndRound(why);
    return;
  }
  if (ActiveCalls() > 0) return;  // that one is slow, and so is watched
  const bool ask_primary = (tried_ & 1) == 0 && !primary.address.empty();
  // Should the primary be slow or silent, this one is asked again, and told so. (There may have been a new map since.)
  const bool is_known = call.member < group_->members.size() && group_->members[call.member].target == call.route.target;
  if (ask_primary && !call.primary_is_silent && is_known) tried_ &= ~(uint64_t{1} << call.member);
  const auto server = ask_primary ? core_->ServerAt(primary.address) : nullptr;
  if (server == nullptr || !Ask(Choice{0, nullptr, server, false}, core_->clock->MonotonicNs())) GoOn(why);
}

void ReadOperation::GiveUpMember(const Call& call, const Status& why) {
  NotesOf(call.route.target).given_up = true;
  if (has_copies()) {
    spdlog::error("{}: {}", Where(), why.message());
    if (why.code() != StatusCode::kCorruption) call.server->health.NoteBad(core_->clock->MonotonicNs());
  }
  if (ActiveCalls() == 0 && AllGivenUp()) return Fail(why);
  GoOn(why);
}

void ReadOperation::GoOn(const Status& reason) {
  last_error_ = reason;
  if (ActiveCalls() == 0 && !AskNext()) EndRound(reason);
}

void ReadOperation::EndRound(const Status& reason) {
  if (newer_map_wanted_) return AwaitMap(*newer_map_wanted_, reason);
  if (calls_in_round_ == 0) core_->WantNewerMap();
  if (calls_in_round_ == 0 && connection_wait_ms_ > 0) return RetryAfter(connection_wait_ms_, reason);
  RetryAfter(bad_bytes_ ? 0 : NextDelayMs(), reason);
}

void ReadOperation::Withdraw(Call& call) {
  call.active = false;  // so that its callback, which runs now, does nothing
  const std::shared_ptr<rpc::FrameClient> client = std::move(call.client);
  client->Withdraw(call.place);
}

// The answer has come from another member; these are to look at what they have, and to mend it.
void ReadOperation::CheckBadMembersAtSource() {
  for (const MemberNotes& notes : notes_) {
    if (notes.bad_answers == 0 || notes.given_up) continue;
    const auto member = std::find_if(group_->members.begin(), group_->members.end(),
                                     [&](const GroupMember& each) { return each.target == notes.target; });
    if (member == group_->members.end()) continue;
    const Route route{
        .group = group_->group, .epoch = group_->epoch, .target = member->target, .address = member->address};
    StartSourceCheck(core_, loop_index_, chunk_, route, std::nullopt, session_, offset_, destination_.size());
  }
}

// ---- Notes ----

ReadOperation::MemberNotes& ReadOperation::NotesOf(TargetId target) {
  for (MemberNotes& notes : notes_) {
    if (notes.target == target) return notes;
  }
  return notes_.emplace_back(MemberNotes{.target = target});
}

const ReadOperation::MemberNotes* ReadOperation::FindNotes(TargetId target) const {
  for (const MemberNotes& notes : notes_) {
    if (notes.target == target) return &notes;
  }
  return nullptr;
}

bool ReadOperation::AllGivenUp() const {
  return std::all_of(group_->members.begin(), group_->members.end(), [&](const GroupMember& member) {
    const MemberNotes* const notes = FindNotes(member.target);
    return notes != nullptr && notes->given_up;
  });
}

}  // namespace tarn::client
