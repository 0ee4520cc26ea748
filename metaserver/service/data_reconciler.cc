#include "metaserver/service/data_reconciler.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/named_thread.h"
#include "metaserver/state/keys.h"
#include "metaserver/state/records.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"
#include "proto/state.pb.h"

namespace tarn::meta {
namespace {

constexpr int64_t kLookIntervalMs = 1'000;
constexpr int64_t kRetryPauseMs = 60'000;  // after a pass that was broken off
constexpr int64_t kCallTimeoutMs = 10'000;
constexpr int kFoundPerCommandMax = 512;
constexpr int kIdsPerCommandMax = 1'024;
constexpr size_t kReservationsPerPassMax = 65'536;

}  // namespace

struct DataReconciler::Pass {
  std::vector<proto::Target> targets;
  proto::StateHeader header;                  // of the window's snapshot
  bool complete = true;                       // every target was asked for everything
  uint64_t kept = 0;                          // unknown, and never to be deleted
  std::map<uint64_t, proto::UnknownDataRecord> noted;  // of the window, by data id; as of its beginning
  std::set<uint64_t> seen;                    // of the window: unknown and there
};

DataReconciler::DataReconciler(ServiceContext* context, const ReconcilePolicy& policy)
    : context_(context), policy_(policy) {}

DataReconciler::~DataReconciler() { Stop(); }

void DataReconciler::Start() {
  thread_ = StartNamedThread("reconciler", [this] { Run(); });
}

void DataReconciler::Stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool DataReconciler::Pause(int64_t pause_ms) {
  MutexLock lock(mutex_);
  const int64_t until_ms = context_->clock->MonotonicMs() + pause_ms;
  while (!stop_) {
    const int64_t left_ms = until_ms - context_->clock->MonotonicMs();
    if (left_ms <= 0) return true;
    changed_.WaitFor(lock, std::chrono::milliseconds(left_ms));
  }
  return false;
}

bool DataReconciler::GoOn() const {
  MutexLock lock(mutex_);
  return !stop_ && context_->replicator->HoldsLease();
}

void DataReconciler::Run() {
  while (Pause(std::min(kLookIntervalMs, policy_.interval_ms))) {
    if (!IsDue()) continue;
    const int64_t began_ns = context_->clock->MonotonicNs();
    {
      MutexLock lock(mutex_);
      checking_ = true;
    }
    const Status passed = RunPass();
    for (const auto& [address, client] : clients_) client->Close();
    clients_.clear();
    loop_.reset();
    {
      MutexLock lock(mutex_);
      checking_ = false;
      if (passed.ok()) checked_ns_ = context_->clock->WallNs();
    }
    if (passed.ok()) {
      begun_ns_ = began_ns;
      continue;
    }
    if (!GoOn()) continue;
    spdlog::warn("data ids of targets are not compared with the metadata now: {}", passed.ToString());
    if (!Pause(std::min(kRetryPauseMs, policy_.interval_ms))) return;
  }
}

bool DataReconciler::IsDue() {
  const int64_t now_ns = context_->clock->MonotonicNs();
  const bool leads = context_->serving.load(std::memory_order_acquire) && context_->replicator->HoldsLease();
  if (leads && !std::exchange(led_, true)) led_since_ns_ = now_ns;
  if (!leads) {
    led_ = false;
    begun_ns_ = 0;
    return false;
  }
  const int64_t settle_ns = std::min(policy_.settle_ms, policy_.interval_ms) * 1'000'000;
  const int64_t registered_ns = std::max(led_since_ns_, context_->servers->last_registration_ns());
  if (registered_ns > begun_ns_) return now_ns - registered_ns >= settle_ns;
  return now_ns - begun_ns_ >= policy_.interval_ms * 1'000'000;
}

Status DataReconciler::Propose(proto::Mutation mutation) {
  return context_->proposer->SubmitAndWait(std::move(mutation)).status();
}

Status DataReconciler::CloseReservations() {
  const int64_t before_ns = context_->clock->WallNs() - policy_.quarantine_ms * 1'000'000;
  std::vector<uint64_t> closed;
  const std::unique_ptr<KvView> view = context_->store->View();
  Status problem;
  RETURN_IF_ERROR(view->Scan(KindPrefix(KeyKind::kDataIdReservation), {}, [&](std::string_view, std::string_view value) {
    proto::DataIdReservation reservation;
    if (!reservation.ParseFromArray(value.data(), static_cast<int>(value.size()))) return false;
    if (reservation.made_ns() >= before_ns) return true;
    const auto session = ReadSession(*view, SessionId(reservation.session()));
    if (!session.ok()) problem = session.status();
    if (session.ok() && !*session) closed.push_back(reservation.first_data_id());
    return problem.ok() && closed.size() < kReservationsPerPassMax;
  }));
  RETURN_IF_ERROR(problem);
  for (size_t first = 0; first < closed.size(); first += kIdsPerCommandMax) {
    proto::Mutation mutation;
    mutation.mutable_close_reservations()->set_kept_ms(static_cast<uint64_t>(policy_.quarantine_ms));
    const size_t end = std::min(closed.size(), first + kIdsPerCommandMax);
    for (size_t i = first; i < end; ++i) mutation.mutable_close_reservations()->add_first_data_ids(closed[i]);
    RETURN_IF_ERROR(Propose(std::move(mutation)));
  }
  return Status::Ok();
}

Status DataReconciler::RunPass() {
  RETURN_IF_ERROR(CloseReservations());
  ASSIGN_OR_RETURN(loop_, rpc::EventLoop::Start("reconcile"));
  Pass pass;
  const proto::ClusterMap map = context_->LiveMap();
  for (const proto::Target& target : map.targets()) {
    if (target.target_class() == proto::TARGET_CLASS_DURABLE) pass.targets.push_back(target);
  }
  DataId from(1);
  while (from.valid()) {
    DataIdSet known(from, policy_.memory_bytes);
    RETURN_IF_ERROR(CheckWindow(&pass, &known));
    from = known.to();
  }
  MutexLock lock(mutex_);
  kept_data_ids_ = pass.kept;
  return Status::Ok();
}

// The snapshot comes first. Of an id that was given before it and is not in it nobody will ever know again: so it does
// not matter how much later the targets are asked.
Status DataReconciler::CheckWindow(Pass* pass, DataIdSet* known) {
  pass->noted.clear();
  pass->seen.clear();
  {
    const std::unique_ptr<KvView> view = context_->store->View();
    ASSIGN_OR_RETURN(auto header, ReadHeader(*view));
    if (!header) return Status(StatusCode::kUnavailable, "there is no state yet");
    pass->header = *std::move(header);
    RETURN_IF_ERROR(CollectKnownData(*view, known, [this] { return GoOn(); }));
    RETURN_IF_ERROR(view->Scan(KindPrefix(KeyKind::kUnknownData), UnknownDataKey(known->from()), [&](std::string_view, std::string_view value) {
      proto::UnknownDataRecord record;
      if (!record.ParseFromArray(value.data(), static_cast<int>(value.size()))) return false;
      if (!known->Covers(DataId(record.data_id()))) return false;
      pass->noted[record.data_id()] = std::move(record);
      return true;
    }));
  }
  for (const proto::Target& target : pass->targets) {
    ASSIGN_OR_RETURN(const bool answered, CheckTarget(pass, *known, target));
    if (!answered && target.state() != proto::TARGET_STATE_RETIRED) pass->complete = false;
  }
  if (!pass->complete) return Status::Ok();
  proto::Mutation mutation;
  for (const auto& [data, record] : pass->noted) {
    if (!pass->seen.contains(data)) mutation.mutable_note_unknown_data()->add_gone(data);
    if (mutation.note_unknown_data().gone_size() < kIdsPerCommandMax) continue;
    RETURN_IF_ERROR(Propose(std::exchange(mutation, {})));
  }
  return mutation.note_unknown_data().gone().empty() ? Status::Ok() : Propose(std::move(mutation));
}

std::shared_ptr<rpc::FrameClient> DataReconciler::ClientOf(const proto::Target& target) {
  std::shared_ptr<rpc::FrameClient>& client = clients_[target.address()];
  if (client == nullptr) {
    rpc::FrameClientOptions options;
    options.address = target.address();
    proto::HelloRequest hello;
    hello.set_role(proto::PEER_ROLE_METASERVER);
    hello.set_cluster_id(context_->self.cluster_id);
    hello.set_peer_name("reconciliation");
    client = rpc::FrameClient::Create(loop_.get(), options, hello);
  }
  return client;
}

Result<bool> DataReconciler::CheckTarget(Pass* pass, const DataIdSet& known, const proto::Target& target) {
  proto::ListDataRequest request;
  request.set_target(target.id());
  request.set_entries_max(policy_.page_ids);
  request.set_after(known.from().value() - 1);
  while (true) {
    if (!GoOn()) return Status(StatusCode::kCancelled, "the check was ended");
    proto::ListDataReply page;
    const Status listed = ClientOf(target)->CallAndWait(rpc::Method::kListData, request, &page, kCallTimeoutMs);
    if (!listed.ok()) {
      spdlog::info("a target does not tell its data ids target={}: {}", target.id(), listed.ToString());
      return false;
    }
    std::vector<uint64_t> unknown;
    bool end = page.end() || page.data_ids().empty();
    for (const uint64_t data : page.data_ids()) {
      if (!known.Covers(DataId(data))) {
        end = true;
        break;
      }
      if (known.Contains(DataId(data))) continue;
      if (WasGiven(pass->header, DataId(data))) {
        unknown.push_back(data);
      } else if (IdIncarnation(data) != pass->header.incarnation()) {
        ++pass->kept;  // else it was given after the snapshot
      }
    }
    RETURN_IF_ERROR(Note(pass, target, unknown));
    if (end) return true;
    request.set_after(page.data_ids(page.data_ids_size() - 1));
    if (!Pause(policy_.page_pause_ms)) return Status(StatusCode::kCancelled, "the check was ended");
  }
}

Result<uint64_t> DataReconciler::BytesHeld(const proto::Target& target, uint64_t data) {
  proto::StatDataRequest request;
  request.set_target(target.id());
  request.set_data_id(data);
  proto::StatDataReply chunks;
  RETURN_IF_ERROR(ClientOf(target)->CallAndWait(rpc::Method::kStatData, request, &chunks, kCallTimeoutMs));
  uint64_t bytes = 0;
  for (const auto& chunk : chunks.chunks()) bytes += chunk.bytes();
  return bytes;
}

Status DataReconciler::Note(Pass* pass, const proto::Target& target, const std::vector<uint64_t>& unknown) {
  proto::Mutation found;
  proto::Mutation reclaim;
  reclaim.mutable_reclaim_unknown_data()->set_quarantine_ms(static_cast<uint64_t>(policy_.quarantine_ms));
  const int64_t over_ns = context_->clock->WallNs() - policy_.quarantine_ms * 1'000'000;
  for (const uint64_t data : unknown) {
    pass->seen.insert(data);
    const auto noted = pass->noted.find(data);
    const bool is_noted = noted != pass->noted.end() &&
                          std::ranges::find(noted->second.held(), target.id(), &proto::UnknownDataRecord::Held::target) != noted->second.held().end();
    if (is_noted) {
      if (noted->second.found_ns() < over_ns) reclaim.mutable_reclaim_unknown_data()->add_data_ids(data);
    } else {
      const Result<uint64_t> bytes = BytesHeld(target, data);
      if (!bytes.ok()) continue;
      auto* entry = found.mutable_note_unknown_data()->add_found();
      entry->set_data_id(data);
      entry->set_target(target.id());
      entry->set_bytes(*bytes);
    }
    if (found.note_unknown_data().found_size() >= kFoundPerCommandMax) {
      RETURN_IF_ERROR(Propose(std::exchange(found, {})));
    }
  }
  if (!found.note_unknown_data().found().empty()) {
    spdlog::info("data that nobody knows is in quarantine target={} data_ids={}", target.id(), found.note_unknown_data().found_size());
    RETURN_IF_ERROR(Propose(std::move(found)));
  }
  if (reclaim.reclaim_unknown_data().data_ids().empty() || context_->state->header().reclaim_disabled()) return Status::Ok();
  spdlog::info("data that nobody knows is deleted target={} data_ids={}", target.id(), reclaim.reclaim_unknown_data().data_ids_size());
  return Propose(std::move(reclaim));
}

void DataReconciler::Fill(proto::SpaceProgress* progress) const {
  const proto::StateHeader header = context_->state->header();
  progress->set_unknown_data_ids(header.unknown_data_ids());
  progress->set_unknown_bytes(header.unknown_bytes());
  progress->set_unknown_reclaimed_bytes(header.unknown_reclaimed_bytes());
  MutexLock lock(mutex_);
  progress->set_kept_data_ids(kept_data_ids_);
  progress->set_checked_ns(checked_ns_);
  progress->set_checking(checking_);
}

}  // namespace tarn::meta
