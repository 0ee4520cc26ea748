/* libraft's core as one simulated member: its raft_io table is answered by a host of callbacks instead of by an
 * operating system. C, since raft.h does not compile as C++.
 *
 * Nothing here has a thread, a clock or a file. Every call of the host comes from within a call of this interface, and
 * nothing the host is asked to do may call back at once: an append, a snapshot write or a snapshot read is finished
 * later, by its number.
 *
 * Messages are bytes between members of one process: not a wire format. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sim_member;

struct sim_entry {
  uint64_t term;
  int type; /* raft_entry_type */
  const void* data;
  size_t bytes;
};

struct sim_snapshot {
  uint64_t index;
  uint64_t term;
  uint64_t configuration_index;
  const void* configuration; /* raft_configuration_encode */
  size_t configuration_bytes;
  const void* data;
  size_t bytes;
};

/* What is on the member's disk at start. The pointers are valid until the next call of the host. */
struct sim_loaded {
  uint64_t term;
  uint64_t voted_for;
  bool has_snapshot;
  struct sim_snapshot snapshot;
  uint64_t start_index; /* of the first entry */
  const struct sim_entry* entries;
  size_t entry_count;
};

struct sim_host {
  void* context;
  uint64_t (*time_ms)(void* context);
  uint32_t (*random)(void* context);
  void (*load)(void* context, struct sim_loaded* loaded);
  /* On stable storage when it returns. A new term clears the vote. */
  void (*set_term)(void* context, uint64_t term);
  void (*set_vote)(void* context, uint64_t member);
  void (*append)(void* context, uint64_t request, const struct sim_entry* entries, unsigned count);
  void (*truncate)(void* context, uint64_t index);
  /* `trailing` 0: a snapshot that the leader sent; the log before and behind it goes. */
  void (*put_snapshot)(void* context, uint64_t request, unsigned trailing, const struct sim_snapshot* snapshot);
  void (*get_snapshot)(void* context, uint64_t request);
  void (*send)(void* context, uint64_t to_member, const void* message, size_t bytes);

  /* A committed command, in log order. */
  void (*apply)(void* context, const void* data, size_t bytes);
  void (*barrier)(void* context, uint64_t tag, bool committed);
  void (*lost)(void* context, uint64_t tag);
  void (*leadership)(void* context, bool leads, uint64_t term);
  /* The state of a snapshot found at start or sent by a leader is to be used. */
  void (*restore)(void* context, const void* data, size_t bytes);
  /* Fills in what the snapshot of this moment holds (malloc). False: none now. */
  bool (*take_snapshot)(void* context, void** data, size_t* bytes);
};

struct sim_member_options {
  uint64_t member_id;
  unsigned election_timeout_ms;
  unsigned heartbeat_ms;
  unsigned snapshot_entries;
  unsigned snapshot_trailing;
};

/* The first entry of the log of a group with voters 1..voters (malloc). */
void sim_bootstrap_configuration(unsigned voters, void** data, size_t* bytes);
int sim_change_entry_type(void);

/* Loads and starts; NULL if libraft refuses. */
struct sim_member* sim_member_open(const struct sim_member_options* options, const struct sim_host* host);
/* Ends it as a crash does: the host hears nothing any more. */
void sim_member_free(struct sim_member* member);

/* Once every heartbeat interval. */
void sim_member_tick(struct sim_member* member);
void sim_member_receive(struct sim_member* member, uint64_t from_member, const void* message, size_t bytes);
void sim_member_appended(struct sim_member* member, uint64_t request);
void sim_member_snapshot_put(struct sim_member* member, uint64_t request);
void sim_member_snapshot_got(struct sim_member* member, uint64_t request, const struct sim_snapshot* snapshot);

/* Copies the bytes (a multiple of 8). False: does not lead. */
bool sim_member_propose(struct sim_member* member, const void* data, size_t bytes, uint64_t tag);
bool sim_member_barrier(struct sim_member* member, uint64_t tag);
uint64_t sim_member_leader(const struct sim_member* member);
uint64_t sim_member_term(const struct sim_member* member);
bool sim_member_leads(const struct sim_member* member);

/* What a message is, for fault models that tell them apart. */
enum sim_message_kind { SIM_APPEND, SIM_APPEND_RESULT, SIM_VOTE, SIM_VOTE_RESULT, SIM_SNAPSHOT, SIM_OTHER };
enum sim_message_kind sim_message_kind_of(const void* message, size_t bytes);

#ifdef __cplusplus
} /* extern "C" */
#endif
