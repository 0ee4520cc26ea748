// The reads of the state machine, over the store's latest state.
//
// A read of several records may lie across a write: each names what makes its answer one that was true at some moment.
// Errors: the POSIX code of the question (an inode that is gone is kStaleHandle by its id, kNotFound as a directory or
// a name), or the store's. Thread-safe.
#pragma once

#include <string_view>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/kv.h"
#include "proto/metadata.pb.h"
#include "proto/types.pb.h"

namespace tarn::meta {

Status LookupName(const KvStore& store, const proto::LookupRequest& request, proto::Attributes* attributes);
// kNotDirectory: something other than a directory lies on the way; kNameTooLong: a component above 255 bytes, or the
// path above 64 KiB.
Status LookupPathNames(const KvStore& store, const proto::LookupPathRequest& request, proto::Attributes* attributes);
Status ReadAttributes(const KvStore& store, InodeId inode, proto::Attributes* attributes);
// A page never ends between two names with equal cookies. At least one name of a directory that has any after the
// cookie.
Status ListDirectory(const KvStore& store, const proto::ReadDirRequest& request, proto::ReadDirReply* reply);
// kNoAttribute; kTooLong: a name that is empty or above 255 bytes. Of directories also, as decimal numbers and not
// listed: tarn.dir.bytes, tarn.dir.files, tarn.dir.directories (directory_sizes.h), and
// tarn.dir.unsettled: how many directories of the whole state have changes that are not carried upwards yet.
Status ReadXattr(const KvStore& store, const proto::GetXattrRequest& request, proto::GetXattrReply* reply);
Status ListXattrs(const KvStore& store, InodeId inode, proto::ListXattrReply* reply);

// With its counters.
Status ReadVolumeByName(const KvStore& store, std::string_view name, proto::Volume* volume);
Status ListAllVolumes(const KvStore& store, proto::ListVolumesReply* reply);

}  // namespace tarn::meta
