#include "metaserver/service/push_coordinator.h"

#include <algorithm>
#include <string>

namespace tarn::meta {
namespace {

constexpr int64_t kSweepIntervalNs = 10'000'000'000;

bool ChangesData(const proto::Mutation& mutation) {
  switch (mutation.op_case()) {
    case proto::Mutation::kTruncate:
    case proto::Mutation::kCommitWrite:
      return true;
    case proto::Mutation::kCreate:
      return mutation.create().data_id() != 0;
    default:
      return false;
  }
}

// What a file system shows does not change with these.
bool IsInvisible(const proto::Mutation& mutation) {
  switch (mutation.op_case()) {
    case proto::Mutation::kAllocateData:
    case proto::Mutation::kReleaseOrphan:
    case proto::Mutation::kSettleOrphan:
    case proto::Mutation::kCloseSession:
    case proto::Mutation::kPropagateCounters:
      return true;
    default:
      return false;
  }
}

std::set<uint64_t> SetOf(const google::protobuf::RepeatedField<uint64_t>& inodes) {
  return {inodes.begin(), inodes.end()};
}

}  // namespace

PushCoordinator::PushCoordinator(const PushCoordinatorOptions& options, Clock* clock, SessionKeeper* keeper)
    : options_(options),
      clock_(clock),
      keeper_(keeper),
      interests_(options.interests),
      budget_(options.budget),
      grants_(options.write_grants_max) {}

// ---- Leadership ----

void PushCoordinator::BeginLeading(uint64_t term, std::span<const proto::SessionRecord> sessions,
                                   std::span<const InodeId> orphans) {
  Outbox outbox;
  {
    MutexLock lock(mutex_);
    term_.store(term, std::memory_order_release);
    for (const proto::SessionRecord& record : sessions) {
      if (!record.caches()) continue;
      // Whatever an earlier leader granted: interested in everything until it has registered or lapsed.
      Session& session = sessions_[SessionId(record.id())];
      session.unregistered = true;
      unregistered_.insert(SessionId(record.id()));
      unclaimed_.insert(SessionId(record.id()));
      session.drop_all_is_of_term = true;
      DropAll(SessionId(record.id()), &session, &outbox);
    }
    for (const InodeId inode : orphans) {
      Orphan& orphan = orphans_[inode];
      for (const auto& [id, session] : sessions_) orphan.awaited.insert(id);
    }
    UpdateWants();
    UpdateWriters();
  }
  Dispatch(std::move(outbox));
}

void PushCoordinator::EndLeading() {
  std::vector<std::shared_ptr<Waiter>> refused;
  std::vector<WriteGrants::Recalled> recalled;
  std::vector<std::shared_ptr<Acquire>> acquires;
  {
    MutexLock lock(mutex_);
    term_.store(0, std::memory_order_release);
    for (const auto& [id, change] : changes_) {
      for (const auto& waiter : change->waiters) {
        if (waiter->changes == 0) continue;
        waiter->changes = 0;  // it may wait for several
        refused.push_back(waiter);
      }
    }
    changes_.clear();
    changes_waiting_.store(0, std::memory_order_release);
    sessions_.clear();
    dropping_all_.clear();
    interests_.Clear();
    budget_.Clear();
    orphans_.clear();
    unregistered_.clear();
    recalled = grants_.Clear();
    for (auto& [session, waiting] : std::exchange(await_claims_, {})) recalled.push_back(std::move(waiting));
    unclaimed_.clear();
    for (const auto& [inode, acquire] : acquiring_) acquires.push_back(acquire);
    acquiring_.clear();
    UpdateWants();
    UpdateWriters();
  }
  const Status not_leader(StatusCode::kNotLeader, "this metadata server does not lead any more");
  for (const auto& each : recalled) each(not_leader);
  for (const auto& acquire : acquires) {
    acquire->acquired(not_leader);
    for (const auto& each : acquire->waiting) each(not_leader);
  }
  for (const auto& waiter : refused) {
    waiter->release(Status(StatusCode::kNotLeader, "this metadata server does not lead any more"));
  }
}

void PushCoordinator::UpdateWants() {
  wants_changes_.store(term_.load(std::memory_order_relaxed) != 0 && !sessions_.empty(), std::memory_order_release);
}

PushCoordinator::Session* PushCoordinator::Find(SessionId session) {
  const auto found = sessions_.find(session);
  return found != sessions_.end() ? &found->second : nullptr;
}

// ---- Changes ----

void PushCoordinator::OnApplied(const proto::LogEntry& entry, std::span<const proto::MutationReply> replies,
                                std::span<const ChangeSet> changes) {
  if (term() == 0) return;
  Outbox outbox;
  {
    MutexLock lock(mutex_);
    Entry drafts;
    drafts.now_ns = clock_->MonotonicNs();
    const ChangeSet none;
    for (int i = 0; i < entry.commands_size(); ++i) {
      const proto::MutationReply& reply = replies[static_cast<size_t>(i)];
      if (reply.status() != 0) continue;
      const proto::LogCommand& command = entry.commands(i);
      const bool noted = static_cast<size_t>(i) < changes.size();
      if (!sessions_.empty()) {
        AddressCommand(command, noted ? changes[static_cast<size_t>(i)] : none, &drafts, &outbox);
      }
      // A repeat gives and ends no grants: others may have read of the file since, or its session have got another one.
      const bool repeated = !noted || changes[static_cast<size_t>(i)].empty();
      const bool of_grant = command.mutation().has_create() || command.mutation().has_commit_write();
      if (!repeated || !of_grant) NoteSessions(command.mutation(), reply, &outbox);
    }
    SendDrafts(&drafts, &outbox);
  }
  Dispatch(std::move(outbox));
}

void PushCoordinator::NoteSessions(const proto::Mutation& mutation, const proto::MutationReply& reply, Outbox* outbox) {
  if (mutation.has_open_session() && mutation.open_session().caches()) {
    sessions_.try_emplace(SessionId(reply.session()));
    UpdateWants();
  } else if (mutation.has_close_session()) {
    RemoveSession(SessionId(reply.session()), outbox);
  } else if (mutation.has_create() && reply.created() && mutation.create().type() == proto::FILE_TYPE_REGULAR &&
             mutation.create().size_bytes() == 0 && !mutation.create().replace()) {  // not one that is ingested
    GrantCreated(SessionId(mutation.session()), InodeId(reply.attributes().inode()));
  } else if (mutation.has_commit_write() && mutation.commit_write().release_write()) {
    EndGrant(SessionId(mutation.session()), InodeId(mutation.commit_write().inode()), outbox);
  } else if (mutation.has_settle_orphan()) {
    orphans_.erase(InodeId(mutation.settle_orphan().inode()));
  }
}

void PushCoordinator::AddressCommand(const proto::LogCommand& logged, const ChangeSet& changes, Entry* entry,
                                     Outbox* outbox) {
  const proto::Mutation& mutation = logged.mutation();
  Command command;
  command.session = SessionId(mutation.session());
  command.data = ChangesData(mutation);
  command.keeps_removed = mutation.unlink().held_open() || mutation.rename().replaced_held_open();
  command.changes = &changes;
  command.sequence = Sequence(mutation.sequence());
  AwaitDropAlls(&command);
  if (!IsInvisible(mutation)) {
    for (const ChangedName& name : changes.names) AddressName(&command, name, entry);
    for (const ChangedInode& inode : changes.inodes) AddressInode(&command, inode, entry);
  }
  for (const InodeId inode : changes.held_orphans) AddressOrphan(command, inode, outbox);
  for (const InodeId inode : changes.released_orphans) EndInterest(command.session, inode);
  if (command.change == nullptr) return;
  // A repeat of a mutation that waits still has an entry already, and nothing new to wait for.
  if (changes_.emplace(command.change->id, command.change).second) {
    changes_waiting_.fetch_add(1, std::memory_order_acq_rel);
  }
}

// Sessions that may have anything cached. Those of an earlier term are waited for even by a repeat, which changes
// nothing itself: the leader that carried it out may have been waiting for the same.
void PushCoordinator::AwaitDropAlls(Command* command) {
  if (!command->session.valid()) return;
  for (const SessionId id : dropping_all_) {
    if (id == command->session) continue;
    Session& session = sessions_.at(id);
    if (command->changes->empty() && !session.drop_all_is_of_term) continue;
    Await(command, &session.pushes.at(session.drop_all));
  }
}

void PushCoordinator::Await(Command* command, Push* push) {
  if (!command->session.valid()) return;  // nobody waits for the leader's own
  if (command->change == nullptr) {
    command->change = std::make_shared<Change>();
    command->change->id = {command->session, command->sequence};
  }
  if (!push->changes.empty() && push->changes.back() == command->change) return;
  push->changes.push_back(command->change);
  ++command->change->pushes;
}

PushCoordinator::Draft* PushCoordinator::DraftFor(Command* command, SessionId id, InodeId key, Entry* entry) {
  if (id == command->session) return nullptr;
  Session& session = sessions_.at(id);
  if (session.drop_all != 0) return nullptr;  // awaited already
  if (const auto dropping = session.dropping.find(key); dropping != session.dropping.end()) {
    // A push of this very entry is still a draft.
    const auto drafted = entry->drafts.find(id);
    const bool is_draft = drafted != entry->drafts.end() && drafted->second.id == dropping->second;
    Await(command, is_draft ? &drafted->second.push : &session.pushes.at(dropping->second));
    return nullptr;
  }
  Draft& draft = entry->drafts[id];
  if (draft.message == nullptr) {
    draft.id = session.next_push++;
    draft.message = std::make_shared<proto::InvalidatePush>();
    draft.message->set_session(id.value());
    draft.message->set_term(term());
    draft.message->set_push(draft.id);
  }
  Await(command, &draft.push);
  return &draft;
}

bool PushCoordinator::DropIfTooBusy(Command* command, InodeId key, bool is_directory, Entry* entry) {
  const auto watchers = interests_.Watchers(key);
  const size_t others = watchers.size() - (interests_.Has(command->session, key) ? 1 : 0);
  if (others == 0 || !entry->charged.insert(key).second) return false;
  if (budget_.Charge(key, others, entry->now_ns)) return false;
  ++drops_;
  // Also whoever makes the changes: what it caches others would have to be told to it.
  for (const SessionId id : watchers) {
    Command nobodys;
    Draft* draft = DraftFor(id == command->session ? &nobodys : command, id, key, entry);
    if (draft == nullptr) continue;
    proto::Invalidation* item = draft->message->add_items();
    item->set_directory(key.value());
    // Whether this is a directory is not known here; what its interest covers ends in either case.
    if (!is_directory) item->set_inode(key.value());
    item->set_drop(true);
    draft->push.ended.push_back(key);
    sessions_.at(id).dropping[key] = draft->id;
  }
  return true;
}

void PushCoordinator::AddressName(Command* command, const ChangedName& name, Entry* entry) {
  if (!interests_.OthersWatch(name.directory, command->session)) return;
  if (DropIfTooBusy(command, name.directory, true, entry)) return;
  for (const SessionId id : interests_.Watchers(name.directory)) {
    Draft* draft = DraftFor(command, id, name.directory, entry);
    if (draft == nullptr) continue;
    auto* items = draft->message->mutable_items();
    proto::Invalidation* item = nullptr;
    // The names of one directory go together, unless some are not known.
    if (!items->empty()) item = &(*items)[items->size() - 1];
    const bool joins = item != nullptr && item->directory() == name.directory.value() && item->inode() == 0 &&
                       !item->drop() && !item->names().empty() && !name.name.empty();
    if (!joins) item = draft->message->add_items();
    item->set_directory(name.directory.value());
    if (!name.name.empty()) item->add_names(name.name);
  }
}

proto::Invalidation* PushCoordinator::ItemFor(const ChangedInode& inode, Draft* draft) {
  auto* items = draft->message->mutable_items();
  // Addressed through several directories: one item. Looking at the last is enough, inodes come one after another.
  if (!items->empty()) {
    proto::Invalidation* last = &(*items)[items->size() - 1];
    if (last->inode() == inode.inode.value() && !last->drop()) return last;
  }
  proto::Invalidation* item = draft->message->add_items();
  item->set_inode(inode.inode.value());
  return item;
}

void PushCoordinator::CoverOwn(const Command& command, const ChangedInode& inode) {
  const Session* session = Find(command.session);
  if (session == nullptr || session->unregistered) return;  // it will say what it has open
  const bool leaves = inode.left_directory.valid() && inode.left_directory != inode.directory &&
                      interests_.Has(command.session, inode.left_directory);
  if (leaves || (inode.removed && command.keeps_removed)) interests_.Add(command.session, inode.inode);
}

void PushCoordinator::AddressInode(Command* command, const ChangedInode& inode, Entry* entry) {
  CoverOwn(*command, inode);
  // Its names are pushed anyway, and its own attributes go with them.
  const bool named = std::ranges::any_of(command->changes->names,
                                         [&](const ChangedName& name) { return name.directory == inode.inode; });
  if (named && !inode.removed) return;
  const auto& orphans = command->changes->held_orphans;
  const bool held = std::ranges::find(orphans, inode.inode) != orphans.end();
  // Those who are told to forget the inode itself need no more; those of its directory are told below.
  if (!named && interests_.OthersWatch(inode.inode, command->session)) {
    DropIfTooBusy(command, inode.inode, false, entry);
  }
  for (const InodeId key : {inode.inode, inode.directory, inode.left_directory}) {
    if (!key.valid()) continue;
    if (!interests_.OthersWatch(key, command->session)) continue;
    const bool leaves = key == inode.left_directory && key != inode.directory;
    // Adding tentative interests below changes the table.
    const auto watching = interests_.Watchers(key);
    const std::vector<SessionId> watchers(watching.begin(), watching.end());
    for (const SessionId id : watchers) {
      Draft* draft = DraftFor(command, id, key, entry);
      Session& session = sessions_.at(id);
      if (draft == nullptr) {
        const auto dropping = session.dropping.find(key);
        if (held && id != command->session && dropping != session.dropping.end()) {
          const auto push = session.pushes.find(dropping->second);
          Push& told = push != session.pushes.end() ? push->second : entry->drafts.at(id).push;
          told.orphans.push_back(inode.inode);
          orphans_[inode.inode].awaited.insert(id);
        }
        continue;
      }
      proto::Invalidation* item = ItemFor(inode, draft);
      if (command->data) item->set_data(true);
      if (inode.removed) item->set_removed(true);
      if (held || leaves) item->set_report_open(true);
      if (held) {
        draft->push.orphans.push_back(inode.inode);
        orphans_[inode.inode].awaited.insert(id);
      } else if (leaves && interests_.AddTentative(id, inode.inode)) {
        draft->push.tentative.push_back(inode.inode);
      }
    }
  }
}

void PushCoordinator::AddressOrphan(const Command& command, InodeId inode, Outbox* outbox) {
  Orphan& orphan = orphans_[inode];
  for (const SessionId id : dropping_all_) {
    if (id == command.session) continue;
    Session& session = sessions_.at(id);
    session.pushes.at(session.drop_all).orphans.push_back(inode);
    orphan.awaited.insert(id);
  }
  for (const SessionId id : unregistered_) {
    if (id != command.session) orphan.awaited.insert(id);
  }
  if (!orphan.awaited.empty()) return;
  orphan.settling = true;
  outbox->settled.emplace_back(inode, std::vector<SessionId>());
}

void PushCoordinator::SendDrafts(Entry* entry, Outbox* outbox) {
  for (auto& [id, draft] : entry->drafts) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) {  // closed by a later command of the entry
      ReleaseChanges(draft.push.changes, outbox);
      continue;
    }
    Session& session = found->second;
    if (session.pushes.size() >= options_.pushes_per_session_max) {
      // The pushes that end single interests are waited for no longer than this one.
      DropAll(id, &session, outbox);
      Push& all = session.pushes.at(session.drop_all);
      all.changes = std::move(draft.push.changes);
      all.orphans = std::move(draft.push.orphans);
      std::erase_if(session.dropping, [&](const auto& each) { return each.second == draft.id; });
      continue;
    }
    draft.push.message = draft.message;
    session.pushes.emplace(draft.id, std::move(draft.push));
    ++pushes_sent_;
    if (session.peer != nullptr) outbox->pushes.emplace_back(session.peer, draft.message);
  }
}

void PushCoordinator::DropAll(SessionId id, Session* session, Outbox* outbox) {
  ++drops_;
  ++pushes_sent_;
  auto message = std::make_shared<proto::InvalidatePush>();
  message->set_session(id.value());
  message->set_term(term());
  message->set_push(session->next_push++);
  message->add_items()->set_drop(true);
  session->drop_all = message->push();
  dropping_all_.insert(id);
  // What it caches from now on is granted anew.
  interests_.RemoveSession(id);
  if (session->peer != nullptr) outbox->pushes.emplace_back(session->peer, message);
  session->pushes[message->push()].message = std::move(message);
}

void PushCoordinator::WhenAcknowledged(std::span<const MutationId> mutations, Release release) {
  if (changes_waiting_.load(std::memory_order_acquire) == 0) return release(Status::Ok());
  auto waiter = std::make_shared<Waiter>();
  {
    MutexLock lock(mutex_);
    for (const MutationId& id : mutations) {
      const auto found = changes_.find(id);
      if (found == changes_.end()) continue;
      found->second->waiters.push_back(waiter);
      ++waiter->changes;
    }
    if (waiter->changes != 0) {
      waiter->release = std::move(release);
      return;
    }
  }
  release(Status::Ok());
}

// ---- Acknowledgements, and what takes their place ----

void PushCoordinator::ReleaseChanges(const std::vector<ChangePtr>& changes, Outbox* outbox) {
  for (const ChangePtr& change : changes) {
    if (--change->pushes != 0) continue;
    if (change->acquire != nullptr) {
      FinishAcquire(change->acquire, outbox);
      continue;
    }
    const auto found = changes_.find(change->id);
    if (found == changes_.end() || found->second != change) continue;
    changes_.erase(found);
    changes_waiting_.fetch_sub(1, std::memory_order_acq_rel);
    for (const auto& waiter : change->waiters) {
      if (--waiter->changes == 0) outbox->released.push_back(waiter);
    }
  }
}

void PushCoordinator::CompletePush(SessionId id, Session* session, std::map<uint64_t, Push>::iterator push,
                                   const std::set<uint64_t>& open, Outbox* outbox) {
  const uint64_t number = push->first;
  const Push done = std::move(push->second);
  session->pushes.erase(push);
  for (const InodeId inode : done.ended) {
    session->dropping.erase(inode);
    interests_.Remove(id, inode);
  }
  for (const InodeId inode : done.tentative) {
    if (!open.contains(inode.value())) interests_.RemoveTentative(id, inode);
  }
  for (const ChangePtr& change : done.changes) {
    if (change->acquire != nullptr) change->acquire->answered.insert(id);
    if (change->acquire != nullptr && open.contains(change->acquire->inode.value())) change->acquire->others = true;
  }
  for (const InodeId inode : done.recalled) EndGrant(id, inode, outbox);
  for (const InodeId inode : done.orphans) ResolveOrphan(inode, id, open.contains(inode.value()), outbox);
  if (session->drop_all == number) {
    session->drop_all = 0;
    dropping_all_.erase(id);
  }
  ReleaseChanges(done.changes, outbox);
}

void PushCoordinator::Acknowledge(const proto::AckPushRequest& request) {
  const SessionId id(request.session());
  Outbox outbox;
  {
    MutexLock lock(mutex_);
    Session* session = Find(id);
    if (session == nullptr || request.term() != term()) return;
    const std::set<uint64_t> open = SetOf(request.open_inodes());
    for (const uint64_t number : request.pushes()) {
      // Its keep-alive ends this one: that says more.
      if (number == session->drop_all && session->drop_all_is_of_term) continue;
      const auto push = session->pushes.find(number);
      if (push != session->pushes.end()) CompletePush(id, session, push, open, &outbox);
    }
    for (const uint64_t inode : open) interests_.Add(id, InodeId(inode));
  }
  Dispatch(std::move(outbox));
}

void PushCoordinator::KeepAlive(const proto::KeepAliveRequest& request, uint64_t lapses) {
  const SessionId id(request.session());
  Outbox outbox;
  {
    MutexLock lock(mutex_);
    Session* session = Find(id);
    if (session == nullptr || !session->unregistered || request.term() != term() || request.lapses() != lapses) return;
    Register(id, session, SetOf(request.open_inodes()), SetOf(request.written_inodes()), &outbox);
  }
  Dispatch(std::move(outbox));
}

void PushCoordinator::Register(SessionId id, Session* session, const std::set<uint64_t>& open,
                               const std::set<uint64_t>& written, Outbox* outbox) {
  session->unregistered = false;
  unregistered_.erase(id);
  // Void since the lapse, but for what is still to be published: nobody else can have been given that.
  for (const InodeId inode : grants_.InodesOf(id)) {
    if (!written.contains(inode.value())) EndGrant(id, inode, outbox);
  }
  for (const uint64_t inode : written) {
    if (!grants_.HeldByOther(id, InodeId(inode))) grants_.Give(id, InodeId(inode));
  }
  EndUnclaimed(id, outbox);
  UpdateWriters();
  for (const uint64_t inode : open) interests_.Add(id, InodeId(inode));
  if (session->drop_all != 0 && session->drop_all_is_of_term) {
    CompletePush(id, session, session->pushes.find(session->drop_all), open, outbox);
  }
  session->drop_all_is_of_term = false;
  ResolveOrphans(id, open, outbox);
}

void PushCoordinator::Lapse(SessionId id, Session* session, Outbox* outbox) {
  interests_.RemoveSession(id);
  for (auto& [number, push] : std::exchange(session->pushes, {})) ReleaseChanges(push.changes, outbox);
  session->dropping.clear();
  session->drop_all = 0;
  session->drop_all_is_of_term = false;
  dropping_all_.erase(id);
  session->unregistered = true;
  unregistered_.insert(id);
  // Somebody waits for what it has buffered: only the end of the session keeps its commits from coming later.
  const bool awaited = std::ranges::any_of(await_claims_, [&](const auto& waiting) { return waiting.first != id; });
  if (grants_.IsRecalled(id) || (unclaimed_.contains(id) && awaited)) keeper_->Expire(id);
}

void PushCoordinator::RemoveSession(SessionId id, Outbox* outbox) {
  Session* session = Find(id);
  if (session == nullptr) return;
  Lapse(id, session, outbox);
  unregistered_.erase(id);
  sessions_.erase(id);
  EndGrants(id, outbox);
  EndUnclaimed(id, outbox);
  ResolveOrphans(id, {}, outbox);
  UpdateWants();
}

void PushCoordinator::ResolveOrphan(InodeId inode, SessionId session, bool open, Outbox* outbox) {
  const auto found = orphans_.find(inode);
  if (found == orphans_.end() || found->second.awaited.erase(session) == 0) return;
  Orphan& orphan = found->second;
  if (open) orphan.holders.push_back(session);
  if (!orphan.awaited.empty() || orphan.settling) return;
  orphan.settling = true;
  outbox->settled.emplace_back(inode, orphan.holders);
}

void PushCoordinator::ResolveOrphans(SessionId session, const std::set<uint64_t>& open, Outbox* outbox) {
  for (auto& [inode, orphan] : orphans_) ResolveOrphan(inode, session, open.contains(inode.value()), outbox);
}

void PushCoordinator::Forget(const proto::ForgetRequest& request) {
  const SessionId id(request.session());
  MutexLock lock(mutex_);
  const Session* session = Find(id);
  if (session == nullptr || request.term() != term()) return;
  for (const uint64_t inode : request.directories()) EndInterest(id, InodeId(inode));
  for (const uint64_t inode : request.inodes()) EndInterest(id, InodeId(inode));
}

void PushCoordinator::EndInterest(SessionId id, InodeId inode) {
  const Session* session = Find(id);
  if (session != nullptr && !session->dropping.contains(inode)) interests_.Remove(id, inode);
}

// ---- Reads ----

void PushCoordinator::Attach(SessionId id, const PeerPtr& peer) {
  std::vector<std::shared_ptr<const proto::InvalidatePush>> again;
  {
    MutexLock lock(mutex_);
    Session* session = Find(id);
    if (session == nullptr || session->peer == peer) return;
    session->peer = peer;
    for (const auto& [number, push] : session->pushes) again.push_back(push.message);
  }
  for (const auto& message : again) peer->Push(rpc::Method::kInvalidate, *message);
}

PushCoordinator::Grant PushCoordinator::Watch(SessionId id, InodeId inode, bool names, InodeId directory) {
  Outbox outbox;
  Grant grant;
  {
    MutexLock lock(mutex_);
    grant.term = term();
    const Session* session = Find(id);
    if (session == nullptr || session->unregistered || session->dropping.contains(inode)) return grant;
    if (OthersRemoveFrom(inode, id) || OthersRemoveFrom(directory, id)) return grant;
    if (budget_.IsUncached(inode, clock_->MonotonicNs())) return grant;
    if (!interests_.Add(id, inode)) return grant;
    grant.granted = true;
    grant.shared = interests_.OthersWatch(inode, id);
    if (!names) return grant;
    const SessionId sole = interests_.SoleUser(inode);
    if (!grant.shared) {
      interests_.SetSoleUser(inode, id);
    } else if (sole.valid()) {
      interests_.SetSoleUser(inode, SessionId());
      Session* other = Find(sole);
      if (sole != id && other != nullptr && other->drop_all == 0) {
        proto::Invalidation item;
        item.set_directory(inode.value());
        item.set_shared(true);
        AddOrJoinPush(sole, other, std::move(item), &outbox);
      }
    }
  }
  Dispatch(std::move(outbox));
  return grant;
}

bool PushCoordinator::HasOtherSessions(SessionId session) const {
  MutexLock lock(mutex_);
  return sessions_.size() > (sessions_.contains(session) ? 1u : 0u);
}

PushCoordinator::Removal PushCoordinator::PrepareRemoval(SessionId id, InodeId directory, InodeId child) {
  MutexLock lock(mutex_);
  const auto own = sessions_.find(id);
  if (sessions_.size() == (own != sessions_.end() ? 1u : 0u)) return {};
  const size_t own_unregistered = unregistered_.contains(id) ? 1 : 0;
  if (interests_.OthersWatch(directory, id) || interests_.OthersWatch(child, id) ||
      unregistered_.size() > own_unregistered || !dropping_all_.empty()) {
    return {.hold = true, .pending = nullptr};
  }
  ++pending_removals_[directory][id];
  return {.hold = false, .pending = std::shared_ptr<void>(nullptr, [this, directory, id](void*) {
                           MutexLock over(mutex_);
                           std::map<SessionId, size_t>& removers = pending_removals_[directory];
                           if (--removers[id] == 0) removers.erase(id);
                           if (removers.empty()) pending_removals_.erase(directory);
                         })};
}

bool PushCoordinator::OthersRemoveFrom(InodeId directory, SessionId session) const {
  if (pending_removals_.empty()) return false;
  const auto found = pending_removals_.find(directory);
  return found != pending_removals_.end() && (found->second.size() > 1 || !found->second.contains(session));
}

// ---- Time ----

void PushCoordinator::Tick() {
  if (term() == 0) return;
  Outbox outbox;
  {
    MutexLock lock(mutex_);
    // Under the lock, so that no interest that is registered after a lapse is lost with it.
    for (const SessionId id : keeper_->TakeLapsed()) {
      if (Session* session = Find(id); session != nullptr) Lapse(id, session, &outbox);
    }
    for (auto& [inode, orphan] : orphans_) {
      if (orphan.settling || !orphan.awaited.empty()) continue;
      orphan.settling = true;
      outbox.settled.emplace_back(inode, orphan.holders);
    }
    const int64_t now_ns = clock_->MonotonicNs();
    if (now_ns - swept_ns_ > kSweepIntervalNs) {
      swept_ns_ = now_ns;
      budget_.Sweep(now_ns);
    }
  }
  Dispatch(std::move(outbox));
}

PushCoordinator::Stats PushCoordinator::stats() const {
  MutexLock lock(mutex_);
  Stats stats{.sessions = sessions_.size(), .interests = interests_.size()};
  for (const auto& [id, session] : sessions_) stats.unacknowledged_pushes += session.pushes.size();
  stats.unsettled_orphans = orphans_.size();
  stats.pushes = pushes_sent_;
  stats.drops = drops_;
  return stats;
}

void PushCoordinator::Dispatch(Outbox outbox) {
  for (const auto& [peer, message] : outbox.pushes) peer->Push(rpc::Method::kInvalidate, *message);
  for (const auto& waiter : outbox.released) waiter->release(Status::Ok());
  for (const auto& [acquire, exclusive] : outbox.acquired) acquire->acquired(exclusive);
  for (const auto& recalled : outbox.recalled) recalled(Status::Ok());
  for (auto& [inode, holders] : outbox.settled) {
    settle_(inode, std::move(holders), [this, inode = inode](const Status& status) {
      if (status.ok()) return;
      // Tried again by Tick.
      MutexLock lock(mutex_);
      if (const auto found = orphans_.find(inode); found != orphans_.end()) found->second.settling = false;
    });
  }
}

}  // namespace tarn::meta
