// tarn volume create | list | info | resize | delete.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/context.h"

namespace tarn::cli {

struct VolumeCreateOptions {
  std::string name;
  std::string quota;         // bytes, with unit; empty: none
  uint64_t quota_inodes = 0;
  uint32_t replicas = 1;
  std::string stripe_unit;   // empty: the cluster's default
  uint32_t stripe_width = 0; // 0: the cluster's default
  std::string chunk_size;    // empty: the cluster's default
};

struct VolumeResizeOptions {
  std::string name;
  std::string quota;  // empty: unchanged; "0": none
  std::optional<uint64_t> quota_inodes;
};

struct VolumeDeleteOptions {
  std::string name;
  bool recursive = false;
};

Status RunVolumeCreate(const Context& context, const VolumeCreateOptions& options);
Status RunVolumeList(const Context& context);
Status RunVolumeInfo(const Context& context, const std::string& name);
Status RunVolumeResize(const Context& context, const VolumeResizeOptions& options);
Status RunVolumeDelete(const Context& context, const VolumeDeleteOptions& options);

}  // namespace tarn::cli
