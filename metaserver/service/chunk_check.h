// Asks the chunk servers whether they have the data that files point at, and whether every copy has it, in one state.
//
// No record says which chunks of a file were ever written, so a chunk that nobody has is a hole or is lost. It is lost
// for certain where the file's last byte lies in a file that was written in one go, and as good as certain where nothing
// at all of a file is left. A copy that an in-sync member lacks and another one has is no hole. Nor may in-sync members
// have different stamps of a chunk (docs/replication.md, I3), unless a change is just under way: so that counts only if
// none of them has moved between two looks.
//
// What looks wrong is looked at once more, some time later and with the map of then: writes and removals go on
// meanwhile. Nothing is changed. Memory: some hundred files at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "metaserver/state/kv.h"
#include "proto/cluster.pb.h"
#include "proto/types.pb.h"

namespace tarn::meta {

struct ChunkFinding {
  const char* kind;  // docs/cli.md
  std::string what;
  bool is_damage;  // false: it may be as it should
  // Of copies that are behind others, the file, and the target and groups where.
  InodeId inode = {};
  uint64_t target = 0;
  std::set<uint32_t> groups = {};
};

// One thread, which may block.
class ChunkCheck {
 public:
  struct Options {
    std::function<proto::ClusterMap()> map;  // the present one
    std::function<void(ChunkFinding)> found;
    int64_t second_look_ms = 1000;
  };

  // All outlive the check; `store` has the files as they are now.
  ChunkCheck(const KvStore* store, rpc::EventLoop* loop, Options options);
  ~ChunkCheck();
  ChunkCheck(const ChunkCheck&) = delete;
  ChunkCheck& operator=(const ChunkCheck&) = delete;

  // Files are asked about many at a time: Finish asks about the rest.
  Status Add(const proto::Attributes& file);
  Status Finish();
  uint64_t chunks_checked() const { return chunks_checked_; }

 private:
  using Stamp = std::pair<uint64_t, uint64_t>;                               // epoch (0: not known), version
  using ChunksByTarget = std::map<uint64_t, std::map<uint32_t, Stamp>>;  // of those that answered
  struct Asked;
  struct Suspect {
    InodeId inode;
    uint64_t data_id = 0;
    ChunksByTarget chunks;  // at the first look
  };
  struct Problems;

  void AdoptMap();
  // Of the chunk's placement group; null: there is no such group.
  const proto::PlacementGroup* GroupOf(const proto::Layout& layout, uint32_t column) const;
  std::set<uint64_t> TargetsOf(const proto::Layout& layout) const;
  std::shared_ptr<rpc::FrameClient> ClientOf(uint64_t target);
  // Empties `files`.
  std::vector<std::shared_ptr<Asked>> AskAbout(std::vector<proto::Attributes>* files);
  void AskTarget(const std::shared_ptr<Asked>& asked, uint64_t target, std::vector<std::future<void>>* answers);
  Problems Judge(Asked& asked) const;
  void JudgeChunk(const proto::Layout& layout, const ChunksByTarget& chunks, uint32_t index, Problems* problems) const;
  // In-sync members whose stamp is not the newest one.
  static void JudgeStamps(const proto::PlacementGroup& group, const ChunksByTarget& chunks, uint32_t index, Problems* problems);
  // Leaves out chunks that have changed since.
  static void KeepSettled(const Suspect& first, const ChunksByTarget& now, Problems* problems);
  Status FirstLook();
  Status SecondLook();
  void Report(const proto::Attributes& file, const Problems& problems);
  void ReportBehind(const proto::Attributes& file, const char* kind, const std::string& what, uint64_t target,
                    const std::vector<uint32_t>& indexes);

  const KvStore* const store_;
  rpc::EventLoop* const loop_;
  const Options options_;
  proto::ClusterMap map_;
  std::map<uint32_t, const proto::PlacementGroup*> groups_;
  std::map<uint32_t, const proto::GroupSet*> group_sets_;
  std::map<uint64_t, std::string> addresses_;  // target -> chunk server
  std::set<uint64_t> retired_;                 // which need not answer: they are gone for good, or will be
  std::map<std::string, std::shared_ptr<rpc::FrameClient>> clients_;
  std::map<uint64_t, uint64_t> unanswered_;  // target -> files that could not be checked there
  std::vector<proto::Attributes> waiting_;
  std::vector<Suspect> suspects_;
  uint64_t chunks_checked_ = 0;
};

}  // namespace tarn::meta
