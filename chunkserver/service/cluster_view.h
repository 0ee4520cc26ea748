// The newest cluster map that a chunk server has, for everybody in it.
#pragma once

#include <functional>
#include <memory>

#include "chunkserver/service/group_table.h"
#include "chunkserver/service/target_set.h"
#include "common/base/mutex.h"
#include "proto/cluster.pb.h"

namespace tarn::chunk {

// Thread-safe.
class ClusterView {
 public:
  using MapPtr = std::shared_ptr<const proto::ClusterMap>;

  // `targets` outlives it. `on_map` runs with every map before it shows here, on the thread that brought it; maps that come
  // at the same time may be told in the wrong order.
  ClusterView(const TargetSet* targets, std::function<void(const MapPtr&)> on_map);
  ClusterView(const ClusterView&) = delete;
  ClusterView& operator=(const ClusterView&) = delete;

  // Never null; version 0 until registered.
  std::shared_ptr<const GroupTable> groups() const;
  MapPtr map() const;

  // An older one is passed over. One of the same version is not: a target may have got its id since.
  void Adopt(const proto::ClusterMap& map);

 private:
  const TargetSet* const targets_;
  const std::function<void(const MapPtr&)> on_map_;

  mutable Mutex mutex_;
  MapPtr map_ GUARDED_BY(mutex_);
  std::shared_ptr<const GroupTable> groups_ GUARDED_BY(mutex_);
};

}  // namespace tarn::chunk
