#include "chunkserver/service/disk_read.h"

#include <algorithm>
#include <utility>

namespace tarn::chunk {

void DiskRead::Start(rpc::FileReadRing& ring, DiskReadGate& gate, store::ReadPlan plan, Buffer bytes, Done done) {
  std::make_shared<DiskRead>(ring, gate, std::move(plan), std::move(bytes), std::move(done))->StartPieces();
}

DiskRead::DiskRead(rpc::FileReadRing& ring, DiskReadGate& gate, store::ReadPlan plan, Buffer bytes, Done done)
    : ring_(ring), passage_(gate), plan_(std::move(plan)), bytes_(std::move(bytes)), done_(std::move(done)) {}

void DiskRead::StartPieces() {
  std::span<uint8_t> rest = bytes_.span();
  for (const store::ReadPiece& piece : plan_.pieces) {
    const std::span<uint8_t> part = rest.first(piece.length);
    rest = rest.subspan(piece.length);
    if (piece.fd < 0) {
      std::fill(part.begin(), part.end(), 0);
    } else {
      ++pieces_left_;
      StartPiece(piece.fd, piece.file_offset, part);
    }
  }
  PieceIsOver();
}

void DiskRead::StartPiece(int fd, uint64_t offset, std::span<uint8_t> bytes) {
  const bool is_started = ring_.Read(fd, offset, bytes, [self = shared_from_this(), fd, offset, bytes](int result) { self->OnPiece(fd, offset, bytes, result); });
  if (is_started) return;
  is_complete_ = false;
  PieceIsOver();
}

void DiskRead::OnPiece(int fd, uint64_t offset, std::span<uint8_t> bytes, int result) {
  if (result > 0 && static_cast<size_t>(result) < bytes.size()) {
    return StartPiece(fd, offset + static_cast<size_t>(result), bytes.subspan(static_cast<size_t>(result)));
  }
  // 0: the file ends here, which it must not.
  if (result <= 0) is_complete_ = false;
  PieceIsOver();
}

void DiskRead::PieceIsOver() {
  if (--pieces_left_ > 0) return;
  std::exchange(done_, nullptr)(is_complete_, plan_, std::move(bytes_));
}

}  // namespace tarn::chunk
