// The metadata protocol: what a lean-frame server does with each request (common/rpc/frame.h, proto/metadata.proto).
//
// Reads are answered on the connection's loop thread from the state machine, if the leader's lease holds before and
// after reading. Mutations go through the proposer and are answered from the apply thread.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "common/rpc/frame_server.h"
#include "metaserver/service/service_context.h"

namespace tarn::meta {

// Thread-safe.
class MetadataService {
 public:
  // The context outlives the service, and the proposer's callbacks are over before the service goes.
  explicit MetadataService(ServiceContext* context) : context_(context) {}
  MetadataService(const MetadataService&) = delete;
  MetadataService& operator=(const MetadataService&) = delete;

  Status Hello(const proto::HelloRequest& request, proto::HelloReply* reply) const;
  void Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder);

 private:
  using ResponderPtr = std::unique_ptr<rpc::Responder>;

  template <typename RequestMessage, typename ReplyMessage, typename Read>
  void AnswerRead(const rpc::Request& request, ResponderPtr responder, Read read);
  template <typename RequestMessage, typename ReplyMessage>
  using GrantedRead = Status (*)(const StateMachine&, PushCoordinator*, const RequestMessage&, ReplyMessage*);

  // Of reads that give an inode's attributes: what another session has buffered of it is recalled first.
  template <typename RequestMessage, typename ReplyMessage>
  void AnswerFresh(const rpc::Request& request, ResponderPtr responder, GrantedRead<RequestMessage, ReplyMessage> read);
  template <typename RequestMessage, typename ReplyMessage>
  void AnswerOnceRecalled(RequestMessage message, std::shared_ptr<rpc::Responder> responder,
                          GrantedRead<RequestMessage, ReplyMessage> read);
  bool HandleNamespaceRead(const rpc::Request& request, ResponderPtr& responder);
  bool HandleClusterRead(const rpc::Request& request, ResponderPtr& responder);
  bool HandleCoherence(const rpc::Request& request, ResponderPtr& responder);
  bool HandleLocks(const rpc::Request& request, ResponderPtr& responder);
  Status ReadStatFs(const proto::StatFsRequest& request, proto::StatFsReply* reply) const;
  Status ReadClusterMap(const proto::GetClusterMapRequest& request, proto::GetClusterMapReply* reply) const;
  Status KeepAlive(const proto::KeepAliveRequest& request, proto::KeepAliveReply* reply);
  void Mutate(const rpc::Request& request, ResponderPtr responder);
  // `loop`: of the request's connection.
  void Submit(proto::Mutation mutation, std::shared_ptr<rpc::Responder> answer, rpc::EventLoop* loop);
  void AnswerMutation(std::shared_ptr<rpc::Responder> answer, const PushCoordinator::MutationId& id,
                      uint64_t ends, proto::MutationReply reply);
  // A file that the session has just created may come with its write grant.
  void NoteWriteGrant(SessionId session, proto::MutationReply* reply) const;
  void AcquireWrite(const rpc::Request& request, ResponderPtr responder);
  void AcquireOnceRecalled(const proto::AcquireWriteRequest& request, std::shared_ptr<rpc::Responder> answer);
  void AnswerAcquired(InodeId inode, bool exclusive, rpc::Responder& answer) const;
  void SetSettles(proto::Mutation* mutation) const;
  void MarkWriting(InodeId inode, bool writing, std::function<void(const Status&)> done);
  bool IsEmpty(InodeId inode) const;
  void ReleaseWrite(SessionId session, InodeId inode);
  // For tests, what becomes of the reply of what is about to be proposed: to be asked when it is committed.
  using ReplyGate = std::function<std::shared_ptr<rpc::Responder>(std::shared_ptr<rpc::Responder> answer)>;
  ReplyGate GateFor(std::span<const proto::Mutation> mutations, rpc::EventLoop* loop) const;
  void MutateBatch(const rpc::Request& request, ResponderPtr responder);
  void SubmitBatch(std::vector<proto::Mutation> mutations, std::shared_ptr<rpc::Responder> answer, rpc::EventLoop* loop);
  void AnswerBatch(std::shared_ptr<rpc::Responder> answer, const std::vector<PushCoordinator::MutationId>& ids,
                   uint64_t ends, proto::MutateBatchReply reply);
  // Refuses what no client may send; notes that its session is alive, and where.
  Status Admit(const rpc::Request& request, const proto::Mutation& mutation);
  // Before data gets its place. Decided here and not by the command: an answer of the log is remembered for its number, and this one is to be asked
  // again. (Where the map that is applied has groups, so has every later one.)
  Status CheckPlace(const proto::Mutation& mutation) const;
  // Whether others may have open what the mutation takes the last name of.
  PushCoordinator::Removal PrepareRemoval(const proto::Mutation& mutation);
  // Answers once the sessions that must hear of what was applied have heard of it.
  template <typename ReplyMessage>
  void AnswerAcknowledged(std::shared_ptr<rpc::Responder> responder,
                          std::span<const PushCoordinator::MutationId> mutations, ReplyMessage reply);
  // What the leader remembers of a mutation that was applied.
  void Remember(proto::Mutation::OpCase op, SessionId closed, proto::MutationReply* reply);
  // A message of another member of the group, for the log.
  void ReceiveRaftMessage(rpc::Request request, ResponderPtr responder);
  bool WasRemoved(uint64_t member) const;
  // Requests of clients can be answered.
  Status CheckServes() const;
  void Fail(rpc::Responder& responder, const Status& status) const;

  ServiceContext* const context_;
};

}  // namespace tarn::meta
