// tarn node list | drain | uncordon | remove: the nodes whose disks the cluster pools.
#pragma once

#include <string>

#include "cli/context.h"

namespace tarn::cli {

struct NodeDrainOptions {
  std::string node;
  bool wait = false;   // return when nothing is left on it
  bool force = false;  // also if not everything can be moved off now
};

struct NodeRemoveOptions {
  std::string node;
  bool accept_data_loss = false;  // also if something has its last current copy there
};

Status RunNodeList(const Context& context);
Status RunNodeDrain(const Context& context, const NodeDrainOptions& options);
Status RunNodeRemove(const Context& context, const NodeRemoveOptions& options);
Status RunNodeUncordon(const Context& context, const std::string& node);

}  // namespace tarn::cli
