#include "client/data/target_operations.h"

#include <algorithm>
#include <utility>

namespace tarn::client {

// ---- CommitOperation ----

CommitOperation::CommitOperation(std::shared_ptr<ChunkClient::Core> core, TargetId target, std::vector<GroupId> groups,
                                 Callback<CommitOutcome> done)
    : UnaryOperation(std::move(core)),
      target_(target),
      groups_(std::move(groups)),
      done_(std::move(done)),
      session_(core_->Session()) {}

void CommitOperation::Attempt() {
  if (const auto routes = core_->Routes(); routes != nullptr && !core_->closed()) {
    for (const GroupId group : groups_) {
      if (!routes->IsPrimary(target_, group)) outcome_.moved.push_back(group);
    }
    if (!outcome_.moved.empty()) return End(Status::Ok());
  }
  UnaryOperation::Attempt();
}

Result<Route> CommitOperation::FindRoute(const PlacementRoutes& routes) { return routes.OfTarget(target_); }

void CommitOperation::Send(rpc::FrameClient& client, rpc::CallOptions options) {
  proto::CommitTargetRequest request;
  request.set_target(target_.value());
  request.set_session(session_.value());
  for (const GroupId group : groups_) request.add_groups(group.value());
  client.Call(rpc::Method::kCommitTarget, request, options, MakeReplyCallback());
}

Status CommitOperation::OnGood(const rpc::Reply& reply) {
  proto::CommitTargetReply message;
  RETURN_IF_ERROR(rpc::ParseReply(reply, &message));
  outcome_.incarnation = Incarnation(message.incarnation());
  for (const uint32_t group : message.not_primary()) outcome_.moved.emplace_back(group);
  for (const GroupId group : groups_) {
    if (std::find(outcome_.moved.begin(), outcome_.moved.end(), group) == outcome_.moved.end())
      outcome_.covered.push_back(group);
  }
  return Status::Ok();
}

void CommitOperation::Finish(const Status& status) {
  auto done = std::exchange(done_, nullptr);
  if (status.ok()) {
    done(std::move(outcome_));
  } else {
    done(status);
  }
}

// ---- ColumnCommitOperation ----

ColumnCommitOperation::ColumnCommitOperation(std::shared_ptr<ChunkClient::Core> core, const FileLayout& layout,
                                             uint32_t column, StatusCallback done)
    : UnaryOperation(std::move(core)),
      layout_(layout),
      column_(column),
      done_(std::move(done)),
      session_(core_->Session()) {}

void ColumnCommitOperation::Send(rpc::FrameClient& client, rpc::CallOptions options) {
  proto::CommitTargetRequest request;
  request.set_target(route_.target.value());
  request.set_session(session_.value());
  request.add_groups(route_.group.value());
  client.Call(rpc::Method::kCommitTarget, request, options, MakeReplyCallback());
}

Status ColumnCommitOperation::OnGood(const rpc::Reply& reply) {
  proto::CommitTargetReply message;
  RETURN_IF_ERROR(rpc::ParseReply(reply, &message));
  if (message.not_primary().empty()) return Status::Ok();
  core_->WantNewerMap();
  return Status(StatusCode::kUnavailable, "another target is the primary of the group now");
}

// ---- ListOperation ----

ListOperation::ListOperation(std::shared_ptr<ChunkClient::Core> core, const FileLayout& layout, uint32_t column,
                             DataId data, Callback<std::vector<StoredChunk>> done)
    : UnaryOperation(std::move(core)), layout_(layout), column_(column), data_(data), done_(std::move(done)) {}

void ListOperation::Send(rpc::FrameClient& client, rpc::CallOptions options) {
  proto::StatDataRequest request;
  request.set_target(route_.target.value());
  request.set_data_id(data_.value());
  client.Call(rpc::Method::kStatData, request, options, MakeReplyCallback());
}

Status ListOperation::OnGood(const rpc::Reply& reply) {
  proto::StatDataReply message;
  RETURN_IF_ERROR(rpc::ParseReply(reply, &message));
  for (const auto& chunk : message.chunks()) {
    // The target also holds the chunks of other columns whose groups it serves.
    if (ColumnOfChunk(layout_, chunk.index()) == column_) chunks_.push_back({chunk.index(), chunk.bytes()});
  }
  return Status::Ok();
}

void ListOperation::Finish(const Status& status) {
  auto done = std::exchange(done_, nullptr);
  if (status.ok()) {
    done(std::move(chunks_));
  } else {
    done(status);
  }
}

}  // namespace tarn::client
