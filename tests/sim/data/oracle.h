// What every byte may show, by a model apart from the engine.
//
// A chunk is cut into cells. Each cell has one writer, which has one write of it under way at a time and numbers them, so a cell's value says
// which write it shows. A read may show no write older than one that was acknowledged before the read began, and none that was not begun.
// A shared cell has many writers. One write is before another if its answer came before the other one began; a read may show nothing that is
// before a write that holds: one that was acknowledged, or acknowledged again, since the last loss, or is durable.
// What was acknowledged without being durable may be lost, back to what was durable, when all in-sync members of the group have crashed (or the others lost their leases meanwhile).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "chunkserver/replication/testing/fake_store.h"
#include "tests/sim/data/net.h"

namespace tarn::sim_data {

inline constexpr uint32_t kCellBytes = 512;
inline constexpr uint32_t kCellsPerChunk = 16;
// The last cell of each chunk is written and cut off, by one worker of one client.
inline constexpr uint32_t kTailSlot = kCellsPerChunk - 1;
// This one is written by all clients where they share (plan.h).
inline constexpr uint32_t kSharedSlot = kCellsPerChunk - 2;

struct CellId {
  uint32_t group = 0;
  uint32_t chunk = 0;
  uint32_t slot = 0;
  friend auto operator<=>(const CellId&, const CellId&) = default;
  ChunkId chunk_id() const { return {DataId(group * 1'000 + chunk), chunk}; }
  uint32_t offset_bytes() const { return slot * kCellBytes; }
};

// The bytes of a cell's nth write; 0: never written, or cut off.
std::string CellBytes(const CellId& cell, uint64_t number);
// Which write the cell shows in a copy of its chunk; nullopt: a mixture, which no reader may see.
std::optional<uint64_t> CellNumber(const CellId& cell, const std::string& chunk_bytes);

// One thread.
class Oracle {
 public:
  explicit Oracle(Bench* bench) : bench_(bench) {}

  uint64_t BeginWrite(const CellId& cell) { return ++cells_[cell].begun; }
  // The same for a cut, after which the cell shows zeros. Cuts and writes of the cell are numbered together.
  uint64_t BeginCut(const CellId& cell) { return cells_[cell].newest_cut = ++cells_[cell].begun; }
  void Acknowledged(const CellId& cell, uint64_t number, bool durable);

  struct ReadBegin {
    uint64_t floor = 0;
    uint64_t losses = 0;
  };
  ReadBegin BeginRead(const CellId& cell);
  // `confirmed`: at a member that is not the primary, which shows only what all in-sync members have. No later read may show less.
  void CheckRead(const CellId& cell, const ReadBegin& begin, const std::string& chunk_bytes, const std::string& where, bool confirmed);

  // For a commit: what is acknowledged now is durable once it is answered.
  struct CommitBegin {
    std::map<CellId, uint64_t> acknowledged;
    std::map<CellId, std::set<uint64_t>> shared;
    uint64_t losses = 0;
  };
  CommitBegin BeginCommit(uint32_t group);
  void Committed(uint32_t group, const CommitBegin& begin);

  uint64_t BeginSharedWrite(const CellId& cell);
  // Its client has heard of it, perhaps once more. `losses`: of the group, when the server answered.
  void SharedAcknowledged(const CellId& cell, uint64_t number, bool durable, uint64_t losses);
  uint64_t losses_of(uint32_t group) { return losses_[group]; }
  struct SharedBegin {
    std::set<uint64_t> holding;
    uint64_t losses = 0;
  };
  SharedBegin BeginSharedRead(const CellId& cell);
  void CheckSharedRead(const CellId& cell, const SharedBegin& begin, const std::string& chunk_bytes, const std::string& where);
  // As the primary answers that it has the write, or what came after it.
  void CheckSharedAnswer(const CellId& cell, uint64_t number, const std::string& chunk_bytes, const std::string& where);
  // Of the copies of a group at rest.
  void CheckSharedCopy(uint32_t group, const std::map<ChunkId, replication::testing::FakeStore::Chunk>& chunks, const std::string& where);

  // All in-sync members of the group have crashed.
  void Loss(uint32_t group);
  uint64_t losses() const { return all_losses_; }
  // All disks with a current copy of the group are gone: whatever is left counts.
  void GiveUp(uint32_t group);

  // A copy that is in-sync has everything that was acknowledged, or `durable`, everything that was so durably.
  void CheckCopy(uint32_t group, const std::map<ChunkId, replication::testing::FakeStore::Chunk>& chunks, bool durable, const std::string& where);

 private:
  struct Cell {
    uint64_t begun = 0;
    uint64_t acknowledged = 0;
    uint64_t durable = 0;
    uint64_t newest_cut = 0;
  };
  struct SharedWrite {
    uint64_t begun = 0;     // moments of clock_
    uint64_t answered = 0;  // for the first time; 0: not yet
  };
  struct SharedCell {
    std::map<uint64_t, SharedWrite> writes;  // by number; 0: the zeros before the first
    // Only the latest ones: what is before another one is covered by that.
    std::set<uint64_t> holding;
    std::set<uint64_t> durable;
  };
  static bool IsBefore(const SharedCell& cell, uint64_t one, uint64_t other);
  static void Add(const SharedCell& cell, uint64_t number, std::set<uint64_t>* latest);
  // Which write or cut a copy of the chunk shows.
  static std::optional<uint64_t> NumberOf(const CellId& cell, const Cell& state, const std::string& chunk_bytes);

  Bench* const bench_;
  std::map<CellId, Cell> cells_;
  std::map<CellId, SharedCell> shared_;
  uint64_t clock_ = 1;
  std::map<uint32_t, uint64_t> losses_;
  uint64_t all_losses_ = 0;
};

}  // namespace tarn::sim_data
