// One read of a file: waits for the spans it needs, lays what was buffered over them, and owns the memory of its
// result. Internal to the data plane.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "client/data/read_span.h"
#include "client/types.h"
#include "common/base/buffer.h"
#include "common/base/byte_range.h"

namespace tarn::client {

class InodeDataImpl;
struct ReadAheadState;

// Its steps follow one another.
class FileRead final : public SpanWaiter, public std::enable_shared_from_this<FileRead> {
 public:
  FileRead(std::shared_ptr<InodeDataImpl> read_inode, std::shared_ptr<ReadAheadState> handle, ByteRange asked,
           Callback<ReadResult> callback)
      : inode(std::move(read_inode)), read_ahead(std::move(handle)), range(asked), done(std::move(callback)) {}

  // The spans that cover what is needed; those that are not complete call back. The one who calls counts as one more.
  void WaitFor(std::vector<ReadSpanPtr> needed);
  void OnSpan() override;
  void Fail(const Status& status);
  // All that is needed is at hand.
  void Deliver();

  std::shared_ptr<InodeDataImpl> inode;  // null once delivered
  std::shared_ptr<ReadAheadState> read_ahead;
  ByteRange range;  // cut at the end of the file
  Callback<ReadResult> done;
  uint32_t attempts = 0;

  // If some of the range was buffered when the read began: the bytes of the range, and what of them is still missing.
  bool overlaid = false;
  Buffer bytes;
  std::vector<ByteRange> gaps;

 private:
  ReadResult Pieces();

  std::vector<ReadSpanPtr> spans_;
  std::atomic<uint32_t> waiting_{0};
};

}  // namespace tarn::client
