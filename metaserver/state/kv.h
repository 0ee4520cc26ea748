// The ordered key-value seam under the state machine: RocksDB in production, memory in tests and in the simulator.
//
// Keys and values are bytes; keys order as unsigned bytes. A batch is applied whole or not at all. What was written is
// visible at once but survives a crash only once it has been flushed; a crash falls back to some earlier batch boundary
// (never between two keys of a batch).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace tarn::meta {

// A consistent view: what was written before it was made, nothing later. Thread-compatible.
class KvView {
 public:
  virtual ~KvView() = default;
  // nullopt: no such key. An error is the storage's (kCorruption, kIoError).
  virtual Result<std::optional<std::string>> Get(std::string_view key) const = 0;
  // Visits keys with `prefix` in order, from the first one >= `from` (`from` itself starts with the prefix, or is
  // empty: from the start), until the visitor returns false.
  virtual Status Scan(std::string_view prefix, std::string_view from,
                      const std::function<bool(std::string_view key, std::string_view value)>& visit) const = 0;
};

// An ordered list of changes. Thread-compatible.
struct KvBatch {
  struct Change {
    std::string key;
    std::optional<std::string> value;  // nullopt: delete
    bool is_new = false;               // before the batch there was no such key for certain
  };
  std::vector<Change> changes;
};

// Reads are thread-safe; writes come from one thread.
class KvStore {
 public:
  virtual ~KvStore() = default;
  virtual std::unique_ptr<KvView> View() const = 0;
  // The latest value, without the cost of a view.
  virtual Result<std::optional<std::string>> Get(std::string_view key) const = 0;
  // As a view's that is made now.
  virtual Status Scan(std::string_view prefix, std::string_view from,
                      const std::function<bool(std::string_view key, std::string_view value)>& visit) const {
    return View()->Scan(prefix, from, visit);
  }
  virtual Status Write(const KvBatch& batch) = 0;
  // Everything written so far is on stable storage when it returns. Blocks; any thread.
  virtual Status Flush() = 0;
  // A consistent copy in a new directory (RocksDB: hard links). Blocks.
  virtual Status Checkpoint(const std::string& directory) = 0;
};

}  // namespace tarn::meta
