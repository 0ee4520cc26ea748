#include "metaserver/service/metadata_service.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/placement/cluster_view.h"
#include "metaserver/placement/data_place.h"
#include "metaserver/placement/usable_space.h"
#include "metaserver/service/granted_reads.h"
#include "metaserver/service/mutation_rules.h"
#include "metaserver/service/recalls.h"
#include "metaserver/service/reply_faults.h"
#include "metaserver/state/ops/mark_writing.h"
#include "proto/locks.pb.h"
#include "proto/member.pb.h"
#include "proto/metadata.pb.h"
#include "proto/types.pb.h"

namespace tarn::meta {
namespace {

using rpc::Method;

constexpr size_t kSessionsMax = 100'000;

}  // namespace

Status MetadataService::Hello(const proto::HelloRequest& request, proto::HelloReply* reply) const {
  if (!context_->serving.load(std::memory_order_acquire))
    return Status(StatusCode::kUnavailable, "the metadata server is starting");
  const SelfDescription& self = context_->self;
  if (!request.cluster_id().empty() && request.cluster_id() != self.cluster_id) {
    return Status(StatusCode::kInvalidArgument,
                  "the metadata server at " + self.address + " belongs to another cluster" +
                      " (if it was started anew in an empty directory, it made a new cluster: see its log)");
  }
  reply->set_role(proto::PEER_ROLE_METASERVER);
  reply->set_cluster_id(self.cluster_id);
  reply->set_server_id(self.member_id);
  reply->set_incarnation(self.incarnation);
  reply->set_grpc_address(self.grpc_address);
  reply->set_software_version(self.software_version);
  reply->set_session_lease_ms(static_cast<uint32_t>(context_->sessions->lease_ms()));
  return Status::Ok();
}

// Before the first entry of its leadership it does not know which sessions may hold grants of an earlier leader.
Status MetadataService::CheckServes() const {
  RETURN_IF_ERROR(context_->CheckLease());
  if (context_->coherence->term() != 0) return Status::Ok();
  return Status(StatusCode::kResourceExhausted, "this metadata server begins to lead");
}

void MetadataService::Handle(rpc::Request request, ResponderPtr responder) {
  if (const uint64_t session = request.peer->hello().session(); session != 0)
    context_->sessions->Touch(SessionId(session));
  if (request.method == Method::kRaftMessage) {
    ReceiveRaftMessage(std::move(request), std::move(responder));
  } else if (request.method == Method::kMutate) {
    Mutate(request, std::move(responder));
  } else if (request.method == Method::kMutateBatch) {
    MutateBatch(request, std::move(responder));
  } else if (!HandleNamespaceRead(request, responder) && !HandleClusterRead(request, responder) &&
             !HandleCoherence(request, responder) && !HandleLocks(request, responder)) {
    responder->Fail(Status(StatusCode::kNotSupported, "method " + std::to_string(static_cast<int>(request.method)) +
                                                          " is not one of a metadata server"));
  }
}

template <typename RequestMessage, typename ReplyMessage, typename Read>
void MetadataService::AnswerRead(const rpc::Request& request, ResponderPtr responder, Read read) {
  RequestMessage message;
  if (const Status status = rpc::ParseRequest(request, &message); !status.ok()) return Fail(*responder, status);
  if (const Status status = CheckServes(); !status.ok()) return Fail(*responder, status);
  ReplyMessage reply;
  Status status = read(message, &reply);
  // Another leader may have changed what was read if the lease ended meanwhile.
  if (const Status lease = context_->CheckLease(); !lease.ok()) status = lease;
  if (!status.ok()) return Fail(*responder, status);
  responder->Reply(reply);
}

template <typename RequestMessage, typename ReplyMessage>
void MetadataService::AnswerFresh(const rpc::Request& request, ResponderPtr responder,
                                  GrantedRead<RequestMessage, ReplyMessage> read) {
  RequestMessage message;
  if (const Status status = rpc::ParseRequest(request, &message); !status.ok()) return Fail(*responder, status);
  context_->coherence->Attach(SessionId(message.session()), request.peer);
  AnswerOnceRecalled<RequestMessage, ReplyMessage>(std::move(message), std::move(responder), read);
}

template <typename RequestMessage, typename ReplyMessage>
void MetadataService::AnswerOnceRecalled(RequestMessage message, std::shared_ptr<rpc::Responder> responder,
                                         GrantedRead<RequestMessage, ReplyMessage> read) {
  if (const Status status = CheckServes(); !status.ok()) return Fail(*responder, status);
  ReplyMessage reply;
  const uint64_t ends = context_->coherence->grant_ends();
  Status status = read(*context_->state, context_->coherence, message, &reply);
  // Another leader may have changed what was read if the lease ended meanwhile.
  if (const Status lease = context_->CheckLease(); !lease.ok()) status = lease;
  if (!status.ok()) return Fail(*responder, status);
  const SessionId session(message.session());
  const InodeId inode(reply.attributes().inode());
  const bool is_written = reply.attributes().type() == proto::FILE_TYPE_REGULAR;
  if (!is_written || !context_->coherence->MustRecall(session, inode, ends)) return responder->Reply(reply);
  // Another session has buffered writes of it: read again when they are here.
  context_->coherence->Recall(session, inode,
                              [this, read, message = std::move(message), responder](const Status& recalled) {
                                if (!recalled.ok()) return Fail(*responder, recalled);
                                AnswerOnceRecalled<RequestMessage, ReplyMessage>(message, responder, read);
                              });
}

bool MetadataService::HandleNamespaceRead(const rpc::Request& request, ResponderPtr& responder) {
  const StateMachine& state = *context_->state;
  PushCoordinator* const coherence = context_->coherence;
  switch (request.method) {
    case Method::kLookup:
      AnswerFresh<proto::LookupRequest, proto::LookupReply>(request, std::move(responder), LookupGranted);
      return true;
    case Method::kLookupPath:
      AnswerFresh<proto::LookupPathRequest, proto::LookupReply>(
          request, std::move(responder),
          [](const StateMachine& machine, PushCoordinator*, const proto::LookupPathRequest& message,
             proto::LookupReply* reply) { return machine.LookupPath(message, reply); });
      return true;
    case Method::kGetAttr:
      AnswerFresh<proto::GetAttrRequest, proto::GetAttrReply>(request, std::move(responder), GetAttrGranted);
      return true;
    case Method::kReadDir:
      AnswerRead<proto::ReadDirRequest, proto::ReadDirReply>(
          request, std::move(responder), [&](const auto& message, auto* reply) {
            coherence->Attach(SessionId(message.session()), request.peer);
            return ReadDirGranted(state, coherence, message, reply);
          });
      return true;
    case Method::kGetXattr:
      AnswerRead<proto::GetXattrRequest, proto::GetXattrReply>(
          request, std::move(responder),
          [&](const auto& message, auto* reply) { return state.GetXattr(message, reply); });
      return true;
    case Method::kListXattr:
      AnswerRead<proto::ListXattrRequest, proto::ListXattrReply>(
          request, std::move(responder),
          [&](const auto& message, auto* reply) { return state.ListXattr(message, reply); });
      return true;
    default:
      return false;
  }
}

bool MetadataService::HandleCoherence(const rpc::Request& request, ResponderPtr& responder) {
  PushCoordinator* const coherence = context_->coherence;
  switch (request.method) {
    case Method::kAckPush:
      AnswerRead<proto::AckPushRequest, proto::AckPushReply>(request, std::move(responder),
                                                             [&](const auto& message, auto*) {
                                                               context_->sessions->Touch(SessionId(message.session()));
                                                               coherence->Acknowledge(message);
                                                               return Status::Ok();
                                                             });
      return true;
    case Method::kAcquireWrite:
      AcquireWrite(request, std::move(responder));
      return true;
    case Method::kReleaseWrite:
      AnswerRead<proto::ReleaseWriteRequest, proto::ReleaseWriteReply>(
          request, std::move(responder), [&](const auto& message, auto*) {
            if (message.term() != coherence->term()) return Status::Ok();  // ended with it
            const SessionId session(message.session());
            ReleaseWrite(session, InodeId(message.inode()));
            for (const uint64_t inode : message.more_inodes()) ReleaseWrite(session, InodeId(inode));
            return Status::Ok();
          });
      return true;
    case Method::kForget:
      AnswerRead<proto::ForgetRequest, proto::ForgetReply>(request, std::move(responder),
                                                           [&](const auto& message, auto*) {
                                                             coherence->Forget(message);
                                                             return Status::Ok();
                                                           });
      return true;
    default:
      return false;
  }
}

bool MetadataService::HandleLocks(const rpc::Request& request, ResponderPtr& responder) {
  const StateMachine& state = *context_->state;
  switch (request.method) {
    case Method::kTestLock:
      AnswerRead<proto::TestLockRequest, proto::TestLockReply>(
          request, std::move(responder),
          [&](const auto& message, auto* reply) { return state.TestLock(message, reply); });
      return true;
    case Method::kLockWaits:
      AnswerRead<proto::LockWaitsRequest, proto::LockWaitsReply>(
          request, std::move(responder), [&](const auto& message, auto* reply) {
            const SessionId session(message.session());
            if (!context_->sessions->Touch(session)) {
              return Status(StatusCode::kUnknownSession,
                            "session " + std::to_string(session.value()) + " is not open");
            }
            // Before it is read, so that no grant falls between.
            context_->locks->Attach(session, request.peer);
            return state.LockWaits(message, reply);
          });
      return true;
    default:
      return false;
  }
}

bool MetadataService::HandleClusterRead(const rpc::Request& request, ResponderPtr& responder) {
  const StateMachine& state = *context_->state;
  PushCoordinator* const coherence = context_->coherence;
  switch (request.method) {
    case Method::kStatFs:
      AnswerRead<proto::StatFsRequest, proto::StatFsReply>(
          request, std::move(responder), [&](const auto& message, auto* reply) { return ReadStatFs(message, reply); });
      return true;
    case Method::kGetVolume:
      AnswerRead<proto::GetVolumeRequest, proto::GetVolumeReply>(
          request, std::move(responder),
          [&](const auto& message, auto* reply) { return state.GetVolume(message, reply); });
      return true;
    case Method::kListVolumes:
      AnswerRead<proto::ListVolumesRequest, proto::ListVolumesReply>(
          request, std::move(responder), [&](const auto&, auto* reply) { return context_->ListVolumes(reply); });
      return true;
    case Method::kGetClusterMap:
      AnswerRead<proto::GetClusterMapRequest, proto::GetClusterMapReply>(
          request, std::move(responder),
          [&](const auto& message, auto* reply) { return ReadClusterMap(message, reply); });
      return true;
    case Method::kKeepAlive:
      AnswerRead<proto::KeepAliveRequest, proto::KeepAliveReply>(
          request, std::move(responder), [&](const auto& message, auto* reply) {
            coherence->Attach(SessionId(message.session()), request.peer);
            return KeepAlive(message, reply);
          });
      return true;
    default:
      return false;
  }
}

Status MetadataService::ReadStatFs(const proto::StatFsRequest& request, proto::StatFsReply* reply) const {
  RETURN_IF_ERROR(context_->state->StatFs(request, reply));
  proto::ListVolumesReply volumes;
  RETURN_IF_ERROR(context_->ListVolumes(&volumes));
  uint64_t quota_bytes = 0;
  uint64_t used_bytes = 0;
  uint32_t copies = 1;
  for (const proto::Volume& volume : volumes.volumes()) {
    if (volume.id() != request.volume()) continue;
    copies = std::max<uint32_t>(volume.replicas(), 1);
    quota_bytes = volume.quota_bytes();
    used_bytes = volume.used_bytes();
  }
  // The pool's space is volatile and not part of the state. What can be written of it is kept so many times.
  std::map<std::string, std::pair<uint64_t, uint64_t>> nodes;  // capacity and room
  const proto::ClusterMap map = context_->LiveMap();
  for (const proto::Target& target : map.targets()) {
    if (target.target_class() != proto::TARGET_CLASS_DURABLE || target.state() == proto::TARGET_STATE_RETIRED) continue;
    auto& [capacity, room] = nodes[NodeOf(target)];
    capacity += target.capacity_bytes();
    room += target.available_bytes();
  }
  std::vector<uint64_t> capacities;
  std::vector<uint64_t> rooms;
  for (const auto& [node, bytes] : nodes) {
    capacities.push_back(bytes.first);
    rooms.push_back(bytes.second);
  }
  const uint64_t capacity_bytes = UsableBytes(std::move(capacities), copies);
  const uint64_t available_bytes = UsableBytes(std::move(rooms), copies);
  reply->set_total_bytes(quota_bytes != 0 ? quota_bytes : capacity_bytes);
  const uint64_t quota_left = quota_bytes > used_bytes ? quota_bytes - used_bytes : 0;
  reply->set_free_bytes(quota_bytes != 0 ? std::min(quota_left, available_bytes) : available_bytes);
  return Status::Ok();
}

Status MetadataService::ReadClusterMap(const proto::GetClusterMapRequest& request,
                                       proto::GetClusterMapReply* reply) const {
  if (context_->state->cluster_map()->version() <= request.newer_than()) return Status::Ok();
  *reply->mutable_map() = context_->LiveMap();
  return Status::Ok();
}

Status MetadataService::KeepAlive(const proto::KeepAliveRequest& request, proto::KeepAliveReply* reply) {
  const std::optional<uint64_t> lapses = context_->sessions->TouchAndCount(SessionId(request.session()));
  if (!lapses) {
    return Status(StatusCode::kUnknownSession, "session " + std::to_string(request.session()) + " is not open");
  }
  reply->set_lease_ms(static_cast<uint32_t>(context_->sessions->lease_ms()));
  reply->set_map_version(context_->state->cluster_map()->version());
  reply->set_term(context_->coherence->term());
  reply->set_lapses(*lapses);
  context_->coherence->KeepAlive(request, *lapses);
  return Status::Ok();
}

Status MetadataService::Admit(const rpc::Request& request, const proto::Mutation& mutation) {
  RETURN_IF_ERROR(CheckClientMutation(mutation));
  if (mutation.op_case() == proto::Mutation::kOpenSession) {
    if (context_->sessions->size() < kSessionsMax) return Status::Ok();
    return Status(StatusCode::kResourceExhausted,
                  "the server has room for " + std::to_string(kSessionsMax) + " sessions");
  }
  context_->coherence->Attach(SessionId(mutation.session()), request.peer);
  if (mutation.lock().wait()) context_->locks->Attach(SessionId(mutation.session()), request.peer);
  if (context_->sessions->Touch(SessionId(mutation.session()))) return CheckPlace(mutation);
  return Status(StatusCode::kUnknownSession, "session " + std::to_string(mutation.session()) + " is not open");
}

Status MetadataService::CheckPlace(const proto::Mutation& mutation) const {
  if (!mutation.has_allocate_data() && !mutation.has_reserve_data_ids()) return Status::Ok();
  const auto map = context_->state->cluster_map();
  // Those of more copies are made before a volume of as many.
  if (HasGroupsFor(*map, 1)) return Status::Ok();
  uint32_t volume = mutation.reserve_data_ids().volume();
  if (mutation.has_allocate_data()) {
    proto::GetAttrRequest file;
    file.set_inode(mutation.allocate_data().inode());
    proto::GetAttrReply now;
    if (!context_->state->GetAttr(file, &now).ok() || now.attributes().data_id() != 0) return Status::Ok();  // the command tells
    volume = now.attributes().volume();
  }
  proto::ListVolumesReply volumes;
  RETURN_IF_ERROR(context_->state->ListVolumes(&volumes));
  const auto found = std::ranges::find(volumes.volumes(), volume, &proto::Volume::id);
  if (found == volumes.volumes().end()) return Status::Ok();
  return CheckPlaceForData(*map, found->replicas(), (context_->clock->MonotonicNs() - context_->servers->quiet_since_ns()) / 1'000'000);
}

void MetadataService::Remember(proto::Mutation::OpCase op, SessionId closed, proto::MutationReply* reply) {
  if (reply->status() != 0) return;
  if (op == proto::Mutation::kOpenSession) {
    context_->sessions->Add(SessionId(reply->session()));
    reply->set_lease_ms(static_cast<uint32_t>(context_->sessions->lease_ms()));
  } else if (op == proto::Mutation::kCloseSession) {
    context_->sessions->Remove(closed);
    context_->locks->Detach(closed);
  }
}

void MetadataService::Mutate(const rpc::Request& request, ResponderPtr responder) {
  std::vector<proto::Mutation> mutations(1);
  if (const Status status = rpc::ParseRequest(request, mutations.data()); !status.ok()) return Fail(*responder, status);
  // Lease first: another leader may know a session that this member does not.
  if (const Status status = CheckServes(); !status.ok()) return Fail(*responder, status);
  if (const Status status = Admit(request, mutations[0]); !status.ok()) return Fail(*responder, status);
  SetSettles(&mutations[0]);
  std::set<WrittenInode> held = HeldInodesWrittenBy(*context_->state, *context_->coherence, mutations);
  if (held.empty()) return Submit(std::move(mutations[0]), std::move(responder), request.loop);
  RecallAll(context_->coherence, held,
            [this, mutation = std::move(mutations[0]), answer = std::shared_ptr<rpc::Responder>(std::move(responder)),
             loop = request.loop](const Status& status) {
              if (!status.ok()) return Fail(*answer, status);
              Submit(mutation, answer, loop);
            });
}

// A commit settles the data if nobody can be changing it any more, because the only one who could gives up its grant with
// it. Only this leader knows.
void MetadataService::SetSettles(proto::Mutation* mutation) const {
  if (!mutation->has_commit_write()) return;
  proto::CommitWriteOp* const commit = mutation->mutable_commit_write();
  const SessionId session(mutation->session());
  commit->set_settles(commit->release_write() && context_->coherence->HoldsWrite(session, InodeId(commit->inode())));
}

// Before a grant is used, and after it ends without a commit (docs/elastic.md).
void MetadataService::MarkWriting(InodeId inode, bool writing, std::function<void(const Status&)> done) {
  std::vector<proto::Mutation> mutations(1);
  mutations[0].mutable_mark_writing()->set_inode(inode.value());
  mutations[0].mutable_mark_writing()->set_writing(writing);
  context_->proposer->Submit(std::move(mutations), [done = std::move(done)](const Status& status, std::span<proto::MutationReply> replies) {
    done(status.ok() ? StatusOf(replies[0]) : status);
  });
}

// In this order: a grant that is given from now on marks the inode after this has settled it.
void MetadataService::ReleaseWrite(SessionId session, InodeId inode) {
  if (HasElasticTargets(*context_->state->cluster_map()) && context_->coherence->HoldsWrite(session, inode)) {
    proto::GetAttrRequest request;
    request.set_inode(inode.value());
    proto::GetAttrReply now;
    if (context_->state->GetAttr(request, &now).ok() && now.attributes().being_written()) {
      MarkWriting(inode, false, [](const Status&) {});  // not done: it stays marked, and is read from in-sync members
    }
  }
  context_->coherence->ReleaseWrite(session, inode);
}

MetadataService::ReplyGate MetadataService::GateFor(std::span<const proto::Mutation> mutations, rpc::EventLoop* loop) const {
  std::vector<ReplyFaults::Subject> subjects;
  if (context_->reply_faults != nullptr) subjects = context_->reply_faults->Note(mutations);
  if (subjects.empty()) return nullptr;
  return [faults = context_->reply_faults, subjects = std::move(subjects), loop](std::shared_ptr<rpc::Responder> answer) {
    return faults->Meddle(subjects, std::move(answer), loop);
  };
}

void MetadataService::Submit(proto::Mutation mutation, std::shared_ptr<rpc::Responder> answer, rpc::EventLoop* loop) {
  std::vector<proto::Mutation> mutations;
  mutations.push_back(std::move(mutation));
  const auto op = mutations[0].op_case();
  const SessionId closed(mutations[0].close_session().session());
  const PushCoordinator::MutationId id(mutations[0].session(), mutations[0].sequence());
  const PushCoordinator::Removal removal = PrepareRemoval(mutations[0]);
  const uint64_t ends = context_->coherence->grant_ends();
  ReplyGate gate = GateFor(mutations, loop);
  context_->proposer->Submit(
      std::move(mutations),
      [this, op, closed, id, ends, pending = removal.pending, gate = std::move(gate), answer = std::move(answer)](
          const Status& status, std::span<proto::MutationReply> replies) {
        if (!status.ok()) return Fail(*answer, status);
        Remember(op, closed, &replies[0]);
        const std::shared_ptr<rpc::Responder> open = gate ? gate(answer) : answer;
        if (const Status result = StatusOf(replies[0]); !result.ok()) return Fail(*open, result);
        AnswerMutation(open, id, ends, std::move(replies[0]));
      },
      removal.hold ? std::vector<bool>{true} : std::vector<bool>{});
}

void MetadataService::AnswerMutation(std::shared_ptr<rpc::Responder> answer, const PushCoordinator::MutationId& id,
                                     uint64_t ends, proto::MutationReply reply) {
  NoteWriteGrant(id.first, &reply);
  const std::set<WrittenInode> held = HeldInodesShownBy(context_->coherence, id.first, ends, reply);
  if (held.empty()) return AnswerAcknowledged(answer, {&id, 1}, std::move(reply));
  RecallAll(context_->coherence, held, [this, answer, id, reply = std::move(reply)](const Status& status) {
    if (!status.ok()) return Fail(*answer, status);
    proto::MutationReply fresh = reply;
    RefreshAttributes(*context_->state, &fresh);
    AnswerAcknowledged(answer, {&id, 1}, std::move(fresh));
  });
}

void MetadataService::NoteWriteGrant(SessionId session, proto::MutationReply* reply) const {
  const InodeId inode(reply->attributes().inode());
  if (reply->created() && context_->coherence->HoldsWrite(session, inode)) reply->set_write_granted(true);
}

void MetadataService::AcquireWrite(const rpc::Request& request, ResponderPtr responder) {
  proto::AcquireWriteRequest message;
  if (const Status status = rpc::ParseRequest(request, &message); !status.ok()) return Fail(*responder, status);
  if (const Status status = CheckServes(); !status.ok()) return Fail(*responder, status);
  context_->coherence->Attach(SessionId(message.session()), request.peer);
  if (!context_->sessions->Touch(SessionId(message.session()))) {
    return Fail(*responder, Status(StatusCode::kUnknownSession,
                                   "session " + std::to_string(message.session()) + " is not open"));
  }
  AcquireOnceRecalled(message, std::move(responder));
}

void MetadataService::AcquireOnceRecalled(const proto::AcquireWriteRequest& message,
                                          std::shared_ptr<rpc::Responder> answer) {
  const SessionId session(message.session());
  const InodeId inode(message.inode());
  if (const Status status = CheckServes(); !status.ok()) return Fail(*answer, status);
  proto::GetAttrRequest request;
  request.set_inode(inode.value());
  proto::GetAttrReply now;
  if (const Status status = context_->state->GetAttr(request, &now); !status.ok()) return Fail(*answer, status);
  if (now.attributes().type() != proto::FILE_TYPE_REGULAR) {
    return Fail(*answer, Status(StatusCode::kInvalidArgument, "only regular files have write grants"));
  }
  const PushCoordinator::WriteRequest wanted{session, inode, InodeId(now.attributes().parent()), message.append()};
  context_->coherence->AcquireWrite(wanted, [this, message, answer](Result<bool> exclusive) {
    if (!exclusive.ok() && exclusive.status().code() == StatusCode::kBusy) {
      return context_->coherence->Recall(SessionId(message.session()), InodeId(message.inode()),
                                         [this, message, answer](const Status& status) {
                                           if (!status.ok()) return Fail(*answer, status);
                                           AcquireOnceRecalled(message, answer);
                                         });
    }
    if (!exclusive.ok()) return Fail(*answer, exclusive.status());
    const InodeId acquired(message.inode());
    if (!HasElasticTargets(*context_->state->cluster_map()) || IsEmpty(acquired)) return AnswerAcquired(acquired, *exclusive, *answer);
    MarkWriting(acquired, true, [this, acquired, exclusive = *exclusive, answer](const Status& marked) {
      if (!marked.ok()) return Fail(*answer, marked);
      AnswerAcquired(acquired, exclusive, *answer);
    });
  });
}

// Nothing of it can be read: whatever is written now is published by a commit.
bool MetadataService::IsEmpty(InodeId inode) const {
  proto::GetAttrRequest request;
  request.set_inode(inode.value());
  proto::GetAttrReply now;
  return context_->state->GetAttr(request, &now).ok() && now.attributes().size_bytes() == 0;
}

void MetadataService::AnswerAcquired(InodeId inode, bool exclusive, rpc::Responder& answer) const {
  proto::GetAttrRequest request;
  request.set_inode(inode.value());
  proto::GetAttrReply now;
  Status status = context_->state->GetAttr(request, &now);
  if (const Status lease = context_->CheckLease(); !lease.ok()) status = lease;
  if (!status.ok()) return Fail(answer, status);
  proto::AcquireWriteReply reply;
  reply.set_term(context_->coherence->term());
  reply.set_exclusive(exclusive);
  *reply.mutable_attributes() = std::move(*now.mutable_attributes());
  answer.Reply(reply);
}

void MetadataService::MutateBatch(const rpc::Request& request, ResponderPtr responder) {
  proto::MutateBatchRequest message;
  if (const Status status = rpc::ParseRequest(request, &message); !status.ok()) return Fail(*responder, status);
  if (const Status status = CheckServes(); !status.ok()) return Fail(*responder, status);
  std::vector<proto::Mutation> mutations;
  mutations.reserve(static_cast<size_t>(message.mutations_size()));
  for (proto::Mutation& mutation : *message.mutable_mutations()) {
    const bool of_session =
        mutation.op_case() == proto::Mutation::kOpenSession || mutation.op_case() == proto::Mutation::kCloseSession;
    Status status = of_session ? Status(StatusCode::kInvalidArgument, "sessions are opened and closed one at a time")
                               : Admit(request, mutation);
    if (!status.ok()) return Fail(*responder, status);
    SetSettles(&mutation);
    mutations.push_back(std::move(mutation));
  }
  if (mutations.empty()) return responder->Reply(proto::MutateBatchReply());
  const std::shared_ptr<rpc::Responder> answer = std::move(responder);
  const std::set<WrittenInode> written = HeldInodesWrittenBy(*context_->state, *context_->coherence, mutations);
  if (written.empty()) return SubmitBatch(std::move(mutations), answer, request.loop);
  RecallAll(context_->coherence, written, [this, mutations = std::move(mutations), answer, loop = request.loop](const Status& status) {
    if (!status.ok()) return Fail(*answer, status);
    SubmitBatch(mutations, answer, loop);
  });
}

void MetadataService::SubmitBatch(std::vector<proto::Mutation> mutations, std::shared_ptr<rpc::Responder> answer,
                                  rpc::EventLoop* loop) {
  std::vector<PushCoordinator::MutationId> ids;
  std::vector<PushCoordinator::Removal> removals;
  std::vector<bool> held;
  for (const proto::Mutation& mutation : mutations) {
    ids.emplace_back(mutation.session(), mutation.sequence());
    removals.push_back(PrepareRemoval(mutation));
    held.push_back(removals.back().hold);
  }
  const uint64_t ends = context_->coherence->grant_ends();
  ReplyGate gate = GateFor(mutations, loop);
  context_->proposer->Submit(
      std::move(mutations),
      [this, ends, ids = std::move(ids), removals = std::move(removals), gate = std::move(gate), answer = std::move(answer)](
          const Status& status, std::span<proto::MutationReply> replies) {
        if (!status.ok()) return Fail(*answer, status);
        proto::MutateBatchReply reply;
        for (proto::MutationReply& each : replies) *reply.add_replies() = std::move(each);
        AnswerBatch(gate ? gate(answer) : answer, ids, ends, std::move(reply));
      },
      std::move(held));
}

void MetadataService::AnswerBatch(std::shared_ptr<rpc::Responder> answer,
                                  const std::vector<PushCoordinator::MutationId>& ids, uint64_t ends,
                                  proto::MutateBatchReply reply) {
  std::set<WrittenInode> held;
  std::vector<int> behind;
  for (int i = 0; i < reply.replies_size(); ++i) {
    const SessionId session = ids[static_cast<size_t>(i)].first;
    NoteWriteGrant(session, reply.mutable_replies(i));
    std::set<WrittenInode> shown = HeldInodesShownBy(context_->coherence, session, ends, reply.replies(i));
    if (shown.empty()) continue;
    held.merge(shown);
    behind.push_back(i);
  }
  if (held.empty()) return AnswerAcknowledged(std::move(answer), ids, std::move(reply));
  RecallAll(context_->coherence, held, [this, answer, ids, behind, reply = std::move(reply)](const Status& status) {
    if (!status.ok()) return Fail(*answer, status);
    proto::MutateBatchReply fresh = reply;
    for (const int i : behind) RefreshAttributes(*context_->state, fresh.mutable_replies(i));
    AnswerAcknowledged(answer, ids, std::move(fresh));
  });
}

PushCoordinator::Removal MetadataService::PrepareRemoval(const proto::Mutation& mutation) {
  proto::LookupRequest removed;
  if (mutation.has_unlink()) {
    removed.set_parent(mutation.unlink().parent());
    removed.set_name(mutation.unlink().name());
  } else if (mutation.has_rename() && !mutation.rename().exchange()) {
    removed.set_parent(mutation.rename().new_parent());
    removed.set_name(mutation.rename().new_name());
  } else {
    return {};
  }
  const SessionId session(mutation.session());
  if (!context_->coherence->HasOtherSessions(session)) return {};
  proto::LookupReply child;
  // Should another file get the name on the way, it is held only on account of its directory.
  if (!context_->state->Lookup(removed, &child).ok()) child.Clear();
  return context_->coherence->PrepareRemoval(session, InodeId(removed.parent()), InodeId(child.attributes().inode()));
}

template <typename ReplyMessage>
void MetadataService::AnswerAcknowledged(std::shared_ptr<rpc::Responder> responder,
                                         std::span<const PushCoordinator::MutationId> mutations, ReplyMessage reply) {
  if (!context_->coherence->AnythingWaits()) return responder->Reply(reply);
  context_->coherence->WhenAcknowledged(
      mutations, [this, answer = std::move(responder), reply = std::move(reply)](const Status& status) {
        if (!status.ok()) return Fail(*answer, status);
        answer->Reply(reply);
      });
}

void MetadataService::ReceiveRaftMessage(rpc::Request request, ResponderPtr responder) {
  proto::RaftMessageHeader header;
  if (const Status status = rpc::ParseRequest(request, &header); !status.ok()) return responder->Fail(status);
  if (header.cluster_id() != context_->self.cluster_id || header.to() != context_->self.member_id)
    return responder->Fail(Status(StatusCode::kInvalidArgument, "a message for another metadata server"));
  if (WasRemoved(header.from())) {
    return responder->Fail(Status(StatusCode::kNotFound,
                                  "metadata server " + std::to_string(header.from()) + " was removed from the group"));
  }
  context_->members->Hear(header);
  const std::span<const uint8_t> payload = request.payload.span();
  // Without one it only says where the sender is.
  if (!payload.empty()) {
    context_->receive_message(header.from(),
                              std::string(reinterpret_cast<const char*>(payload.data()), payload.size()));
  }
  responder->Reply(proto::RaftMessageReply());
}

// Only a leader can know: others may simply not have heard of a new member yet.
bool MetadataService::WasRemoved(uint64_t member) const {
  const auto map = context_->state->cluster_map();
  if (map->metaservers().empty() || FindMetaserver(*map, member) != nullptr) return false;
  if (!context_->CheckLease().ok() || member >= context_->state->header().next_member()) return false;
  const std::vector<GroupMember> group = context_->replicator->members();
  return std::ranges::find(group, member, &GroupMember::member) == group.end();
}

void MetadataService::Fail(rpc::Responder& responder, const Status& status) const {
  if (status.code() != StatusCode::kNotLeader) return responder.Fail(status);
  proto::ErrorDetail detail;
  detail.set_message(status.message());
  detail.set_leader_address(context_->Leader().address());
  responder.Fail(status, std::move(detail));
}

}  // namespace tarn::meta
