// The log of the metadata servers, as a list that whoever leads appends to: an entry is committed, and applied, some milliseconds later, in order.
//
// The fault model: when leadership changes, what is under way is lost from some entry on. What comes before that is committed by the next leader,
// and whoever proposed it hears only that it does not lead any more. A leader that stands still commits nothing, and does not know of it later.
// (How Raft keeps its word is the other simulator's subject: docs/simulator.md.)
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "metaserver/replication/replicator.h"
#include "tests/sim/data/net.h"

namespace tarn::sim_data {

// One thread.
class MetadataLog {
 public:
  // A metadata server's way to it; members are numbered from 1. One thread.
  class Port final : public meta::Replicator {
   public:
    Port(MetadataLog* log, uint64_t member) : log_(log), member_(member) {}
    void Propose(std::string entry, Committed committed) override { log_->Propose(member_, std::move(entry), std::move(committed)); }
    bool HoldsLease() const override { return log_->leader_ == member_ && !log_->stands_still_; }
    uint64_t leader_member() const override { return log_->leader_; }
    uint64_t term() const override { return log_->term_; }
    std::vector<meta::GroupMember> members() const override { return {}; }
    Result<std::vector<meta::MemberProgress>> Progress() const override { return Status(StatusCode::kNotSupported, "not simulated"); }
    // The group of metadata servers stays as it is.
    void AddMember(uint64_t /*member*/, const std::string& /*address*/, Changed /*done*/) override {}
    void PromoteMember(uint64_t /*member*/, Changed /*done*/) override {}
    void RemoveMember(uint64_t /*member*/, Changed /*done*/) override {}
    void TransferLeadership(uint64_t /*member*/, Changed /*done*/) override {}
    void Stop() override {}

   private:
    MetadataLog* const log_;
    const uint64_t member_;
  };

  // Both outlive it.
  MetadataLog(Bench* bench, meta::LogConsumer* consumer) : bench_(bench), consumer_(consumer) {}
  MetadataLog(const MetadataLog&) = delete;
  MetadataLog& operator=(const MetadataLog&) = delete;

  // What survived of the entries that were under way is applied, then the member leads.
  void Elect(uint64_t member);
  void Depose();
  void StandStill();
  void GoOn();
  uint64_t leader() const { return leader_; }
  uint64_t term() const { return term_; }
  bool stands_still() const { return stands_still_; }

 private:
  struct Entry {
    std::string bytes;
    meta::Replicator::Committed committed;
  };

  void Propose(uint64_t member, std::string entry, meta::Replicator::Committed committed);
  void CommitNext();
  void Apply(const std::string& entry);

  Bench* const bench_;
  meta::LogConsumer* const consumer_;
  uint64_t leader_ = 0;  // 0: nobody
  uint64_t term_ = 0;
  uint64_t applied_ = 0;
  bool stands_still_ = false;
  uint64_t owed_ = 0;  // commits that came due meanwhile
  std::deque<Entry> under_way_;
  std::vector<std::string> survivors_;
};

}  // namespace tarn::sim_data
