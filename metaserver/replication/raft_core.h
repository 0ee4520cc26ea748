/* libraft 0.22 behind a handful of C functions, since its raft.h does not compile as C++.
 *
 * One object is one member of a Raft group with its own libuv loop. tarn_raft_run drives the loop on the thread that
 * calls it; everything else but tarn_raft_wake belongs to that thread (or to the time before tarn_raft_run). All
 * callbacks come on the loop's thread and must not block.
 *
 * What differs from libraft's own uv back end, and why:
 *  - The transport is ours and knows no peers: a group of one voter then needs no port. A member's address is the name
 * "member-N".
 *  - snapshot_put of the raft_io table is held back until the owner says that the state is durable
 * (tarn_raft_release_snapshot).
 *  - A failed write ends the member: libraft's retry after one arms the wrong timer and would read another object
 * through it.
 *  - Damage in the log is an error: its recovery, which throws entries away, is off.
 * Errors: 0 or a libraft code, with a text in `error`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TARN_RAFT_ERROR_BYTES = 512 };

struct tarn_raft;

struct tarn_raft_options {
  const char* directory; /* exists */
  uint64_t member_id;    /* > 0 */
  unsigned election_timeout_ms;
  unsigned heartbeat_ms;
  unsigned snapshot_entries;  /* log entries after which a snapshot is due */
  unsigned snapshot_trailing; /* entries kept in the log behind a snapshot; > 0 */
  unsigned tick_ms;
};

struct tarn_raft_callbacks {
  void* context;
  /* A committed command, in log order. The bytes are valid during the call. */
  void (*apply)(void* context, const void* data, size_t bytes);
  /* Every command of the log up to a barrier of this leader's own term was given to `apply`. */
  void (*barrier)(void* context, uint64_t term);
  /* The member became or ceased to be the leader. */
  void (*leadership)(void* context, bool leads, uint64_t term);
  /* A proposed command whose fate is unknown: leadership was lost before it was committed. */
  void (*lost)(void* context, uint64_t tag);
  /* The snapshot found at start. Nonzero: not usable. */
  int (*restore)(void* context, const void* data, size_t bytes);
  /* Fills `*data` (malloc) with what the snapshot of this moment shall hold. Nonzero: none now. */
  int (*snapshot)(void* context, void** data, size_t* bytes);
  /* The snapshot just made waits for tarn_raft_release_snapshot. */
  void (*snapshot_held)(void* context);
  /* After tarn_raft_wake; several wakes may become one call. */
  void (*woken)(void* context);
  void (*tick)(void* context);
  /* The log cannot be written any more; at most once. The process must stop: nothing that is in flight will be
   * answered. */
  void (*failed)(void* context, const char* text);
};

/* Makes the log of a new group whose only member, a voter, is `member_id`. The directory is empty. */
int tarn_raft_bootstrap(const char* directory, uint64_t member_id, char* error);

/* Opens and loads the log and starts the member (calls `restore`). */
int tarn_raft_open(const struct tarn_raft_options* options, const struct tarn_raft_callbacks* callbacks,
                   struct tarn_raft** raft, char* error);
/* Until the member is closed. */
void tarn_raft_run(struct tarn_raft* raft);
/* Begins to close: what is in flight is `lost`, then tarn_raft_run returns. Also to be called (before tarn_raft_run) if
 * the loop never ran. */
void tarn_raft_close(struct tarn_raft* raft);
/* After tarn_raft_run has returned. */
void tarn_raft_free(struct tarn_raft* raft);

/* Any thread, while the loop runs. */
void tarn_raft_wake(struct tarn_raft* raft);

/* Proposes one command: `bytes` (a multiple of 8) at `data`, from malloc; taken over if 0 is returned. `tag` comes back
 * through `lost` only. */
int tarn_raft_propose(struct tarn_raft* raft, void* data, size_t bytes, uint64_t tag, char* error);
int tarn_raft_barrier(struct tarn_raft* raft);
/* Lets the held snapshot be written, after which the log behind it may go. */
int tarn_raft_release_snapshot(struct tarn_raft* raft);
/* The number of log entries after which a snapshot is due. */
void tarn_raft_set_snapshot_entries(struct tarn_raft* raft, unsigned entries);
/* The last log index that is on this member's stable storage. */
uint64_t tarn_raft_durable_index(const struct tarn_raft* raft);
unsigned tarn_raft_voters(const struct tarn_raft* raft);
bool tarn_raft_is_not_leader(int code);

#ifdef __cplusplus
} /* extern "C" */
#endif
