// Asks the chunk servers whether they have the data that files point at.
//
// A chunk counts as there if any target of its placement group has it. Holes of whole chunks look like missing ones:
// findings of sparse files are for a person to judge. Nothing is changed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "metaserver/state/kv.h"
#include "proto/cluster.pb.h"
#include "proto/types.pb.h"

namespace tarn::meta {

// One thread.
class ChunkCheck {
 public:
  using Found = std::function<void(const char* kind, std::string what)>;

  // All outlive the check; `store` is asked whether a file is still what it was before it is reported.
  ChunkCheck(const KvStore* store, proto::ClusterMap map, rpc::EventLoop* loop, Found found);
  ~ChunkCheck();
  ChunkCheck(const ChunkCheck&) = delete;
  ChunkCheck& operator=(const ChunkCheck&) = delete;

  // Files are asked about many at a time: Finish asks about the rest.
  Status Add(const proto::Attributes& file);
  Status Finish();
  uint64_t chunks_checked() const { return chunks_checked_; }

 private:
  struct Asked;

  std::vector<uint64_t> TargetsOf(const proto::Layout& layout) const;
  std::shared_ptr<rpc::FrameClient> ClientOf(uint64_t target);
  Status AskAboutAll();
  Status Judge(Asked& asked);

  const KvStore* const store_;
  const proto::ClusterMap map_;
  rpc::EventLoop* const loop_;
  const Found found_;
  std::map<uint64_t, std::string> addresses_;  // target -> chunk server
  std::map<std::string, std::shared_ptr<rpc::FrameClient>> clients_;
  std::map<uint64_t, uint64_t> unanswered_;  // target -> files that could not be checked there
  std::vector<proto::Attributes> waiting_;
  uint64_t chunks_checked_ = 0;
};

}  // namespace tarn::meta
