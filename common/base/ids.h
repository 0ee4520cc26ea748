// Strong id types. Swapped arguments become compile errors; `value()` is for the wire and for logs.
//
// Inode and data ids are 64 bits with room for what comes (docs/formats.md, "Ids"):
//   bit 63      0
//   bits 62-52  metadata group (a volume belongs to one group)
//   bits 51-44  incarnation (raised by a restore from backup, so that ids never repeat)
//   bits 43-0   counter
// Value types.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace tarn {

template <typename Tag, typename Int>
class StrongId {
 public:
  using ValueType = Int;
  constexpr StrongId() = default;
  constexpr explicit StrongId(Int value) : value_(value) {}
  constexpr Int value() const { return value_; }
  constexpr bool valid() const { return value_ != 0; }
  friend constexpr auto operator<=>(StrongId, StrongId) = default;

 private:
  Int value_ = 0;
};

using InodeId = StrongId<struct InodeIdTag, uint64_t>;
using DataId = StrongId<struct DataIdTag, uint64_t>;
using SessionId = StrongId<struct SessionIdTag, uint64_t>;
using ServerId = StrongId<struct ServerIdTag, uint64_t>;
using TargetId = StrongId<struct TargetIdTag, uint64_t>;
using GroupId = StrongId<struct GroupIdTag, uint32_t>;
using VolumeId = StrongId<struct VolumeIdTag, uint32_t>;
using GroupSetVersion = StrongId<struct GroupSetVersionTag, uint32_t>;
using Epoch = StrongId<struct EpochTag, uint64_t>;
using Incarnation = StrongId<struct IncarnationTag, uint64_t>;
using Sequence = StrongId<struct SequenceTag, uint64_t>;

struct ChunkId {
  DataId data;
  uint32_t index = 0;
  friend constexpr auto operator<=>(const ChunkId&, const ChunkId&) = default;
};

inline constexpr int kIdCounterBits = 44;
inline constexpr int kIdIncarnationBits = 8;
inline constexpr int kIdGroupBits = 11;
inline constexpr uint64_t kIdCounterMax = (uint64_t{1} << kIdCounterBits) - 1;

// Composes an inode or data id. `counter` <= kIdCounterMax.
constexpr uint64_t ComposeId(uint32_t metadata_group, uint32_t incarnation, uint64_t counter) {
  return (uint64_t{metadata_group} << (kIdCounterBits + kIdIncarnationBits)) | (uint64_t{incarnation} << kIdCounterBits) | counter;
}
constexpr uint64_t IdCounter(uint64_t id) { return id & kIdCounterMax; }
constexpr uint32_t IdIncarnation(uint64_t id) { return (id >> kIdCounterBits) & ((1u << kIdIncarnationBits) - 1); }
constexpr uint32_t IdMetadataGroup(uint64_t id) { return (id >> (kIdCounterBits + kIdIncarnationBits)) & ((1u << kIdGroupBits) - 1); }

// "17:3".
inline std::string ToString(ChunkId id) { return std::to_string(id.data.value()) + ":" + std::to_string(id.index); }

}  // namespace tarn

template <typename Tag, typename Int>
struct std::hash<tarn::StrongId<Tag, Int>> {
  size_t operator()(tarn::StrongId<Tag, Int> id) const noexcept { return std::hash<Int>{}(id.value()); }
};

template <>
struct std::hash<tarn::ChunkId> {
  size_t operator()(const tarn::ChunkId& id) const noexcept {
    return std::hash<uint64_t>{}(id.data.value() * 0x9E3779B97F4A7C15ull + id.index);
  }
};
