#include "cli/commands/node.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/admin.h"
#include "cli/dev/process.h"
#include "cli/commands/target_format.h"
#include "cli/output.h"
#include "common/base/clock.h"

namespace tarn::cli {
namespace {

constexpr int64_t kPollMs = 500;
// What moved in the last seconds gives the rate.
constexpr int64_t kRateWindowMs = 5'000;

nlohmann::ordered_json ToJson(const client::NodeInfo& node) {
  nlohmann::ordered_json json{{"node", node.name},          {"zone", node.zone},
                              {"draining", node.draining},  {"placement_groups", node.groups_left},
                              {"bytes_left", node.bytes_left}, {"targets", nlohmann::json::array()}};
  for (const client::ChunkserverStatus& target : node.targets) {
    json["targets"].push_back({{"target", target.target_id},
                               {"server", target.server_id},
                               {"address", target.address},
                               {"class", target.target_class},
                               {"state", target.state},
                               {"capacity_bytes", target.capacity_bytes},
                               {"used_bytes", target.used_bytes},
                               {"available_bytes", target.available_bytes}});
    AddUse(target, &json["targets"].back());
  }
  return json;
}

// Of the targets of a node: one word if they agree.
std::string StateOf(const client::NodeInfo& node) {
  if (node.targets.empty()) return "-";
  const std::string& first = node.targets.front().state;
  const bool same = std::all_of(node.targets.begin(), node.targets.end(), [&](const client::ChunkserverStatus& target) { return target.state == first; });
  return same ? first : "mixed";
}

std::string ClassOf(const client::NodeInfo& node) {
  if (node.targets.empty()) return "-";
  const std::string& first = node.targets.front().target_class;
  const bool same = std::all_of(node.targets.begin(), node.targets.end(), [&](const client::ChunkserverStatus& target) { return target.target_class == first; });
  return same ? first : "mixed";
}

void PrintNode(const Context& context, const client::NodeInfo& node) {
  if (context.json) {
    std::printf("%s\n", ToJson(node).dump(2).c_str());
  } else if (!node.draining) {
    std::printf("node %s takes data\n", node.name.c_str());
  } else if (node.groups_left == 0) {
    std::printf("node %s is drained: nothing is left on it\n", node.name.c_str());
  } else {
    std::printf("node %s is being drained: %u placement groups, about %s are left (`tarn node list`)\n", node.name.c_str(), node.groups_left, HumanBytes(node.bytes_left).c_str());
  }
}

Result<client::NodeInfo> FindNode(client::AdminClient& admin, const std::string& name) {
  ASSIGN_OR_RETURN(const std::vector<client::NodeInfo> nodes, admin.ListNodes());
  const auto found = std::find_if(nodes.begin(), nodes.end(), [&](const client::NodeInfo& node) { return node.name == name; });
  if (found == nodes.end()) return Status(StatusCode::kNotFound, "node " + name + " is gone");
  return *found;
}

Result<client::NodeInfo> AwaitDrained(const Context& context, client::AdminClient& admin, client::NodeInfo node) {
  const SystemClock clock;
  const uint64_t total = node.bytes_left;
  uint64_t window_bytes = node.bytes_left;
  int64_t window_ms = clock.MonotonicMs();
  uint64_t rate = 0;
  while (node.groups_left != 0) {
    PauseMs(kPollMs);
    ASSIGN_OR_RETURN(node, FindNode(admin, node.name));
    if (!node.draining) return Status(StatusCode::kCancelled, "node " + node.name + " is not drained any more: somebody took it back");
    const int64_t now_ms = clock.MonotonicMs();
    if (now_ms - window_ms >= kRateWindowMs) {
      rate = window_bytes > node.bytes_left ? (window_bytes - node.bytes_left) * 1'000 / static_cast<uint64_t>(now_ms - window_ms) : 0;
      window_bytes = node.bytes_left;
      window_ms = now_ms;
    }
    if (!context.terminal) continue;
    const uint64_t done = total > node.bytes_left ? total - node.bytes_left : 0;
    std::fprintf(stderr, "\r%s, %u placement groups  ", CopyProgressLine(done, total, rate, rate == 0 ? 0 : node.bytes_left / rate).c_str(), node.groups_left);
  }
  if (context.terminal) std::fprintf(stderr, "\n");
  return node;
}

}  // namespace

Status RunNodeList(const Context& context) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const std::vector<client::NodeInfo> nodes, admin->ListNodes());
  if (context.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const client::NodeInfo& node : nodes) json.push_back(ToJson(node));
    std::printf("%s\n", json.dump(2).c_str());
    return Status::Ok();
  }
  std::vector<std::vector<std::string>> rows{{"NODE", "ZONE", "TARGETS", "CLASS", "STATE", "USED", "AVAILABLE", "GROUPS"}};
  for (const client::NodeInfo& node : nodes) {
    uint64_t used = 0;
    uint64_t available = 0;
    for (const client::ChunkserverStatus& target : node.targets) {
      used += target.used_bytes;
      available += target.available_bytes;
    }
    rows.push_back({node.name, node.zone.empty() ? "-" : node.zone, std::to_string(node.targets.size()), ClassOf(node), node.draining && node.groups_left == 0 ? "drained" : StateOf(node),
                    HumanBytes(used), HumanBytes(available), std::to_string(node.groups_left)});
  }
  std::printf("%s", FormatTable(rows).c_str());
  return Status::Ok();
}

Status RunNodeDrain(const Context& context, const NodeDrainOptions& options) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(client::NodeInfo node, admin->DrainNode(options.node, options.force));
  if (options.wait) {
    ASSIGN_OR_RETURN(node, AwaitDrained(context, *admin, node));
  }
  PrintNode(context, node);
  return Status::Ok();
}

Status RunNodeRemove(const Context& context, const NodeRemoveOptions& options) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const client::NodeInfo node, admin->RemoveNode(options.node, options.accept_data_loss));
  PrintNode(context, node);
  return Status::Ok();
}

Status RunNodeUncordon(const Context& context, const std::string& name) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const client::NodeInfo node, admin->UncordonNode(name));
  PrintNode(context, node);
  return Status::Ok();
}

}  // namespace tarn::cli
