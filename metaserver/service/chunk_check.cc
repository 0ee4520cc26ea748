#include "metaserver/service/chunk_check.h"

#include <algorithm>
#include <future>
#include <set>
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
constexpr int kChunksNamedMax = 4;  // of one file

FileLayout FromProto(const proto::Layout& layout) {
  return FileLayout{.group_set = GroupSetVersion(layout.group_set_version()),
                    .seed = layout.seed(),
                    .stripe_unit_bytes = layout.stripe_unit_bytes(),
                    .width = layout.width(),
                    .chunk_size_bytes = layout.chunk_size_bytes()};
}

}  // namespace

// What is known of one file's chunks.
struct ChunkCheck::Asked {
  proto::Attributes file;
  Mutex mutex;
  std::set<uint32_t> chunks GUARDED_BY(mutex);
  std::vector<uint64_t> silent GUARDED_BY(mutex);  // targets
};

ChunkCheck::ChunkCheck(const KvStore* store, proto::ClusterMap map, rpc::EventLoop* loop, Found found)
    : store_(store), map_(std::move(map)), loop_(loop), found_(std::move(found)) {
  for (const proto::Target& target : map_.targets()) addresses_[target.id()] = target.address();
}

ChunkCheck::~ChunkCheck() {
  for (const auto& [address, client] : clients_) client->Close();
}

std::vector<uint64_t> ChunkCheck::TargetsOf(const proto::Layout& layout) const {
  std::set<uint64_t> targets;
  const auto group_set = std::ranges::find(map_.group_sets(), layout.group_set_version(), &proto::GroupSet::version);
  if (group_set == map_.group_sets().end() || group_set->groups().empty()) return {};
  const auto group_count = static_cast<uint32_t>(group_set->groups_size());
  for (uint32_t column = 0; column < std::min(layout.width(), group_count); ++column) {
    const uint32_t id = group_set->groups(static_cast<int>(GroupIndexOfColumn(FromProto(layout), column, group_count)));
    const auto group = std::ranges::find(map_.groups(), id, &proto::PlacementGroup::id);
    if (group != map_.groups().end()) targets.insert(group->targets().begin(), group->targets().end());
  }
  return {targets.begin(), targets.end()};
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
  if (file.type() != proto::FILE_TYPE_REGULAR || file.data_id() == 0 || file.size_bytes() == 0) return Status::Ok();
  waiting_.push_back(file);
  return waiting_.size() < kFilesPerRound ? Status::Ok() : AskAboutAll();
}

Status ChunkCheck::AskAboutAll() {
  std::vector<std::shared_ptr<Asked>> round;
  std::vector<std::future<void>> answers;
  for (proto::Attributes& file : waiting_) {
    const auto asked = round.emplace_back(std::make_shared<Asked>());
    asked->file = std::move(file);
    for (const uint64_t target : TargetsOf(asked->file.layout())) {
      const auto client = ClientOf(target);
      if (client == nullptr) {
        MutexLock lock(asked->mutex);
        asked->silent.push_back(target);
        continue;
      }
      proto::StatDataRequest request;
      request.set_target(target);
      request.set_data_id(asked->file.data_id());
      const auto done = std::make_shared<std::promise<void>>();
      answers.push_back(done->get_future());
      rpc::CallOptions options;
      options.timeout_ms = kCallTimeoutMs;
      client->Call(rpc::Method::kStatData, request, options,
                   [asked, target, done](const rpc::Reply& reply) {
                     proto::StatDataReply chunks;
                     const bool answered = rpc::ParseReply(reply, &chunks).ok();
                     {
                       MutexLock lock(asked->mutex);
                       if (!answered) asked->silent.push_back(target);
                       for (const auto& chunk : chunks.chunks()) asked->chunks.insert(chunk.index());
                     }
                     done->set_value();
                   });
    }
  }
  waiting_.clear();
  for (std::future<void>& answer : answers) answer.wait();
  for (const auto& asked : round) RETURN_IF_ERROR(Judge(*asked));
  return Status::Ok();
}

Status ChunkCheck::Judge(Asked& asked) {
  MutexLock lock(asked.mutex);
  const proto::Attributes& file = asked.file;
  for (const uint64_t target : asked.silent) ++unanswered_[target];
  const FileLayout layout = FromProto(file.layout());
  const uint64_t end = ChunkIndexEnd(layout, file.size_bytes());
  std::vector<uint64_t> missing;
  uint64_t expected = 0;
  for (uint64_t index = 0; index < end; ++index) {
    if (ChunkBytesForFileSize(layout, static_cast<uint32_t>(index), file.size_bytes()) == 0) continue;
    ++expected;
    if (!asked.chunks.contains(static_cast<uint32_t>(index))) missing.push_back(index);
  }
  chunks_checked_ += expected;
  // What a server that does not answer may have is not missing.
  if (missing.empty() || !asked.silent.empty()) return Status::Ok();
  ASSIGN_OR_RETURN(const auto now, ReadInode(LatestView(store_), InodeId(file.inode())));
  if (!now || now->data_id() != file.data_id() || now->truncate_generation() != file.truncate_generation()) {
    return Status::Ok();
  }
  std::string what = "inode " + std::to_string(file.inode()) + " of volume " + std::to_string(file.volume()) +
                     ", data " + std::to_string(file.data_id()) + ", " + std::to_string(file.size_bytes()) + " bytes: ";
  if (missing.size() == expected) {
    found_("missing-data", what + "no chunk server has any of it");
    return Status::Ok();
  }
  what += std::to_string(missing.size()) + " of " + std::to_string(expected) + " chunks, index";
  for (size_t i = 0; i < std::min<size_t>(missing.size(), kChunksNamedMax); ++i)
    what += " " + std::to_string(missing[i]);
  found_("missing-chunk", what);
  return Status::Ok();
}

Status ChunkCheck::Finish() {
  RETURN_IF_ERROR(AskAboutAll());
  for (const auto& [target, files] : unanswered_) {
    found_("unreachable-target", "target " + std::to_string(target) + " did not answer: " + std::to_string(files) +
                                     " files could not be checked there");
  }
  return Status::Ok();
}

}  // namespace tarn::meta
