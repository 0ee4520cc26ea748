// Writes and truncates of a chunk: to the primary of its group, under a number that stays the same whoever is primary.
// Internal to the chunk client.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "client/data/chunk_operation.h"
#include "proto/data.pb.h"

namespace tarn::client {

class NumberedOperation : public UnaryOperation {
 public:
  NumberedOperation(std::shared_ptr<ChunkClient::Core> core, const ChunkReference& chunk, Callback<WriteAck> done);

 protected:
  Result<Route> FindRoute(const PlacementRoutes& routes) override;
  void Finish(const Status& status) override;
  virtual void OnFinished() {}
  // A chunk's group never changes, so one number does for all attempts.
  uint64_t Sequence();

  const ChunkReference chunk_;
  const SessionId session_;
  WriteAck ack_;
  GroupId numbered_in_;

 private:
  void Tell(const Status& status);

  Callback<WriteAck> done_;
  uint64_t sequence_ = 0;  // 0: none yet
};

class WriteOperation final : public NumberedOperation {
 public:
  WriteOperation(std::shared_ptr<ChunkClient::Core> core, const ChunkReference& chunk, uint64_t offset,
                 std::span<const uint8_t> bytes, const WriteOptions& options, Callback<WriteAck> done);
  void Admitted() override;

 private:
  bool Admit() override;
  void Send(rpc::FrameClient& client, rpc::CallOptions options) override;
  Status OnGood(const rpc::Reply& reply) override;
  bool RetryAfterRefusal(const Status& status) override;
  void OnFinished() override;
  std::string Describe() const override { return "write chunk " + ChunkText(chunk_); }

  const std::span<const uint8_t> bytes_;
  proto::WriteChunkRequest request_;
  bool admitted_ = false;
  std::string admitted_at_;
  uint32_t sum_refusals_ = 0;
};

class TruncateOperation final : public NumberedOperation {
 public:
  using NumberedOperation::NumberedOperation;

 private:
  void Send(rpc::FrameClient& client, rpc::CallOptions options) override;
  Status OnGood(const rpc::Reply& reply) override;
  std::string Describe() const override { return "truncate chunk " + ChunkText(chunk_); }
};

}  // namespace tarn::client
