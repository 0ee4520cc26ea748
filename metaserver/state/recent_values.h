// What the apply thread reads again and again and seldom writes (volumes), so that it need not ask the store for it.
// What it writes again and again, DeferredWrites has in memory.
//
// A store in front of the real one, for the one thread that writes. It gives exactly what the store would: every value
// it remembers was written through it, or read when nothing newer was there. Bounded: a full memory is forgotten as a
// whole, and what is large is not kept.
//
// It also remembers where the keys of a queue begin. A queue is taken from the front, and what was taken lies there as
// deletions until the store cleans up: a scan from the start would pass over all of them each time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "metaserver/state/kv.h"

namespace tarn::meta {

// One thread.
class RecentValues final : public KvStore {
 public:
  // `store` outlives it and is written through it only.
  explicit RecentValues(KvStore* store) : store_(store) {}

  std::unique_ptr<KvView> View() const override { return store_->View(); }
  Result<std::optional<std::string>> Get(std::string_view key) const override;
  Status Scan(std::string_view prefix, std::string_view from,
              const std::function<bool(std::string_view, std::string_view)>& visit) const override;
  Status Write(const KvBatch& batch) override;
  Status Flush() override { return store_->Flush(); }
  Status Checkpoint(const std::string& directory) override { return store_->Checkpoint(directory); }

  // The store was replaced under it.
  void Forget();

 private:
  static constexpr size_t kValuesMax = 4096;
  static constexpr size_t kStartsMax = 256;
  static constexpr size_t kValueBytesMax = 1024;

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const { return std::hash<std::string_view>()(key); }
  };

  void Remember(const std::string& key, const std::optional<std::string>& value) const;
  // Before a key is written: its queue begins there at the latest.
  void LowerStart(std::string_view key);

  KvStore* const store_;
  mutable std::unordered_map<std::string, std::optional<std::string>, Hash, std::equal_to<>> values_;
  // By the prefix of a queue: no key of it lies before this one; nullopt: there is none.
  mutable std::unordered_map<std::string, std::optional<std::string>, Hash, std::equal_to<>> starts_;
};

}  // namespace tarn::meta
