#include "client/filesystem_impl.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "client/blocking.h"
#include "client/meta/convert.h"

namespace tarn::client {

FilesystemImpl::FilesystemImpl(Parts parts)
    : parts_(std::move(parts)),
      metadata_(parts_.metadata.get()),
      cache_(metadata_->coherence() != nullptr ? &metadata_->coherence()->cache() : nullptr),
      locks_(Locks::Create(metadata_)),
      write_releases_([this](const std::vector<InodeId>& inodes, std::function<void()> done) {
        SendWriteReleases(inodes, std::move(done));
      }),
      page_cache_views_(parts_.page_cache_views_bytes),
      reserved_data_ids_(
          parts_.clock.get(), parts_.random.get(),
          [this](uint32_t count, Callback<ReservedDataIds::Batch> done) {
            proto::Mutation mutation;
            mutation.mutable_reserve_data_ids()->set_volume(parts_.volume.id.value());
            mutation.mutable_reserve_data_ids()->set_count(count);
            metadata_->Mutate(std::move(mutation), [done = std::move(done)](const Result<proto::MutationReply>& reply) {
              if (!reply.ok()) return done(reply.status());
              done(ReservedDataIds::Batch{DataId(reply->first_data_id()), reply->data_id_count(),
                                          LayoutFromProto(reply->layout_template())});
            });
          }),
      observed_metadata_(this) {}

Result<std::unique_ptr<FilesystemImpl>> FilesystemImpl::Create(Parts parts, const MakeDataPlane& make_data_plane) {
  std::unique_ptr<FilesystemImpl> filesystem(new FilesystemImpl(std::move(parts)));
  ASSIGN_OR_RETURN(filesystem->data_, make_data_plane(&filesystem->observed_metadata_));
  filesystem->open_files_.SetDataPlane(filesystem->data_.get());
  if (filesystem->cache_ != nullptr) {
    FilesystemImpl* const raw = filesystem.get();
    raw->open_files_.SetWriteGrants([raw](InodeId inode, bool granted) { return raw->MakeGrant(inode, granted); },
                                    &raw->write_releases_);
  }
  if (filesystem->cache_ != nullptr) filesystem->metadata_->coherence()->SetOpenInodes(&filesystem->open_files_);
  return filesystem;
}

FilesystemImpl::~FilesystemImpl() {
  if (data_ != nullptr) {
    const Status synced = WaitStatus([this](StatusCallback done) { data_->SyncAll(std::move(done)); });
    if (!synced.ok()) {
      spdlog::error("written data was lost when the file system was closed volume={} error={}", parts_.volume.name,
                    synced.ToString());
    }
  }
  locks_->Close();
  // No callback of the metadata half runs after this; the data plane's own end with it.
  metadata_->Shutdown(parts_.retry_deadline_ms);
  data_.reset();
}

void FilesystemImpl::SyncAll(StatusCallback done) { data_->SyncAll(std::move(done)); }

Filesystem::Counters FilesystemImpl::counters() const {
  const DataPlane::Counters data = data_->counters();
  Counters counters;
  counters.metadata_requests = metadata_->requests();
  counters.data_requests = data.requests;
  counters.bytes_read = data.bytes_read;
  counters.bytes_written = data.bytes_written;
  counters.checksum_failures = data.checksum_failures;
  counters.dirty_bytes = data.dirty_bytes;
  if (cache_ == nullptr) return counters;
  const NamespaceCache::Counters cached = cache_->counters();
  counters.cached_inodes = cached.inodes;
  counters.cached_names = cached.names;
  counters.cache_bytes = cached.bytes;
  counters.cache_hits = cached.hits;
  counters.cache_misses = cached.misses;
  counters.pushes = cached.pushes;
  return counters;
}

// ---- What the data half asks ----

void FilesystemImpl::ObservedMetadata::AllocateData(InodeId inode, Callback<Attributes> done) {
  const uint64_t token = filesystem_->CacheToken();
  metadata()->AllocateData(inode, [this, token, done = std::move(done)](Result<Attributes> result) {
    if (result.ok()) {
      filesystem_->CacheAttributes(token, *result, /*seen_by_kernel=*/false);
      filesystem_->open_files_.Remember(*result);
    }
    done(std::move(result));
  });
}

void FilesystemImpl::ObservedMetadata::CommitWrite(const WriteCommit& commit, Callback<Attributes> done) {
  const uint64_t token = filesystem_->CacheToken();
  WriteCommit sent = commit;
  std::shared_ptr<WriteGrant> released;
  if (commit.publishes_all) released = filesystem_->open_files_.BeginRelease(commit.inode);
  sent.release_write = released != nullptr;
  metadata()->CommitWrite(sent,
                          [this, token, released, inode = commit.inode, done = std::move(done)](Result<Attributes> result) {
                            if (released != nullptr) released->EndRelease(result.ok());
                            if (result.ok()) {
                              filesystem_->CacheAttributes(token, *result, /*seen_by_kernel=*/false);
                              filesystem_->page_cache_views_.OwnWrite(*result);
                              filesystem_->open_files_.Remember(*result);
                            } else {
                              filesystem_->CacheForgetAttributes(inode);
                            }
                            done(std::move(result));
                          });
}

// What the data half asks for is always the newest: it met something that its own view does not explain.
void FilesystemImpl::ObservedMetadata::FetchAttributes(InodeId inode, Callback<Attributes> done) {
  filesystem_->FetchAttributes(inode, [this, done = std::move(done)](Result<Attributes> result) {
    if (result.ok()) filesystem_->open_files_.Remember(*result);
    done(std::move(result));
  });
}

uint64_t FilesystemImpl::ObservedMetadata::SoleWriterTerm(InodeId inode) { return filesystem_->open_files_.ExclusiveTerm(inode); }

bool FilesystemImpl::ObservedMetadata::KnowsContent(InodeId inode, const DataContent& content) {
  if (filesystem_->cache_ == nullptr) return false;
  const std::optional<Attributes> known = filesystem_->cache_->FindAttributes(inode);
  return known && known->data == content.data && known->data_generation == content.data_generation &&
         known->truncate_generation == content.truncate_generation && !known->truncate_floor_bytes && !known->being_written;
}

void FilesystemImpl::ObservedMetadata::TruncateDone(InodeId inode, uint64_t truncate_generation, StatusCallback done) {
  const uint64_t token = filesystem_->CacheToken();
  metadata()->EndTruncate(inode, truncate_generation,
                          [this, token, inode, done = std::move(done)](const Result<Attributes>& result) {
                            if (result.ok()) {
                              filesystem_->CacheAttributes(token, *result, /*seen_by_kernel=*/false);
                              filesystem_->open_files_.Remember(*result);
                            } else {
                              filesystem_->CacheForgetAttributes(inode);
                            }
                            done(result.status());
                          });
}

}  // namespace tarn::client
