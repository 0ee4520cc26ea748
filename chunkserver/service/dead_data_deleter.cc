#include "chunkserver/service/dead_data_deleter.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace tarn::chunk {

std::shared_ptr<DeadDataDeleter::Round> DeadDataDeleter::RoundOf(TargetId target) {
  MutexLock lock(mutex_);
  std::shared_ptr<Round>& round = rounds_[target];
  if (round == nullptr) round = std::make_shared<Round>();
  return round;
}

void DeadDataDeleter::Delete(const proto::HeartbeatReply& reply) {
  for (const proto::DeadData& entry : reply.dead_data()) {
    HostedTarget* const target = targets_->Find(TargetId(entry.target()));
    if (target == nullptr || target->store() == nullptr || entry.data_ids().empty()) continue;
    const std::shared_ptr<Round> round = RoundOf(target->id());
    {
      MutexLock lock(round->mutex);
      if (std::exchange(round->running, true)) continue;
    }
    std::vector<DataId> dead;
    for (const uint64_t data : entry.data_ids()) dead.emplace_back(data);
    const bool taken = target->workers()->Submit([store = target->store(), dead = std::move(dead), round] { Run(store, dead, round.get()); });
    if (taken) continue;
    MutexLock lock(round->mutex);
    round->running = false;
  }
}

void DeadDataDeleter::Run(store::ChunkStore* store, const std::vector<DataId>& dead, Round* round) {
  Status status = store->DeleteData(dead);
  // Told only when it is durable: what is named again until then is deleted again, which does no harm.
  if (status.ok()) status = store->Commit();
  if (!status.ok()) spdlog::error("dead data stays for now count={} reason=\"{}\"", dead.size(), status.message());
  MutexLock lock(round->mutex);
  round->running = false;
  if (!status.ok()) return;
  for (const DataId data : dead) round->gone.push_back(data.value());
}

void DeadDataDeleter::FillReport(proto::TargetReport* report) {
  const std::shared_ptr<Round> round = RoundOf(TargetId(report->id()));
  MutexLock lock(round->mutex);
  for (const uint64_t data : round->gone) report->add_reclaimed_data_ids(data);
}

void DeadDataDeleter::Reported(const proto::HeartbeatRequest& request) {
  for (const proto::TargetReport& report : request.targets()) {
    const std::shared_ptr<Round> round = RoundOf(TargetId(report.id()));
    MutexLock lock(round->mutex);
    // The oldest; a round may have added others since.
    round->gone.erase(round->gone.begin(), round->gone.begin() + report.reclaimed_data_ids_size());
  }
}

}  // namespace tarn::chunk
