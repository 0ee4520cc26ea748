// Requests about a target as a whole. Internal to the chunk client.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/data/chunk_operation.h"

namespace tarn::client {

// Makes stable what a target acknowledged as the primary of some groups. Ends early when the map says that another
// target is primary of one of them, so that nobody waits for a server that has been replaced.
class CommitOperation final : public UnaryOperation {
 public:
  CommitOperation(std::shared_ptr<ChunkClient::Core> core, TargetId target, std::vector<GroupId> groups,
                  Callback<CommitOutcome> done);
  void Attempt() override;

 private:
  Result<Route> FindRoute(const PlacementRoutes& routes) override;
  void Send(rpc::FrameClient& client, rpc::CallOptions options) override;
  Status OnGood(const rpc::Reply& reply) override;
  void Finish(const Status& status) override;
  std::string Describe() const override { return "commit"; }

  const TargetId target_;
  const std::vector<GroupId> groups_;
  Callback<CommitOutcome> done_;
  const SessionId session_;
  CommitOutcome outcome_;
};

// Makes stable whatever the group of a column has, whoever wrote it; asked of its primary, whichever target that is.
class ColumnCommitOperation final : public UnaryOperation {
 public:
  ColumnCommitOperation(std::shared_ptr<ChunkClient::Core> core, const FileLayout& layout, uint32_t column,
                        StatusCallback done);

 private:
  Result<Route> FindRoute(const PlacementRoutes& routes) override { return routes.ToPrimary(layout_, column_); }
  void Send(rpc::FrameClient& client, rpc::CallOptions options) override;
  Status OnGood(const rpc::Reply& reply) override;
  void Finish(const Status& status) override { std::exchange(done_, nullptr)(status); }
  std::string Describe() const override { return "commit column " + std::to_string(column_); }

  const FileLayout layout_;
  const uint32_t column_;
  StatusCallback done_;
  const SessionId session_;
};

class ListOperation final : public UnaryOperation {
 public:
  ListOperation(std::shared_ptr<ChunkClient::Core> core, const FileLayout& layout, uint32_t column, DataId data,
                Callback<std::vector<StoredChunk>> done);

 private:
  Result<Route> FindRoute(const PlacementRoutes& routes) override { return routes.ToPrimary(layout_, column_); }
  void Send(rpc::FrameClient& client, rpc::CallOptions options) override;
  Status OnGood(const rpc::Reply& reply) override;
  void Finish(const Status& status) override;
  std::string Describe() const override { return "list chunks of data " + std::to_string(data_.value()); }

  const FileLayout layout_;
  const uint32_t column_;
  const DataId data_;
  Callback<std::vector<StoredChunk>> done_;
  std::vector<StoredChunk> chunks_;
};

}  // namespace tarn::client
