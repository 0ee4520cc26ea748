#include "bench/command_line.h"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

namespace tarn::bench {

namespace {

[[noreturn]] void PrintUsage(const char* usage, const std::map<std::string, std::string>& options, int status) {
  std::FILE* stream = status == 0 ? stdout : stderr;
  std::fprintf(stream, "%s\n\nOptions (with their defaults):\n", usage);
  for (const auto& [name, value] : options) {
    std::fprintf(stream, "  --%s %s\n", name.c_str(), value.c_str());
  }
  std::_Exit(status);
}

}  // namespace

CommandLine::CommandLine(int argc, char** argv, const char* usage, std::map<std::string, std::string> defaults)
    : values_(std::move(defaults)) {
  for (int i = 1; i < argc; i += 2) {
    const std::string argument = argv[i];
    if (argument == "--help") PrintUsage(usage, values_, 0);
    const auto option = argument.starts_with("--") ? values_.find(argument.substr(2)) : values_.end();
    if (option == values_.end() || i + 1 == argc) {
      std::fprintf(stderr, "unknown option or missing value: %s\n", argument.c_str());
      PrintUsage(usage, values_, 2);
    }
    option->second = argv[i + 1];
  }
}

const std::string& CommandLine::Text(const std::string& name) const { return values_.at(name); }

int64_t CommandLine::Number(const std::string& name) const {
  const std::string& text = Text(name);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value <= 0 ||
      value > std::numeric_limits<int32_t>::max()) {
    std::fprintf(stderr, "--%s must be a positive number, not '%s'\n", name.c_str(), text.c_str());
    std::exit(2);
  }
  return value;
}

void DieOfErrno(const char* what, const std::string& path) {
  std::fprintf(stderr, "%s %s: %s\n", what, path.c_str(), std::strerror(errno));
  // Other threads of the crew are still at work: no destructor may run under them.
  std::_Exit(1);
}

}  // namespace tarn::bench
