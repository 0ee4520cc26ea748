// CHECK: ends the process on a mistake of our own, in every build type.
//
// Never for input: bytes from disk, network or a user give a Status (common/base/status.h).
// Thread-safe.
#pragma once

#include <string_view>

namespace tarn {

// Prints file, line, condition and reason to stderr, then aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, std::string_view why);

}  // namespace tarn

#define CHECK(condition, why)                                     \
  do {                                                            \
    if (!(condition)) [[unlikely]] {                              \
      ::tarn::CheckFailed(__FILE__, __LINE__, #condition, (why)); \
    }                                                             \
  } while (false)
