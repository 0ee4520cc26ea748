#include "tests/sim/client.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace tarn::sim {
namespace {

constexpr int64_t kBackoffNs = 10 * kMillisecond;
constexpr int64_t kThinkNs = 15 * kMillisecond;
constexpr double kGiveUp = 0.03;  // per time-out
constexpr size_t kRememberedMax = 6;

bool Retryable(StatusCode code) {
  return code == StatusCode::kUnavailable || code == StatusCode::kTimeout || code == StatusCode::kNotLeader ||
         code == StatusCode::kResourceExhausted;
}

template <typename Message>
Message Parse(const Answer& answer) {
  Message message;
  CHECK(message.ParseFromString(answer.message), "an answer comes as it was sent");
  return message;
}

}  // namespace

// ---- Calls ----

void Client::Request(rpc::Method method, std::string message, bool may_give_up,
                     std::function<void(const Answer&, bool)> done) {
  auto call = std::make_shared<Call>();
  call->method = method;
  call->message = std::move(message);
  call->may_give_up = may_give_up;
  call->done = std::move(done);
  call->probes = !cluster_->faults_ended && dice().Chance(cluster_->plan->probe);
  Send(call);
}

void Client::Send(const CallPtr& call) {
  const uint64_t attempt = call->attempt = next_attempt_++;
  ++call->attempts;
  const bool probes = call->probes && call->attempts == 1;
  const uint64_t member = probes ? 1 + dice().Below(cluster_->plan->members) : member_;
  const uint64_t session = session_;
  cluster_->network->Send(endpoint_, member, "request", [this, call, attempt, member, session] {
    (*cluster_->members)[member - 1]->ReceiveRequest(
        call->method, session, call->message, [this, call, attempt, member](const Answer& answer) {
          cluster_->network->Send(member, endpoint_, "answer", [this, call, attempt, member, answer] {
            if (call->attempt == attempt) OnAnswer(call, member, answer);
          });
        },
        [this, member](const std::string& push) {
          cluster_->network->Send(member, endpoint_, "push", [this, member, push] { OnPush(member, push); });
        });
  });
  cluster_->scheduler->After(dice().LongTailed(cluster_->plan->call_timeout_ns), [this, call, attempt, member] {
    if (call->attempt != attempt) return;
    OnAnswer(call, member, {Status(StatusCode::kTimeout, "no answer"), {}, 0});
  });
}

void Client::OnAnswer(const CallPtr& call, uint64_t member, const Answer& answer) {
  call->attempt = 0;
  const StatusCode code = answer.status.code();
  if (!Retryable(code)) return call->done(answer, call->in_doubt);
  if (code == StatusCode::kTimeout || code == StatusCode::kUnavailable) {
    call->in_doubt = true;
    if (call->may_give_up && !cluster_->faults_ended && dice().Chance(kGiveUp))
      return call->done({Status(StatusCode::kCancelled, "given up"), {}, 0}, true);
  }
  // Others may have moved on from that member meanwhile.
  if (member == member_ && code != StatusCode::kResourceExhausted) {
    if (answer.leader != 0 && answer.leader != member) {
      member_ = answer.leader;
    } else {
      NextMember();
    }
  }
  Retry(call, dice().Between(kBackoffNs / 2, kBackoffNs << std::min<uint32_t>(call->attempts, 5)));
}

void Client::Retry(const CallPtr& call, int64_t delay_ns) {
  cluster_->scheduler->After(delay_ns, [this, call] { Send(call); });
}

// ---- Session ----

void Client::Start() {
  member_ = 1 + dice().Below(cluster_->plan->members);
  waiting_slots_ = cluster_->plan->slots;
  OpenSession();
}

void Client::OpenSession() {
  opening_ = true;
  proto::Mutation mutation;
  mutation.mutable_open_session()->set_client_name("client " + std::to_string(endpoint_));
  mutation.mutable_open_session()->set_nonce(dice().Next() | 1);
  mutation.mutable_open_session()->set_caches(cache_.has_value());
  Request(rpc::Method::kMutate, mutation.SerializeAsString(), false,
          [this](const Answer& answer, bool) { OnOpened(answer); });
}

void Client::OnOpened(const Answer& answer) {
  if (!answer.status.ok()) return cluster_->violation("a session cannot be opened: " + answer.status.ToString());
  const auto reply = Parse<proto::MutationReply>(answer);
  opening_ = false;
  session_ = reply.session();
  window_ = client::MutationWindow();
  if (cache_) cache_->SetSession(session_);
  KeepAlive(session_);
  if (hearsay_->root == 0) {
    if (endpoint_ == kFirstClient) {
      MakeVolume();
    } else {
      FindVolume();
    }
    return;
  }
  for (; waiting_slots_ > 0; --waiting_slots_) ThinkThenAct();
}

void Client::MakeVolume() {
  proto::Mutation mutation;
  mutation.mutable_create_volume()->mutable_volume()->set_name("v");
  mutation.set_session(session_);
  mutation.set_sequence(window_.Issue());
  const uint64_t sequence = mutation.sequence();
  Request(rpc::Method::kMutate, mutation.SerializeAsString(), false,
          [this, sequence, session = session_](const Answer& answer, bool) {
            if (session == session_) window_.Done(sequence);
            if (answer.status.code() == StatusCode::kUnknownSession) LoseSession(session);
            FindVolume();
          });
}

void Client::FindVolume() {
  proto::GetVolumeRequest request;
  request.set_name("v");
  Request(rpc::Method::kGetVolume, request.SerializeAsString(), false, [this](const Answer& answer, bool) {
    if (!answer.status.ok()) {
      if (session_ == 0) return;  // asked again with the next session
      cluster_->scheduler->After(100 * kMillisecond, [this] {
        if (endpoint_ == kFirstClient && session_ != 0) {
          MakeVolume();
        } else {
          FindVolume();
        }
      });
      return;
    }
    const auto reply = Parse<proto::GetVolumeReply>(answer);
    if (hearsay_->root == 0) {
      hearsay_->root = reply.volume().root();
      hearsay_->directories.push_back(reply.volume().root());
    }
    if (session_ == 0) return;
    for (; waiting_slots_ > 0; --waiting_slots_) ThinkThenAct();
  });
}

void Client::KeepAlive(uint64_t session) {
  KeepAliveOnce(session, [this, session] {
    const int64_t next_ns = cluster_->plan->session_lease_ms * kMillisecond / 3;
    cluster_->scheduler->After(next_ns, [this, session] { KeepAlive(session); });
  });
}

void Client::KeepAliveOnce(uint64_t session, std::function<void()> then) {
  if (session != session_ || session == 0 || (finishing_ && under_way_ == 0)) return;
  proto::KeepAliveRequest request;
  request.set_session(session);
  const ClientCache::Asked asked = cache_ ? cache_->Prepare(&request) : ClientCache::Asked();
  Request(rpc::Method::kKeepAlive, request.SerializeAsString(), false,
          [this, session, asked, then = std::move(then)](const Answer& answer, bool) {
            if (answer.status.code() == StatusCode::kUnknownSession) return LoseSession(session);
            if (cache_ && session == session_) cache_->OnKeepAlive(asked, Parse<proto::KeepAliveReply>(answer));
            if (then) then();
          });
}

void Client::OnPush(uint64_t member, const std::string& message) {
  if (!cache_) return;
  const auto acknowledgement = cache_->OnPush(message);
  if (!acknowledgement) return;
  // Sent once: what is not acknowledged is pushed again.
  cluster_->network->Send(endpoint_, member, "acknowledge",
                          [this, member, session = session_, bytes = acknowledgement->SerializeAsString()] {
                            (*cluster_->members)[member - 1]->ReceiveRequest(rpc::Method::kAckPush, session, bytes,
                                                                             [](const Answer&) {});
                          });
}

void Client::LoseSession(uint64_t session) {
  if (session != session_ || session == 0) return;
  cluster_->scheduler->Trace("session lost", endpoint_, session);
  session_ = 0;
  if (cache_) cache_->SetSession(0);
  if (!opening_) OpenSession();
}

// ---- Operations ----

void Client::ThinkThenAct() {
  if (finishing_) return;
  cluster_->scheduler->After(dice().LongTailed(kThinkNs), [this] { Act(); });
}

void Client::Act() {
  if (finishing_) return;
  if (session_ == 0) {
    ++waiting_slots_;
    return;
  }
  if (dice().Chance(0.35)) return Read();
  Mutate(DrawMutation());
}

void Client::Mutate(proto::Mutation mutation) {
  mutation.set_session(session_);
  mutation.set_sequence(window_.Issue());
  mutation.set_acked_through(window_.acked_through());
  ++under_way_;
  std::string message = mutation.SerializeAsString();
  Request(rpc::Method::kMutate, std::move(message), !cache_.has_value(),
          [this, mutation, visible = cluster_->oracle->visible(),
           token = cache_ ? cache_->Token() : 0](const Answer& answer, bool) {
            --under_way_;
            const StatusCode code = answer.status.code();
            if (mutation.session() == session_) window_.Done(mutation.sequence());
            if (code == StatusCode::kUnknownSession) {
              LoseSession(mutation.session());
            } else if (code != StatusCode::kCancelled) {
              proto::MutationReply reply;
              if (answer.status.ok()) reply = Parse<proto::MutationReply>(answer);
              cluster_->oracle->OnMutationAnswered(visible, mutation, code, reply);
              if (cache_ && mutation.session() == session_) cache_->OnMutated(token, mutation, code, reply);
              if (reply.attributes().inode() != 0) Learn(reply.attributes());
            }
            ThinkThenAct();
          });
}

// What is remembered is read several times as often.
void Client::Read() {
  for (int i = 0; cache_ && i < 3; ++i) {
    if (dice().Chance(0.6)) {
      if (!ReadName()) return;
    } else if (!ReadAttributes()) {
      return;
    }
  }
  const uint64_t kind = dice().Below(10);
  if (kind < 5) {
    if (ReadName()) ThinkThenAct();
  } else if (kind < 8) {
    if (ReadAttributes()) ThinkThenAct();
  } else {
    List();
  }
}

// False: it is asked for, and the next operation comes after that.
bool Client::ReadName() {
  proto::LookupRequest request;
  request.set_parent(Directory());
  request.set_name(Name());
  const auto known = cache_ ? cache_->FindName(request.parent(), request.name()) : std::nullopt;
  if (!known) {
    LookUp(request);
    return false;
  }
  cluster_->oracle->OnRemembered(request, known->inode.value());
  if (known->attributes) cluster_->oracle->OnRemembered(ClientCache::ToProto(*known->attributes));
  return true;
}

bool Client::ReadAttributes() {
  const uint64_t inode = dice().Chance(0.5) ? File() : Directory();
  const auto known = cache_ ? cache_->FindAttributes(inode) : std::nullopt;
  if (!known) {
    GetAttributes(inode);
    return false;
  }
  cluster_->oracle->OnRemembered(*known);
  return true;
}

void Client::LookUp(const proto::LookupRequest& named) {
  ++under_way_;
  proto::LookupRequest request = named;
  if (cache_) request.set_session(session_);
  const uint64_t visible = cluster_->oracle->visible();
  const uint64_t token = cache_ ? cache_->Token() : 0;
  Request(rpc::Method::kLookup, request.SerializeAsString(), false, [=, this](const Answer& answer, bool) {
    --under_way_;
    const auto reply = Parse<proto::LookupReply>(answer);
    // A session that caches is told of a missing name by a reply without attributes.
    const bool missing = answer.status.ok() && reply.attributes().inode() == 0;
    const StatusCode code = missing ? StatusCode::kNotFound : answer.status.code();
    cluster_->oracle->OnLookupAnswered(visible, named, code, reply);
    if (answer.status.ok() && cache_ && request.session() == session_) cache_->OnLookup(token, named, reply);
    if (code == StatusCode::kOk) Learn(reply.attributes());
    ThinkThenAct();
  });
}

void Client::GetAttributes(uint64_t inode) {
  ++under_way_;
  proto::GetAttrRequest request;
  request.set_inode(inode);
  if (cache_) request.set_session(session_);
  const uint64_t visible = cluster_->oracle->visible();
  const uint64_t token = cache_ ? cache_->Token() : 0;
  Request(rpc::Method::kGetAttr, request.SerializeAsString(), false, [=, this](const Answer& answer, bool) {
    --under_way_;
    const auto reply = Parse<proto::GetAttrReply>(answer);
    cluster_->oracle->OnGetAttrAnswered(visible, request, answer.status.code(), reply);
    if (answer.status.ok() && cache_ && request.session() == session_) cache_->OnGetAttr(token, reply);
    ThinkThenAct();
  });
}

void Client::List() {
  ++under_way_;
  proto::ReadDirRequest request;
  request.set_directory(Directory());
  const uint64_t visible = cluster_->oracle->visible();
  Request(rpc::Method::kReadDir, request.SerializeAsString(), false, [=, this](const Answer& answer, bool) {
    --under_way_;
    const auto reply = Parse<proto::ReadDirReply>(answer);
    cluster_->oracle->OnReadDirAnswered(visible, request, answer.status.code(), reply);
    ThinkThenAct();
  });
}

proto::Mutation Client::DrawMutation() {
  proto::Mutation mutation;
  if (dice().Chance(0.55)) {
    DrawNewEntry(&mutation);
  } else {
    DrawOldEntry(&mutation);
  }
  return mutation;
}

void Client::DrawNewEntry(proto::Mutation* mutation) {
  const uint64_t kind = dice().Below(10);
  if (kind < 5) {
    proto::CreateOp* op = mutation->mutable_create();
    op->set_parent(Directory());
    op->set_name(Name());
    op->set_type(proto::FILE_TYPE_REGULAR);
    op->set_mode(0644);
    op->set_exclusive(dice().Chance(0.7));
  } else if (kind < 7) {
    mutation->mutable_mkdir()->set_parent(Directory());
    mutation->mutable_mkdir()->set_name(Name());
    mutation->mutable_mkdir()->set_mode(0755);
  } else {
    mutation->mutable_link()->set_inode(File());
    mutation->mutable_link()->set_new_parent(Directory());
    mutation->mutable_link()->set_new_name(Name());
  }
}

void Client::DrawOldEntry(proto::Mutation* mutation) {
  const uint64_t kind = dice().Below(10);
  if (kind < 3) {
    mutation->mutable_unlink()->set_parent(Directory());
    mutation->mutable_unlink()->set_name(Name());
    mutation->mutable_unlink()->set_held_open(dice().Chance(0.2));
  } else if (kind < 4) {
    mutation->mutable_rmdir()->set_parent(Directory());
    mutation->mutable_rmdir()->set_name(Name());
  } else if (kind < 8) {
    proto::RenameOp* op = mutation->mutable_rename();
    op->set_parent(Directory());
    op->set_name(Name());
    op->set_new_parent(Directory());
    op->set_new_name(Name());
    op->set_no_replace(dice().Chance(0.2));
    op->set_exchange(!op->no_replace() && dice().Chance(0.2));
  } else {
    mutation->mutable_set_attr()->set_inode(dice().Chance(0.7) ? File() : Directory());
    mutation->mutable_set_attr()->set_mode(static_cast<uint32_t>(dice().Below(512)));
  }
}

uint64_t Client::Directory() { return hearsay_->directories[dice().Below(hearsay_->directories.size())]; }

uint64_t Client::File() {
  return hearsay_->files.empty() ? hearsay_->root : hearsay_->files[dice().Below(hearsay_->files.size())];
}

void Client::Learn(const proto::Attributes& attributes) {
  auto& known = attributes.type() == proto::FILE_TYPE_DIRECTORY ? hearsay_->directories : hearsay_->files;
  if (std::ranges::find(known, attributes.inode()) != known.end()) return;
  known.push_back(attributes.inode());
  // The root, which comes first, is never forgotten.
  if (known.size() > kRememberedMax) known.erase(known.begin() + 1);
}

}  // namespace tarn::sim
