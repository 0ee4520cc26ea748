// A range of an open file as the payload of a frame.
#pragma once

#include <cstdint>
#include <memory>

namespace tarn::rpc {

// Sent with sendfile(2), which blocks if the range is not in the page cache; `keep_alive` holds what owns the descriptor until it is sent.
struct FilePayload {
  int fd = -1;
  uint64_t offset = 0;
  uint32_t length = 0;
  std::shared_ptr<const void> keep_alive;
};

}  // namespace tarn::rpc
