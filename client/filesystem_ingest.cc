// FilesystemImpl: whole small files in bulk. The bytes go first, durably, under a reserved data id; then one command
// makes the name appear complete. A file that cannot be finished leaves only data that no inode points at.
#include <utility>

#include "client/filesystem_impl.h"
#include "client/meta/convert.h"

namespace tarn::client {
namespace {

constexpr uint64_t kIngestBytesMax = 8 << 20;

}  // namespace

void FilesystemImpl::Ingest(const IngestFile& file, std::span<const uint8_t> bytes, Callback<Attributes> done) {
  if (bytes.size() > kIngestBytesMax) {
    return done(Status(StatusCode::kFileTooLarge, "a file is ingested whole only up to 8 MiB"));
  }
  reserved_data_ids_.Take([this, file, bytes, done = std::move(done)](const Result<ReservedDataIds::Reserved>& taken) {
    if (!taken.ok()) return done(taken.status());
    if (bytes.empty()) return MakeIngestedName(file, *taken, 0, done);
    data_->WriteWhole(taken->data, taken->layout, bytes,
                      [this, file, reserved = *taken, size = bytes.size(), done](const Status& written) {
                        if (!written.ok()) return done(written.WithContext("write " + file.name));
                        MakeIngestedName(file, reserved, size, done);
                      });
  });
}

void FilesystemImpl::MakeIngestedName(const IngestFile& file, const ReservedDataIds::Reserved& reserved,
                                      uint64_t size_bytes, Callback<Attributes> done) {
  proto::Mutation mutation = MutationFor(Caller{file.uid, file.gid});
  proto::CreateOp* op = mutation.mutable_create();
  op->set_parent(file.parent.value());
  op->set_name(file.name);
  op->set_type(proto::FILE_TYPE_REGULAR);
  op->set_mode(file.mode);
  // An empty file takes an id too: only with one does the command replace a file and set owner and time.
  op->set_data_id(reserved.data.value());
  *op->mutable_layout() = LayoutToProto(reserved.layout);
  op->set_size_bytes(size_bytes);
  op->set_mtime_ns(file.mtime_ns);
  op->set_replace(true);
  op->set_set_owner(true);
  op->set_uid(file.uid);
  op->set_gid(file.gid);
  auto made = [this, parent = file.parent, name = file.name, token = CacheToken(),
               done = std::move(done)](const Result<proto::MutationReply>& reply) {
    if (!reply.ok()) {
      CacheForgetName(parent, name);
      return done(reply.status());
    }
    const Attributes attributes = AttributesFromProto(reply->attributes());
    CacheName(token, parent, name, attributes.inode, *reply);
    CacheAttributes(token, attributes, /*seen_by_kernel=*/false);
    done(open_files_.Show(attributes));
  };
  metadata_->MutateBatched(std::move(mutation), NoteMaking(file.parent, file.name, std::move(made)));
}

}  // namespace tarn::client
