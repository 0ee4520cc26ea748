#pragma once

// The little that the benchmark programs need of a command line: `--name value` pairs, all of them known beforehand.

#include <cstdint>
#include <map>
#include <string>

namespace tarn::bench {

// Immutable after construction.
class CommandLine {
 public:
  // `defaults` names every option with its default value. A wrong command line, or --help, prints `usage` with the
  // options and ends the program (status 2, or 0 for --help).
  CommandLine(int argc, char** argv, const char* usage, std::map<std::string, std::string> defaults);

  const std::string& Text(const std::string& name) const;
  // A positive number below 2^31; anything else ends the program with status 2.
  int64_t Number(const std::string& name) const;

 private:
  std::map<std::string, std::string> values_;
};

// Prints "what path: reason of errno" to stderr and ends the program with status 1.
[[noreturn]] void DieOfErrno(const char* what, const std::string& path);

}  // namespace tarn::bench
