#include "cli/transfer/transfer_report.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/output.h"

namespace tarn::cli {
namespace {
constexpr uint64_t kErrorsPrintedMax = 50;
}

void TransferReport::Error(const std::string& path, const Status& status) {
  counters_->errors += 1;
  uint64_t number = 0;
  {
    MutexLock lock(mutex_);
    number = ++printed_;
  }
  if (number > kErrorsPrintedMax) return;
  std::fprintf(stderr, "tarn: %s: %s: %s\n", command_.c_str(), path.c_str(), status.message().c_str());
  if (number == kErrorsPrintedMax) std::fprintf(stderr, "tarn: %s: further errors are only counted\n", command_.c_str());
}

Status TransferReport::Finish(const Context& context, int64_t elapsed_ms) const {
  const double seconds = std::max(0.001, static_cast<double>(elapsed_ms) / 1000);
  const uint64_t files = counters_->files_done;
  const uint64_t bytes = counters_->bytes_done;
  const uint64_t errors = counters_->errors;
  if (context.json) {
    const nlohmann::ordered_json json{{"files", files},
                                      {"bytes", bytes},
                                      {"skipped_files", counters_->files_skipped.load()},
                                      {"skipped_bytes", counters_->bytes_skipped.load()},
                                      {"directories", counters_->directories.load()},
                                      {"symlinks", counters_->symlinks.load()},
                                      {"ignored_special_files", counters_->specials_ignored.load()},
                                      {"errors", errors},
                                      {"seconds", seconds},
                                      {"files_per_second", static_cast<double>(files) / seconds},
                                      {"bytes_per_second", static_cast<double>(bytes) / seconds}};
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s: %lu files, %s in %.1f s (%.0f files/s, %s/s); %lu unchanged, %lu directories, %lu symbolic links", command_.c_str(),
                static_cast<unsigned long>(files), HumanBytes(bytes).c_str(), seconds, static_cast<double>(files) / seconds,
                HumanBytes(static_cast<uint64_t>(static_cast<double>(bytes) / seconds)).c_str(), static_cast<unsigned long>(counters_->files_skipped.load()),
                static_cast<unsigned long>(counters_->directories.load()), static_cast<unsigned long>(counters_->symlinks.load()));
    if (const uint64_t ignored = counters_->specials_ignored; ignored > 0) std::printf(", %lu special files ignored", static_cast<unsigned long>(ignored));
    std::printf("\n");
  }
  if (errors > 0) return Status(StatusCode::kIoError, command_ + ": " + std::to_string(errors) + " of the files failed; the same command again resumes");
  return Status::Ok();
}

}  // namespace tarn::cli
