#include "client/testing/memory_data_plane.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace tarn::client::testing {

// The bytes of one inode: those stored under its data id, with what is buffered laid over them.
class MemoryInodeData final : public InodeData, public std::enable_shared_from_this<MemoryInodeData> {
 public:
  MemoryInodeData(MemoryDataPlane* plane, const Attributes& attributes) : plane_(plane), committed_(attributes) {
    MutexLock lock(plane_->mutex_);
    bytes_ = plane_->stored_[attributes.data];
    bytes_.resize(attributes.size_bytes);
  }

  void Read(const std::shared_ptr<ReadAheadState>&, ByteRange range, Callback<ReadResult> done) override {
    auto copy = std::make_shared<std::string>();
    {
      MutexLock lock(mutex_);
      if (range.offset < bytes_.size()) *copy = bytes_.substr(range.offset, range.length);
    }
    ReadResult result;
    result.bytes = copy->size();
    result.pieces.push_back({copy->data(), copy->size()});
    result.keep_alive = copy;
    done(std::move(result));
  }
  void Write(uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done) override {
    {
      MutexLock lock(mutex_);
      Put(offset, bytes);
    }
    done(Status::Ok());
  }
  void Append(std::span<const uint8_t> bytes, StatusCallback done) override {
    {
      MutexLock lock(mutex_);
      Put(bytes_.size(), bytes);
    }
    done(Status::Ok());
  }
  void Flush(StatusCallback done) override {
    plane_->Record("flush");
    if (!dirty_) return done(Status::Ok());
    if (Status failure = plane_->TakeFailure(); !failure.ok()) {
      dirty_ = false;
      return done(std::move(failure));
    }
    auto self = shared_from_this();
    plane_->metadata_->AllocateData(id(), [self, done = std::move(done)](const Result<Attributes>& allocated) {
      if (!allocated.ok()) return done(allocated.status());
      self->Commit(*allocated, done);
    });
  }
  void Sync(StatusCallback done) override { Flush(std::move(done)); }
  void SyncEverybodysFor(const ErrorCursorPtr&, StatusCallback done) override {
    plane_->Record("sync everybody's");
    Flush(std::move(done));
  }
  void Adopt(const Attributes& attributes) override {
    plane_->Record("adopt " + std::to_string(attributes.change));
    MutexLock lock(mutex_);
    if (attributes.change <= committed_.change) return;
    committed_ = attributes;
    if (!dirty_) bytes_.resize(attributes.size_bytes);
  }
  void FinishTruncate(const Attributes& attributes, StatusCallback done) override {
    plane_->Record("truncate " + std::to_string(attributes.size_bytes));
    {
      MutexLock lock(mutex_);
      committed_ = attributes;
      bytes_.resize(attributes.size_bytes);
      dirty_ = false;
    }
    if (!attributes.truncate_floor_bytes) return done(Status::Ok());
    plane_->metadata_->TruncateDone(attributes.inode, attributes.truncate_generation, std::move(done));
  }
  Attributes Overlay(Attributes attributes) const override {
    MutexLock lock(mutex_);
    if (dirty_) {
      attributes.size_bytes = std::max<uint64_t>(attributes.size_bytes, bytes_.size());
      attributes.mtime_ns = kBufferedMtimeNs;
    }
    return attributes;
  }
  bool dirty() const override { return dirty_; }

 private:
  static constexpr int64_t kBufferedMtimeNs = 5'555;

  InodeId id() const {
    MutexLock lock(mutex_);
    return committed_.inode;
  }
  void Put(uint64_t offset, std::span<const uint8_t> bytes) REQUIRES(mutex_) {
    if (bytes_.size() < offset + bytes.size()) bytes_.resize(offset + bytes.size());
    std::ranges::copy(bytes, bytes_.begin() + static_cast<ptrdiff_t>(offset));
    dirty_ = true;
  }
  void Commit(const Attributes& allocated, const StatusCallback& done) {
    MetadataForData::WriteCommit commit;
    commit.inode = allocated.inode;
    commit.data = allocated.data;
    commit.truncate_generation = allocated.truncate_generation;
    commit.mtime_ns = kBufferedMtimeNs;
    commit.publishes_all = true;
    {
      MutexLock lock(mutex_);
      commit.min_size_bytes = bytes_.size();
      MutexLock plane_lock(plane_->mutex_);
      plane_->stored_[allocated.data] = bytes_;
    }
    plane_->metadata_->CommitWrite(commit, [self = shared_from_this(), done](const Result<Attributes>& committed) {
      if (committed.ok()) {
        MutexLock lock(self->mutex_);
        self->committed_ = *committed;
        self->dirty_ = false;
      }
      done(committed.status());
    });
  }

  MemoryDataPlane* const plane_;
  mutable Mutex mutex_;
  Attributes committed_ GUARDED_BY(mutex_);
  std::string bytes_ GUARDED_BY(mutex_);
  std::atomic<bool> dirty_ = false;
};

std::shared_ptr<InodeData> MemoryDataPlane::Attach(const Attributes& attributes) {
  auto data = std::make_shared<MemoryInodeData>(this, attributes);
  MutexLock lock(mutex_);
  attached_.push_back(data);
  return data;
}

void MemoryDataPlane::WriteWhole(DataId data, const FileLayout&, std::span<const uint8_t> bytes, StatusCallback done) {
  {
    MutexLock lock(mutex_);
    stored_[data].assign(bytes.begin(), bytes.end());
  }
  done(Status::Ok());
}

// One after the other: each flush starts the next.
void MemoryDataPlane::SyncAll(StatusCallback done) {
  std::shared_ptr<InodeData> dirty;
  {
    MutexLock lock(mutex_);
    for (const std::weak_ptr<InodeData>& attached : attached_) {
      auto data = attached.lock();
      if (data != nullptr && data->dirty()) dirty = std::move(data);
    }
  }
  if (dirty == nullptr) return done(Status::Ok());
  dirty->Flush([this, done = std::move(done)](const Status& status) {
    if (status.ok()) return SyncAll(done);
    done(status);
  });
}

std::string MemoryDataPlane::Stored(DataId data) const {
  MutexLock lock(mutex_);
  const auto found = stored_.find(data);
  return found != stored_.end() ? found->second : std::string();
}

void MemoryDataPlane::FailNextFlush(Status status) {
  MutexLock lock(mutex_);
  next_failure_ = std::move(status);
}

Status MemoryDataPlane::TakeFailure() {
  MutexLock lock(mutex_);
  return std::exchange(next_failure_, Status::Ok());
}

void MemoryDataPlane::Record(std::string call) {
  MutexLock lock(mutex_);
  calls_.push_back(std::move(call));
}

std::vector<std::string> MemoryDataPlane::calls() const {
  MutexLock lock(mutex_);
  return calls_;
}

}  // namespace tarn::client::testing
