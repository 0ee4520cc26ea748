#include "metaserver/service/chunk_check.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "common/base/mutex.h"
#include "common/layout/layout.h"
#include "metaserver/state/records.h"
#include "metaserver/state/transaction.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"

namespace tarn::meta {
namespace {

constexpr size_t kFilesPerRound = 256;
constexpr int64_t kCallTimeoutMs = 10'000;
constexpr size_t kChunksNamedMax = 4;  // of one file

FileLayout FromProto(const proto::Layout& layout) {
  return FileLayout{.group_set = GroupSetVersion(layout.group_set_version()),
                    .seed = layout.seed(),
                    .stripe_unit_bytes = layout.stripe_unit_bytes(),
                    .width = layout.width(),
                    .chunk_size_bytes = layout.chunk_size_bytes()};
}

bool HasData(const proto::Attributes& file) {
  return file.type() == proto::FILE_TYPE_REGULAR && file.data_id() != 0 && file.size_bytes() != 0;
}

// Its size comes from the write or the ingestion that made it, so its last byte was written.
bool WrittenInOneGo(const proto::Attributes& file) {
  return file.data_generation() == 1 && file.truncate_generation() == 0;
}

}  // namespace

// What is known of one file's chunks.
struct ChunkCheck::Asked {
  proto::Attributes file;
  Mutex mutex;
  ChunksByTarget chunks GUARDED_BY(mutex);
};

struct ChunkCheck::Problems {
  uint64_t expected = 0;
  uint64_t unknown = 0;                             // nobody has it, but not everybody answered
  std::vector<uint32_t> missing;                    // nobody has it
  std::map<uint64_t, std::vector<uint32_t>> lacks;  // by in-sync target: what others have
  std::map<uint64_t, std::vector<uint32_t>> stale;  // the same: what others have newer
  bool last_is_missing = false;
  bool empty() const { return missing.empty() && lacks.empty() && stale.empty(); }
};

ChunkCheck::ChunkCheck(const KvStore* store, rpc::EventLoop* loop, Options options)
    : store_(store), loop_(loop), options_(std::move(options)) {
  AdoptMap();
}

ChunkCheck::~ChunkCheck() {
  for (const auto& [address, client] : clients_) client->Close();
}

void ChunkCheck::AdoptMap() {
  map_ = options_.map();
  groups_.clear();
  group_sets_.clear();
  addresses_.clear();
  retired_.clear();
  for (const proto::PlacementGroup& group : map_.groups()) groups_[group.id()] = &group;
  for (const proto::GroupSet& group_set : map_.group_sets()) group_sets_[group_set.version()] = &group_set;
  for (const proto::Target& target : map_.targets()) {
    addresses_[target.id()] = target.address();
    if (target.state() == proto::TARGET_STATE_RETIRED) retired_.insert(target.id());
  }
}

const proto::PlacementGroup* ChunkCheck::GroupOf(const proto::Layout& layout, uint32_t column) const {
  const auto group_set = group_sets_.find(layout.group_set_version());
  if (group_set == group_sets_.end() || group_set->second->groups().empty()) return nullptr;
  const auto count = static_cast<uint32_t>(group_set->second->groups_size());
  const auto index = static_cast<int>(GroupIndexOfColumn(FromProto(layout), column, count));
  const auto group = groups_.find(group_set->second->groups(index));
  return group == groups_.end() ? nullptr : group->second;
}

std::set<uint64_t> ChunkCheck::TargetsOf(const proto::Layout& layout) const {
  std::set<uint64_t> targets;
  for (uint32_t column = 0; column < layout.width(); ++column) {
    const proto::PlacementGroup* group = GroupOf(layout, column);
    if (group == nullptr) continue;
    targets.insert(group->targets().begin(), group->targets().end());
    targets.insert(group->syncing_targets().begin(), group->syncing_targets().end());
  }
  return targets;
}

std::shared_ptr<rpc::FrameClient> ChunkCheck::ClientOf(uint64_t target) {
  const auto address = addresses_.find(target);
  if (address == addresses_.end()) return nullptr;
  std::shared_ptr<rpc::FrameClient>& client = clients_[address->second];
  if (client == nullptr) {
    rpc::FrameClientOptions options;
    options.address = address->second;
    proto::HelloRequest hello;
    hello.set_role(proto::PEER_ROLE_METASERVER);
    hello.set_cluster_id(map_.cluster_id());
    hello.set_peer_name("fsck");
    client = rpc::FrameClient::Create(loop_, options, hello);
  }
  return client;
}

Status ChunkCheck::Add(const proto::Attributes& file) {
  if (!HasData(file)) return Status::Ok();
  waiting_.push_back(file);
  return waiting_.size() < kFilesPerRound ? Status::Ok() : FirstLook();
}

// ---- Asking ----

void ChunkCheck::AskTarget(const std::shared_ptr<Asked>& asked, uint64_t target,
                           std::vector<std::future<void>>* answers) {
  const auto client = ClientOf(target);
  if (client == nullptr) return;
  proto::StatDataRequest request;
  request.set_target(target);
  request.set_data_id(asked->file.data_id());
  const auto done = std::make_shared<std::promise<void>>();
  answers->push_back(done->get_future());
  rpc::CallOptions options;
  options.timeout_ms = kCallTimeoutMs;
  client->Call(rpc::Method::kStatData, request, options, [asked, target, done](const rpc::Reply& reply) {
    proto::StatDataReply chunks;
    if (rpc::ParseReply(reply, &chunks).ok()) {
      MutexLock lock(asked->mutex);
      std::map<uint32_t, Stamp>& stamps = asked->chunks[target];
      for (const auto& chunk : chunks.chunks()) stamps[chunk.index()] = {chunk.epoch(), chunk.version()};
    }
    done->set_value();
  });
}

std::vector<std::shared_ptr<ChunkCheck::Asked>> ChunkCheck::AskAbout(std::vector<proto::Attributes>* files) {
  std::vector<std::shared_ptr<Asked>> round;
  std::vector<std::future<void>> answers;
  for (proto::Attributes& file : *files) {
    const auto& asked = round.emplace_back(std::make_shared<Asked>());
    asked->file = std::move(file);
    for (const uint64_t target : TargetsOf(asked->file.layout())) AskTarget(asked, target, &answers);
  }
  files->clear();
  for (std::future<void>& answer : answers) answer.wait();
  return round;
}

// ---- Judging ----

void ChunkCheck::JudgeChunk(const proto::Layout& layout, const ChunksByTarget& chunks, uint32_t index,
                            Problems* problems) const {
  const proto::PlacementGroup* group = GroupOf(layout, ColumnOfChunk(FromProto(layout), index));
  if (group == nullptr) return problems->missing.push_back(index);
  bool somebody_has_it = false;
  bool all_answered = true;
  std::vector<uint64_t> lacking;
  const auto look = [&](uint64_t target, bool in_sync) {
    const auto answer = chunks.find(target);
    const bool answered = answer != chunks.end();
    const bool has_it = answered && answer->second.contains(index);
    all_answered = all_answered && (answered || retired_.contains(target));
    somebody_has_it = somebody_has_it || has_it;
    if (answered && !has_it && in_sync) lacking.push_back(target);
  };
  for (const uint64_t target : group->targets()) look(target, true);
  for (const uint64_t target : group->syncing_targets()) look(target, false);
  if (somebody_has_it) {
    for (const uint64_t target : lacking) problems->lacks[target].push_back(index);
    JudgeStamps(*group, chunks, index, problems);
  } else if (!all_answered) {
    ++problems->unknown;
  } else {
    problems->missing.push_back(index);
  }
}

void ChunkCheck::JudgeStamps(const proto::PlacementGroup& group, const ChunksByTarget& chunks, uint32_t index, Problems* problems) {
  std::map<uint64_t, Stamp> stamps;
  Stamp newest;
  for (const uint64_t target : group.targets()) {
    const auto answer = chunks.find(target);
    if (answer == chunks.end() || !answer->second.contains(index)) continue;
    const Stamp& stamp = stamps[target] = answer->second.at(index);
    if (stamp.first == 0) return;  // stamps without an epoch say nothing
    newest = std::max(newest, stamp);
  }
  for (const auto& [target, stamp] : stamps) {
    if (stamp != newest) problems->stale[target].push_back(index);
  }
}

void ChunkCheck::KeepSettled(const Suspect& first, const ChunksByTarget& now, Problems* problems) {
  const auto has_moved = [&](uint32_t index) {
    return std::ranges::any_of(now, [&](const auto& answer) {
      const auto stamp = answer.second.find(index);
      if (stamp == answer.second.end()) return false;
      const auto before = first.chunks.find(answer.first);
      if (before == first.chunks.end()) return true;
      const auto stamp_before = before->second.find(index);
      return stamp_before == before->second.end() || stamp_before->second != stamp->second;
    });
  };
  for (auto& [target, indexes] : problems->stale) std::erase_if(indexes, has_moved);
  std::erase_if(problems->stale, [](const auto& entry) { return entry.second.empty(); });
}

ChunkCheck::Problems ChunkCheck::Judge(Asked& asked) const {
  MutexLock lock(asked.mutex);
  Problems problems;
  const proto::Attributes& file = asked.file;
  const FileLayout layout = FromProto(file.layout());
  const uint64_t end = ChunkIndexEnd(layout, file.size_bytes());
  for (uint64_t index = 0; index < end; ++index) {
    if (ChunkBytesForFileSize(layout, static_cast<uint32_t>(index), file.size_bytes()) == 0) continue;
    ++problems.expected;
    JudgeChunk(file.layout(), asked.chunks, static_cast<uint32_t>(index), &problems);
  }
  const uint32_t last = PieceAt(layout, file.size_bytes() - 1, 1).chunk_index;
  problems.last_is_missing = std::ranges::find(problems.missing, last) != problems.missing.end();
  return problems;
}

Status ChunkCheck::FirstLook() {
  for (const auto& asked : AskAbout(&waiting_)) {
    const Problems problems = Judge(*asked);
    chunks_checked_ += problems.expected;
    for (const uint64_t target : TargetsOf(asked->file.layout())) {
      MutexLock lock(asked->mutex);
      if (!asked->chunks.contains(target) && !retired_.contains(target)) ++unanswered_[target];
    }
    if (problems.empty()) continue;
    MutexLock lock(asked->mutex);
    suspects_.push_back({InodeId(asked->file.inode()), asked->file.data_id(), std::move(asked->chunks)});
  }
  return suspects_.size() < kFilesPerRound ? Status::Ok() : SecondLook();
}

Status ChunkCheck::SecondLook() {
  if (suspects_.empty()) return Status::Ok();
  std::this_thread::sleep_for(std::chrono::milliseconds(options_.second_look_ms));
  AdoptMap();
  std::vector<proto::Attributes> files;
  std::map<uint64_t, Suspect> suspects;  // by data id
  for (Suspect& suspect : suspects_) {
    ASSIGN_OR_RETURN(auto now, ReadInode(LatestView(store_), suspect.inode));
    if (!now || !HasData(*now)) continue;
    files.push_back(std::move(*now));
    suspects[suspect.data_id] = std::move(suspect);
  }
  suspects_.clear();
  for (const auto& asked : AskAbout(&files)) {
    Problems problems = Judge(*asked);
    const proto::Attributes& file = asked->file;
    {
      MutexLock lock(asked->mutex);
      KeepSettled(suspects[file.data_id()], asked->chunks, &problems);
    }
    // Removed, replaced or cut while it was asked about: its chunks go.
    ASSIGN_OR_RETURN(const auto now, ReadInode(LatestView(store_), InodeId(file.inode())));
    if (!now || now->data_id() != file.data_id() || now->truncate_generation() != file.truncate_generation()) continue;
    Report(file, problems);
  }
  return Status::Ok();
}

void ChunkCheck::Report(const proto::Attributes& file, const Problems& problems) {
  const std::string name = "inode " + std::to_string(file.inode()) + " of volume " + std::to_string(file.volume()) +
                           ", data " + std::to_string(file.data_id()) + ", " + std::to_string(file.size_bytes()) +
                           " bytes: ";
  const auto some = [&](const std::vector<uint32_t>& indexes) {
    std::string text =
        std::to_string(indexes.size()) + " of " + std::to_string(problems.expected) + " chunks, index";
    for (size_t i = 0; i < std::min(indexes.size(), kChunksNamedMax); ++i) text += " " + std::to_string(indexes[i]);
    return text;
  };
  for (const auto& [target, indexes] : problems.lacks)
    ReportBehind(file, "missing-copy", name + "target " + std::to_string(target) + " lacks " + some(indexes), target, indexes);
  for (const auto& [target, indexes] : problems.stale)
    ReportBehind(file, "stale-copy", name + "target " + std::to_string(target) + " has an older state of " + some(indexes), target, indexes);
  if (problems.missing.empty()) return;
  const std::string lost = "; there is no copy to repair it from";
  if (problems.missing.size() == problems.expected) {
    options_.found({.kind = "missing-data", .what = name + "no chunk server has any of it" + lost, .is_damage = true});
  } else if (WrittenInOneGo(file) && problems.last_is_missing) {
    options_.found({.kind = "missing-chunk", .what = name + some(problems.missing) + lost, .is_damage = true});
  } else {
    options_.found({.kind = "hole-or-lost", .what = name + some(problems.missing), .is_damage = false});
  }
}

void ChunkCheck::ReportBehind(const proto::Attributes& file, const char* kind, const std::string& what, uint64_t target,
                              const std::vector<uint32_t>& indexes) {
  ChunkFinding finding{.kind = kind, .what = what, .is_damage = true, .inode = InodeId(file.inode()), .target = target};
  for (const uint32_t index : indexes) finding.groups.insert(GroupOf(file.layout(), ColumnOfChunk(FromProto(file.layout()), index))->id());
  options_.found(std::move(finding));
}

Status ChunkCheck::Finish() {
  RETURN_IF_ERROR(FirstLook());
  RETURN_IF_ERROR(SecondLook());
  for (const auto& [target, files] : unanswered_) {
    options_.found({.kind = "unreachable-target",
                    .what = "target " + std::to_string(target) + " did not answer: " + std::to_string(files) +
                            " files could not be checked there",
                    .is_damage = true});
  }
  return Status::Ok();
}

}  // namespace tarn::meta
