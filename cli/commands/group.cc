#include "cli/commands/group.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/admin.h"
#include "cli/output.h"

namespace tarn::cli {
namespace {

nlohmann::ordered_json ToJson(const client::GroupInfo& group) {
  return {{"group", group.id},          {"health", group.health},   {"replicas", group.replicas},     {"epoch", group.epoch}, {"in_sync", group.in_sync},
          {"syncing", group.syncing},   {"bytes", group.bytes},     {"used", group.used},             {"promotable", group.promotable}};
}

std::string ListOf(const std::vector<uint64_t>& targets) {
  std::string text;
  for (const uint64_t target : targets) text += (text.empty() ? "" : ",") + std::to_string(target);
  return text.empty() ? "-" : text;
}

}  // namespace

Status RunGroupList(const Context& context, bool unhealthy_only) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const std::vector<client::GroupInfo> groups, admin->ListGroups(unhealthy_only));
  if (context.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const client::GroupInfo& group : groups) json.push_back(ToJson(group));
    std::printf("%s\n", json.dump(2).c_str());
    return Status::Ok();
  }
  std::vector<std::vector<std::string>> rows{{"GROUP", "HEALTH", "COPIES", "IN-SYNC", "SYNCING", "PROMOTABLE", "BYTES", "USED"}};
  for (const client::GroupInfo& group : groups) {
    rows.push_back({std::to_string(group.id), group.health, std::to_string(group.replicas), ListOf(group.in_sync), ListOf(group.syncing), ListOf(group.promotable),
                    HumanBytes(group.bytes), group.used ? "yes" : "no"});
  }
  std::printf("%s", FormatTable(rows).c_str());
  return Status::Ok();
}

Status RunGroupPromote(const Context& context, const GroupPromoteOptions& options) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const client::GroupInfo group, admin->PromoteMember(options.group, options.target, options.accept_data_loss));
  if (context.json) {
    std::printf("%s\n", ToJson(group).dump(2).c_str());
  } else {
    std::printf("placement group %u goes on from the copy on target %lu; what only others had is given up: `tarn fsck` shows what is missing\n", group.id,
                static_cast<unsigned long>(options.target));
  }
  return Status::Ok();
}

}  // namespace tarn::cli
