// Prepares the log's next segment ahead of its use, on a thread of its own: full length, every block written (a sync
// into space that is only allocated costs the file system a journal commit, twenty times a sync into written blocks),
// its header on stable storage, its name in the directory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::meta {

struct MadeSegment {
  UniqueFd file;
  uint64_t number = 0;
  uint64_t generation = 0;
};

// Makes one; blocking. `spare`: a segment file that is not needed any more and is used again, or empty. It keeps its
// old name until its new header is durable, so a segment under a name that counts always has a header that holds.
Result<MadeSegment> MakeSegment(const std::string& directory, uint64_t number, uint64_t generation,
                                const std::string& spare);

// Thread-safe.
class SegmentMaker {
 public:
  SegmentMaker(std::string directory, Random* random);
  ~SegmentMaker();
  SegmentMaker(const SegmentMaker&) = delete;
  SegmentMaker& operator=(const SegmentMaker&) = delete;

  // One request at a time, until it is taken.
  void Request(uint64_t number);
  // One that exists already is as good as made.
  void Provide(MadeSegment segment);
  // Waits for the requested segment.
  Result<MadeSegment> Take();
  // Files for later requests; deleted if there are enough.
  void AddSpares(std::vector<std::string> paths);

 private:
  void Run();

  const std::string directory_;
  Random* const random_;

  Mutex mutex_;
  CondVar wake_;
  std::vector<std::string> spares_ GUARDED_BY(mutex_);
  uint64_t requested_ GUARDED_BY(mutex_) = 0;  // 0: none
  bool made_ GUARDED_BY(mutex_) = false;
  Result<MadeSegment> segment_ GUARDED_BY(mutex_);
  bool stop_ GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace tarn::meta
