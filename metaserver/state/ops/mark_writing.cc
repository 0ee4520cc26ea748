// The leader's mark before a write grant is used, and when one ends without a commit.
//
// Nothing that stat shows changes. The data generation rises with every mark, and when one ends. EISDIR; EINVAL: no
// regular file; ESTALE: no such inode.
#include "metaserver/state/ops/mark_writing.h"

#include <algorithm>

#include "metaserver/state/file_data.h"
#include "metaserver/state/records.h"

namespace tarn::meta {

bool HasElasticTargets(const proto::ClusterMap& map) {
  return std::ranges::any_of(map.targets(), [](const proto::Target& target) {
    return target.target_class() == proto::TARGET_CLASS_ELASTIC;
  });
}

namespace ops {

Status MarkWriting(CommandContext* context, const proto::MarkWritingOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(proto::Attributes file, RegularFile(*context, InodeId(op.inode())));
  if (op.writing() || file.being_written()) {
    file.set_being_written(op.writing());
    file.set_data_generation(file.data_generation() + 1);
    file.set_change(file.change() + 1);
    context->PutInode(file);
  }
  *reply->mutable_attributes() = std::move(file);
  return Status::Ok();
}

Result<bool> IsMarkedAfter(const CommandContext& context, const proto::CommitWriteOp& op) {
  if (op.settles() || !HasElasticTargets(context.map())) return false;
  ASSIGN_OR_RETURN(const auto session, ReadSession(context.view(), context.session()));
  return session && session->caches();
}

}  // namespace ops
}  // namespace tarn::meta
