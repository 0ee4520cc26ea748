#include "chunkserver/service/cluster_view.h"

#include <utility>
#include <vector>

namespace tarn::chunk {

ClusterView::ClusterView(const TargetSet* targets, std::function<void(const MapPtr&)> on_map)
    : targets_(targets), on_map_(std::move(on_map)), map_(std::make_shared<proto::ClusterMap>()), groups_(std::make_shared<GroupTable>()) {}

std::shared_ptr<const GroupTable> ClusterView::groups() const {
  MutexLock lock(mutex_);
  return groups_;
}

ClusterView::MapPtr ClusterView::map() const {
  MutexLock lock(mutex_);
  return map_;
}

void ClusterView::Adopt(const proto::ClusterMap& map) {
  std::vector<TargetId> own;
  for (const auto& target : targets_->targets()) {
    if (target->id().valid()) own.push_back(target->id());
  }
  auto groups = std::make_shared<const GroupTable>(map, own);
  auto copy = std::make_shared<const proto::ClusterMap>(map);
  if (copy->version() < this->map()->version()) return;
  // First: what this view says is here, which heartbeats tell, everybody has.
  on_map_(copy);
  MutexLock lock(mutex_);
  if (copy->version() < map_->version()) return;
  map_ = std::move(copy);
  groups_ = std::move(groups);
}

}  // namespace tarn::chunk
