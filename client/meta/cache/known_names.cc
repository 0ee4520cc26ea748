#include "client/meta/cache/known_names.h"

#include <algorithm>

#include "common/base/check.h"

namespace tarn::client {

void KnownNames::BeginMaking(InodeId directory, uint64_t name) {
  MutexLock lock(mutex_);
  Making& making = making_[directory];
  ++making.under_way;
  if (making.names.size() < Making::kNamesMax) {
    making.names.push_back(name);
  } else {
    making.uncertain = true;
  }
  const auto known = directories_.find(directory);
  if (known == directories_.end()) return;
  known->second.used = ++uses_;
  if (known->second.names.insert(name).second) ++names_;
  MakeRoom();
}

void KnownNames::EndMaking(InodeId directory, std::optional<uint64_t> entries, std::optional<Cover> cover) {
  MutexLock lock(mutex_);
  const auto making = making_.find(directory);
  CHECK(making != making_.end() && making->second.under_way > 0, "each end has a beginning");
  if (entries == 1 && cover && !making->second.uncertain) {
    const auto old = directories_.find(directory);
    if (old == directories_.end() || old->second.cover != *cover) {
      if (old != directories_.end()) Erase(old);
      Directory& known = directories_[directory];
      known.cover = *cover;
      known.used = ++uses_;
      known.names.insert(making->second.names.begin(), making->second.names.end());
      names_ += known.names.size();
      MakeRoom();
      count_.store(directories_.size(), std::memory_order_relaxed);
    }
  }
  if (--making->second.under_way == 0) making_.erase(making);
}

void KnownNames::ChangedByOthers(InodeId directory) {
  MutexLock lock(mutex_);
  if (const auto known = directories_.find(directory); known != directories_.end()) Erase(known);
  if (const auto making = making_.find(directory); making != making_.end()) making->second.uncertain = true;
}

void KnownNames::Clear() {
  MutexLock lock(mutex_);
  directories_.clear();
  names_ = 0;
  count_.store(0, std::memory_order_relaxed);
  for (auto& [directory, making] : making_) making.uncertain = true;
}

std::optional<Cover> KnownNames::FindAbsent(InodeId directory, uint64_t name) {
  if (count_.load(std::memory_order_relaxed) == 0) return std::nullopt;
  MutexLock lock(mutex_);
  const auto known = directories_.find(directory);
  if (known == directories_.end() || known->second.names.contains(name)) return std::nullopt;
  known->second.used = ++uses_;
  return known->second.cover;
}

void KnownNames::Erase(std::unordered_map<InodeId, Directory>::iterator directory) {
  names_ -= directory->second.names.size();
  directories_.erase(directory);
  count_.store(directories_.size(), std::memory_order_relaxed);
}

void KnownNames::MakeRoom() {
  while (names_ > kNamesMax || directories_.size() > kDirectoriesMax) {
    Erase(std::min_element(directories_.begin(), directories_.end(),
                           [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
}

}  // namespace tarn::client
