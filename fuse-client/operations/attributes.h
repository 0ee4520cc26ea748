// The library's attributes as the kernel wants them.
// Pure functions, thread-safe.
#pragma once

#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>

#include <cstdint>

#include "client/types.h"
#include "fuse-client/operations/node_ids.h"

namespace tarn::fuse {

// How long the kernel may believe an answer.
struct Timeouts {
  double entry_s = 1.0;
  double attributes_s = 1.0;
  double negative_s = 0.0;

  // What is left of them for an answer that is `age_s` old.
  Timeouts After(double age_s) const;
};

// What programs take as the good size of one read or write: stdio buffers and readdir buffers follow it.
inline constexpr uint32_t kPreferredIoBytes = 128 << 10;

// S_IFREG and so on.
uint32_t TypeBits(client::FileType type);
client::FileType TypeOfMode(uint32_t mode);
struct stat ToStat(const client::Attributes& attributes);
fuse_entry_param ToEntry(const client::Attributes& attributes, const NodeIds& nodes, const Timeouts& timeouts);

// From setattr's bits (FUSE_SET_ATTR_*).
client::AttributeChanges ToChanges(const struct stat& wanted, int to_set);

}  // namespace tarn::fuse
