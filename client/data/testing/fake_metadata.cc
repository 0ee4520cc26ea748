#include "client/data/testing/fake_metadata.h"

#include <algorithm>
#include <utility>

namespace tarn::client {
namespace {

Status NoSuchFile(InodeId inode) { return Status(StatusCode::kNotFound, "inode " + std::to_string(inode.value())); }

}  // namespace

template <typename T>
void FakeMetadata::Answer(Callback<T> done, Result<T> result) {
  loop_->Post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

void FakeMetadata::AllocateData(InodeId inode, Callback<Attributes> done) {
  MutexLock lock(mutex_);
  ++counts_.allocates;
  const auto found = files_.find(inode);
  if (found == files_.end()) return Answer<Attributes>(std::move(done), NoSuchFile(inode));
  Attributes& file = found->second;
  if (!file.data.valid()) {
    file.data = DataId(next_data_++);
    file.layout = layout_;
    file.layout.seed = next_data_;
    ++file.change;
  }
  Answer<Attributes>(std::move(done), file);
}

void FakeMetadata::CommitWrite(const WriteCommit& commit, Callback<Attributes> done) {
  MutexLock lock(mutex_);
  ++counts_.commits;
  const auto found = files_.find(commit.inode);
  if (found == files_.end()) return Answer<Attributes>(std::move(done), NoSuchFile(commit.inode));
  if (!commit_failures_.empty()) {
    const Status failure = commit_failures_.front();
    commit_failures_.pop_front();
    return Answer<Attributes>(std::move(done), failure);
  }
  Attributes& file = found->second;
  if (commit.data != file.data || commit.truncate_generation != file.truncate_generation) {
    return Answer<Attributes>(std::move(done), Status(StatusCode::kStaleTruncate, "the file was truncated"));
  }
  file.size_bytes = std::max(file.size_bytes, commit.min_size_bytes);
  file.mtime_ns = commit.mtime_ns;
  ++file.data_generation;
  ++file.change;
  Answer<Attributes>(std::move(done), file);
}

void FakeMetadata::FetchAttributes(InodeId inode, Callback<Attributes> done) {
  MutexLock lock(mutex_);
  ++counts_.fetches;
  const auto found = files_.find(inode);
  if (found == files_.end()) return Answer<Attributes>(std::move(done), NoSuchFile(inode));
  Answer<Attributes>(std::move(done), found->second);
}

void FakeMetadata::TruncateDone(InodeId inode, uint64_t truncate_generation, StatusCallback done) {
  {
    MutexLock lock(mutex_);
    ++counts_.truncates_done;
    const auto found = files_.find(inode);
    if (found != files_.end() && found->second.truncate_generation == truncate_generation) {
      found->second.truncate_floor_bytes.reset();
      ++found->second.change;
    }
  }
  loop_->Post([done = std::move(done)] { done(Status::Ok()); });
}

std::shared_ptr<const proto::ClusterMap> FakeMetadata::cluster_map() {
  MutexLock lock(mutex_);
  return map_;
}

void FakeMetadata::RefreshClusterMap(uint64_t, StatusCallback done) {
  {
    MutexLock lock(mutex_);
    ++counts_.refreshes;
    if (newer_map_ != nullptr) map_ = std::move(newer_map_);
    newer_map_ = nullptr;
  }
  loop_->Post([done = std::move(done)] { done(Status::Ok()); });
}

bool FakeMetadata::KnowsContent(InodeId inode, const DataContent& content) {
  MutexLock lock(mutex_);
  const auto found = files_.find(inode);
  return holds_grants_ && found != files_.end() && found->second.data == content.data &&
         found->second.data_generation == content.data_generation &&
         found->second.truncate_generation == content.truncate_generation;
}

void FakeMetadata::RaiseGeneration(InodeId inode) {
  MutexLock lock(mutex_);
  ++files_.at(inode).data_generation;
  ++files_.at(inode).change;
}

Attributes FakeMetadata::MakeFile() {
  MutexLock lock(mutex_);
  Attributes file;
  file.inode = InodeId(next_inode_++);
  file.change = 1;
  files_[file.inode] = file;
  return file;
}

Attributes FakeMetadata::Get(InodeId inode) const {
  MutexLock lock(mutex_);
  return files_.at(inode);
}

Attributes FakeMetadata::Truncate(InodeId inode, uint64_t size) {
  MutexLock lock(mutex_);
  Attributes& file = files_.at(inode);
  ++file.change;
  ++file.data_generation;
  if (size == 0) {
    file.data = DataId();
    file.truncate_floor_bytes.reset();
  } else if (size < file.size_bytes && file.data.valid()) {
    ++file.truncate_generation;
    file.truncate_floor_bytes = std::min(size, file.truncate_floor_bytes.value_or(size));
  }
  file.size_bytes = size;
  return file;
}

void FakeMetadata::Remove(InodeId inode) {
  MutexLock lock(mutex_);
  files_.erase(inode);
}

void FakeMetadata::SetMap(const proto::ClusterMap& map) {
  MutexLock lock(mutex_);
  map_ = std::make_shared<proto::ClusterMap>(map);
}

void FakeMetadata::SetNewerMap(const proto::ClusterMap& map) {
  MutexLock lock(mutex_);
  newer_map_ = std::make_shared<proto::ClusterMap>(map);
}

void FakeMetadata::FailCommits(std::deque<Status> failures) {
  MutexLock lock(mutex_);
  commit_failures_ = std::move(failures);
}

FakeMetadata::Counts FakeMetadata::counts() const {
  MutexLock lock(mutex_);
  return counts_;
}

}  // namespace tarn::client
