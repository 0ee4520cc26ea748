#include "chunkserver/service/target_set.h"

#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <functional>
#include <thread>
#include <utility>

#include "chunkserver/store/format.h"
#include "common/base/named_thread.h"
#include "common/base/posix_io.h"

namespace tarn::chunk {
namespace {

// Of requests that wait for one disk.
constexpr size_t kWorkerQueueMax = 8'192;
constexpr uint64_t kCacheBytesPerTargetMin = 8u << 20;
constexpr const char* kElasticLockName = "elastic.lock";
// Between attempts to repair a chunk.
constexpr int64_t kRepairPauseMs = 5'000;
constexpr int64_t kRepairPauseMsMax = 3'600'000;

TargetId IdOf(const DirectoryIdentity& found) { return found.identity ? found.identity->target : TargetId(); }

// Nine tenths of what is free now: the rest is for whoever else uses the disk.
Result<uint64_t> DefaultElasticBytes(const std::string& directory) {
  struct statvfs space {};
  if (statvfs(directory.c_str(), &space) != 0) return Status::FromErrno(errno, directory);
  return static_cast<uint64_t>(space.f_bavail) * space.f_frsize / 10 * 9;
}

// A damaged chunk of one target.
struct Damage {
  replication::TargetReplication* engine;
  TargetExecutor* executor;
  ChunkId chunk;
  GroupId group;
};

// Until it has been repaired: another copy may come, or this one be in-sync again. Both of `damage` are there as long as
// the executor runs anything.
void RepairChunk(const Damage& damage, int64_t pause_ms) {
  damage.executor->Run([=] {
    damage.engine->RepairChunk(damage.group, damage.chunk, [=](const Status& status) {
      if (status.ok() || status.code() == StatusCode::kStaleEpoch || status.code() == StatusCode::kCancelled) return;
      spdlog::error("a damaged chunk is not repaired chunk={} reason=\"{}\"", ToString(damage.chunk), status.ToString());
      damage.executor->RunAfter(pause_ms, [=] { RepairChunk(damage, std::min(2 * pause_ms, kRepairPauseMsMax)); });
    });
  });
}

// Each on a thread of its own: what opening and closing cost is waiting for a disk.
void ForAllAtOnce(std::span<const std::unique_ptr<HostedTarget>> targets, const std::function<void(HostedTarget&)>& task) {
  std::vector<std::thread> threads;
  for (const auto& target : targets) {
    threads.push_back(StartNamedThread("target", [&task, raw = target.get()] { task(*raw); }));
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

HostedTarget::HostedTarget(DirectoryIdentity found, size_t worker_threads, const Clock* clock)
    : found_(std::move(found)), worker_threads_(worker_threads), open_status_(found_.unreadable), disk_gate_(clock), id_(IdOf(found_).value()) {}

void HostedTarget::Open(store::StoreOptions options, const store::StoreEnvironment& environment) {
  if (!open_status_.ok()) return;
  options.directory = found_.directory;
  Result<std::unique_ptr<store::ChunkStore>> opened = store::ChunkStore::Open(options, environment);
  if (!opened.ok()) {
    open_status_ = opened.status();
    return;
  }
  store_ = *std::move(opened);
  workers_ = WorkerPool::Start("disk", worker_threads_, kWorkerQueueMax);
}

void HostedTarget::OpenCache(uint64_t elastic_bytes) {
  if (!open_status_.ok()) return;
  const auto open = [&]() -> Status {
    if (found_.identity) {
      return Status(StatusCode::kPermission, directory() + " holds a durable target (" + std::string(store::kTargetFileName) + "): it cannot be an elastic one");
    }
    RETURN_IF_ERROR(MakeDirectories(directory()));
    ASSIGN_OR_RETURN(cache_lock_, LockFile(directory() + "/" + kElasticLockName));
    if (elastic_bytes == 0) {
      ASSIGN_OR_RETURN(elastic_bytes, DefaultElasticBytes(directory()));
    }
    ASSIGN_OR_RETURN(cache_, elastic::UnitCache::Open(directory(), std::max(elastic_bytes, elastic::UnitLog::kBudgetBytesMin)));
    return Status::Ok();
  };
  open_status_ = open();
  if (open_status_.ok()) workers_ = WorkerPool::Start("disk", worker_threads_, kWorkerQueueMax);
}

void HostedTarget::StartElastic(replication::PeerNetwork* network, BufferPool* buffers, const Clock* clock, std::function<void(uint64_t)> want_map) {
  CHECK(cache_ != nullptr && pull_through_ == nullptr, "an elastic target starts once");
  pull_through_ = std::make_unique<elastic::PullThrough>(elastic::PullThroughParts{
      .cache = cache_.get(), .network = network, .workers = workers_.get(), .buffers = buffers, .clock = clock, .want_map = std::move(want_map)});
}

void HostedTarget::StartReplication(std::unique_ptr<TargetExecutor> executor, std::unique_ptr<replication::TargetReplication> engine) {
  CHECK(engine_ == nullptr, "replication of a target starts once");
  executor_ = std::move(executor);
  engine_ = std::move(engine);
  serving_.store(engine_.get(), std::memory_order_release);
  // Damage that nobody has read yet is repaired, too.
  store_->OnDamage([engine = engine_.get(), executor = executor_.get()](ChunkId chunk, GroupId group) {
    if (group.valid()) RepairChunk({engine, executor, chunk, group}, kRepairPauseMs);
  });
}

Status HostedTarget::failure() const { return store_ == nullptr ? open_status_ : store_->health(); }

void HostedTarget::FillElasticReport(proto::TargetReport* report) const {
  report->set_target_class(proto::TARGET_CLASS_ELASTIC);
  report->set_capacity_bytes(cache_->budget_bytes());
  report->set_used_bytes(cache_->open_bytes());
  report->set_available_bytes(cache_->budget_bytes() - std::min(cache_->budget_bytes(), cache_->open_bytes()));
  report->set_chunk_count(cache_->counters().units);
  if (pull_through_ != nullptr) pull_through_->FillUse(report->mutable_elastic());
}

void HostedTarget::FillReport(proto::TargetReport* report) const {
  report->set_id(id().value());
  report->set_bytes_read(bytes_read_.load(std::memory_order_relaxed));
  if (const Status failed = failure(); !failed.ok()) report->set_failure(failed.message());
  if (cache_ != nullptr) return FillElasticReport(report);
  if (store_ == nullptr) return;
  const store::TargetIdentity identity = store_->identity();
  report->set_directory_id(identity.uuid.data(), identity.uuid.size());
  report->set_reclaimed_bytes(store_->metrics().blocks_punched * store::kBlockBytes);
  // A server that registers again has lost nothing since it did so first.
  report->set_clean_shutdown(store_->was_clean() || registered_);
  report->set_checksum_errors(store_->metrics().checksum_errors);
  const store::ScrubProgress scrub = store_->scrub_progress();
  report->mutable_scrub()->set_bytes_checked(scrub.bytes_checked);
  report->mutable_scrub()->set_bytes_total(scrub.bytes_total);
  report->mutable_scrub()->set_errors_found(scrub.errors_found);
  report->mutable_scrub()->set_errors_repaired(scrub.errors_repaired);
  report->mutable_scrub()->set_last_round_ended_ns(scrub.last_round_ended_ns);
  report->mutable_scrub()->set_running(scrub.running);
  report->mutable_scrub()->set_next_round_ns(scrub.next_round_ns);
  if (replication() != nullptr) {
    for (proto::SyncProgress& progress : replication()->Progress()) *report->add_syncs() = std::move(progress);
  }
  if (const Result<store::SpaceReport> space = store_->Space(); space.ok()) {
    report->set_capacity_bytes(space->capacity_bytes);
    report->set_used_bytes(space->used_bytes);
    report->set_available_bytes(space->available_bytes);
    report->set_chunk_count(space->chunk_count);
    TellRoom(space->available_bytes);
  } else {
    spdlog::error("space of a target is unknown dir={}: {}", directory(), space.status().ToString());
  }
}

void HostedTarget::TellRoom(uint64_t available_bytes) const {
  const bool is_full = available_bytes < replication::kMemberRoomBytesMin;
  if (full_is_told_.exchange(is_full) == is_full) return;
  if (is_full) {
    spdlog::warn("a target is full: no group that it is in takes writes dir={} available_bytes={}", directory(), available_bytes);
  } else {
    spdlog::info("a target has room again dir={} available_bytes={}", directory(), available_bytes);
  }
}

Status HostedTarget::Adopt(const std::string& cluster_id, ServerId server, TargetId id) {
  if (store_ != nullptr) RETURN_IF_ERROR(store_->Adopt(cluster_id, server, id));
  id_.store(id.value(), std::memory_order_release);
  registered_ = true;
  return Status::Ok();
}

// A crash that the metadata server has not heard of must be told by the next start: no clean mark then.
Status HostedTarget::Close() {
  if (store_ == nullptr) return Status::Ok();
  const Status closed = store_->was_clean() || registered_ ? store_->Close() : store_->Commit();
  return closed.WithContext(directory());
}

Result<std::unique_ptr<TargetSet>> TargetSet::Open(const TargetSetOptions& options, const store::StoreEnvironment& environment) {
  std::vector<DirectoryIdentity> found;
  for (const std::string& directory : options.directories) {
    ASSIGN_OR_RETURN(DirectoryIdentity identity, ReadDirectoryIdentity(directory));
    found.push_back(std::move(identity));
  }
  std::unique_ptr<TargetSet> set(new TargetSet());
  ASSIGN_OR_RETURN(const ServerIdentity agreed, AgreeOnServer(found));
  {
    MutexLock lock(set->mutex_);
    set->identity_ = agreed;
  }
  for (DirectoryIdentity& identity : found) {
    set->targets_.push_back(std::make_unique<HostedTarget>(std::move(identity), options.worker_threads, environment.clock));
  }
  store::StoreOptions store_options = options.store;
  store_options.cache_bytes = std::max(kCacheBytesPerTargetMin, store_options.cache_bytes / std::max<size_t>(1, set->targets_.size()));
  ForAllAtOnce(set->targets_, [&](HostedTarget& target) {
    options.elastic ? target.OpenCache(options.elastic_bytes) : target.Open(store_options, environment);
  });

  Status refusal;
  bool any_works = false;
  for (const auto& target : set->targets_) {
    any_works |= target->store() != nullptr || target->cache_ != nullptr;
    const Status& opened = target->open_status_;
    if (opened.ok()) continue;
    if (!IsDiskFailure(opened) && refusal.ok()) refusal = opened;
    if (IsDiskFailure(opened)) spdlog::error("a disk fails: its target is not served dir={} reason=\"{}\"", target->directory(), opened.message());
  }
  if (refusal.ok() && !any_works && !set->targets_.empty()) refusal = set->targets_.front()->open_status_;
  if (refusal.ok()) return set;
  // What was found clean stays so.
  set->StopWorkers();
  if (const Status closed = set->Close(); !closed.ok()) spdlog::warn("a target was not closed cleanly: {}", closed.message());
  return refusal;
}

void TargetSet::StopReplication() {
  for (const auto& target : targets_) {
    if (target->engine_ == nullptr) continue;
    target->store_->OnDamage(nullptr);
    target->engine_->Stop();
  }
}

void TargetSet::StopWorkers() {
  for (const auto& target : targets_) {
    if (target->executor_ != nullptr) target->executor_->Stop();
    target->workers_.reset();
  }
}

void TargetSet::EndReplication() {
  for (const auto& target : targets_) {
    target->serving_ = nullptr;
    target->engine_.reset();
    target->executor_.reset();
  }
}

void TargetSet::StartScrub() const {
  for (const auto& target : targets_) {
    if (target->store() != nullptr) target->store()->StartScrub();
  }
}

void TargetSet::AdoptMap(const std::shared_ptr<const proto::ClusterMap>& map) const {
  for (const auto& target : targets_) {
    if (target->replication() != nullptr) target->replication()->AdoptMap(map);
    if (target->elastic() != nullptr) target->elastic()->AdoptMap(*map, target->id());
  }
}

void TargetSet::ExtendLeases(int64_t sent_ns, int64_t lease_ms) const {
  for (const auto& target : targets_) {
    if (target->replication() != nullptr) target->replication()->ExtendLease(sent_ns, lease_ms);
  }
}

uint64_t TargetSet::SettledMapVersion(uint64_t version) const {
  for (const auto& target : targets_) {
    if (target->replication() != nullptr) version = std::min(version, target->replication()->map_version());
  }
  return version;
}

Status TargetSet::Close() {
  Mutex mutex;
  Status first;
  ForAllAtOnce(targets_, [&](HostedTarget& target) {
    const Status closed = target.Close();
    MutexLock lock(mutex);
    if (first.ok()) first = closed;
  });
  return first;
}

bool TargetSet::ForgetElasticIdentity() {
  for (const auto& target : targets_) {
    if (target->cache_ == nullptr) return false;
  }
  MutexLock lock(mutex_);
  if (!identity_.server.valid()) return false;
  identity_.server = ServerId();
  for (const auto& target : targets_) target->id_.store(0, std::memory_order_release);
  return true;
}

ServerIdentity TargetSet::identity() const {
  MutexLock lock(mutex_);
  return identity_;
}

HostedTarget* TargetSet::Find(TargetId id) const {
  if (!id.valid()) return nullptr;
  for (const auto& target : targets_) {
    if (target->id() == id) return target.get();
  }
  return nullptr;
}

std::vector<HostedTarget*> TargetSet::Reported() const {
  std::vector<HostedTarget*> reported;
  for (const auto& target : targets_) {
    if (target->store() != nullptr || target->cache_ != nullptr || target->id().valid()) reported.push_back(target.get());
  }
  return reported;
}

Status TargetSet::Adopt(const ServerIdentity& identity, std::span<const TargetId> ids) {
  const std::vector<HostedTarget*> reported = Reported();
  if (ids.size() != reported.size()) {
    return Status(StatusCode::kInternal, "the metadata server answered the registration of " + std::to_string(reported.size()) +
                                             " targets with " + std::to_string(ids.size()) + " ids");
  }
  for (size_t i = 0; i < reported.size(); ++i) {
    const Status adopted = reported[i]->Adopt(identity.cluster_id, identity.server, ids[i]);
    if (IsDiskFailure(adopted)) {
      spdlog::error("a target cannot note its ids dir={} reason=\"{}\"", reported[i]->directory(), adopted.message());
      continue;
    }
    RETURN_IF_ERROR(adopted);
  }
  MutexLock lock(mutex_);
  identity_ = identity;
  return Status::Ok();
}

}  // namespace tarn::chunk
