// A directory that goes with its owner.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "common/base/check.h"

namespace tarn::meta {

class TemporaryDirectory {
 public:
  TemporaryDirectory() { CHECK(mkdtemp(path_.data()) != nullptr, "a temporary directory can be made"); }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_ = std::filesystem::temp_directory_path() / "tarn-state-XXXXXX";
};

}  // namespace tarn::meta
