// The bytes of one planned read, brought from the disk by an event loop's ring: all pieces are under way together.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "chunkserver/service/disk_read_gate.h"
#include "chunkserver/store/chunk_reader.h"
#include "common/base/buffer.h"
#include "common/rpc/file_read_ring.h"

namespace tarn::chunk {

// One thread: the ring's loop.
class DiskRead : public std::enable_shared_from_this<DiskRead> {
 public:
  // `bytes` is plan.length long; of its content nothing may be used unless `is_complete`: otherwise something could not be read, and whoever
  // wants to know what reads again on a thread. `done` runs on the loop, perhaps before Start returns; it is
  // dropped if the loop ends first.
  using Done = std::function<void(bool is_complete, const store::ReadPlan& plan, Buffer bytes)>;
  // `ring` and `gate` outlive it.
  static void Start(rpc::FileReadRing& ring, DiskReadGate& gate, store::ReadPlan plan, Buffer bytes, Done done);

  // For Start.
  DiskRead(rpc::FileReadRing& ring, DiskReadGate& gate, store::ReadPlan plan, Buffer bytes, Done done);
  DiskRead(const DiskRead&) = delete;
  DiskRead& operator=(const DiskRead&) = delete;

 private:
  void StartPieces();
  void StartPiece(int fd, uint64_t offset, std::span<uint8_t> bytes);
  void OnPiece(int fd, uint64_t offset, std::span<uint8_t> bytes, int result);
  void PieceIsOver();

  rpc::FileReadRing& ring_;
  const DiskReadGate::Passage passage_;
  const store::ReadPlan plan_;
  Buffer bytes_;
  Done done_;
  size_t pieces_left_ = 1;  // and one while they are being started
  bool is_complete_ = true;
};

}  // namespace tarn::chunk
