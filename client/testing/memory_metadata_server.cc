#include "client/testing/memory_metadata_server.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "proto/hello.pb.h"

namespace tarn::client::testing {
namespace {

template <typename Message>
Message Parse(const rpc::Request& request) {
  Message message;
  CHECK(rpc::ParseRequest(request, &message).ok(), "the client sent something else");
  return message;
}

Status NoSuch(uint64_t inode) { return Status(StatusCode::kNotFound, "no inode " + std::to_string(inode)); }

}  // namespace

MemoryMetadataServer::MemoryMetadataServer() {
  {
    MutexLock lock(mutex_);
    proto::Attributes root;
    root.set_inode(kRoot);
    root.set_type(proto::FILE_TYPE_DIRECTORY);
    root.set_mode(0755);
    root.set_nlink(2);
    root.set_change(1);
    inodes_.emplace(kRoot, root);
  }
  auto server = rpc::FrameServer::Start(
      rpc::FrameServerOptions(), [](const proto::HelloRequest&, proto::HelloReply*) { return Status::Ok(); },
      [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
        Handle(std::move(request), std::move(responder));
      });
  CHECK(server.ok(), server.status().ToString());
  server_ = *std::move(server);
}

MemoryMetadataServer::~MemoryMetadataServer() { server_.reset(); }

void MemoryMetadataServer::Edit(uint64_t inode, const std::function<void(proto::Attributes*)>& edit) {
  MutexLock lock(mutex_);
  proto::Attributes& attributes = inodes_.at(inode);
  edit(&attributes);
  attributes.set_change(attributes.change() + 1);
}

proto::Attributes MemoryMetadataServer::Get(uint64_t inode) const {
  MutexLock lock(mutex_);
  return inodes_.at(inode);
}

bool MemoryMetadataServer::Exists(uint64_t inode) const {
  MutexLock lock(mutex_);
  return inodes_.contains(inode);
}

bool MemoryMetadataServer::IsOrphan(uint64_t inode) const {
  MutexLock lock(mutex_);
  return orphans_.contains(inode);
}

std::vector<proto::Mutation> MemoryMetadataServer::mutations() const {
  MutexLock lock(mutex_);
  return mutations_;
}

proto::Mutation MemoryMetadataServer::WaitForMutation(const std::function<bool(const proto::Mutation&)>& matches) {
  MutexLock lock(mutex_);
  while (true) {
    const auto found = std::find_if(mutations_.begin(), mutations_.end(), matches);
    if (found != mutations_.end()) return *found;
    mutated_.Wait(lock);
  }
}

void MemoryMetadataServer::FailNext(std::function<bool(const proto::Mutation&)> matches, Status status) {
  MutexLock lock(mutex_);
  failures_.emplace_back(std::move(matches), std::move(status));
}

void MemoryMetadataServer::GrantInTerm(uint64_t term, uint32_t lease_ms) {
  MutexLock lock(mutex_);
  term_ = term;
  lease_ms_ = lease_ms;
}

void MemoryMetadataServer::SetLapses(uint64_t lapses) {
  MutexLock lock(mutex_);
  lapses_ = lapses;
}

proto::AckPushRequest MemoryMetadataServer::PushAndWait(std::vector<proto::Invalidation> items) {
  proto::InvalidatePush push;
  for (proto::Invalidation& item : items) *push.add_items() = std::move(item);
  MutexLock lock(mutex_);
  const uint64_t number = ++pushes_;
  push.set_session(77);
  push.set_term(term_);
  push.set_push(number);
  CHECK(peer_ != nullptr, "nobody has asked for anything yet");
  peer_->Push(rpc::Method::kInvalidate, push);
  while (!acknowledgements_.contains(number)) {
    CHECK(acknowledged_.WaitFor(lock, std::chrono::seconds(10)) || acknowledgements_.contains(number),
          "a push is not acknowledged");
  }
  return acknowledgements_.at(number);
}

std::vector<proto::KeepAliveRequest> MemoryMetadataServer::keep_alives() const {
  MutexLock lock(mutex_);
  return keep_alives_;
}

std::vector<proto::ForgetRequest> MemoryMetadataServer::forgets() const {
  MutexLock lock(mutex_);
  return forgets_;
}

uint64_t MemoryMetadataServer::requests() const {
  MutexLock lock(mutex_);
  return requests_;
}

void MemoryMetadataServer::Grant(const proto::Attributes& attributes, uint64_t directory, uint64_t session,
                                 proto::CacheGrant* grant) {
  if (term_ == 0 || session == 0) return;
  grant->set_term(term_);
  grant->set_directory(directory);
  const bool itself = attributes.type() == proto::FILE_TYPE_DIRECTORY || attributes.nlink() != 1;
  if (itself) grant->set_inode(attributes.inode());
}

void MemoryMetadataServer::PushToAll() {
  MutexLock lock(mutex_);
  push_to_all_ = true;
}

std::vector<proto::Invalidation> MemoryMetadataServer::ItemsOf(const proto::Mutation& mutation,
                                                               const proto::MutationReply& reply) {
  std::vector<proto::Invalidation> items;
  const auto add_name = [&](uint64_t directory, const std::string& name) {
    items.emplace_back().set_directory(directory);
    items.back().add_names(name);
  };
  const auto add_inode = [&](uint64_t inode) { items.emplace_back().set_inode(inode); };
  if (mutation.has_create() && reply.created()) add_name(mutation.create().parent(), mutation.create().name());
  if (mutation.has_mkdir()) add_name(mutation.mkdir().parent(), mutation.mkdir().name());
  if (mutation.has_unlink()) add_name(mutation.unlink().parent(), mutation.unlink().name());
  if (mutation.has_rename()) {
    add_name(mutation.rename().parent(), mutation.rename().name());
    add_name(mutation.rename().new_parent(), mutation.rename().new_name());
    add_inode(reply.attributes().inode());
  }
  if (mutation.has_set_attr() || mutation.has_truncate() || mutation.has_truncate_done() ||
      mutation.has_commit_write()) {
    add_inode(reply.attributes().inode());
    items.back().set_data(mutation.has_truncate() || mutation.has_commit_write());
  }
  if (reply.has_removed()) {
    add_inode(reply.removed().inode());
    items.back().set_removed(reply.removed().nlink() == 0);
    items.back().set_report_open(true);
  }
  return items;
}

void MemoryMetadataServer::PushThenAnswer(uint64_t session, const std::vector<proto::Invalidation>& items,
                                          std::function<void()> answer) {
  const uint64_t change = ++pushes_;
  PendingChange& pending = pending_[change];
  pending.answer = std::move(answer);
  proto::InvalidatePush push;
  push.set_term(term_);
  for (const proto::Invalidation& item : items) {
    *push.add_items() = item;
    if (item.removed()) pending.removed.push_back(item.inode());
  }
  for (const auto& [other, peer] : peers_) {
    if (other == session || items.empty()) continue;
    push.set_session(other);
    push.set_push(++pushes_);
    pending.unacknowledged.insert(push.push());
    change_of_push_[push.push()] = change;
    peer->Push(rpc::Method::kInvalidate, push);
  }
  FinishIfAcknowledged(change);
}

void MemoryMetadataServer::Acknowledge(const proto::AckPushRequest& acknowledgement) {
  for (const uint64_t push : acknowledgement.pushes()) {
    acknowledgements_[push] = acknowledgement;
    const auto change = change_of_push_.find(push);
    if (change == change_of_push_.end()) continue;
    PendingChange& pending = pending_.at(change->second);
    pending.unacknowledged.erase(push);
    for (const uint64_t inode : acknowledgement.open_inodes()) orphans_.insert(inode);
    FinishIfAcknowledged(change->second);
    change_of_push_.erase(change);
  }
  acknowledged_.NotifyAll();
}

void MemoryMetadataServer::FinishIfAcknowledged(uint64_t change) {
  const auto found = pending_.find(change);
  if (!found->second.unacknowledged.empty()) return;
  for (const uint64_t inode : found->second.removed) {
    if (!orphans_.contains(inode)) inodes_.erase(inode);
  }
  found->second.answer();
  pending_.erase(found);
}

void MemoryMetadataServer::KeepAlive(const rpc::Request& request, rpc::Responder* responder) {
  keep_alives_.push_back(Parse<proto::KeepAliveRequest>(request));
  if (push_to_all_) peers_[keep_alives_.back().session()] = request.peer;
  proto::KeepAliveReply reply;
  reply.set_term(term_);
  if (term_ != 0) reply.set_lease_ms(lease_ms_);
  reply.set_lapses(lapses_);
  responder->Reply(reply);
}

void MemoryMetadataServer::Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
  MutexLock lock(mutex_);
  peer_ = request.peer;
  if (request.method == rpc::Method::kKeepAlive) return KeepAlive(request, responder.get());
  if (request.method == rpc::Method::kAckPush) {
    Acknowledge(Parse<proto::AckPushRequest>(request));
    return responder->Reply(proto::AckPushReply());
  }
  ++requests_;
  std::shared_ptr<rpc::Responder> answer = std::move(responder);
  if (request.method == rpc::Method::kMutate) {
    const auto mutation = Parse<proto::Mutation>(request);
    proto::MutationReply reply;
    const Status status = Apply(mutation, &reply);
    if (!status.ok()) return answer->Fail(status);
    if (!push_to_all_) return answer->Reply(reply);
    return PushThenAnswer(mutation.session(), ItemsOf(mutation, reply), [answer, reply] { answer->Reply(reply); });
  }
  if (request.method == rpc::Method::kMutateBatch) {
    proto::MutateBatchReply replies;
    const auto batch = Parse<proto::MutateBatchRequest>(request);
    for (const proto::Mutation& mutation : batch.mutations()) {
      proto::MutationReply* reply = replies.add_replies();
      const Status status = Apply(mutation, reply);
      reply->set_status(static_cast<uint32_t>(status.code()));
      reply->set_message(status.message());
    }
    return answer->Reply(replies);
  }
  const Status status = Read(request, answer.get());
  if (!status.ok()) answer->Fail(status);
}

Status MemoryMetadataServer::Read(const rpc::Request& request, rpc::Responder* responder) {
  switch (request.method) {
    case rpc::Method::kGetVolume: {
      if (Parse<proto::GetVolumeRequest>(request).name() != "test") return Status(StatusCode::kNotFound, "no volume");
      proto::GetVolumeReply reply;
      reply.mutable_volume()->set_id(1);
      reply.mutable_volume()->set_name("test");
      reply.mutable_volume()->set_root(kRoot);
      responder->Reply(reply);
      return Status::Ok();
    }
    case rpc::Method::kGetClusterMap: {
      proto::GetClusterMapReply reply;
      reply.mutable_map()->set_version(1);
      responder->Reply(reply);
      return Status::Ok();
    }
    case rpc::Method::kForget:
      forgets_.push_back(Parse<proto::ForgetRequest>(request));
      responder->Reply(proto::ForgetReply());
      return Status::Ok();
    case rpc::Method::kAcquireWrite: {
      const auto acquire = Parse<proto::AcquireWriteRequest>(request);
      ASSIGN_OR_RETURN(proto::Attributes * attributes, Find(acquire.inode()));
      proto::AcquireWriteReply reply;
      reply.set_term(term_);
      // With several sessions they share everything.
      reply.set_exclusive(!push_to_all_ && !shares_writes_);
      *reply.mutable_attributes() = *attributes;
      acquires_.push_back(acquire);
      responder->Reply(reply);
      return Status::Ok();
    }
    case rpc::Method::kReleaseWrite:
      releases_.push_back(Parse<proto::ReleaseWriteRequest>(request));
      responder->Reply(proto::ReleaseWriteReply());
      return Status::Ok();
    case rpc::Method::kGetAttr: {
      const auto get = Parse<proto::GetAttrRequest>(request);
      ASSIGN_OR_RETURN(proto::Attributes * attributes, Find(get.inode()));
      proto::GetAttrReply reply;
      *reply.mutable_attributes() = *attributes;
      Grant(*attributes, attributes->type() == proto::FILE_TYPE_DIRECTORY ? 0 : attributes->parent(), get.session(),
            reply.mutable_grant());
      if (get.will_open() && get.session() != 0) reply.mutable_grant()->set_inode(get.inode());
      responder->Reply(reply);
      return Status::Ok();
    }
    case rpc::Method::kLookup: {
      const auto lookup = Parse<proto::LookupRequest>(request);
      const auto found = names_.find({lookup.parent(), lookup.name()});
      proto::LookupReply reply;
      if (found == names_.end()) {
        if (lookup.session() == 0 || term_ == 0) return Status(StatusCode::kNotFound, "no such name");
        Grant(inodes_.at(lookup.parent()), lookup.parent(), lookup.session(), reply.mutable_grant());
        reply.mutable_grant()->clear_inode();
        responder->Reply(reply);
        return Status::Ok();
      }
      *reply.mutable_attributes() = inodes_.at(found->second);
      Grant(reply.attributes(), lookup.parent(), lookup.session(), reply.mutable_grant());
      responder->Reply(reply);
      return Status::Ok();
    }
    case rpc::Method::kReadDir:
      return ReadDir(request, responder);
    default:
      return Status(StatusCode::kNotSupported, rpc::MethodName(request.method) + " is not in the test server");
  }
}

Status MemoryMetadataServer::ReadDir(const rpc::Request& request, rpc::Responder* responder) {
  const auto read = Parse<proto::ReadDirRequest>(request);
  proto::ReadDirReply reply;
  uint64_t cookie = 15;
  for (const auto& [key, inode] : names_) {
    if (key.first != read.directory() || ++cookie <= read.after_cookie()) continue;
    proto::Entry* entry = reply.add_entries();
    entry->set_name(key.second);
    entry->set_cookie(cookie);
    *entry->mutable_attributes() = inodes_.at(inode);
  }
  reply.set_end(true);
  Grant(inodes_.at(read.directory()), read.directory(), read.session(), reply.mutable_grant());
  responder->Reply(reply);
  return Status::Ok();
}

Result<proto::Attributes*> MemoryMetadataServer::Find(uint64_t inode) {
  const auto found = inodes_.find(inode);
  if (found == inodes_.end()) return NoSuch(inode);
  return &found->second;
}

const proto::Attributes& MemoryMetadataServer::TouchDirectory(uint64_t directory) {
  proto::Attributes& touched = inodes_.at(directory);
  touched.set_change(touched.change() + 1);
  touched.set_mtime_ns(now_ns_);
  touched.set_size_bytes(static_cast<uint64_t>(
      std::ranges::count_if(names_, [&](const auto& entry) { return entry.first.first == directory; })));
  return touched;
}

void MemoryMetadataServer::ShareWrites(bool shared) {
  MutexLock lock(mutex_);
  shares_writes_ = shared;
}

std::vector<proto::AcquireWriteRequest> MemoryMetadataServer::acquires() const {
  MutexLock lock(mutex_);
  return acquires_;
}

std::vector<proto::ReleaseWriteRequest> MemoryMetadataServer::releases() const {
  MutexLock lock(mutex_);
  return releases_;
}

proto::Attributes* MemoryMetadataServer::NewInode(proto::FileType type, uint32_t mode) {
  proto::Attributes& made = inodes_[next_inode_];
  made.set_inode(next_inode_++);
  made.set_type(type);
  made.set_mode(mode);
  made.set_nlink(1);
  made.set_change(1);
  made.set_mtime_ns(now_ns_);
  return &made;
}

Status MemoryMetadataServer::Apply(const proto::Mutation& mutation, proto::MutationReply* reply) {
  ++now_ns_;
  const auto failure = std::ranges::find_if(failures_, [&](const auto& entry) { return entry.first(mutation); });
  if (failure != failures_.end()) {
    Status status = std::move(failure->second);
    failures_.erase(failure);
    return status;
  }
  mutations_.push_back(mutation);
  mutated_.NotifyAll();
  switch (mutation.op_case()) {
    case proto::Mutation::kOpenSession:
      reply->set_session(77 + sessions_);
      if (push_to_all_) ++sessions_;
      reply->set_lease_ms(600'000);
      return Status::Ok();
    case proto::Mutation::kCloseSession:
      peers_.erase(mutation.session());
      return Status::Ok();
    case proto::Mutation::kCreate:
      return Create(mutation, reply);
    case proto::Mutation::kUnlink:
      return Unlink(mutation.unlink().parent(), mutation.unlink().name(), mutation.unlink().held_open(), reply);
    case proto::Mutation::kRename:
      return Rename(mutation.rename(), reply);
    case proto::Mutation::kTruncate:
      return Truncate(mutation.truncate(), reply);
    case proto::Mutation::kCommitWrite:
      return CommitWrite(mutation.commit_write(), reply);
    case proto::Mutation::kMkdir: {
      proto::Attributes* made = NewInode(proto::FILE_TYPE_DIRECTORY, mutation.mkdir().mode());
      made->set_nlink(2);
      made->set_parent(mutation.mkdir().parent());
      names_[{mutation.mkdir().parent(), mutation.mkdir().name()}] = made->inode();
      *reply->mutable_attributes() = *made;
      *reply->mutable_parent() = TouchDirectory(mutation.mkdir().parent());
      return Status::Ok();
    }
    case proto::Mutation::kSetAttr:
      return SetAttr(mutation.set_attr(), reply);
    case proto::Mutation::kAllocateData: {
      ASSIGN_OR_RETURN(proto::Attributes * file, Find(mutation.allocate_data().inode()));
      if (file->data_id() == 0) {
        file->set_data_id(next_data_++);
        file->set_change(file->change() + 1);
      }
      *reply->mutable_attributes() = *file;
      return Status::Ok();
    }
    case proto::Mutation::kTruncateDone: {
      ASSIGN_OR_RETURN(proto::Attributes * file, Find(mutation.truncate_done().inode()));
      file->set_truncate_pending(false);
      file->set_change(file->change() + 1);
      *reply->mutable_attributes() = *file;
      return Status::Ok();
    }
    case proto::Mutation::kReleaseOrphan:
      orphans_.erase(mutation.release_orphan().inode());
      inodes_.erase(mutation.release_orphan().inode());
      return Status::Ok();
    case proto::Mutation::kReserveDataIds:
      reply->set_first_data_id(next_data_);
      reply->set_data_id_count(mutation.reserve_data_ids().count());
      next_data_ += mutation.reserve_data_ids().count();
      return Status::Ok();
    default:
      return Status(StatusCode::kNotSupported, "this mutation is not in the test server");
  }
}

Status MemoryMetadataServer::Create(const proto::Mutation& mutation, proto::MutationReply* reply) {
  const proto::CreateOp& op = mutation.create();
  const auto found = names_.find({op.parent(), op.name()});
  if (found != names_.end() && (op.exclusive() || (op.data_id() != 0 && !op.replace()))) {
    return Status(StatusCode::kExists, "the name exists");
  }
  reply->set_created(found == names_.end());
  proto::Attributes* file =
      found != names_.end() ? &inodes_.at(found->second) : NewInode(proto::FILE_TYPE_REGULAR, op.mode());
  names_[{op.parent(), op.name()}] = file->inode();
  file->set_parent(op.parent());
  if (op.data_id() != 0) {
    file->set_data_id(op.data_id());
    file->set_data_generation(file->data_generation() + 1);
    file->set_size_bytes(op.size_bytes());
    if (op.mtime_ns() != 0) file->set_mtime_ns(op.mtime_ns());
    file->set_change(file->change() + 1);
  }
  *reply->mutable_attributes() = *file;
  if (reply->created()) *reply->mutable_parent() = TouchDirectory(op.parent());
  return Status::Ok();
}

Status MemoryMetadataServer::Unlink(uint64_t parent, const std::string& name, bool held_open,
                                    proto::MutationReply* reply) {
  const auto found = names_.find({parent, name});
  if (found == names_.end()) return Status(StatusCode::kNotFound, "no such name");
  const uint64_t inode = found->second;
  names_.erase(found);
  proto::Attributes& file = inodes_.at(inode);
  file.set_nlink(file.nlink() - 1);
  file.set_change(file.change() + 1);
  *reply->mutable_removed() = file;
  *reply->mutable_parent() = TouchDirectory(parent);
  if (file.nlink() > 0) return Status::Ok();
  if (held_open) {
    orphans_.insert(inode);
  } else if (!push_to_all_) {
    inodes_.erase(inode);
  }
  return Status::Ok();
}

Status MemoryMetadataServer::Rename(const proto::RenameOp& op, proto::MutationReply* reply) {
  const auto found = names_.find({op.parent(), op.name()});
  if (found == names_.end()) return Status(StatusCode::kNotFound, "no such name");
  const uint64_t inode = found->second;
  names_.erase(found);
  if (names_.contains({op.new_parent(), op.new_name()})) {
    RETURN_IF_ERROR(Unlink(op.new_parent(), op.new_name(), op.replaced_held_open(), reply));
  }
  names_[{op.new_parent(), op.new_name()}] = inode;
  proto::Attributes& moved = inodes_.at(inode);
  moved.set_parent(op.new_parent());
  moved.set_change(moved.change() + 1);
  *reply->mutable_attributes() = moved;
  *reply->mutable_parent() = TouchDirectory(op.parent());
  if (op.new_parent() != op.parent()) *reply->mutable_new_parent() = TouchDirectory(op.new_parent());
  return Status::Ok();
}

Status MemoryMetadataServer::Truncate(const proto::TruncateOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(proto::Attributes * file, Find(op.inode()));
  const bool shrinks = op.size_bytes() < file->size_bytes();
  if (op.size_bytes() == 0) {
    file->set_data_id(0);
  } else if (shrinks) {
    if (file->truncate_pending()) return Status(StatusCode::kTruncatePending, "finish the earlier truncate first");
    file->set_truncate_pending(true);
    file->set_truncate_floor_bytes(op.size_bytes());
    file->set_truncate_generation(file->truncate_generation() + 1);
  }
  file->set_size_bytes(op.size_bytes());
  file->set_data_generation(file->data_generation() + 1);
  file->set_mtime_ns(now_ns_);
  file->set_change(file->change() + 1);
  *reply->mutable_attributes() = *file;
  return Status::Ok();
}

Status MemoryMetadataServer::CommitWrite(const proto::CommitWriteOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(proto::Attributes * file, Find(op.inode()));
  if (file->data_id() != op.data_id() || file->truncate_generation() != op.truncate_generation()) {
    return Status(StatusCode::kStaleTruncate, "the data moved on");
  }
  file->set_size_bytes(std::max(file->size_bytes(), op.min_size_bytes()));
  file->set_mtime_ns(op.mtime_ns());
  file->set_data_generation(file->data_generation() + 1);
  file->set_change(file->change() + 1);
  *reply->mutable_attributes() = *file;
  return Status::Ok();
}

Status MemoryMetadataServer::SetAttr(const proto::SetAttrOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(proto::Attributes * file, Find(op.inode()));
  if (op.has_mode()) file->set_mode(op.mode());
  if (op.has_mtime_ns()) file->set_mtime_ns(op.mtime_ns());
  file->set_change(file->change() + 1);
  *reply->mutable_attributes() = *file;
  return Status::Ok();
}

}  // namespace tarn::client::testing
