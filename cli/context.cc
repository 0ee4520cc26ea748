#include "cli/context.h"

#include "cli/dev/cluster_config.h"

namespace tarn::cli {
namespace {

std::vector<std::string> SplitList(const std::string& text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    if (comma > begin) parts.push_back(text.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return parts;
}

}  // namespace

Result<VolumePath> ParseVolumePath(const std::string& text) {
  VolumePath where;
  // The path begins at the first ":/", which no HOST:PORT contains.
  const size_t path_begin = text.find(":/");
  std::string volume = text.substr(0, path_begin);
  where.path = path_begin == std::string::npos ? "/" : text.substr(path_begin + 1);
  // `tarn mount` also takes the servers behind the path: VOLUME:/DIR@HOST:PORT is told from a name with '@' by its colon.
  if (const size_t at = where.path.rfind('@'); at != std::string::npos && where.path.find(':', at) != std::string::npos) {
    where.servers = SplitList(where.path.substr(at + 1));
    where.path.resize(at);
  }
  if (const size_t at = volume.find('@'); at != std::string::npos) {
    where.servers = SplitList(volume.substr(at + 1));
    volume.resize(at);
  }
  if (!volume.empty() && volume.back() == ':') volume.pop_back();
  if (volume.empty() || volume.find('/') != std::string::npos || volume.find(':') != std::string::npos) {
    return Status(StatusCode::kInvalidArgument, "'" + text + "' is not VOLUME:/PATH (for example default:/datasets)");
  }
  where.volume = volume;
  return where;
}

Result<std::vector<std::string>> MetaserverAddresses(const Context& context, const std::vector<std::string>& own) {
  if (!own.empty()) return own;
  if (!context.meta.empty()) {
    std::vector<std::string> addresses = SplitList(context.meta);
    if (addresses.empty()) return Status(StatusCode::kInvalidArgument, "--meta: no address in '" + context.meta + "'");
    return addresses;
  }
  if (!context.dev_directory.empty()) {
    ASSIGN_OR_RETURN(const ClusterConfig config, LoadClusterConfig(context.dev_directory));
    return MetaAddresses(config);
  }
  return Status(StatusCode::kInvalidArgument, "which cluster? Give --meta HOST:PORT, set TARN_META, or name a dev cluster with --dir D");
}

Result<std::unique_ptr<client::Filesystem>> OpenFilesystem(const Context& context, const VolumePath& where, uint64_t memory_limit_bytes) {
  client::FilesystemOptions options;
  ASSIGN_OR_RETURN(options.metaservers, MetaserverAddresses(context, where.servers));
  options.volume = where.volume;
  options.client_name = "tarn";
  options.memory_limit_bytes = memory_limit_bytes;
  return client::Filesystem::Open(options);
}

}  // namespace tarn::cli
