#include "client/filesystem_impl.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "client/blocking.h"
#include "client/meta/convert.h"

namespace tarn::client {

FilesystemImpl::FilesystemImpl(Parts parts)
    : parts_(std::move(parts)),
      metadata_(parts_.metadata.get()),
      page_cache_views_(parts_.page_cache_views_bytes),
      reserved_data_ids_(
          parts_.random.get(),
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
  return counters;
}

// ---- What the data half asks ----

void FilesystemImpl::ObservedMetadata::AllocateData(InodeId inode, Callback<Attributes> done) {
  metadata()->AllocateData(inode, [this, done = std::move(done)](Result<Attributes> result) {
    if (result.ok()) filesystem_->open_files_.Remember(*result);
    done(std::move(result));
  });
}

void FilesystemImpl::ObservedMetadata::CommitWrite(const WriteCommit& commit, Callback<Attributes> done) {
  metadata()->CommitWrite(commit, [this, done = std::move(done)](Result<Attributes> result) {
    if (result.ok()) {
      filesystem_->page_cache_views_.OwnWrite(*result);
      filesystem_->open_files_.Remember(*result);
    }
    done(std::move(result));
  });
}

void FilesystemImpl::ObservedMetadata::FetchAttributes(InodeId inode, Callback<Attributes> done) {
  metadata()->FetchAttributes(inode, [this, done = std::move(done)](Result<Attributes> result) {
    if (result.ok()) filesystem_->open_files_.Remember(*result);
    done(std::move(result));
  });
}

void FilesystemImpl::ObservedMetadata::TruncateDone(InodeId inode, uint64_t truncate_generation, StatusCallback done) {
  metadata()->EndTruncate(inode, truncate_generation, [this, done = std::move(done)](const Result<Attributes>& result) {
    if (result.ok()) filesystem_->open_files_.Remember(*result);
    done(result.status());
  });
}

}  // namespace tarn::client
