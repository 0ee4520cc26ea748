#include "common/obs/logging.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <memory>
#include <string_view>
#include <utility>

namespace tarn::obs {
namespace {

Result<spdlog::level::level_enum> ParseLevel(const std::string& name) {
  using spdlog::level::level_enum;
  static constexpr std::array<std::pair<std::string_view, level_enum>, 5> kLevels = {{
      {"trace", level_enum::trace},
      {"debug", level_enum::debug},
      {"info", level_enum::info},
      {"warn", level_enum::warn},
      {"error", level_enum::err},
  }};
  for (const auto& [level_name, level] : kLevels) {
    if (level_name == name) return level;
  }
  return Status(StatusCode::kInvalidArgument, "log level '" + name + "' is not one of trace, debug, info, warn, error");
}

}  // namespace

Status SetUpLogging(const LogOptions& options) {
  ASSIGN_OR_RETURN(const spdlog::level::level_enum level, ParseLevel(options.level));
  try {
    spdlog::sink_ptr sink;
    if (options.file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file);
    }
    auto logger = std::make_shared<spdlog::logger>(options.program, std::move(sink));
    logger->set_level(level);
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %n[%P] %v", spdlog::pattern_time_type::utc);
    // Logs are rare (nothing per I/O), and the last lines before a crash are the ones that matter.
    logger->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(std::move(logger));
  } catch (const spdlog::spdlog_ex& error) {
    return Status(StatusCode::kIoError,
                  "cannot log to " + (options.file.empty() ? "stderr" : options.file) + ": " + error.what());
  }
  return Status::Ok();
}

}  // namespace tarn::obs
