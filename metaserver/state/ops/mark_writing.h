// Whether a session may be changing the data of a file without having published it (docs/elastic.md): while it is so, the
// data generation names no settled content, and nobody uses copies outside of the in-sync members.
//
// One thread, that of the command; HasElasticTargets: any.
#pragma once

#include "common/base/status.h"
#include "metaserver/state/command_context.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// Whether anybody may use such copies; else nothing is marked.
bool HasElasticTargets(const proto::ClusterMap& map);

namespace ops {

Status MarkWriting(CommandContext* context, const proto::MarkWritingOp& op, proto::MutationReply* reply);
// What a commit leaves: marked, unless nobody can be changing the data any more. That the leader knows (`settles`), or the
// session takes no part in write grants.
Result<bool> IsMarkedAfter(const CommandContext& context, const proto::CommitWriteOp& op);

}  // namespace ops
}  // namespace tarn::meta
