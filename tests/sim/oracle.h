// Knows what the cluster did and judges whether it was right.
//
// Linearizability. The oracle sees every entry that any member applies, and holds that all members apply the same bytes
// under the same number. It applies each to a state machine of its own and to NamespaceModel, which was written apart
// from it. What clients saw is then explained by one order of everything:
//   - a mutation stands at the number of the entry that holds it (the first, if a retry made it into the log twice; the
//     others must be answered as it was, and the model does not see them);
//   - a read stands behind some entry p whose model gives its answer, with L <= p <= U: L is the highest place of any
//     operation that was answered before the read was sent, U the highest number any member had applied when its answer
//     came; the lowest such p is taken.
// Every answer must be that of its place, and places must agree with real time: what was answered before an operation
// was sent stands before it. For reads that is L <= p. A mutation sent after an operation was answered must stand
// behind that operation's place, which is checked when it is answered. An operation that was never answered may stand
// anywhere or nowhere. So if all checks hold, the order by places is a linearization of the history: it is sound. It
// raises no false alarm on a system that executes in log order and reads committed state: taking the lowest p loses
// nothing, as a place is only ever a lower bound for others.
//
// A look-up is two reads, one after the other: of the name, and of the attributes of what it led to (the state machine
// promises no more). Each has its place, the second not before the first.
//
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/state/memory_kv.h"
#include "metaserver/state/state_machine.h"
#include "tests/sim/namespace_model.h"
#include "tests/sim/plan.h"
#include "tests/sim/sim_store.h"

namespace tarn::sim {

class Oracle {
 public:
  // `violation` is called with each thing that is wrong.
  Oracle(Plant plant, std::function<void(const std::string&)> violation);
  Oracle(const Oracle&) = delete;
  Oracle& operator=(const Oracle&) = delete;

  // Hears of each entry when it is applied for the first time.
  using EntryListener =
      std::function<void(const proto::LogEntry& entry, std::span<const proto::MutationReply> replies)>;
  void SetEntryListener(EntryListener listener) { on_entry_ = std::move(listener); }

  // ---- From members ----
  void OnApply(uint64_t member, uint64_t number, std::string_view entry);
  // The member's state changes from `number` - 1 entries by this batch.
  void OnBatch(uint64_t member, uint64_t number, const meta::KvBatch& batch);
  void OnLeader(uint64_t member, uint64_t term);
  // At the end, or whenever the member's state holds all entries.
  void CompareState(uint64_t member, const meta::MemoryKv& state);

  // ---- From clients ----
  // The highest place that is known to anybody: to be kept with each operation when it is sent.
  uint64_t visible() const { return visible_; }
  void OnMutationAnswered(uint64_t sent_visible, const proto::Mutation& mutation, StatusCode code,
                          const proto::MutationReply& reply);
  void OnLookupAnswered(uint64_t sent_visible, const proto::LookupRequest& request, StatusCode code,
                        const proto::LookupReply& reply);
  void OnGetAttrAnswered(uint64_t sent_visible, const proto::GetAttrRequest& request, StatusCode code,
                         const proto::GetAttrReply& reply);
  void OnReadDirAnswered(uint64_t sent_visible, const proto::ReadDirRequest& request, StatusCode code,
                         const proto::ReadDirReply& reply);

  // Of a client whose answers are not judged: that it got one to this mutation.
  void NoteAnswered(const std::string& mutation);

  // ---- From clients that answer from what they remember ----
  // A change that was answered is seen by everybody from then on; one that is under way may be seen or not. So such an
  // answer is wrong if it was never true, or if the entry that made it untrue holds no change that is not answered yet.
  // It tells nothing of what others see.
  void OnRemembered(const proto::LookupRequest& request, uint64_t found);
  void OnRemembered(const proto::Attributes& attributes);

  const meta::MemoryKv& reference() const { return reference_state_; }
  uint64_t remembered_checked() const { return remembered_checked_; }
  uint64_t entries() const { return entries_.size(); }
  uint64_t mutations_checked() const { return mutations_checked_; }
  uint64_t reads_checked() const { return reads_checked_; }
  uint64_t repeats_seen() const { return repeats_seen_; }

 private:
  // Session and sequence.
  using Key = std::pair<uint64_t, uint64_t>;
  struct Executed {
    uint64_t number = 0;
    proto::MutationReply reply;
  };

  void ApplyToReference(std::string_view bytes);
  void CheckCommand(const proto::LogCommand& command, const proto::MutationReply& reply);
  void CheckReference();
  void CheckRemembered(const std::string& what, const std::function<std::string(const NamespaceModel&)>& check);
  // A change in entry `number` is under way still, or none of a client's was made there.
  bool MayBeUnderWay(uint64_t number) const;
  // Returns the place; where there is none, that was told.
  uint64_t PlaceRead(uint64_t sent_visible, const std::string& what,
                     const std::function<std::string(const NamespaceModel&)>& check);

  const std::function<void(const std::string&)> violation_;
  EntryListener on_entry_;
  std::vector<std::string> entries_;
  std::vector<uint64_t> batches_;       // hashes
  std::vector<NamespaceModel> models_;  // behind n entries
  meta::MemoryKv reference_state_;
  SimStore reference_store_;
  std::unique_ptr<meta::StateMachine> reference_;
  NamespaceModel model_;
  std::map<Key, Executed> executed_;
  std::set<Key> answered_;
  std::map<uint64_t, uint64_t> leaders_;  // by term
  uint64_t visible_ = 0;
  uint64_t remembered_checked_ = 0;
  uint64_t mutations_checked_ = 0;
  uint64_t reads_checked_ = 0;
  uint64_t repeats_seen_ = 0;
};

}  // namespace tarn::sim
