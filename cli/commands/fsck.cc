#include "cli/commands/fsck.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/admin.h"

namespace tarn::cli {
namespace {

// JSON text is UTF-8; a name that is not goes out with its bad bytes replaced.
std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

unsigned long Long(uint64_t number) { return static_cast<unsigned long>(number); }

void ShowProgress(const client::FsckEvent& event) {
  std::fprintf(stderr, "\r%lu inodes, %lu names, %lu chunks checked", Long(event.inodes_checked),
               Long(event.dentries_checked), Long(event.chunks_checked));
}

void PrintSummary(const Context& context, const client::FsckEvent& last,
                  const std::vector<client::FsckFinding>& findings) {
  if (context.json) {
    nlohmann::ordered_json json{
        {"inodes_checked", last.inodes_checked},      {"dentries_checked", last.dentries_checked},
        {"chunks_checked", last.chunks_checked},      {"findings_total", last.findings_total},
        {"repaired_total", last.repaired_total},      {"remaining_total", last.remaining_total},
        {"findings", nlohmann::ordered_json::array()}};
    for (const client::FsckFinding& finding : findings)
      json["findings"].push_back({{"kind", finding.kind}, {"what", finding.what}, {"repaired", finding.repaired}});
    std::printf("%s\n", Dump(json).c_str());
    return;
  }
  std::printf("%lu inodes, %lu names and %lu chunks checked: ", Long(last.inodes_checked), Long(last.dentries_checked),
              Long(last.chunks_checked));
  if (last.findings_total == 0) {
    std::printf("nothing wrong\n");
  } else {
    std::printf("%lu things wrong, %lu repaired, %lu left\n", Long(last.findings_total), Long(last.repaired_total),
                Long(last.remaining_total));
  }
}

}  // namespace

Status RunFsck(const Context& context, const FsckCommandOptions& options, int* exit_status) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  client::FsckEvent last;
  std::vector<client::FsckFinding> findings;  // the server names a bounded number
  const bool shows_progress = context.terminal && !context.json;
  RETURN_IF_ERROR(admin->Fsck({.volume = options.volume, .repair = options.repair, .skip_chunks = options.skip_chunks},
                              [&](const client::FsckEvent& event) {
                                if (shows_progress && event.findings.empty()) ShowProgress(event);
                                for (const client::FsckFinding& finding : event.findings) {
                                  if (context.json) {
                                    findings.push_back(finding);
                                  } else {
                                    std::printf("%s%s: %s%s\n", shows_progress ? "\r" : "", finding.kind.c_str(),
                                                finding.what.c_str(), finding.repaired ? " (repaired)" : "");
                                  }
                                }
                                last = event;
                              }));
  if (shows_progress) std::fprintf(stderr, "\r");
  PrintSummary(context, last, findings);
  *exit_status = last.remaining_total != 0 ? kExitDamaged : last.findings_total != 0 ? kExitRepaired : 0;
  return Status::Ok();
}

}  // namespace tarn::cli
