#include "tests/sim/oracle.h"

#include <algorithm>

#include "common/base/check.h"
#include "tests/sim/structure_check.h"

namespace tarn::sim {
namespace {

constexpr uint64_t kCheckEvery = 16;  // entries

uint64_t HashOf(const meta::KvBatch& batch) {
  uint64_t hash = batch.changes.size();
  const auto mix = [&hash](std::string_view bytes) {
    hash = (hash ^ bytes.size()) * 0x9E3779B97F4A7C15ull;
    for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
    hash ^= hash >> 31;
  };
  for (const meta::KvBatch::Change& change : batch.changes) {
    mix(change.key);
    mix(change.value ? *change.value : "(deleted)");
  }
  return hash;
}

StatusCode CodeOf(const proto::MutationReply& reply) { return static_cast<StatusCode>(reply.status()); }

// Refused before it was executed, and not remembered.
bool Refused(StatusCode code) {
  return code == StatusCode::kUnknownSession || code == StatusCode::kStaleSequence ||
         code == StatusCode::kResourceExhausted;
}

}  // namespace

Oracle::Oracle(Plant plant, std::function<void(const std::string&)> violation)
    : violation_(std::move(violation)), reference_store_(&reference_state_, plant) {
  models_.emplace_back();
  reference_store_.SetWriteListener([this](const meta::KvBatch& batch) { batches_.push_back(HashOf(batch)); });
  auto opened = meta::StateMachine::Open(&reference_store_);
  CHECK(opened.ok(), "an empty state can be opened");
  reference_ = std::move(*opened);
}

// ---- Members ----

void Oracle::OnApply(uint64_t member, uint64_t number, std::string_view entry) {
  const std::string who = "member " + std::to_string(member) + " applies entry " + std::to_string(number);
  if (number > entries_.size() + 1 || number == 0)
    return violation_(who + ": entries before it were applied by nobody");
  if (number <= entries_.size()) {
    if (entries_[number - 1] != entry) violation_(who + ": not the one that others applied under that number");
    return;
  }
  entries_.emplace_back(entry);
  ApplyToReference(entry);
}

void Oracle::ApplyToReference(std::string_view bytes) {
  proto::LogEntry entry;
  if (!entry.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return violation_("an entry cannot be parsed");
  auto replies = reference_->Apply(entry);
  if (!replies.ok()) return violation_("the state machine fails: " + replies.status().ToString());
  for (int i = 0; i < entry.commands_size(); ++i) CheckCommand(entry.commands(i), (*replies)[static_cast<size_t>(i)]);
  models_.push_back(model_);
  if (on_entry_) on_entry_(entry, *replies);
  if (entries_.size() % kCheckEvery == 0) CheckReference();
}

void Oracle::CheckCommand(const proto::LogCommand& command, const proto::MutationReply& reply) {
  const proto::Mutation& mutation = command.mutation();
  const std::string what = "entry " + std::to_string(entries_.size()) + ": " + mutation.ShortDebugString();
  const StatusCode code = CodeOf(reply);
  if (mutation.session() != 0) {
    const Key key(mutation.session(), mutation.sequence());
    const auto before = executed_.find(key);
    if (before != executed_.end()) {
      ++repeats_seen_;
      const bool same = reply.SerializeAsString() == before->second.reply.SerializeAsString();
      if (!same && !Refused(code)) violation_(what + ": a repeated mutation is answered " + reply.ShortDebugString());
      return;
    }
    if (Refused(code)) return;
    Executed& executed = executed_[key];
    executed = {entries_.size(), reply};
    // Not remembered.
    executed.reply.clear_parent();
    executed.reply.clear_new_parent();
  }
  if (mutation.has_create_volume() && code == StatusCode::kOk) model_.SetRoot(reply.volume().root());
  const auto expected = model_.Apply(command);
  if (!expected) return;
  if (std::ranges::find(expected->codes, code) == expected->codes.end()) {
    return violation_(what + ": answered " + StatusCodeName(code) + " instead of " +
                      StatusCodeName(expected->codes[0]));
  }
  if (code == StatusCode::kOk && expected->inode != 0 && reply.attributes().inode() != expected->inode)
    violation_(what + ": answered with another inode");
}

void Oracle::CheckReference() {
  const auto contents = reference_state_.Snapshot();
  std::string wrong = CheckStructure(contents);
  if (wrong.empty()) wrong = CompareNames(contents, model_);
  if (!wrong.empty()) violation_("after entry " + std::to_string(entries_.size()) + ": " + wrong);
}

void Oracle::OnBatch(uint64_t member, uint64_t number, const meta::KvBatch& batch) {
  if (number == 0 || number > batches_.size() || batches_[number - 1] != HashOf(batch)) {
    violation_("member " + std::to_string(member) + " changes its state by entry " + std::to_string(number) +
               " otherwise than others do");
  }
}

void Oracle::OnLeader(uint64_t member, uint64_t term) {
  const auto [leader, first] = leaders_.emplace(term, member);
  if (!first && leader->second != member) {
    violation_("members " + std::to_string(leader->second) + " and " + std::to_string(member) + " both lead in term " +
               std::to_string(term));
  }
}

void Oracle::CompareState(uint64_t member, const meta::MemoryKv& state) {
  const auto contents = state.Snapshot();
  if (contents != reference_state_.Snapshot()) {
    violation_("member " + std::to_string(member) + " holds another state behind " + std::to_string(entries_.size()) +
               " entries");
  }
  CheckReference();
}

// ---- Clients ----

void Oracle::OnMutationAnswered(uint64_t sent_visible, const proto::Mutation& mutation, StatusCode code,
                                const proto::MutationReply& reply) {
  ++mutations_checked_;
  const std::string what = "the answer " + StatusCodeName(code) + " to " + mutation.ShortDebugString();
  const auto executed = executed_.find({mutation.session(), mutation.sequence()});
  if (executed == executed_.end()) return violation_(what + ": it is not in the log");
  const uint64_t place = executed->second.number;
  if (place <= sent_visible) {
    return violation_(what + ": it stands at entry " + std::to_string(place) + " but was sent behind entry " +
                      std::to_string(sent_visible));
  }
  visible_ = std::max(visible_, place);
  answered_.insert({mutation.session(), mutation.sequence()});
  if (code != CodeOf(executed->second.reply)) {
    return violation_(what + ": it was executed with " + StatusCodeName(CodeOf(executed->second.reply)));
  }
  const proto::Attributes& made = executed->second.reply.attributes();
  if (code != StatusCode::kOk || reply.attributes().SerializeAsString() == made.SerializeAsString()) return;
  // Of a file that another session may have written they are read afresh for the answer.
  const bool is_fresh = made.type() == proto::FILE_TYPE_REGULAR && reply.attributes().inode() == made.inode() &&
                        reply.attributes().change() > made.change();
  if (!is_fresh) return violation_(what + ": it was executed with other attributes");
  PlaceRead(place, "the attributes in " + what,
            [&](const NamespaceModel& model) { return model.CheckFound(reply.attributes()); });
}

void Oracle::NoteAnswered(const std::string& bytes) {
  proto::Mutation mutation;
  CHECK(mutation.ParseFromString(bytes), "a mutation is sent");
  const Key key(mutation.session(), mutation.sequence());
  if (executed_.contains(key)) answered_.insert(key);
}

uint64_t Oracle::PlaceRead(uint64_t sent_visible, const std::string& what,
                           const std::function<std::string(const NamespaceModel&)>& check) {
  ++reads_checked_;
  std::string wrong;
  for (uint64_t place = sent_visible; place < models_.size(); ++place) {
    wrong = check(models_[place]);
    if (!wrong.empty()) continue;
    visible_ = std::max(visible_, place);
    return place;
  }
  violation_("the answer to " + what + " is true at no moment from entry " + std::to_string(sent_visible) + " to " +
             std::to_string(models_.size() - 1) + ": " + wrong);
  return sent_visible;
}

void Oracle::OnLookupAnswered(uint64_t sent_visible, const proto::LookupRequest& request, StatusCode code,
                              const proto::LookupReply& reply) {
  const std::string what = "look-up " + request.ShortDebugString();
  const uint64_t found = reply.attributes().inode();
  const uint64_t place = PlaceRead(
      sent_visible, what, [&](const NamespaceModel& model) { return model.CheckLookup(request, code, found); });
  if (code != StatusCode::kOk) return;
  PlaceRead(place, "the attributes of " + what,
            [&](const NamespaceModel& model) { return model.CheckFound(reply.attributes()); });
}

void Oracle::OnGetAttrAnswered(uint64_t sent_visible, const proto::GetAttrRequest& request, StatusCode code,
                               const proto::GetAttrReply& reply) {
  PlaceRead(sent_visible, "get attributes " + request.ShortDebugString(),
            [&](const NamespaceModel& model) { return model.CheckGetAttr(request, code, reply.attributes()); });
}

bool Oracle::MayBeUnderWay(uint64_t number) const {
  proto::LogEntry entry;
  CHECK(entry.ParseFromString(entries_[number - 1]), "it was parsed when it was applied");
  bool changes = false;
  for (const proto::LogCommand& command : entry.commands()) {
    const Key key(command.mutation().session(), command.mutation().sequence());
    const auto executed = executed_.find(key);
    if (executed == executed_.end() || executed->second.number != number) continue;
    if (CodeOf(executed->second.reply) != StatusCode::kOk) continue;
    if (!answered_.contains(key)) return true;
    changes = true;
  }
  return !changes;
}

void Oracle::CheckRemembered(const std::string& what,
                             const std::function<std::string(const NamespaceModel&)>& check) {
  ++remembered_checked_;
  const std::string wrong = check(models_.back());
  if (wrong.empty()) return;
  uint64_t place = models_.size() - 1;
  while (place > 0 && !check(models_[place]).empty()) --place;
  if (!check(models_[place]).empty()) return violation_(what + " was never true: " + wrong);
  if (MayBeUnderWay(place + 1)) return;
  proto::LogEntry entry;
  CHECK(entry.ParseFromString(entries_[place]), "it was parsed when it was applied");
  violation_(what + " is believed although entry " + std::to_string(place + 1) + " has changed it, and was answered: " +
             wrong + "; " + entry.ShortDebugString());
}

void Oracle::OnRemembered(const proto::LookupRequest& request, uint64_t found) {
  const StatusCode code = found == 0 ? StatusCode::kNotFound : StatusCode::kOk;
  CheckRemembered("the remembered name " + request.ShortDebugString() + ", inode " + std::to_string(found),
                  [&](const NamespaceModel& model) { return model.CheckLookup(request, code, found); });
}

void Oracle::OnRemembered(const proto::Attributes& attributes) {
  CheckRemembered("the remembered " + attributes.ShortDebugString(),
                  [&](const NamespaceModel& model) { return model.CheckFound(attributes); });
}

void Oracle::OnReadDirAnswered(uint64_t sent_visible, const proto::ReadDirRequest& request, StatusCode code,
                               const proto::ReadDirReply& reply) {
  PlaceRead(sent_visible, "list " + request.ShortDebugString(),
            [&](const NamespaceModel& model) { return model.CheckReadDir(request, code, reply); });
}

}  // namespace tarn::sim
