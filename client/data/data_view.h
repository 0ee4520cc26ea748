// How a file's data is reached, as its attributes described it last. Value type; pure functions.
#pragma once

#include <cstdint>
#include <optional>

#include "client/data/chunk_client.h"
#include "client/types.h"
#include "common/base/ids.h"
#include "common/layout/layout.h"

namespace tarn::client {

struct DataView {
  DataId data;  // invalid: the file has no data yet
  FileLayout layout;
  uint64_t truncate_generation = 0;
  std::optional<uint64_t> truncate_floor_bytes;  // of a truncate that is not yet carried out on every chunk
  uint64_t data_generation = 0;
  bool settled = false;  // see ChunkReference
};

inline DataView ViewOf(const Attributes& attributes) {
  return DataView{.data = attributes.data,
                  .layout = attributes.layout,
                  .truncate_generation = attributes.truncate_generation,
                  .truncate_floor_bytes = attributes.truncate_floor_bytes,
                  .data_generation = attributes.data_generation,
                  .settled = false};
}

// The chunk, and what it may show: while a truncate is pending, no more than the truncate leaves of it.
inline ChunkReference ChunkOf(const DataView& view, uint32_t chunk_index) {
  const uint64_t shown = view.truncate_floor_bytes
                             ? ChunkBytesForFileSize(view.layout, chunk_index, *view.truncate_floor_bytes)
                             : view.layout.chunk_size_bytes;
  return ChunkReference{.data = view.data,
                        .chunk_index = chunk_index,
                        .layout = view.layout,
                        .truncate_generation = view.truncate_generation,
                        .truncated_chunk_bytes = shown,
                        .data_generation = view.data_generation,
                        .settled = view.settled};
}

}  // namespace tarn::client
