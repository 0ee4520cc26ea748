// What every command gets from main: which cluster, how to print, where the sibling programs are.
// Immutable after construction.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/filesystem.h"
#include "common/base/status.h"

namespace tarn::cli {

struct Context {
  std::string meta;           // --meta, or TARN_META: HOST:PORT[,HOST:PORT...]; empty: not given
  std::string dev_directory;  // --dir of a dev cluster; empty: not given
  bool json = false;
  std::string binary_directory;  // where `tarn` itself lies, and its sibling programs with it
  bool terminal = false;         // stderr is a terminal: progress bars are welcome
};

// VOLUME:/PATH with an optional @HOST:PORT,.. behind the volume: "default:/a/b", "default@127.0.0.1:7400:/a". The path may be absent.
struct VolumePath {
  std::string volume;
  std::string path;                  // "/a/b", "/" if absent; a trailing '/' is kept
  std::vector<std::string> servers;  // empty: not given
};

// kInvalidArgument with what was expected.
Result<VolumePath> ParseVolumePath(const std::string& text);

// The metadata servers meant: the path's own, --meta, TARN_META or the dev cluster of --dir, in this order.
// kInvalidArgument if none is given, naming the ways.
Result<std::vector<std::string>> MetaserverAddresses(const Context& context, const std::vector<std::string>& own = {});

// Connects to the volume. Blocks.
Result<std::unique_ptr<client::Filesystem>> OpenFilesystem(const Context& context, const VolumePath& where, uint64_t memory_limit_bytes = 1ull << 30);

}  // namespace tarn::cli
