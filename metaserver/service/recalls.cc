#include "metaserver/service/recalls.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "common/base/mutex.h"

namespace tarn::meta {
namespace {

InodeId ChildOf(const StateMachine& state, uint64_t parent, const std::string& name) {
  proto::LookupRequest request;
  request.set_parent(parent);
  request.set_name(name);
  proto::LookupReply reply;
  return state.Lookup(request, &reply).ok() ? InodeId(reply.attributes().inode()) : InodeId();
}

bool IsRegularFile(const StateMachine& state, InodeId inode) {
  proto::GetAttrRequest request;
  request.set_inode(inode.value());
  proto::GetAttrReply reply;
  return state.GetAttr(request, &reply).ok() && reply.attributes().type() == proto::FILE_TYPE_REGULAR;
}

// Recalls under way of which somebody waits for the last. Thread-safe.
class PendingRecalls {
 public:
  PendingRecalls(size_t count, std::function<void(const Status&)> done) : left_(count), done_(std::move(done)) {}

  void OnRecalled(const Status& status) {
    Status result;
    {
      MutexLock lock(mutex_);
      if (!status.ok()) status_ = status;
      if (--left_ > 0) return;
      result = status_;
    }
    done_(result);
  }

 private:
  Mutex mutex_;
  size_t left_ GUARDED_BY(mutex_);
  Status status_ GUARDED_BY(mutex_);
  const std::function<void(const Status&)> done_;
};

}  // namespace

std::set<WrittenInode> HeldInodesWrittenBy(const StateMachine& state, const PushCoordinator& coherence,
                                           std::span<const proto::Mutation> mutations) {
  std::set<WrittenInode> held;
  if (!coherence.AnyWriter()) return held;
  const auto add = [&](const proto::Mutation& mutation, InodeId inode) {
    const SessionId session(mutation.session());
    if (inode.valid() && coherence.HeldByOther(session, inode) && IsRegularFile(state, inode)) {
      held.insert({session, inode});
    }
  };
  // A name that an earlier one of the mutations moves may be where a later one puts new data.
  const bool replaces = std::ranges::any_of(
      mutations, [](const proto::Mutation& mutation) { return mutation.has_create() && mutation.create().replace(); });
  for (const proto::Mutation& mutation : mutations) {
    switch (mutation.op_case()) {
      case proto::Mutation::kCommitWrite:
        add(mutation, InodeId(mutation.commit_write().inode()));
        break;
      case proto::Mutation::kTruncate:
        add(mutation, InodeId(mutation.truncate().inode()));
        break;
      case proto::Mutation::kSetAttr:
        add(mutation, InodeId(mutation.set_attr().inode()));
        break;
      case proto::Mutation::kCreate:
        if (mutation.create().replace())
          add(mutation, ChildOf(state, mutation.create().parent(), mutation.create().name()));
        break;
      case proto::Mutation::kRename:
        if (!replaces) break;
        add(mutation, ChildOf(state, mutation.rename().parent(), mutation.rename().name()));
        add(mutation, ChildOf(state, mutation.rename().new_parent(), mutation.rename().new_name()));
        break;
      case proto::Mutation::kLink:
        if (replaces) add(mutation, InodeId(mutation.link().inode()));
        break;
      default:
        break;
    }
  }
  return held;
}

std::set<WrittenInode> HeldInodesShownBy(PushCoordinator* coherence, SessionId session, uint64_t ends,
                                         const proto::MutationReply& reply) {
  std::set<WrittenInode> held;
  if (reply.status() != 0) return held;
  for (const proto::Attributes* shown : {&reply.attributes(), &reply.removed()}) {
    const InodeId inode(shown->inode());
    const bool is_written = shown->type() == proto::FILE_TYPE_REGULAR && shown->nlink() > 0;
    if (is_written && coherence->MustRecall(session, inode, ends)) held.insert({session, inode});
  }
  return held;
}

void RefreshAttributes(const StateMachine& state, proto::MutationReply* reply) {
  const auto refresh = [&](proto::Attributes* shown) {
    proto::GetAttrRequest request;
    request.set_inode(shown->inode());
    proto::GetAttrReply fresh;
    if (state.GetAttr(request, &fresh).ok()) *shown = std::move(*fresh.mutable_attributes());
  };
  if (reply->attributes().inode() != 0) refresh(reply->mutable_attributes());
  if (reply->removed().nlink() > 0) refresh(reply->mutable_removed());
}

void RecallAll(PushCoordinator* coherence, const std::set<WrittenInode>& inodes,
               std::function<void(const Status&)> recalled) {
  if (inodes.empty()) return recalled(Status::Ok());
  const auto pending = std::make_shared<PendingRecalls>(inodes.size(), std::move(recalled));
  for (const WrittenInode& each : inodes) {
    coherence->Recall(each.session, each.inode, [pending](const Status& status) { pending->OnRecalled(status); });
  }
}

}  // namespace tarn::meta
