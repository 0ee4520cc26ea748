// The changes of one log entry before they are written: reads see them, and a command that fails is taken back alone.
//
// One thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metaserver/state/kv.h"
#include "metaserver/state/kv_overlay.h"

namespace tarn::meta {

// The newest state of a store, read without pinning it: two reads may lie on either side of a write. Thread-safe.
class LatestView final : public KvView {
 public:
  // `store` outlives the view.
  explicit LatestView(const KvStore* store) : store_(store) {}
  Result<std::optional<std::string>> Get(std::string_view key) const override { return store_->Get(key); }
  Status Scan(std::string_view prefix, std::string_view from,
              const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    return store_->Scan(prefix, from, visit);
  }

 private:
  const KvStore* const store_;
};

class Transaction final : public KvView {
 public:
  // `store` outlives the transaction and does not change meanwhile.
  explicit Transaction(const KvStore* store) : base_(store) {}
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  Result<std::optional<std::string>> Get(std::string_view key) const override;
  // The visitor must not change the transaction.
  Status Scan(std::string_view prefix, std::string_view from,
              const std::function<bool(std::string_view, std::string_view)>& visit) const override;

  void Put(std::string key, std::string value) { Change(std::move(key), std::move(value), /*is_new=*/false); }
  // For a key that the transaction is known not to have. Should it be deleted soon, the store may never hear of it.
  void PutNew(std::string key, std::string value) { Change(std::move(key), std::move(value), /*is_new=*/true); }
  void Delete(std::string key) { Change(std::move(key), std::nullopt, /*is_new=*/false); }

  // Everything changed after the latest savepoint can be taken back.
  void SetSavepoint() { undo_.clear(); }
  void RollbackToSavepoint();

  // The changes in key order; the transaction is used up.
  KvBatch TakeBatch() &&;

 private:
  struct Undo {
    std::string key;
    // What the overlay held for the key; nullopt: nothing.
    std::optional<KvOverlayValue> before;
  };

  void Change(std::string key, std::optional<std::string> value, bool is_new);

  LatestView base_;
  KvOverlay overlay_;
  std::vector<Undo> undo_;
};

}  // namespace tarn::meta
