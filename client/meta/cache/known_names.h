// Directories of which this client knows every name, because it has made them all: any other name does not exist there,
// and need not be asked for. Whoever fills a directory looks for each name before it makes it.
//
// How that is known: a change of this client's made a name, and the directory, as it was directly after that change, has
// one name: that one. From then on every name that is added is either this client's own, and noted before the change is
// sent, or another's, and pushed, since the client held an interest in the directory before it sent the first change.
// Changes whose order is not known (several under way at once) are noted all. So what is noted contains what exists,
// and names are never taken out.
//
// Names are hashes of 64 bits under a secret key: two that fall together cost a request, no more. Bounded; what was not
// used lately goes first. Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "client/meta/cache/directory_interests.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"

namespace tarn::client {

class KnownNames {
 public:
  // About 32 bytes each.
  static constexpr size_t kNamesMax = 128 << 10;
  static constexpr size_t kDirectoriesMax = 256;

  KnownNames() = default;
  KnownNames(const KnownNames&) = delete;
  KnownNames& operator=(const KnownNames&) = delete;

  // Before a change that makes this name is sent. Each is followed by an EndMaking when it was answered.
  void BeginMaking(InodeId directory, uint64_t name);
  // `entries`: of the directory as it was directly after the change; nothing if it is not known or nothing was made.
  // `cover`: the interest in the directory, if it lasts since before the change was sent.
  void EndMaking(InodeId directory, std::optional<uint64_t> entries, std::optional<Cover> cover);

  // Another client has changed the directory, or may have.
  void ChangedByOthers(InodeId directory);
  // Any directory.
  void Clear();

  // The cover under which the name is known not to exist: it must be alive.
  std::optional<Cover> FindAbsent(InodeId directory, uint64_t name);

 private:
  struct Directory {
    Cover cover;
    std::unordered_set<uint64_t> names;
    uint64_t used = 0;
  };
  // Changes under way.
  struct Making {
    static constexpr size_t kNamesMax = 1024;
    uint32_t under_way = 0;
    bool uncertain = false;        // another client changed it meanwhile, or there were too many
    std::vector<uint64_t> names;  // of all changes since none was under way
  };

  void Erase(std::unordered_map<InodeId, Directory>::iterator directory) REQUIRES(mutex_);
  void MakeRoom() REQUIRES(mutex_);

  std::atomic<size_t> count_{0};  // of directories_, for a quick no

  Mutex mutex_;
  std::unordered_map<InodeId, Directory> directories_ GUARDED_BY(mutex_);
  std::unordered_map<InodeId, Making> making_ GUARDED_BY(mutex_);
  size_t names_ GUARDED_BY(mutex_) = 0;  // in directories_
  uint64_t uses_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::client
