#include "metaserver/service/fsck_job.h"

#include <spdlog/spdlog.h>

#include <map>
#include <memory>
#include <utility>

#include "common/rpc/event_loop.h"
#include "metaserver/service/chunk_check.h"
#include "metaserver/service/copy_repair.h"
#include "metaserver/state/records.h"
#include "metaserver/state/transaction.h"
#include "metaserver/state/unknown_data.h"

namespace tarn::meta {

FsckJob::FsckJob(ServiceContext* context, const proto::FsckRequest& request, Emit emit)
    : context_(context), request_(request), emit_(std::move(emit)) {}

bool FsckJob::Send(proto::FsckEvent event, bool end) {
  event.set_inodes_checked(progress_.inodes_checked);
  event.set_dentries_checked(progress_.dentries_checked);
  event.set_chunks_checked(chunks_checked_);
  event.set_findings_total(findings_total_);
  event.set_repaired_total(repaired_total_);
  event.set_end(end);
  if (end) event.set_remaining_total(found_in_round_);
  if (listened_to_ && !emit_(event)) listened_to_ = false;
  return listened_to_;
}

proto::FsckEvent FsckJob::Name(const FsckFinding& finding, bool repaired) {
  proto::FsckEvent event;
  ++findings_total_;
  if (repaired) ++repaired_total_;
  if (++named_total_ > kFindingsNamedMax) return event;
  proto::FsckEvent::Finding* named = event.add_findings();
  named->set_kind(finding.kind);
  named->set_what(finding.what);
  named->set_repaired(repaired);
  return event;
}

void FsckJob::Take(FsckFinding finding) {
  ++found_in_round_;
  const bool repairable = request_.repair() && finding.repair.ByteSizeLong() != 0;
  if (!repairable) {
    // Later rounds find again what nothing can repair.
    if (first_round_) Send(Name(finding, false));
    return;
  }
  batch_.push_back(std::move(finding));
  if (batch_.size() >= kFindingsPerRepair) RepairBatch();
}

std::optional<uint64_t> FsckJob::Repair(std::span<const FsckFinding> findings) {
  proto::Mutation mutation;
  for (const FsckFinding& finding : findings) {
    const int64_t dead_data_count = mutation.repair().dead_data_count() + finding.repair.dead_data_count();
    mutation.mutable_repair()->MergeFrom(finding.repair);
    mutation.mutable_repair()->set_dead_data_count(dead_data_count);
  }
  const auto reply = context_->proposer->SubmitAndWait(std::move(mutation));
  if (reply.ok()) return reply->purged();
  spdlog::warn("fsck: a repair failed: {}", reply.status().ToString());
  return std::nullopt;
}

void FsckJob::RepairBatch() {
  if (batch_.empty()) return;
  if (const auto made = Repair(batch_)) {
    repaired_in_round_ += *made;
    for (const FsckFinding& finding : batch_) Send(Name(finding, *made == batch_.size()));
  } else {
    // One that fails takes the others with it: a command makes one directory lost+found, of one volume.
    for (const FsckFinding& finding : batch_) {
      const uint64_t alone = Repair(std::span(&finding, 1)).value_or(0);
      repaired_in_round_ += alone;
      Send(Name(finding, alone == 1));
    }
  }
  batch_.clear();
}

void FsckJob::TakeOfChunks(ChunkFinding finding) {
  if (request_.repair() && !finding.groups.empty() && copies_.size() < kFindingsNamedMax) {
    copies_.push_back(std::move(finding));
    return;
  }
  if (finding.is_damage) {
    ++found_in_round_;
    Send(Name({.kind = finding.kind, .what = finding.what, .repair = {}}, false));
    return;
  }
  // Named, but not counted: it may be as it should.
  if (++named_total_ > kFindingsNamedMax) return;
  proto::FsckEvent event;
  proto::FsckEvent::Finding* named = event.add_findings();
  named->set_kind(finding.kind);
  named->set_what(finding.what);
  Send(std::move(event));
}

Status FsckJob::CheckRound(const FsckOptions& options) {
  found_in_round_ = 0;
  repaired_in_round_ = 0;
  progress_ = {};
  const std::unique_ptr<KvView> view = context_->store->View();
  RETURN_IF_ERROR(CheckState(*view, options,
                             {.found = [this](FsckFinding finding) { Take(std::move(finding)); },
                              .progress = [this](const FsckProgress&) { return Send({}); }},
                             &progress_));
  RepairBatch();
  return Status::Ok();
}

Status FsckJob::CheckMetadata() {
  FsckOptions options;
  if (!request_.volume().empty()) {
    const auto view = context_->store->View();
    ASSIGN_OR_RETURN(options.volume, ReadVolumeId(*view, request_.volume()));
    if (!options.volume) return Status(StatusCode::kNotFound, "volume " + request_.volume() + " does not exist");
  }
  // A repair may bring to light what lay behind it: a directory that is found again has counts, too.
  for (int round = 0; round < kRoundsMax; ++round) {
    RETURN_IF_ERROR(CheckRound(options));
    first_round_ = false;
    if (repaired_in_round_ == 0) break;
  }
  return request_.skip_chunks() ? Status::Ok() : CheckChunks(options);
}

Status FsckJob::CheckChunks(const FsckOptions& options) {
  ASSIGN_OR_RETURN(const auto loop, rpc::EventLoop::Start("fsck"));
  ChunkCheck::Options check_options;
  check_options.map = [this] { return context_->LiveMap(); };
  check_options.found = [this](ChunkFinding finding) { TakeOfChunks(std::move(finding)); };
  ChunkCheck check(context_->store, loop.get(), std::move(check_options));
  const std::unique_ptr<KvView> view = context_->store->View();
  Status problem;
  RETURN_IF_ERROR(view->Scan(KindPrefix(KeyKind::kInode), {}, [&](std::string_view, std::string_view value) {
    const auto inode = ParseInode(value);
    if (!inode.ok() || (options.volume && options.volume->value() != inode->volume())) return true;
    problem = check.Add(*inode);
    if (check.chunks_checked() != chunks_checked_) {
      chunks_checked_ = check.chunks_checked();
      if (!Send({})) problem = Status(StatusCode::kCancelled, "the check was ended");
    }
    return problem.ok();
  }));
  RETURN_IF_ERROR(problem);
  RETURN_IF_ERROR(check.Finish());
  chunks_checked_ = check.chunks_checked();
  return RepairCopies();
}

Result<std::set<std::pair<InodeId, uint64_t>>> FsckJob::LookAtCopiesAgain(rpc::EventLoop* loop) {
  std::set<std::pair<InodeId, uint64_t>> left;
  ChunkCheck::Options options;
  options.map = [this] { return context_->LiveMap(); };
  options.found = [&](const ChunkFinding& finding) {
    if (!finding.groups.empty()) left.emplace(finding.inode, finding.target);
  };
  ChunkCheck check(context_->store, loop, std::move(options));
  std::set<InodeId> files;
  for (const ChunkFinding& finding : copies_) files.insert(finding.inode);
  for (const InodeId inode : files) {
    ASSIGN_OR_RETURN(const auto file, ReadInode(LatestView(context_->store), inode));
    if (file) RETURN_IF_ERROR(check.Add(*file));
  }
  RETURN_IF_ERROR(check.Finish());
  return left;
}

Status FsckJob::RepairCopies() {
  if (copies_.empty()) return Status::Ok();
  std::map<uint32_t, std::set<uint64_t>> behind;
  for (const ChunkFinding& finding : copies_) {
    for (const uint32_t group : finding.groups) behind[group].insert(finding.target);
  }
  const std::map<uint32_t, Status> results = CopyRepair(context_).Run(behind, [this] { return Send({}); });
  ASSIGN_OR_RETURN(const auto loop, rpc::EventLoop::Start("fsck-again"));
  ASSIGN_OR_RETURN(const auto left, LookAtCopiesAgain(loop.get()));
  for (const ChunkFinding& finding : copies_) {
    Status status;
    for (const uint32_t group : finding.groups) {
      if (status.ok()) status = results.at(group);
    }
    if (status.ok() && left.contains({finding.inode, finding.target})) status = Status(StatusCode::kInternal, "it is found again");
    if (!status.ok()) ++found_in_round_;
    const std::string why = status.ok() ? "" : "; not repaired: " + status.message();
    Send(Name({.kind = finding.kind, .what = finding.what + why, .repair = {}}, status.ok()));
  }
  return Status::Ok();
}

Status FsckJob::NameUnknownData() {
  const std::unique_ptr<KvView> view = context_->store->View();
  return view->Scan(KindPrefix(KeyKind::kUnknownData), {}, [&](std::string_view, std::string_view value) {
    proto::UnknownDataRecord record;
    if (!record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      Take({.kind = "unreadable-record", .what = "of data that nobody knows", .repair = {}});
      return true;
    }
    std::string what = "data id " + std::to_string(record.data_id()) + ": " + std::to_string(BytesOf(record)) + " bytes at targets";
    for (const auto& held : record.held()) what += " " + std::to_string(held.target());
    TakeOfChunks({.kind = "unknown-data", .what = std::move(what), .is_damage = false});
    return listened_to_ && named_total_ <= kFindingsNamedMax;
  });
}

Status FsckJob::Run() {
  RETURN_IF_ERROR(CheckMetadata());
  if (request_.volume().empty()) RETURN_IF_ERROR(NameUnknownData());
  Send({}, /*end=*/true);
  return listened_to_ ? Status::Ok() : Status(StatusCode::kCancelled, "the check was ended");
}

}  // namespace tarn::meta
