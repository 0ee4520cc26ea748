#include "chunkserver/elastic/pull_through.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"

namespace tarn::elastic {
namespace {

// Up to here a copy is cheaper than sendfile's set-up.
constexpr uint32_t kCopyBytesMax = 64u << 10;
// A reader that waits asks an in-sync member itself after 20 to 300 ms; what is longer than these helps nobody.
constexpr int64_t kHomeTimeoutMs = 500;
constexpr int64_t kMemberTimeoutMs = 1'000;
// One that failed or was silent is left out for so long.
constexpr int64_t kAvoidNs = 3'000'000'000;
constexpr size_t kAvoidedMax = 4'096;

proto::ReadChunkReply ReplyOf(const store::ReadPlan& plan, std::string sums) {
  proto::ReadChunkReply reply;
  reply.set_chunk_bytes(plan.chunk_bytes);
  reply.set_version(plan.version);
  reply.set_block_sums(std::move(sums));
  return reply;
}

store::ReadPlan PlanOfSums(const CachedRead& read) {
  store::ReadPlan plan;
  plan.pieces = read.sums;
  for (const store::ReadPiece& piece : read.sums) plan.length += piece.length;
  return plan;
}

std::span<uint8_t> BytesOf(std::string* text) { return {reinterpret_cast<uint8_t*>(text->data()), text->size()}; }

Status ReadPieces(const store::ReadPlan& plan, std::span<uint8_t> bytes) {
  for (const store::ReadPiece& piece : plan.pieces) {
    RETURN_IF_ERROR(PreadFull(piece.fd, bytes.first(piece.length), piece.file_offset, "read a unit"));
    bytes = bytes.subspan(piece.length);
  }
  return Status::Ok();
}

}  // namespace

PullThrough::PullThrough(PullThroughParts parts) : parts_(std::move(parts)), sources_(std::make_shared<const Sources>()) {}

void PullThrough::AdoptMap(const proto::ClusterMap& map, TargetId self) {
  auto sources = std::make_shared<const Sources>(map, self);
  MutexLock lock(mutex_);
  sources_ = std::move(sources);
}

void PullThrough::Refuse(const ReadDone& done, const std::string& why) {
  ++refusals_;
  done({.status = Status(StatusCode::kAskPrimary, why), .reply = {}, .payload = {}, .pages = {}});
}

void PullThrough::Read(const ReadCall& call, ReadDone done) {
  Found found = parts_.cache->Find(call.chunk, call.generation, call.range);
  if (found.refused) return Refuse(done, "this elastic target has a newer generation of the chunk");
  if (found.missing.empty()) return AnswerCached(call, std::move(found), done);
  ++misses_;
  const auto waiter = std::make_shared<Waiter>(Waiter{.call = call, .done = std::move(done), .fetches = {}, .left = 0});
  std::optional<std::vector<FetchPtr>> started;
  bool all_ready = false;
  {
    MutexLock lock(mutex_);
    started = Join(waiter, found.missing);
    all_ready = waiter->left == 0;
  }
  if (!started) return Refuse(waiter->done, "too many bytes are being fetched");
  if (all_ready) return FinishSoon(waiter);
  for (const FetchPtr& fetch : *started) AskNext(fetch);
}

// ---- What is there ----

void PullThrough::AnswerCached(const ReadCall& call, Found found, const ReadDone& done) {
  ++hits_;
  const store::ReadPlan sums_plan = PlanOfSums(found.read);
  std::string sums(sums_plan.length, '\0');
  store::ReadPlan& plan = found.read.data;
  if (store::ChunkReader::ReadCached(sums_plan, BytesOf(&sums))) {
    if (plan.length > kCopyBytesMax && store::ChunkReader::IsCached(plan)) {
      bytes_served_ += plan.length;
      ReadAnswer answer{.status = Status::Ok(), .reply = ReplyOf(plan, std::move(sums)), .payload = {}, .pages = std::move(plan)};
      return done(std::move(answer));
    }
    Buffer bytes = plan.length <= kCopyBytesMax ? parts_.buffers->Allocate(plan.length) : Buffer();
    if (plan.length <= kCopyBytesMax && store::ChunkReader::ReadCached(plan, bytes.span())) {
      return AnswerPayload(call, ReplyOf(plan, std::move(sums)), std::move(bytes), done);
    }
  }
  const auto read = std::make_shared<CachedRead>(std::move(found.read));
  if (!parts_.workers->Submit([this, call, read, done] { AnswerBlocking(call, *read, done); })) {
    Refuse(done, "too many reads wait for the disk");
  }
}

void PullThrough::AnswerBlocking(const ReadCall& call, const CachedRead& read, const ReadDone& done) {
  const store::ReadPlan sums_plan = PlanOfSums(read);
  std::string sums(sums_plan.length, '\0');
  Buffer bytes = parts_.buffers->Allocate(read.data.length);
  Status status = ReadPieces(sums_plan, BytesOf(&sums));
  if (status.ok()) status = ReadPieces(read.data, bytes.span());
  if (!status.ok()) {
    parts_.cache->DropBad(call.chunk, call.generation, call.range);
    return Refuse(done, status.message());
  }
  AnswerPayload(call, ReplyOf(read.data, std::move(sums)), std::move(bytes), done);
}

void PullThrough::AnswerPayload(const ReadCall& /*call*/, proto::ReadChunkReply reply, Buffer payload, const ReadDone& done) {
  bytes_served_ += payload.size();
  done({.status = Status::Ok(), .reply = std::move(reply), .payload = std::move(payload), .pages = {}});
}

void PullThrough::Verify(const ReadCall& call, ReadDone done) {
  const bool submitted = parts_.workers->Submit([this, call, done] {
    const size_t dropped = parts_.cache->DropBad(call.chunk, call.generation, call.range);
    if (dropped > 0) spdlog::warn("units of chunk {} are dropped: their sums do not hold count={}", ToString(call.chunk), dropped);
    done({.status = Status(StatusCode::kAskPrimary, "what was bad is dropped"), .reply = {}, .payload = {}, .pages = {}});
  });
  if (!submitted) Refuse(done, "too many reads wait for the disk");
}

// ---- What is fetched ----

std::optional<std::vector<PullThrough::FetchPtr>> PullThrough::Join(const WaiterPtr& waiter, const std::vector<UnitRun>& missing) {
  const ReadCall& call = waiter->call;
  std::vector<FetchPtr> started;
  uint64_t bytes = 0;
  const auto join = [&](const FetchPtr& fetch) {
    if (!waiter->fetches.empty() && waiter->fetches.back() == fetch) return;
    waiter->fetches.push_back(fetch);
  };
  for (const UnitRun& run : missing) {
    bool extend = false;
    for (uint32_t unit = run.first; unit < run.first + run.count; ++unit) {
      const auto found = under_way_.find({call.chunk, call.generation, unit});
      if (found != under_way_.end()) {
        join(found->second);
        extend = false;
        continue;
      }
      if (!extend) {
        started.push_back(std::make_shared<Fetch>());
        started.back()->call = call;
        started.back()->run = {unit, 0};
        join(started.back());
      }
      extend = true;
      ++started.back()->run.count;
      bytes += kUnitBytes;
    }
  }
  if (fetch_bytes_ + bytes > kFetchBytesMax) return std::nullopt;
  fetch_bytes_ += bytes;
  for (const FetchPtr& fetch : started) {
    fetch->sources = sources_->For(call.group, call.chunk, call.from_elastic);
    for (uint32_t i = 0; i < fetch->run.count; ++i) under_way_[{call.chunk, call.generation, fetch->run.first + i}] = fetch;
  }
  for (const FetchPtr& fetch : waiter->fetches) {
    if (fetch->ready) continue;
    fetch->waiters.push_back(waiter);
    ++waiter->left;
  }
  return started;
}

bool PullThrough::MayAsk(TargetId target) {
  MutexLock lock(mutex_);
  const auto found = avoided_until_ns_.find(target);
  return found == avoided_until_ns_.end() || found->second <= parts_.clock->MonotonicNs();
}

void PullThrough::NoteBad(TargetId target) {
  MutexLock lock(mutex_);
  if (avoided_until_ns_.size() >= kAvoidedMax) avoided_until_ns_.clear();
  avoided_until_ns_[target] = parts_.clock->MonotonicNs() + kAvoidNs;
}

void PullThrough::AskNext(const FetchPtr& fetch) {
  while (fetch->next_source < fetch->sources.size() && !MayAsk(fetch->sources[fetch->next_source].target)) ++fetch->next_source;
  if (fetch->next_source == fetch->sources.size()) return End(fetch, false);
  const Source source = fetch->sources[fetch->next_source++];
  const ReadCall& call = fetch->call;
  proto::ReadChunkRequest request;
  request.mutable_chunk()->set_target(source.target.value());
  request.mutable_chunk()->set_group(call.group.value());
  request.mutable_chunk()->set_epoch(source.epoch.value());
  request.mutable_chunk()->set_data_id(call.chunk.data.value());
  request.mutable_chunk()->set_chunk_index(call.chunk.index);
  request.set_session(call.session.value());
  request.set_offset_bytes(static_cast<uint32_t>(fetch->range().offset));
  request.set_length_bytes(fetch->range().length);
  request.mutable_truncate()->set_generation(call.generation.truncate);
  request.mutable_truncate()->set_truncated_chunk_bytes(call.truncated_chunk_bytes);
  request.set_data_generation(call.generation.data);
  if (source.elastic) {
    request.mutable_elastic()->set_map_incarnation(call.generation.map_incarnation);
    request.mutable_elastic()->set_from_elastic(true);
  }
  parts_.network->Call(source.target, rpc::Method::kReadChunk, request, {}, source.elastic ? kHomeTimeoutMs : kMemberTimeoutMs,
                       [this, fetch, source](const replication::PeerReply& reply) { OnReply(fetch, source, reply); });
}

void PullThrough::OnReply(const FetchPtr& fetch, const Source& source, const replication::PeerReply& reply) {
  const StatusCode code = reply.status.code();
  if (code == StatusCode::kStaleEpoch) parts_.want_map(reply.map_version);
  if (code == StatusCode::kUnavailable || code == StatusCode::kTimeout) NoteBad(source.target);
  if (!reply.status.ok()) return AskNext(fetch);
  fetch->reply.Clear();
  const bool parsed = fetch->reply.ParseFromArray(reply.message.data(), static_cast<int>(reply.message.size()));
  if (!parsed || reply.payload.size() > fetch->range().length) return AskNext(fetch);
  fetch->bytes = parts_.buffers->Allocate(reply.payload.size());
  if (!reply.payload.empty()) std::memcpy(fetch->bytes.data(), reply.payload.data(), reply.payload.size());
  if (!parts_.workers->Submit([this, fetch] { OnBytes(fetch); })) End(fetch, false);
}

void PullThrough::OnBytes(const FetchPtr& fetch) {
  const size_t sums = PieceCount(0, fetch->bytes.size()) * kSumBytes;
  if (fetch->reply.block_sums().size() != sums || FindBadPiece(fetch->range().offset, fetch->bytes.span(), fetch->reply.block_sums())) {
    spdlog::warn("what was fetched of chunk {} does not have its sums", ToString(fetch->call.chunk));
    return AskNext(fetch);
  }
  bytes_filled_ += fetch->bytes.size();
  End(fetch, true);
  parts_.cache->Put(fetch->call.chunk, fetch->call.generation, fetch->run,
                    {.chunk_bytes = fetch->reply.chunk_bytes(), .version = fetch->reply.version(), .bytes = fetch->bytes.span(), .sums = fetch->reply.block_sums()});
  Forget(fetch);
}

void PullThrough::End(const FetchPtr& fetch, bool ok) {
  std::vector<WaiterPtr> complete;
  {
    MutexLock lock(mutex_);
    fetch->ready = true;
    fetch->failed = !ok;
    for (const WaiterPtr& waiter : std::exchange(fetch->waiters, {})) {
      if (--waiter->left == 0) complete.push_back(waiter);
    }
  }
  if (!ok) Forget(fetch);
  for (const WaiterPtr& waiter : complete) ok ? Finish(*waiter) : FinishSoon(waiter);
}

void PullThrough::Forget(const FetchPtr& fetch) {
  MutexLock lock(mutex_);
  for (uint32_t i = 0; i < fetch->run.count; ++i) {
    const auto found = under_way_.find({fetch->call.chunk, fetch->call.generation, fetch->run.first + i});
    if (found != under_way_.end() && found->second == fetch) under_way_.erase(found);
  }
  fetch_bytes_ -= fetch->range().length;
}

void PullThrough::FinishSoon(const WaiterPtr& waiter) {
  if (!parts_.workers->Submit([this, waiter] { Finish(*waiter); })) Refuse(waiter->done, "too many reads wait for the disk");
}

void PullThrough::Finish(Waiter& waiter) {
  for (const FetchPtr& fetch : waiter.fetches) {
    MutexLock lock(mutex_);
    if (!fetch->failed) continue;
    return Refuse(waiter.done, "no member of the group gave the bytes");
  }
  const Range range = waiter.call.range;
  Buffer payload = parts_.buffers->Allocate(range.length);
  proto::ReadChunkReply reply;
  reply.set_chunk_bytes(waiter.fetches.front()->reply.chunk_bytes());
  reply.set_version(waiter.fetches.front()->reply.version());
  size_t used = 0;
  bool end = false;
  for (uint32_t unit = range.first_unit(); unit <= range.last_unit() && !end; ++unit) {
    if (!AppendUnit(waiter, unit, payload.span(), &used, &reply, &end)) return Refuse(waiter.done, "a unit was evicted meanwhile");
  }
  payload.Shrink(used);
  AnswerPayload(waiter.call, std::move(reply), std::move(payload), waiter.done);
}

bool PullThrough::AppendUnit(const Waiter& waiter, uint32_t unit, std::span<uint8_t> payload, size_t* used, proto::ReadChunkReply* reply, bool* end) {
  const uint64_t begin = std::max(waiter.call.range.offset, uint64_t{unit} * kUnitBytes);
  const uint64_t wanted = std::min(waiter.call.range.end(), uint64_t{unit + 1} * kUnitBytes) - begin;
  for (const FetchPtr& fetch : waiter.fetches) {
    if (!fetch->Covers(unit)) continue;
    const uint64_t at = std::min<uint64_t>(begin - fetch->range().offset, fetch->bytes.size());
    const uint64_t length = std::min<uint64_t>(wanted, fetch->bytes.size() - at);
    if (length > 0) std::memcpy(payload.data() + *used, fetch->bytes.data() + at, length);
    *used += length;
    reply->mutable_block_sums()->append(fetch->reply.block_sums(), at / kSumBlockBytes * kSumBytes, PieceCount(0, length) * kSumBytes);
    *end = length < wanted;
    return true;
  }
  const Found found = parts_.cache->Find(waiter.call.chunk, waiter.call.generation, {begin, static_cast<uint32_t>(wanted)});
  if (found.refused || !found.missing.empty()) return false;
  const store::ReadPlan sums_plan = PlanOfSums(found.read);
  std::string sums(sums_plan.length, '\0');
  if (!ReadPieces(sums_plan, BytesOf(&sums)).ok() || !ReadPieces(found.read.data, payload.subspan(*used, found.read.data.length)).ok()) return false;
  *used += found.read.data.length;
  reply->mutable_block_sums()->append(sums);
  *end = found.read.data.length < wanted;
  return true;
}

void PullThrough::FillUse(proto::ElasticUse* use) const {
  const UnitCache::Counters cache = parts_.cache->counters();
  use->set_cached_bytes(cache.cached_bytes);
  use->set_hits(hits_);
  use->set_misses(misses_);
  use->set_refusals(refusals_);
  use->set_bytes_served(bytes_served_);
  use->set_bytes_filled(bytes_filled_);
  use->set_bytes_evicted(cache.bytes_evicted);
  use->set_bad_units(cache.bad_units);
}

}  // namespace tarn::elastic
