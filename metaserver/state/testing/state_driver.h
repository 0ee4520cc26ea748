// Drives a state machine in tests and benchmarks as a leader and its clients would: fills time, ids, seeds and
// sequences.
//
// One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metaserver/state/state_machine.h"

namespace tarn::meta {

class StateDriver {
 public:
  // Opens the state in `store`, which outlives the driver.
  explicit StateDriver(KvStore* store);
  StateDriver(const StateDriver&) = delete;
  StateDriver& operator=(const StateDriver&) = delete;

  // A cluster with three targets and six groups, the volume "v" and a session for it. The driver's session and root are
  // set to them.
  void SetUpCluster();
  // Opens the state anew, as a restarted process would.
  void Reopen();

  StateMachine& machine() { return *machine_; }
  uint64_t root() const { return root_; }
  uint32_t volume() const { return volume_; }
  uint64_t session() const { return session_; }
  void set_session(uint64_t session) { session_ = session; }
  int64_t now_ns() const { return now_ns_; }
  void set_now_ns(int64_t now_ns) { now_ns_ = now_ns; }

  // ---- Entries ----
  // Adds time, ids and seed; the clock moves by a microsecond per command.
  proto::LogEntry Fill(const std::vector<proto::Mutation>& mutations);
  std::vector<proto::MutationReply> ApplyEntry(const proto::LogEntry& entry);
  // One entry with these mutations as they are.
  std::vector<proto::MutationReply> ApplyAll(const std::vector<proto::Mutation>& mutations);
  // One entry with this mutation in the driver's session, under its next sequence.
  proto::MutationReply Run(proto::Mutation mutation);
  // One entry with this mutation as the leader's own.
  proto::MutationReply RunAsLeader(const proto::Mutation& mutation);
  // Session, next sequence, and an acknowledgement of all earlier ones.
  void Sign(proto::Mutation* mutation);
  // Every entry applied so far, in order.
  const std::vector<proto::LogEntry>& log() const { return log_; }

  // ---- Shorthands: run in the session ----
  proto::MutationReply Create(uint64_t parent, std::string_view name, uint32_t mode = 0644);
  proto::MutationReply Mkdir(uint64_t parent, std::string_view name, uint32_t mode = 0755);
  proto::MutationReply Unlink(uint64_t parent, std::string_view name, bool held_open = false);
  proto::MutationReply Rmdir(uint64_t parent, std::string_view name);
  proto::MutationReply Link(uint64_t inode, uint64_t new_parent, std::string_view new_name);
  proto::MutationReply Symlink(uint64_t parent, std::string_view name, std::string_view target);
  proto::MutationReply Rename(uint64_t parent, std::string_view name, uint64_t new_parent, std::string_view new_name);
  // A file with data of this size.
  proto::Attributes CreateWithData(uint64_t parent, std::string_view name, uint64_t size_bytes);
  proto::MutationReply Commit(const proto::Attributes& file, uint64_t min_size_bytes);
  proto::MutationReply Truncate(uint64_t inode, uint64_t size_bytes);

  // ---- Reads ----
  StatusCode Lookup(uint64_t parent, std::string_view name, proto::Attributes* attributes = nullptr);
  // CHECKs that it exists.
  proto::Attributes Attr(uint64_t inode);
  StatusCode AttrCode(uint64_t inode);
  std::vector<std::string> Names(uint64_t directory);
  proto::Volume VolumeNow();

 private:
  KvStore* const store_;
  std::unique_ptr<StateMachine> machine_;
  uint64_t root_ = 0;
  uint32_t volume_ = 0;
  uint64_t session_ = 0;
  uint64_t next_sequence_ = 1;
  uint64_t next_inode_ = 16;
  uint64_t next_data_id_ = 1;
  int64_t now_ns_ = 1'700'000'000'000'000'000;
  std::vector<proto::LogEntry> log_;
};

inline StatusCode CodeOf(const proto::MutationReply& reply) { return static_cast<StatusCode>(reply.status()); }

}  // namespace tarn::meta
