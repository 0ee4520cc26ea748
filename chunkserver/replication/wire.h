// Between the messages of proto/data.proto and the store's types.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_writer.h"
#include "chunkserver/store/replica_store.h"
#include "common/base/ids.h"
#include "proto/data.pb.h"

namespace tarn::replication {

inline store::ChunkStamp StampOf(const proto::ChunkStamp& stamp) { return {Epoch(stamp.epoch()), stamp.version()}; }
inline void SetStamp(const store::ChunkStamp& stamp, proto::ChunkStamp* out) {
  out->set_epoch(stamp.epoch.value());
  out->set_version(stamp.version);
}
inline ChunkId ChunkOf(const proto::ChunkAddress& address) { return {DataId(address.data_id()), address.chunk_index()}; }
inline store::TruncateView ViewOf(const proto::TruncateView& view) { return {view.generation(), view.truncated_chunk_bytes()}; }

inline store::WriteRequest WriteOf(const proto::WriteChunkRequest& request, std::span<const uint8_t> payload) {
  store::WriteRequest write;
  write.chunk = ChunkOf(request.chunk());
  write.writer = {SessionId(request.session()), Sequence(request.sequence()), Sequence(request.acked_through())};
  write.offset = request.offset_bytes();
  write.payload = payload;
  write.piece_sums = request.piece_sums();
  write.view = ViewOf(request.truncate());
  return write;
}
inline store::WriterIdentity WriterOf(const proto::TruncateChunkRequest& request) {
  return {SessionId(request.session()), Sequence(request.sequence()), Sequence()};
}

inline proto::InstallWindowsRequest WindowsMessage(const std::vector<store::SessionWindow>& windows) {
  proto::InstallWindowsRequest request;
  for (const store::SessionWindow& window : windows) {
    auto* row = request.add_windows();
    row->set_session(window.session.value());
    row->set_acked_through(window.acked_through.value());
    for (const Sequence sequence : window.applied) row->add_applied(sequence.value());
  }
  return request;
}
inline std::vector<store::SessionWindow> WindowsOf(const proto::InstallWindowsRequest& request) {
  std::vector<store::SessionWindow> windows;
  windows.reserve(static_cast<size_t>(request.windows_size()));
  for (const auto& row : request.windows()) {
    store::SessionWindow window{.session = SessionId(row.session()), .acked_through = Sequence(row.acked_through()), .applied = {}};
    for (const uint64_t sequence : row.applied()) window.applied.emplace_back(sequence);
    windows.push_back(std::move(window));
  }
  return windows;
}

}  // namespace tarn::replication
