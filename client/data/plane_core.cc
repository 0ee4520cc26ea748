#include "client/data/plane_core.h"

#include <algorithm>
#include <utility>

#include "client/data/inode_data_impl.h"

namespace tarn::client {
namespace {

ChunkClientOptions MakeChunkOptions(const DataPlaneOptions& options) {
  ChunkClientOptions chunk_options;
  chunk_options.retry_deadline_ms = options.retry_deadline_ms;
  chunk_options.request_timeout_ms = options.request_timeout_ms;
  chunk_options.peer_name = options.peer_name;
  chunk_options.token = options.token;
  chunk_options.node = options.node;
  chunk_options.hedge_ms = options.hedge_ms;
  return chunk_options;
}

ReadAheadLimits MakeReadAheadLimits(const DataPlaneOptions& options) {
  ReadAheadLimits limits;
  // One stream must not fill the whole cache.
  limits.window_bytes_max = std::min(options.read_ahead_bytes_max, options.read_cache_bytes / 4);
  return limits;
}

}  // namespace

PlaneCore::PlaneCore(const DataPlaneOptions& plane_options, std::vector<rpc::EventLoop*> event_loops,
                     MetadataForData* metadata_half, std::shared_ptr<const Clock> plane_clock,
                     std::shared_ptr<WriteBuffer> write_buffer)
    : options(plane_options),
      read_ahead_limits(MakeReadAheadLimits(plane_options)),
      loops(std::move(event_loops)),
      clock(std::move(plane_clock)),
      metadata(std::make_shared<MetadataGate>(metadata_half)),
      buffer(std::move(write_buffer)),
      spans(plane_options.read_cache_bytes),
      chunks(MakeChunkOptions(plane_options), loops, metadata, clock),
      commits(std::make_shared<TargetCommits>(&chunks)) {}

PlaneCore::~PlaneCore() = default;

// ---- Inodes ----

InodeDataPtr PlaneCore::Attach(const Attributes& attributes) {
  InodeDataPtr inode;
  {
    MutexLock lock(mutex_);
    const auto found = inodes_.find(attributes.inode);
    if (found != inodes_.end()) inode = found->second.lock();
    if (inode == nullptr) {
      inode = std::make_shared<InodeDataImpl>(shared_from_this(), attributes);
      inodes_[attributes.inode] = inode;
      return inode;
    }
  }
  inode->Adopt(attributes);
  return inode;
}

void PlaneCore::Forget(InodeId inode) {
  MutexLock lock(mutex_);
  const auto found = inodes_.find(inode);
  if (found != inodes_.end() && found->second.expired()) inodes_.erase(found);
}

void PlaneCore::Activate(const InodeDataPtr& inode) {
  bool schedule = false;
  {
    MutexLock lock(mutex_);
    if (closed()) return;
    active_.insert(inode);
    schedule = !std::exchange(tick_scheduled_, true);
  }
  if (schedule) ScheduleTick();
}

void PlaneCore::Deactivate(const InodeDataPtr& inode) {
  MutexLock lock(mutex_);
  active_.erase(inode);
}

std::vector<InodeDataPtr> PlaneCore::Active() {
  MutexLock lock(mutex_);
  return {active_.begin(), active_.end()};
}

// ---- Time ----

void PlaneCore::ScheduleTick() {
  const int64_t tick_ms = std::clamp<int64_t>(options.flush_age_ms / 4, 1, 250);
  loops.front()->PostAfter(tick_ms, [weak = weak_from_this()] {
    if (const auto core = weak.lock()) core->Tick();
  });
}

void PlaneCore::Tick() {
  const int64_t now_ns = clock->MonotonicNs();
  for (const InodeDataPtr& inode : Active()) inode->OnTick(now_ns);
  bool commit = false;
  bool again = false;
  {
    MutexLock lock(mutex_);
    // What was acknowledged is made stable in the background, so that it need not be kept for long.
    commit = now_ns - last_commit_ns_ >= 2 * options.flush_age_ms * 1'000'000;
    if (commit) last_commit_ns_ = now_ns;
    again = !active_.empty() && !closed();
    tick_scheduled_ = again;
  }
  if (commit) commits->RequestAll();
  if (again) ScheduleTick();
}

// ---- Room ----

void PlaneCore::AccountBuffered(int64_t unacknowledged_delta, int64_t unstable_delta) {
  unacknowledged_bytes_.fetch_add(static_cast<uint64_t>(unacknowledged_delta), std::memory_order_relaxed);
  unstable_bytes_.fetch_add(static_cast<uint64_t>(unstable_delta), std::memory_order_relaxed);
}

void PlaneCore::CheckPressure() {
  if (closed()) return;
  const uint64_t capacity = buffer->capacity_bytes();
  const bool much_unstable = unstable_bytes_.load(std::memory_order_relaxed) > capacity / 8;
  if (much_unstable) commits->RequestAll();
  // Sizes have to be committed as well before room becomes free; not after every little, since that sends what is still
  // growing.
  const bool due = much_unstable && buffered_since_relief_.load(std::memory_order_relaxed) > capacity / 16;
  const bool full = HasWaitingWrites() || unacknowledged_bytes() > capacity / 2;
  if ((!full && !due) || relief_scheduled_.exchange(true)) return;
  loops.front()->Post([weak = weak_from_this()] {
    if (const auto core = weak.lock()) core->RelievePressure();
  });
}

void PlaneCore::RelievePressure() {
  relief_scheduled_.store(false);
  buffered_since_relief_.store(0, std::memory_order_relaxed);
  for (const InodeDataPtr& inode : Active()) inode->FlushForRoom();
  commits->RequestAll();
}

void PlaneCore::QueueWrite(InodeDataPtr inode, uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done) {
  auto write = std::make_shared<WaitingWrite>();
  write->inode = std::move(inode);
  write->offset = offset;
  write->bytes.assign(bytes.begin(), bytes.end());
  write->done = std::move(done);
  bool closing = false;
  {
    MutexLock lock(waiting_mutex_);
    closing = closed();
    if (!closing) {
      waiting_writes_.push_back(write);
      waiting_writes_count_.fetch_add(1, std::memory_order_release);
    }
  }
  if (closing) return write->done(Status(StatusCode::kCancelled, "the client is shutting down"));
  OnRoom();  // perhaps there was some since the writer looked
  CheckPressure();
}

void PlaneCore::OnRoom() {
  if (!HasWaitingWrites()) return;
  {
    MutexLock lock(waiting_mutex_);
    if (pumping_) {
      pump_again_ = true;
      return;
    }
    pumping_ = true;
  }
  bool more = true;
  while (more) {
    while (AdvanceFirstWrite()) {
    }
    MutexLock lock(waiting_mutex_);
    more = std::exchange(pump_again_, false);
    pumping_ = more;
  }
  if (HasWaitingWrites()) CheckPressure();
}

bool PlaneCore::AdvanceFirstWrite() {
  std::shared_ptr<WaitingWrite> write;
  {
    MutexLock lock(waiting_mutex_);
    if (waiting_writes_.empty()) return false;
    write = waiting_writes_.front();
  }
  const std::span<const uint8_t> left = std::span<const uint8_t>(write->bytes).subspan(write->buffered);
  write->buffered += write->inode->BufferSome(write->offset + write->buffered, left);
  if (write->buffered < write->bytes.size()) return false;
  {
    MutexLock lock(waiting_mutex_);
    if (waiting_writes_.empty() || waiting_writes_.front() != write) return true;  // closed meanwhile, and answered
    waiting_writes_.pop_front();
    waiting_writes_count_.fetch_sub(1, std::memory_order_release);
  }
  write->done(Status::Ok());
  return true;
}

void PlaneCore::Close() {
  std::deque<std::shared_ptr<WaitingWrite>> waiting;
  std::unordered_set<InodeDataPtr> active;
  closed_.store(true, std::memory_order_release);
  metadata->Shut();
  chunks.Close();
  commits->Close();
  {
    MutexLock lock(waiting_mutex_);
    waiting.swap(waiting_writes_);
    waiting_writes_count_.store(0, std::memory_order_release);
  }
  for (const auto& write : waiting) write->done(Status(StatusCode::kCancelled, "the client is shutting down"));
  {
    MutexLock lock(mutex_);
    active.swap(active_);
  }
  // What is still unsent fails now.
  for (const InodeDataPtr& inode : active) inode->FlushForRoom();
}

}  // namespace tarn::client
