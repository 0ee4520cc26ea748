// tarn put, tarn get.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace tarn::cli {

struct PutOptions {
  std::vector<std::string> arguments;  // SRC... VOLUME:/PATH
  bool checksum = false;
  uint32_t workers = 8;
};
struct GetOptions {
  std::string source;  // VOLUME:/PATH
  std::string destination;
  uint32_t workers = 16;
};

Status RunPut(const Context& context, const PutOptions& options);
Status RunGet(const Context& context, const GetOptions& options);

}  // namespace tarn::cli
