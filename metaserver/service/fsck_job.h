// One run of fsck: checks a snapshot of the state, proposes repairs if asked to, checks again until nothing new is
// found, and asks the chunk servers for the data of files.
//
// Online: the snapshot is consistent, and repairs apply only to what has not changed since. Everything goes out as
// events while it is found; of the findings at most a bounded number is named.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "metaserver/service/chunk_check.h"
#include "metaserver/service/service_context.h"
#include "metaserver/state/fsck/check_state.h"
#include "proto/admin.pb.h"

namespace tarn::meta {

// One thread, which may block.
class FsckJob {
 public:
  // False: nobody listens any more.
  using Emit = std::function<bool(const proto::FsckEvent&)>;

  // The context outlives the job.
  FsckJob(ServiceContext* context, const proto::FsckRequest& request, Emit emit);

  // The last event has `end` set. kNotFound: no such volume; kCancelled: nobody listens.
  Status Run();

 private:
  static constexpr int kRoundsMax = 6;
  static constexpr size_t kFindingsPerRepair = 256;
  static constexpr uint64_t kFindingsNamedMax = 10'000;

  Status CheckMetadata();
  Status CheckRound(const FsckOptions& options);
  Status CheckChunks(const FsckOptions& options);
  // What the reconciliation of data has found so far: in quarantine, and deleted by itself when that is over.
  Status NameUnknownData();
  void Take(FsckFinding finding);
  void TakeOfChunks(ChunkFinding finding);
  // Copies that are behind others (copies_): has them brought up to date, looks once more, and names them.
  Status RepairCopies();
  // Of those copies, file and target of what is still as it was found.
  Result<std::set<std::pair<InodeId, uint64_t>>> LookAtCopiesAgain(rpc::EventLoop* loop);
  void RepairBatch();
  // Repairs made; nullopt: the command failed.
  std::optional<uint64_t> Repair(std::span<const FsckFinding> findings);
  bool Send(proto::FsckEvent event, bool end = false);
  proto::FsckEvent Name(const FsckFinding& finding, bool repaired);

  ServiceContext* const context_;
  const proto::FsckRequest request_;
  const Emit emit_;
  FsckProgress progress_;
  std::vector<FsckFinding> batch_;  // to be repaired together
  std::vector<ChunkFinding> copies_;  // to be repaired once all are known; at most kFindingsNamedMax
  bool first_round_ = true;
  bool listened_to_ = true;
  uint64_t chunks_checked_ = 0;
  uint64_t findings_total_ = 0;
  uint64_t named_total_ = 0;
  uint64_t repaired_total_ = 0;
  uint64_t repaired_in_round_ = 0;
  uint64_t found_in_round_ = 0;
};

}  // namespace tarn::meta
