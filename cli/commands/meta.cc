#include "cli/commands/meta.h"

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/admin.h"
#include "cli/dev/process.h"
#include "cli/output.h"
#include "common/base/clock.h"

namespace tarn::cli {
namespace {

constexpr int64_t kTransferTimeoutMs = 10'000;
constexpr int64_t kPollMs = 50;

std::string Join(const std::vector<client::MetaserverStatus>& servers) {
  std::string text;
  for (const client::MetaserverStatus& server : servers) text += (text.empty() ? "" : ",") + server.address;
  return text;
}

nlohmann::ordered_json ToJson(const client::MetaserverGroup& group) {
  nlohmann::ordered_json json{{"leader", group.leader}, {"term", group.term}, {"metaservers", nlohmann::json::array()}};
  for (const client::MetaserverStatus& server : group.metaservers) {
    json["metaservers"].push_back({{"id", server.id},
                                   {"address", server.address},
                                   {"role", server.role},
                                   {"pid", server.pid},
                                   {"applied_entries", server.applied_entries},
                                   {"heard_ns", server.heard_ns}});
  }
  return json;
}

}  // namespace

Status RunMetaList(const Context& context) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const client::MetaserverGroup group, admin->ListMetaservers());
  if (context.json) {
    std::printf("%s\n", ToJson(group).dump(2).c_str());
    return Status::Ok();
  }
  std::vector<std::vector<std::string>> rows{{"METASERVER", "ADDRESS", "ROLE", "PID", "ENTRIES", "HEARD OF"}};
  for (const client::MetaserverStatus& server : group.metaservers) {
    rows.push_back({std::to_string(server.id), server.address, server.role, server.pid == 0 ? "-" : std::to_string(server.pid),
                    std::to_string(server.applied_entries), server.heard_ns == 0 ? "never" : HumanTime(server.heard_ns)});
  }
  std::printf("%s", FormatTable(rows).c_str());
  return Status::Ok();
}

Status RunMetaAdd(const Context& context) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const client::MetaserverGroup group, admin->ListMetaservers());
  const std::vector<std::string> command{"tarn-metaserver", "--dir", "DIR", "--listen", "HOST:PORT", "--join", Join(group.metaservers)};
  if (context.json) {
    std::printf("%s\n", nlohmann::ordered_json{{"added", false}, {"command", command}}.dump(2).c_str());
    return Status::Ok();
  }
  std::printf("Nothing was added: a metadata server joins by itself. Start it where it is to run, with an empty directory:\n ");
  for (const std::string& word : command) std::printf(" %s", word.c_str());
  std::printf("\nIt gets a vote once it has caught up (`tarn meta list`). Add --replaces ID to take the place of a lost one.\n");
  return Status::Ok();
}

Status RunMetaRemove(const Context& context, uint64_t id) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  RETURN_IF_ERROR(admin->RemoveMetaserver(id));
  if (context.json) {
    std::printf("{\"removed\": true}\n");
  } else {
    std::printf("metadata server %lu leaves the group; its directory is of no use any more\n", static_cast<unsigned long>(id));
  }
  return Status::Ok();
}

Status RunMetaTransfer(const Context& context, uint64_t id) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(client::MetaserverGroup group, admin->ListMetaservers());
  const uint64_t before = group.leader;
  if (id != before) RETURN_IF_ERROR(admin->TransferLeadership(id));
  const SystemClock clock;
  const int64_t deadline_ms = clock.MonotonicMs() + kTransferTimeoutMs;
  for (;;) {
    const Result<client::MetaserverGroup> now = admin->ListMetaservers();
    if (now.ok()) group = *now;
    if (now.ok() && (id == 0 ? group.leader != before : group.leader == id)) break;
    if (clock.MonotonicMs() >= deadline_ms) return Status(StatusCode::kTimeout, "leadership was not handed over");
    PauseMs(kPollMs);
  }
  if (context.json) {
    std::printf("%s\n", ToJson(group).dump(2).c_str());
  } else {
    std::printf("metadata server %lu leads\n", static_cast<unsigned long>(group.leader));
  }
  return Status::Ok();
}

}  // namespace tarn::cli
