// The written bytes of one inode that are not yet known to be on stable storage, as extents over slabs of the write
// buffer.
//
// An extent is one run of bytes within one segment (an aligned stretch of the file, as long as the largest slab). Later
// writes to unsent extents change them in place or merge them; one that is under way is left alone, and the later write
// makes a newer extent on top. Invariants:
//   * in a segment extents are kept in order of age, so whatever lies later in the list is newer;
//   * an extent is handed out for sending only when no older one that overlaps it is unsent or under way: the servers
//   see overlapping
//     bytes in the order in which they were written;
//   * an acknowledged extent overlaps nothing newer (what is overwritten is cut out of it), so sending it again after a
//   server has
//     forgotten it never puts old bytes over new ones;
//   * `oldest_age` is the age of the oldest write that an extent answers for, so "everything up to age T is sent" is
//   one comparison.
// Does no I/O. Thread-compatible: its inode guards it; an extent that is being sent keeps its bytes until the send is
// over.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "client/data/chunk_client.h"
#include "client/data/write_buffer.h"
#include "common/base/byte_range.h"
#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn::client {

// A target that took (a piece of) an extent, not durably.
struct PieceAck {
  GroupId group;
  TargetId target;  // its primary
  Incarnation incarnation;
  uint64_t stamp = 0;  // of the plane's clock of acknowledgements
};

// What its chunk was when this part of the file was acknowledged, with the bytes that the extent has now.
struct PieceStamp {
  ByteRange range;
  AcknowledgedStamp stamp;
  bool fresh = false;  // it was never acknowledged: there was no room for an extent of its own
};

struct Extent {
  ByteRange range;          // of the file
  uint64_t age = 0;         // of the newest write in it
  uint64_t oldest_age = 0;  // of the oldest one
  int64_t dirty_since_ns = 0;
  int64_t mtime_ns = 0;
  SlabState state = SlabState::kDirty;
  bool want_send = false;
  bool queued = false;
  bool in_map = true;
  bool send_again = false;  // when the send under way is over: its data id or truncate generation is outdated
  uint32_t refusals = 0;    // how often a server found it outdated
  uint32_t pieces_in_flight = 0;
  bool all_durable = true;  // of the pieces answered so far
  Status failure;           // the first of its pieces
  std::vector<PieceAck> acks;
  // Of the last send that was over, and of the one under way. None: it was never acknowledged. What was acknowledged is
  // sent again only where it was lost, and nothing else comes into such an extent without being marked as fresh; a part
  // that is not listed has been replaced by other clients.
  std::optional<std::vector<PieceStamp>> stamps;
  std::vector<PieceStamp> new_stamps;
  // MetadataForData::SoleWriterTerm when the send under way began, and when the last one that was over both began and ended; 0: others may write.
  uint64_t sending_term = 0;
  uint64_t sole_term = 0;
  std::unique_ptr<Slab> slab;  // null if there are no bytes left (see set_sync_waiting)

  std::span<const uint8_t> bytes() const {
    return {slab->data() + (range.offset - slab->window().offset), static_cast<size_t>(range.length)};
  }
};
using ExtentPtr = std::shared_ptr<Extent>;

class ExtentMap {
 public:
  ExtentMap(WriteBuffer* buffer, const SlabIdentity& identity) : buffer_(buffer), identity_(identity) {}

  struct Stamp {
    int64_t monotonic_ns = 0;
    int64_t wall_ns = 0;
  };
  // Copies one run that lies within one segment. False if the buffer has no room; nothing has changed then.
  bool Write(uint64_t offset, std::span<const uint8_t> bytes, Stamp now);
  // While a sync waits for acknowledged extents, those that are overwritten wholly stay as extents of no bytes until
  // their target has committed them: the sync must not return while neither they nor what replaced them is on stable
  // storage.
  void set_sync_waiting(bool waiting) { sync_waiting_ = waiting; }
  // How much of a write at `offset` lies in its segment.
  uint64_t LengthInSegment(uint64_t offset, uint64_t length) const;
  // The newest extent of the segment that holds `offset` ends with it: nothing will be appended.
  bool FillsSegment(uint64_t offset) const;
  // The segment that holds `offset` has become so many extents that they had better be sent.
  bool IsCrowded(uint64_t offset) const;

  // Copies what lies in `range` to `destination` (where range.offset goes first); returns the parts of the range that
  // it does not hold.
  std::vector<ByteRange> CopyTo(ByteRange range, uint8_t* destination) const;
  bool Overlaps(ByteRange range) const;

  // ---- Sending ----
  // Marks everything unsent that answers for a write up to `age_max`.
  void WantSend(uint64_t age_max);
  // Marks the unsent extents of the segment that holds `offset`.
  void WantSendSegment(uint64_t offset);
  // The next one that may go, now kSending; null if none may.
  ExtentPtr NextToSend();
  // The ends of a send.
  void Acknowledge(const ExtentPtr& extent);  // now kUnstable
  void SendAgain(const ExtentPtr& extent);    // now kDirty and marked; of an unstable one as well
  // As something that was never acknowledged: it has to go elsewhere.
  void SendAnew(const ExtentPtr& extent);
  void Remove(const ExtentPtr& extent);       // on stable storage, or given up

  // ---- Truncation and change of data id ----
  // Drops all bytes from `size` on; returns the extents under way that had some.
  std::vector<ExtentPtr> TruncateTo(uint64_t size);
  // Drops the bytes of an acknowledged extent from `size` on.
  void CutAt(const ExtentPtr& extent, uint64_t size);
  void SetIdentity(const SlabIdentity& identity);

  // ---- Questions ----
  bool empty() const { return unacknowledged_.empty() && unstable_.empty(); }
  uint64_t last_age() const { return last_age_; }
  bool HasUnacknowledged(uint64_t age_max) const;
  bool HasUnstable(uint64_t age_max) const;
  uint64_t unacknowledged_bytes() const { return unacknowledged_bytes_; }
  uint64_t unstable_bytes() const { return unstable_bytes_; }
  int64_t oldest_dirty_ns() const;  // INT64_MAX if nothing is unsent
  uint64_t UnacknowledgedEnd() const;
  // In order of the oldest write they answer for.
  std::vector<ExtentPtr> Unstable() const;
  std::vector<ExtentPtr> Unacknowledged() const;

 private:
  using Segment = std::vector<ExtentPtr>;

  uint64_t SegmentOf(uint64_t offset) const { return offset / buffer_->slab_bytes_max(); }
  std::vector<ExtentPtr> MergeCandidates(const Segment& segment, ByteRange written) const;
  ExtentPtr MakeExtent(ByteRange window_for, uint64_t preferred_bytes);
  uint64_t PreferredSlabBytes(ByteRange hull, bool merging) const;
  void Publish(Segment& segment, const ExtentPtr& extent, Stamp now);
  void CutUnstable(const ExtentPtr& newest);
  ExtentPtr CutOut(const ExtentPtr& extent, const ExtentPtr& newer);
  ExtentPtr Split(const ExtentPtr& extent, ByteRange hole);
  void Absorb(const ExtentPtr& extent, const ExtentPtr& newer);
  void Resize(const ExtentPtr& extent, ByteRange range);
  bool Blocked(const Segment& segment, const ExtentPtr& extent);
  void Mark(const ExtentPtr& extent);
  void Index(const ExtentPtr& extent);
  void Unindex(const ExtentPtr& extent);
  void SetState(const ExtentPtr& extent, SlabState state);
  void RequeueSegment(uint64_t segment);

  WriteBuffer* const buffer_;
  SlabIdentity identity_;
  uint64_t last_age_ = 0;
  uint64_t last_write_end_ = 0;
  bool sync_waiting_ = false;
  std::map<uint64_t, Segment> segments_;
  // By oldest_age.
  std::multimap<uint64_t, ExtentPtr> unacknowledged_;  // kDirty, kSending
  std::multimap<uint64_t, ExtentPtr> unstable_;
  std::deque<ExtentPtr> send_queue_;
  uint64_t unacknowledged_bytes_ = 0;
  uint64_t unstable_bytes_ = 0;
};

}  // namespace tarn::client
