#include "metaserver/state/deferred_writes.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/named_thread.h"

namespace tarn::meta {
namespace {

constexpr size_t kSealedMax = 8;  // each is looked into by every read of what is not newer
constexpr size_t kWaitFactor = 2;  // writes wait at so many times the changes that are due
constexpr size_t kEntryBytes = 128;  // of memory, beside key and value: about
// A letter and an id, as most keys begin: a directory's names, a session's results.
constexpr size_t kGroupBytes = 9;
constexpr size_t kGroupCounts = 1024;
constexpr size_t kTables = 32;  // the letters that keys begin with (keys.h)

struct Hash {
  using is_transparent = void;
  size_t operator()(std::string_view key) const { return std::hash<std::string_view>()(key); }
};

}  // namespace

// The newest value of each key that was written, by the key's first byte: a scan looks at keys of its kind only. One
// thread, or many that only read.
class DeferredWrites::Changes {
 public:
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  size_t bytes() const { return bytes_; }

  // Null: no change of that key.
  const KvOverlayValue* Find(std::string_view key) const {
    const Table& table = tables_[KindOf(key)];
    const auto found = table.find(key);
    return found != table.end() ? &found->second : nullptr;
  }

  void Add(const KvBatch::Change& change) {
    const size_t value_bytes = change.value ? change.value->size() : 0;
    Table& table = tables_[KindOf(change.key)];
    const auto found = table.find(change.key);
    if (found == table.end()) {
      // New and gone again within one batch: nobody has seen it.
      if (change.is_new && !change.value) return;
      table.emplace(change.key, KvOverlayValue{change.value, change.is_new});
      bytes_ += kEntryBytes + change.key.size() + value_bytes;
      Count(change.key, 1);
      return;
    }
    KvOverlayValue& known = found->second;
    bytes_ -= known.value ? known.value->size() : 0;
    if (known.is_new && !change.value) {
      bytes_ -= kEntryBytes + change.key.size();
      table.erase(found);
      Count(change.key, -1);
      return;
    }
    known.value = change.value;
    bytes_ += value_bytes;
  }

  // Those of `newer` on top.
  void AddAll(const Changes& newer) {
    for (const Table& table : newer.tables_) {
      for (const auto& [key, value] : table) Add({key, value.value, value.is_new});
    }
  }

  // Over what is in `overlay` already.
  void CopyTo(std::string_view prefix, std::string_view from, KvOverlay* overlay) const {
    if (prefix.size() >= kGroupBytes && groups_[GroupOf(prefix)] == 0) return;
    const auto copy = [&](const Table& table) {
      for (const auto& [key, value] : table) {
        if (key.starts_with(prefix) && key >= from) overlay->insert_or_assign(key, value);
      }
    };
    if (prefix.empty()) {
      std::ranges::for_each(tables_, copy);
    } else {
      copy(tables_[KindOf(prefix)]);
    }
  }

  // In key order: neighbours go into the store at less cost.
  KvBatch ToBatch() const {
    KvBatch batch;
    batch.changes.reserve(size_);
    for (const Table& table : tables_) {
      for (const auto& [key, value] : table) batch.changes.push_back({key, value.value, value.is_new});
    }
    std::ranges::sort(batch.changes, {}, &KvBatch::Change::key);
    return batch;
  }

 private:
  using Table = std::unordered_map<std::string, KvOverlayValue, Hash, std::equal_to<>>;

  static size_t KindOf(std::string_view key) { return key.empty() ? 0 : static_cast<unsigned char>(key[0]) % kTables; }
  static size_t GroupOf(std::string_view key) { return std::hash<std::string_view>()(key.substr(0, kGroupBytes)) % kGroupCounts; }

  void Count(std::string_view key, int delta) {
    size_ += static_cast<size_t>(delta);
    groups_[GroupOf(key)] += static_cast<uint32_t>(delta);
  }

  std::array<Table, kTables> tables_;
  size_t size_ = 0;
  size_t bytes_ = 0;
  // How many keys there are of the groups that share a place by their hash.
  std::vector<uint32_t> groups_ = std::vector<uint32_t>(kGroupCounts);
};

// Holds what was in memory when it was made, and the store as it was then or a little later: what had been written
// through meanwhile is the same.
class DeferredWrites::SealedView final : public KvView {
 public:
  SealedView(Sealed sealed, std::unique_ptr<KvView> below) : sealed_(std::move(sealed)), below_(std::move(below)) {}

  Result<std::optional<std::string>> Get(std::string_view key) const override {
    for (size_t i = sealed_.size(); i-- > 0;) {
      if (const KvOverlayValue* changed = sealed_[i]->Find(key)) return changed->value;
    }
    return below_->Get(key);
  }
  Status Scan(std::string_view prefix, std::string_view from,
              const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    KvOverlay overlay;
    for (const auto& changes : sealed_) changes->CopyTo(prefix, from, &overlay);
    if (overlay.empty()) return below_->Scan(prefix, from, visit);
    return ScanOverlaid(overlay, [&](const KvVisit& visit_below) { return below_->Scan(prefix, from, visit_below); }, prefix, from, visit);
  }

 private:
  const Sealed sealed_;
  const std::unique_ptr<KvView> below_;
};

DeferredWrites::DeferredWrites(KvStore* store, const Bounds& bounds)
    : store_(store), bounds_(bounds), recent_(std::make_unique<Changes>()) {
  writer_ = StartNamedThread("state write", [this] { RunWriter(); });
}

DeferredWrites::~DeferredWrites() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    writer_wake_.NotifyAll();
  }
  writer_.join();
}

std::unique_ptr<KvView> DeferredWrites::View() const {
  MutexLock lock(mutex_);
  while (failure_.ok() && !recent_->empty() && sealed_.size() >= kSealedMax) {
    wanted_number_ = std::max(wanted_number_, recent_number_ - 1);
    writer_wake_.NotifyOne();
    written_wake_.Wait(lock);
  }
  if (!recent_->empty()) Seal();
  if (IsDue()) writer_wake_.NotifyOne();
  // Under the lock: else what is written through next could be seen below, and not what came before it.
  std::unique_ptr<KvView> below = store_->View();
  if (sealed_.empty()) return below;
  return std::make_unique<SealedView>(sealed_, std::move(below));
}

Result<std::optional<std::string>> DeferredWrites::Get(std::string_view key) const {
  {
    MutexLock lock(mutex_);
    const KvOverlayValue* changed = recent_->Find(key);
    for (size_t i = sealed_.size(); changed == nullptr && i-- > 0;) changed = sealed_[i]->Find(key);
    if (changed != nullptr) return changed->value;
  }
  // What it has now is as new, or newer.
  return store_->Get(key);
}

Status DeferredWrites::Scan(std::string_view prefix, std::string_view from,
                            const std::function<bool(std::string_view, std::string_view)>& visit) const {
  KvOverlay overlay;
  std::unique_ptr<KvView> view;
  {
    MutexLock lock(mutex_);
    for (const auto& changes : sealed_) changes->CopyTo(prefix, from, &overlay);
    recent_->CopyTo(prefix, from, &overlay);
    // Under the lock: what leaves meanwhile must not be missed in both, nor anything newer be seen.
    if (!overlay.empty()) view = store_->View();
  }
  if (view == nullptr) return store_->Scan(prefix, from, visit);
  return ScanOverlaid(overlay, [&](const KvVisit& visit_store) { return view->Scan(prefix, from, visit_store); }, prefix, from, visit);
}

Status DeferredWrites::Write(const KvBatch& batch) {
  MutexLock lock(mutex_);
  while (failure_.ok() && Exceeds(kWaitFactor)) {
    writer_wake_.NotifyOne();
    written_wake_.Wait(lock);
  }
  RETURN_IF_ERROR(failure_);
  for (const KvBatch::Change& change : batch.changes) recent_->Add(change);
  if (IsDue()) writer_wake_.NotifyOne();
  return Status::Ok();
}

Status DeferredWrites::Flush() {
  RETURN_IF_ERROR(Drain());
  return store_->Flush();
}

Status DeferredWrites::Checkpoint(const std::string& directory) {
  RETURN_IF_ERROR(Drain());
  return store_->Checkpoint(directory);
}

Status DeferredWrites::Drain() const {
  MutexLock lock(mutex_);
  const uint64_t number = recent_->empty() ? recent_number_ - 1 : recent_number_;
  wanted_number_ = std::max(wanted_number_, number);
  if (stored_number_ < number) writer_wake_.NotifyOne();
  while (stored_number_ < number && failure_.ok()) written_wake_.Wait(lock);
  return failure_;
}

// Of what has not begun to leave.
bool DeferredWrites::Exceeds(size_t times) const {
  size_t changes = recent_->size();
  size_t bytes = recent_->bytes();
  const size_t waiting = recent_number_ - 1 - leaving_number_;
  for (size_t i = sealed_.size() - waiting; i < sealed_.size(); ++i) {
    changes += sealed_[i]->size();
    bytes += sealed_[i]->bytes();
  }
  return changes >= bounds_.changes_max * times || bytes >= bounds_.bytes_max * times;
}

bool DeferredWrites::IsAny() const { return !recent_->empty() || leaving_number_ + 1 < recent_number_; }

bool DeferredWrites::IsDue() const {
  return IsAny() && (Exceeds(1) || wanted_number_ > leaving_number_ || sealed_.size() >= kSealedMax / 2);
}

void DeferredWrites::Seal() const {
  sealed_.push_back(std::exchange(recent_, std::make_unique<Changes>()));
  ++recent_number_;
}

KvBatch DeferredWrites::Join(const Sealed& sealed) {
  if (sealed.size() == 1) return sealed[0]->ToBatch();
  Changes joined;
  for (const auto& changes : sealed) joined.AddAll(*changes);
  return joined.ToBatch();
}

void DeferredWrites::RunWriter() {
  MutexLock lock(mutex_);
  while (true) {
    bool is_old = false;
    while (!stop_ && !IsDue() && !(is_old && IsAny())) is_old = !writer_wake_.WaitFor(lock, bounds_.quiet_max);
    if (stop_) return;
    if (!recent_->empty()) Seal();
    Sealed leaving = sealed_;
    leaving_number_ = recent_number_ - 1;
    lock.Unlock();
    Status status = store_->Write(Join(leaving));
    lock.Lock();
    if (!status.ok()) {
      // They stay, so that what was read before can still be read.
      failure_ = std::move(status);
      written_wake_.NotifyAll();
      return;
    }
    sealed_.erase(sealed_.begin(), sealed_.begin() + static_cast<ptrdiff_t>(leaving.size()));
    stored_number_ = leaving_number_;
    written_wake_.NotifyAll();
    lock.Unlock();
    leaving.clear();
    lock.Lock();
  }
}

}  // namespace tarn::meta
