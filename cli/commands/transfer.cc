#include "cli/commands/transfer.h"

#include "cli/progress.h"
#include "cli/transfer/get_job.h"
#include "cli/transfer/put_job.h"
#include "cli/transfer/transfer_report.h"
#include "common/base/clock.h"

namespace tarn::cli {

Status RunPut(const Context& context, const PutOptions& options) {
  if (options.arguments.size() < 2) return Status(StatusCode::kInvalidArgument, "put needs at least one source and VOLUME:/PATH");
  const std::vector<std::string> sources(options.arguments.begin(), options.arguments.end() - 1);
  ASSIGN_OR_RETURN(const VolumePath where, ParseVolumePath(options.arguments.back()));
  ASSIGN_OR_RETURN(const auto filesystem, OpenFilesystem(context, where));
  const SystemClock clock;
  TransferCounters counters;
  TransferReport report("put", &counters);
  const int64_t started_ms = clock.MonotonicMs();
  {
    const ProgressBar progress(&counters, &clock, context.terminal && !context.json);
    PutPolicy policy;
    policy.compare_contents = options.checksum;
    policy.uploaders = options.workers;
    PutJob job(filesystem.get(), policy, &report, &counters);
    RETURN_IF_ERROR(job.Run(sources, where.path));
  }
  return report.Finish(context, clock.MonotonicMs() - started_ms);
}

Status RunGet(const Context& context, const GetOptions& options) {
  ASSIGN_OR_RETURN(const VolumePath where, ParseVolumePath(options.source));
  ASSIGN_OR_RETURN(const auto filesystem, OpenFilesystem(context, where));
  const SystemClock clock;
  TransferCounters counters;
  TransferReport report("get", &counters);
  const int64_t started_ms = clock.MonotonicMs();
  {
    const ProgressBar progress(&counters, &clock, context.terminal && !context.json);
    GetJob job(filesystem.get(), options.workers, &report, &counters);
    RETURN_IF_ERROR(job.Run(where.path, options.destination));
  }
  return report.Finish(context, clock.MonotonicMs() - started_ms);
}

}  // namespace tarn::cli
