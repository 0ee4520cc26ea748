/* libraft 0.22 behind a handful of C functions, since its raft.h does not compile as C++.
 *
 * One object is one member of a Raft group over a `struct raft_io` that the owner supplies: raft_member_io.h in
 * production, a simulator's elsewhere. It has no threads, clocks or files of its own. Whoever drives the raft_io (its
 * tick and recv callbacks, its completions) does so on one thread and calls tarn_raft_settle after each such call, or
 * after a few of them; all callbacks below come from there or from within. They must not block.
 *
 * What it does on top of libraft, whose 0.22.1 has these faults (each read in its source):
 *  - a completed request is told to nobody unless the raft_io calls a function that the library does not export:
 *    tarn_raft_settle empties that queue;
 *  - an InstallSnapshot that comes while a snapshot is taken is a null pointer later, one that comes while another is
 *    installed leaks: both are dropped, the leader sends again;
 *  - a configuration that is not the first entry of an AppendEntries is noted under a wrong index and never becomes
 *    committed there: such messages are taken apart;
 *  - an AppendEntries that begins with the first entry of the log is taken by a follower that has trimmed its own as if
 *    it had none of these: they come in a second time, at the end. What lies before the follower's snapshot is committed,
 *    and so the leader's too: such a message is made to begin behind that snapshot;
 *  - an AppendEntries that ends before the follower's commit index lowers that index if the leader's is higher (a leader
 *    that has lost track of the follower sends such ones). The next snapshot then bears the lower index with the state
 *    of the higher one, and after a restart the entries between are applied a second time: such a message is given the
 *    follower's own commit index, and a snapshot is refused while the two differ;
 *  - a late answer to a pre-vote makes a follower raise its term and so depose its leader: dropped unless candidate;
 *  - an error from raft_io's send leaves committed entries unapplied, one from append frees twice: the raft_io must not
 *    fail these calls (it ends the member instead);
 *  - a member that is a learner by its own log votes for nobody. A candidate whose log makes it a voter already may need
 *    that vote, and without leading cannot send it the log that says so: it would wait for ever. So a learner votes as
 *    voters do (Ongaro's thesis, 4.2.2: a server votes whoever is in its configuration); who does not count it does not ask;
 *  - a learner never forgets its leader, and so refuses its vote for ever: a leader of which nothing was heard for an
 *    election time-out is forgotten when a vote is asked for;
 *  - the only voter elects itself without a new term. Restarted, it led a second time in one term, perhaps after it had
 *    lost entries of it that a learner already had, and put others under their numbers: that learner's log never came
 *    right. It is given a new term first;
 *  - a leader that has just started takes a snapshot with the configuration before the last one, if that was not known
 *    to be committed when it started: trimmed behind it, its log forgets a change of the group. The right one is put in;
 *  - raft_add, raft_assign and raft_remove keep a pointer to a refused request: cleared here.
 * Votes: a member that has just started answers no vote request for one election time-out. It may have told a leader,
 * just before it was restarted, that it follows, and that leader's lease counts on it. Not so for the candidate that a
 * leader has ordered to take over (disrupt_leader): before the order that leader drops its lease, and afterwards a
 * lease, its own or a later leader's, rests on an entry committed since. The candidate's log ends where the order was
 * given, so whoever has stored such an entry, restarted or not, gives it no vote. With the silence, a hand-over soon
 * after a start is heard by nobody, and when it is over another member may win.
 *
 * Errors: 0 or a libraft code, with a text in `error`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TARN_RAFT_ERROR_BYTES = 512 };

struct raft_io;
struct tarn_raft;

struct tarn_raft_options {
  uint64_t member_id; /* > 0 */
  const char* address;
  unsigned election_timeout_ms; /* followers wait once to twice this long */
  unsigned heartbeat_ms;
  unsigned snapshot_entries;  /* log entries after which a snapshot is due */
  unsigned snapshot_trailing; /* entries kept in the log behind a snapshot; > 0 */
  unsigned catch_up_round_ms; /* how long one round of a learner's catching up may take */
};

enum tarn_raft_role { TARN_RAFT_STANDBY = 0, TARN_RAFT_VOTER = 1, TARN_RAFT_SPARE = 2 };

struct tarn_raft_member {
  uint64_t id;
  const char* address; /* until the next call */
  int role;
};

struct tarn_raft_progress {
  uint64_t match_index; /* known to be on the member's stable storage */
  bool needs_snapshot;  /* what it lacks is not in the log any more */
};

struct tarn_raft_callbacks {
  void* context;
  /* A committed command, in log order. The bytes are valid during the call. */
  void (*apply)(void* context, const void* data, size_t bytes);
  /* A barrier of this leader's own term was committed, and every command before it was given to `apply`. */
  void (*barrier)(void* context, uint64_t term, uint64_t tag);
  /* The member became or ceased to be the leader, or another one leads. */
  void (*leadership)(void* context, bool leads, uint64_t term, uint64_t leader, const char* leader_address);
  /* Before a message leaves while the member does not lead: nobody may act on leadership any more. Only sets a flag. */
  void (*not_leading)(void* context);
  /* A proposed command whose fate is unknown: leadership was lost before it was committed. */
  void (*lost)(void* context, uint64_t tag);
  /* A change of the group is through. 0 or a libraft code. */
  void (*changed)(void* context, int code);
  /* A transfer of leadership has ended, one way or the other. */
  void (*transferred)(void* context);
  /* The configuration is another one than before. */
  void (*members)(void* context);
  /* The snapshot found at start or just installed. Nonzero: not usable. */
  int (*restore)(void* context, const void* data, size_t bytes);
  /* Fills `*data` (malloc) with what the snapshot of this moment shall hold. Nonzero: none now. */
  int (*snapshot)(void* context, void** data, size_t* bytes);
  /* The snapshot just made waits for tarn_raft_release_snapshot. */
  void (*snapshot_held)(void* context);
  /* A leader's snapshot waits for tarn_raft_release_snapshot: first its state must be here and durable. */
  void (*install)(void* context, const void* data, size_t bytes);
  /* A member that is not in the committed configuration asked for a vote. */
  void (*stranger)(void* context, uint64_t id, const char* address, uint64_t configuration_index);
};

/* Initializes `io` (its `init`), loads and starts the member (calls `restore`). `io` outlives it. */
int tarn_raft_open(const struct tarn_raft_options* options, const struct tarn_raft_callbacks* callbacks,
                   struct raft_io* io, struct tarn_raft** raft, char* error);
/* What is in flight is `lost`. The raft_io cancels what it still has (RAFT_CANCELED) and calls its close callback. */
void tarn_raft_close(struct tarn_raft* raft);
bool tarn_raft_closed(const struct tarn_raft* raft);
/* After it is closed. */
void tarn_raft_free(struct tarn_raft* raft);

void tarn_raft_settle(struct tarn_raft* raft);

/* Proposes one command: `bytes` (a multiple of 8) at `data`, from malloc; taken over if 0 is returned. `tag` comes back
 * through `lost` only. */
int tarn_raft_propose(struct tarn_raft* raft, void* data, size_t bytes, uint64_t tag, char* error);
int tarn_raft_barrier(struct tarn_raft* raft, uint64_t tag);
int tarn_raft_add(struct tarn_raft* raft, uint64_t id, const char* address, char* error);
int tarn_raft_assign(struct tarn_raft* raft, uint64_t id, int role, char* error);
int tarn_raft_remove(struct tarn_raft* raft, uint64_t id, char* error);
int tarn_raft_transfer(struct tarn_raft* raft, uint64_t id, char* error);
/* Unless it leads: starts the time-out anew after which it looks for another leader. Only ever makes it wait longer. */
void tarn_raft_hold_election(struct tarn_raft* raft);
/* Lets the held snapshot be written, after which the log behind it may go. */
int tarn_raft_release_snapshot(struct tarn_raft* raft);
/* The number of log entries after which a snapshot is due. */
void tarn_raft_set_snapshot_entries(struct tarn_raft* raft, unsigned entries);
/* Whether this member has the configuration at this index or a later one. */
bool tarn_raft_knows_configuration(const struct tarn_raft* raft, uint64_t index);

/* The last log index that is on this member's stable storage, and the last one at all. */
uint64_t tarn_raft_durable_index(const struct tarn_raft* raft);
uint64_t tarn_raft_last_index(const struct tarn_raft* raft);
bool tarn_raft_leads(const struct tarn_raft* raft);
uint64_t tarn_raft_term(const struct tarn_raft* raft);
/* Who leads as far as this member knows, perhaps itself; 0: nobody. */
uint64_t tarn_raft_leader(const struct tarn_raft* raft);
/* Whether nobody but this member has a vote, now and in the committed configuration. */
bool tarn_raft_votes_alone(const struct tarn_raft* raft);
unsigned tarn_raft_member_count(const struct tarn_raft* raft);
struct tarn_raft_member tarn_raft_member_at(const struct tarn_raft* raft, unsigned i);
/* While it leads. */
struct tarn_raft_progress tarn_raft_progress_at(const struct tarn_raft* raft, unsigned i);

/* The libraft codes that mean something. */
bool tarn_raft_is_not_leader(int code);
bool tarn_raft_is_busy(int code);
bool tarn_raft_is_duplicate(int code);
bool tarn_raft_is_unknown_member(int code);
bool tarn_raft_is_no_connection(int code);

#ifdef __cplusplus
} /* extern "C" */
#endif
