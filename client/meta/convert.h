// Between the wire's messages and the library's value types (client/types.h). Pure functions, thread-safe.
#pragma once

#include "client/types.h"
#include "proto/metadata.pb.h"
#include "proto/types.pb.h"

namespace tarn::client {

FileLayout LayoutFromProto(const proto::Layout& layout);
proto::Layout LayoutToProto(const FileLayout& layout);

Attributes AttributesFromProto(const proto::Attributes& attributes);

VolumeInfo VolumeFromProto(const proto::Volume& volume);

proto::FileType FileTypeToProto(FileType type);

// A mutation on behalf of `caller`; the op is still to be set.
proto::Mutation MutationFor(Caller caller);

}  // namespace tarn::client
