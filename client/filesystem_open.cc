// Filesystem::Open: puts the parts together and finds the volume.
#include <unistd.h>

#include <array>
#include <utility>

#include "client/blocking.h"
#include "client/filesystem_impl.h"
#include "client/meta/convert.h"

namespace tarn::client {
namespace {

// Metadata and data share them. Two keep two cores busy; the work on them is short and never blocks.
constexpr int kEventLoops = 2;

// Shares of the memory limit; the rest is for requests under way and the allocator's slack.
constexpr uint64_t kWriteBufferShare = 4;
constexpr uint64_t kReadCacheShare = 4;
constexpr uint64_t kPageCacheViewsShare = 64;
constexpr uint64_t kNamespaceCacheShare = 8;

std::string HostName() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) return "";
  return host.data();
}

std::string DefaultClientName() {
  const std::string host = HostName();
  return (host.empty() ? "?" : host) + ":" + std::to_string(getpid());
}

Result<VolumeInfo> FindVolume(MetadataClient& metadata, const std::string& name) {
  proto::GetVolumeRequest request;
  request.set_name(name);
  Result<proto::GetVolumeReply> reply = Wait<proto::GetVolumeReply>([&](Callback<proto::GetVolumeReply> done) {
    metadata.Read<proto::GetVolumeReply>(rpc::Method::kGetVolume, request, std::move(done));
  });
  if (!reply.ok() && reply.status().code() == StatusCode::kNotFound) {
    return Status(StatusCode::kNotFound, "volume '" + name + "' does not exist");
  }
  if (!reply.ok()) return reply.status().WithContext("volume '" + name + "'");
  return VolumeFromProto(reply->volume());
}

Result<InodeId> FindRoot(MetadataClient& metadata, const VolumeInfo& volume, const std::string& subdirectory) {
  if (subdirectory.find_first_not_of('/') == std::string::npos) return volume.root;
  proto::LookupPathRequest request;
  request.set_root(volume.root.value());
  request.set_path(subdirectory);
  Result<proto::LookupReply> reply = Wait<proto::LookupReply>([&](Callback<proto::LookupReply> done) {
    metadata.Read<proto::LookupReply>(rpc::Method::kLookupPath, request, std::move(done));
  });
  const std::string where = "directory '" + subdirectory + "' of volume '" + volume.name + "'";
  if (!reply.ok() && reply.status().code() == StatusCode::kNotFound) {
    return Status(StatusCode::kNotFound, where + " does not exist");
  }
  if (!reply.ok()) return reply.status().WithContext(where);
  if (reply->attributes().type() != proto::FILE_TYPE_DIRECTORY) {
    return Status(StatusCode::kNotDirectory, where + " is not a directory");
  }
  return InodeId(reply->attributes().inode());
}

}  // namespace

Result<std::unique_ptr<Filesystem>> Filesystem::Open(const FilesystemOptions& options) {
  if (options.metaservers.empty()) return Status(StatusCode::kInvalidArgument, "no metadata server address is given");
  FilesystemImpl::Parts parts;
  parts.clock = std::make_unique<SystemClock>();
  parts.random = std::make_unique<SystemRandom>();
  std::vector<rpc::EventLoop*> loops = options.loops;
  for (int i = 0; options.loops.empty() && i < kEventLoops; ++i) {
    ASSIGN_OR_RETURN(std::unique_ptr<rpc::EventLoop> loop, rpc::EventLoop::Start("client-loop-" + std::to_string(i)));
    loops.push_back(loop.get());
    parts.loops.push_back(std::move(loop));
  }
  MetadataChannelOptions channel;
  channel.addresses = options.metaservers;
  channel.client_name = options.client_name.empty() ? DefaultClientName() : options.client_name;
  channel.token = options.token;
  channel.retry_deadline_ms = options.retry_deadline_ms;
  parts.metadata = std::make_unique<MetadataClient>(loops.front(), parts.clock.get(), parts.random.get(), channel);
  if (options.cache_metadata) parts.metadata->EnableCaching(options.memory_limit_bytes / kNamespaceCacheShare);
  parts.retry_deadline_ms = options.retry_deadline_ms;
  parts.page_cache_views_bytes = options.memory_limit_bytes / kPageCacheViewsShare;

  ASSIGN_OR_RETURN(parts.volume, FindVolume(*parts.metadata, options.volume));
  ASSIGN_OR_RETURN(parts.root, FindRoot(*parts.metadata, parts.volume, options.subdirectory));
  RETURN_IF_ERROR(
      WaitStatus([&](StatusCallback done) { parts.metadata->OpenSession(parts.volume.id, std::move(done)); }));
  RETURN_IF_ERROR(WaitStatus([&](StatusCallback done) { parts.metadata->RefreshClusterMap(0, std::move(done)); }));

  DataPlaneOptions data;
  data.write_buffer_bytes = options.memory_limit_bytes / kWriteBufferShare;
  data.read_cache_bytes = options.memory_limit_bytes / kReadCacheShare;
  data.read_ahead_bytes_max = options.read_ahead_bytes_max;
  data.retry_deadline_ms = options.retry_deadline_ms;
  data.peer_name = channel.client_name;
  data.token = options.token;
  data.node = options.node.empty() ? HostName() : options.node;
  data.write_buffer_name = options.write_buffer_name;
  ASSIGN_OR_RETURN(std::unique_ptr<FilesystemImpl> filesystem,
                   FilesystemImpl::Create(std::move(parts), [&](MetadataForData* metadata) {
                     return DataPlane::Create(data, loops, metadata);
                   }));
  return std::unique_ptr<Filesystem>(std::move(filesystem));
}

}  // namespace tarn::client
