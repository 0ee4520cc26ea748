#include "metaserver/replication/raft_core.h"

#include <raft.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libraft's type of a completed transfer request. */
enum { TRANSFER_REQUEST = RAFT_CHANGE + 1 };

/* In-flight entries per follower: as many as some milliseconds of a fast network hold. */
enum { INFLIGHT_ENTRIES_MAX = 128 };

struct tarn_raft {
  struct tarn_raft_callbacks callbacks;
  struct raft_io* io;
  struct raft_fsm fsm;
  struct raft raft;
  uint64_t silent_until_ms;
  bool leads;
  uint64_t term;
  uint64_t leader;
  uint64_t configuration_seen; /* a mark of the configuration that `members` was called for */
  raft_time heard_ms; /* when a leader, perhaps a former one, was heard of last */
  bool closing;
  bool closed;

  struct raft_change change;
  bool change_pending;
  struct raft_transfer transfer;
  bool transfer_pending;

  /* The raft_io's own functions, behind ours. */
  int (*put_snapshot)(struct raft_io*, unsigned, struct raft_io_snapshot_put*, const struct raft_snapshot*,
                      raft_io_snapshot_put_cb);
  int (*load)(struct raft_io*, raft_term*, raft_id*, struct raft_snapshot**, raft_index*, struct raft_entry*[], size_t*);
  int (*start)(struct raft_io*, unsigned, raft_io_tick_cb, raft_io_recv_cb);
  int (*send)(struct raft_io*, struct raft_io_send*, const struct raft_message*, raft_io_send_cb);
  raft_io_tick_cb tick; /* libraft's */
  raft_io_recv_cb receive; /* libraft's */

  struct {
    bool waits;
    unsigned trailing;
    struct raft_io_snapshot_put* request;
    const struct raft_snapshot* snapshot;
    raft_io_snapshot_put_cb callback;
    bool is_corrected;
    struct raft_snapshot corrected; /* its configuration is ours */
  } held;
};

struct command {
  struct raft_apply request; /* first, so that libraft's pointer is ours */
  uint64_t tag;
  struct tarn_raft* owner;
};

struct barrier {
  struct raft_barrier request;
  uint64_t term;
  uint64_t tag;
  struct tarn_raft* owner;
};

static void describe(char* error, const char* what, int code, const char* detail) {
  snprintf(error, TARN_RAFT_ERROR_BYTES, "%s: %s%s%s", what, raft_strerror(code), detail[0] != '\0' ? ": " : "",
           detail);
}

static struct tarn_raft* of_io(struct raft_io* io) {
  struct raft* raft = io->data;
  return raft->data;
}

/* ---- What libraft calls ---- */

static int fsm_apply(struct raft_fsm* fsm, const struct raft_buffer* buffer, void** result) {
  struct tarn_raft* t = fsm->data;
  *result = NULL;
  t->callbacks.apply(t->callbacks.context, buffer->base, buffer->len);
  return 0;
}

static int fsm_snapshot(struct raft_fsm* fsm, struct raft_buffer* buffers[], unsigned* count) {
  struct tarn_raft* t = fsm->data;
  void* data = NULL;
  size_t bytes = 0;
  /* It would bear the commit index, and hold what was applied. */
  if (t->raft.last_applied != t->raft.commit_index) return RAFT_BUSY;
  if (t->callbacks.snapshot(t->callbacks.context, &data, &bytes) != 0) return RAFT_BUSY;
  *buffers = raft_malloc(sizeof **buffers);
  if (*buffers == NULL) {
    free(data);
    return RAFT_NOMEM;
  }
  (*buffers)[0].base = data;
  (*buffers)[0].len = bytes;
  *count = 1;
  return 0;
}

static int fsm_restore(struct raft_fsm* fsm, struct raft_buffer* buffer) {
  struct tarn_raft* t = fsm->data;
  if (t->callbacks.restore(t->callbacks.context, buffer->base, buffer->len) != 0) return RAFT_CORRUPT;
  raft_free(buffer->base);
  return 0;
}

/* See the header: a copy of `snapshot` with the last configuration up to its index; what it had stays libraft's. */
static int correct_configuration(struct tarn_raft* t, const struct raft_snapshot* snapshot) {
  const struct raft_configuration* last = NULL;
  raft_index index = snapshot->configuration_index;
  struct raft_configuration copy;
  struct raft_buffer encoded;
  int rv;
  if (t->raft.configuration_committed_index > index && t->raft.configuration_committed_index <= snapshot->index) {
    index = t->raft.configuration_committed_index;
    last = t->raft.configuration_uncommitted_index == 0 ? &t->raft.configuration : &t->raft.configuration_committed;
  }
  if (t->raft.configuration_uncommitted_index > index && t->raft.configuration_uncommitted_index <= snapshot->index) {
    index = t->raft.configuration_uncommitted_index;
    last = &t->raft.configuration;
  }
  if (last == NULL) return 0;
  rv = raft_configuration_encode(last, &encoded);
  if (rv != 0) return rv;
  raft_configuration_init(&copy);
  rv = raft_configuration_decode(&encoded, &copy);
  raft_free(encoded.base);
  if (rv != 0) return rv;
  t->held.corrected = *snapshot;
  t->held.corrected.configuration = copy;
  t->held.corrected.configuration_index = index;
  t->held.is_corrected = true;
  return 0;
}

static void drop_corrected(struct tarn_raft* t) {
  if (t->held.is_corrected) raft_configuration_close(&t->held.corrected.configuration);
  t->held.is_corrected = false;
}

static int hold_snapshot(struct raft_io* io, unsigned trailing, struct raft_io_snapshot_put* request,
                         const struct raft_snapshot* snapshot, raft_io_snapshot_put_cb callback) {
  struct tarn_raft* t = of_io(io);
  if (trailing > 0) {
    const int rv = correct_configuration(t, snapshot);
    if (rv != 0) return rv;
  }
  t->held.waits = true;
  t->held.trailing = trailing;
  t->held.request = request;
  t->held.snapshot = snapshot;
  t->held.callback = callback;
  /* libraft gives no trailing entries for a snapshot that came from a leader. */
  if (trailing == 0) {
    t->callbacks.install(t->callbacks.context, snapshot->bufs[0].base, snapshot->bufs[0].len);
  } else {
    t->callbacks.snapshot_held(t->callbacks.context);
  }
  return 0;
}

static int watch_send(struct raft_io* io, struct raft_io_send* request, const struct raft_message* message,
                      raft_io_send_cb callback) {
  struct tarn_raft* t = of_io(io);
  if (t->raft.state != RAFT_LEADER) t->callbacks.not_leading(t->callbacks.context);
  return t->send(io, request, message, callback);
}

static void drop_message(struct raft_message* message) {
  switch (message->type) {
    case RAFT_APPEND_ENTRIES:
      if (message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
        raft_free(message->append_entries.entries);
      }
      break;
    case RAFT_INSTALL_SNAPSHOT:
      raft_configuration_close(&message->install_snapshot.conf);
      raft_free(message->install_snapshot.data.base);
      break;
    default:
      break;
  }
}

static bool in_configuration(const struct raft_configuration* configuration, uint64_t id) {
  unsigned i;
  for (i = 0; i < configuration->n; i++) {
    if (configuration->servers[i].id == id) return true;
  }
  return false;
}

static bool is_unwanted(struct tarn_raft* t, const struct raft_message* message) {
  const struct raft* raft = &t->raft;
  switch (message->type) {
    case RAFT_REQUEST_VOTE:
      if (raft->configuration_committed_index > 0 && in_configuration(&raft->configuration_committed, raft->id) &&
          !in_configuration(&raft->configuration_committed, message->server_id) &&
          !in_configuration(&raft->configuration, message->server_id)) {
        t->callbacks.stranger(t->callbacks.context, message->server_id, message->server_address,
                              raft->configuration_committed_index);
        return true;
      }
      /* The leader itself has ordered this election, after it gave up its lease; see the header. */
      return !message->request_vote.disrupt_leader && t->io->time(t->io) < t->silent_until_ms;
    case RAFT_REQUEST_VOTE_RESULT:
      return raft->state != RAFT_CANDIDATE;
    case RAFT_INSTALL_SNAPSHOT:
      return raft->legacy.snapshot_taking || raft->legacy.snapshot_install || raft->snapshot.installing ||
             t->held.waits;
    case RAFT_APPEND_ENTRIES:
      /* There is one leader of a term. */
      return raft->state == RAFT_LEADER && message->append_entries.term == raft->current_term;
    default:
      return false;
  }
}

/* Entries [from, to) of a message, copied into one of their own. */
static int copy_part(const struct raft_message* whole, unsigned from, unsigned to, struct raft_message* part) {
  const struct raft_append_entries* source = &whole->append_entries;
  struct raft_append_entries* copy = &part->append_entries;
  size_t bytes = 0;
  uint8_t* batch;
  unsigned i;
  *part = *whole;
  for (i = from; i < to; i++) bytes += source->entries[i].buf.len;
  batch = raft_malloc(bytes > 0 ? bytes : 1);
  copy->entries = raft_malloc((to - from) * sizeof *copy->entries);
  if (batch == NULL || copy->entries == NULL) {
    raft_free(batch);
    raft_free(copy->entries);
    return RAFT_NOMEM;
  }
  copy->n_entries = to - from;
  if (from > 0) {
    copy->prev_log_index = source->prev_log_index + from;
    copy->prev_log_term = source->entries[from - 1].term;
  }
  bytes = 0;
  for (i = from; i < to; i++) {
    copy->entries[i - from] = source->entries[i];
    copy->entries[i - from].batch = batch;
    copy->entries[i - from].buf.base = batch + bytes;
    memcpy(batch + bytes, source->entries[i].buf.base, source->entries[i].buf.len);
    bytes += source->entries[i].buf.len;
  }
  return 0;
}

/* See the header. Takes the message. */
static void receive_entries(struct tarn_raft* t, struct raft_message* message) {
  struct raft_message known;
  struct raft_append_entries* args = &message->append_entries;
  const struct raft_trail* trail = &t->raft.trail;
  const raft_index committed = t->raft.commit_index;
  if (args->prev_log_index < trail->offset) {
    const raft_index held = trail->snapshot.index - args->prev_log_index;
    if (held < args->n_entries) {
      if (copy_part(message, (unsigned)held, args->n_entries, &known) != 0) {
        drop_message(message); /* as if it had been lost on the way */
        return;
      }
    } else {
      known = *message;
      known.append_entries.entries = NULL;
      known.append_entries.n_entries = 0;
      known.append_entries.prev_log_index = trail->snapshot.index;
      known.append_entries.prev_log_term = trail->snapshot.term;
    }
    drop_message(message);
    message = &known;
    args = &message->append_entries;
  }
  if (args->prev_log_index + args->n_entries < committed && args->leader_commit > committed) args->leader_commit = committed;
  t->receive(t->io, message);
}

static void receive_in_parts(struct tarn_raft* t, struct raft_message* message) {
  const struct raft_append_entries* args = &message->append_entries;
  unsigned from = 0;
  while (from < args->n_entries) {
    struct raft_message part;
    unsigned to = from + 1;
    while (to < args->n_entries && args->entries[to].type != RAFT_CHANGE) to++;
    if (copy_part(message, from, to, &part) != 0) break; /* as if the rest had been lost on the way */
    receive_entries(t, &part);
    from = to;
  }
  drop_message(message);
}

static struct raft_server* own_entry(struct tarn_raft* t) {
  unsigned i;
  for (i = 0; i < t->raft.configuration.n; i++) {
    if (t->raft.configuration.servers[i].id == t->raft.id) return &t->raft.configuration.servers[i];
  }
  return NULL;
}

/* See the header: who has heard nothing of its leader for a while has none. */
static void forget_silent_leader(struct tarn_raft* t) {
  struct raft* raft = &t->raft;
  if (raft->state != RAFT_FOLLOWER || raft->follower_state.current_leader.id == 0) return;
  if (t->io->time(t->io) - t->heard_ms < raft->election_timeout) return;
  raft_free(raft->follower_state.current_leader.address);
  raft->follower_state.current_leader.address = NULL;
  raft->follower_state.current_leader.id = 0;
}

/* See the header: a learner answers as a voter would. */
static void receive_vote_request(struct tarn_raft* t, struct raft_message* message) {
  struct raft_server* self = own_entry(t);
  const bool learns = self != NULL && self->role == RAFT_STANDBY;
  if (learns) self->role = RAFT_VOTER;
  forget_silent_leader(t);
  t->receive(t->io, message);
  self = own_entry(t);
  if (learns && self != NULL) self->role = RAFT_STANDBY;
}

static void watch_receive(struct raft_io* io, struct raft_message* message) {
  struct tarn_raft* t = of_io(io);
  unsigned i;
  if (t->closing || is_unwanted(t, message)) {
    drop_message(message);
    return;
  }
  if (message->type == RAFT_REQUEST_VOTE) {
    receive_vote_request(t, message);
    return;
  }
  if (message->type == RAFT_APPEND_ENTRIES || message->type == RAFT_INSTALL_SNAPSHOT) t->heard_ms = io->time(io);
  if (message->type == RAFT_APPEND_ENTRIES) {
    for (i = 1; i < message->append_entries.n_entries; i++) {
      if (message->append_entries.entries[i].type != RAFT_CHANGE) continue;
      receive_in_parts(t, message);
      return;
    }
    receive_entries(t, message);
    return;
  }
  t->receive(io, message);
}

static bool votes_alone(const struct raft_configuration* configuration, uint64_t id) {
  unsigned i;
  bool has_vote = false;
  for (i = 0; i < configuration->n; i++) {
    if (configuration->servers[i].role != RAFT_VOTER) continue;
    if (configuration->servers[i].id != id) return false;
    has_vote = true;
  }
  return has_vote;
}

/* By the newest configuration, which is the one that counts. */
static bool loaded_votes_alone(uint64_t id, const struct raft_snapshot* snapshot, const struct raft_entry* entries,
                               size_t n) {
  struct raft_configuration configuration;
  bool alone;
  while (n > 0 && entries[n - 1].type != RAFT_CHANGE) n--;
  if (n == 0) return snapshot != NULL && votes_alone(&snapshot->configuration, id);
  raft_configuration_init(&configuration);
  if (raft_configuration_decode(&entries[n - 1].buf, &configuration) != 0) return false; /* libraft will say so */
  alone = votes_alone(&configuration, id);
  raft_configuration_close(&configuration);
  return alone;
}

/* See the header: who votes alone leads in a term of its own. At the start libraft elects it at once. */
static int watch_load(struct raft_io* io, raft_term* term, raft_id* voted_for, struct raft_snapshot** snapshot,
                      raft_index* start_index, struct raft_entry* entries[], size_t* n) {
  struct tarn_raft* t = of_io(io);
  const int rv = t->load(io, term, voted_for, snapshot, start_index, entries, n);
  if (rv != 0 || !loaded_votes_alone(t->raft.id, *snapshot, *entries, *n)) return rv;
  *term += 1;
  *voted_for = 0;
  return io->set_term(io, *term);
}

/* Later, libraft elects it when it has heard of no leader for a while. */
static void watch_tick(struct raft_io* io) {
  struct tarn_raft* t = of_io(io);
  struct raft* raft = &t->raft;
  if (!t->closing && raft->state == RAFT_FOLLOWER && votes_alone(&raft->configuration, raft->id) &&
      io->time(io) - raft->election_timer_start >= raft->follower_state.randomized_election_timeout &&
      io->set_term(io, raft->current_term + 1) == 0) {
    raft->current_term += 1;
    raft->voted_for = 0;
  }
  t->tick(io);
}

static int watch_start(struct raft_io* io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb receive) {
  struct tarn_raft* t = of_io(io);
  t->tick = tick;
  t->receive = receive;
  return t->start(io, msecs, watch_tick, watch_receive);
}

static void on_command(struct raft_apply* request, int status, void* result) {
  struct command* command = (struct command*)request;
  (void)result;
  if (status != 0) command->owner->callbacks.lost(command->owner->callbacks.context, command->tag);
  free(command);
}

static void on_barrier(struct raft_barrier* request, int status) {
  struct barrier* barrier = (struct barrier*)request;
  if (status == 0) barrier->owner->callbacks.barrier(barrier->owner->callbacks.context, barrier->term, barrier->tag);
  free(barrier);
}

static void on_change(struct raft_change* request, int status) {
  struct tarn_raft* t = request->data;
  t->change_pending = false;
  t->callbacks.changed(t->callbacks.context, status);
}

static void on_transfer(struct raft_transfer* request) {
  struct tarn_raft* t = request->data;
  t->transfer_pending = false;
  t->callbacks.transferred(t->callbacks.context);
}

/* ---- Settling ---- */

/* libraft's LegacyFireCompletedRequests, which the shared library keeps to itself. All request types begin with the
 * same fields; the queue is an intrusive ring of {next, previous} pointers. */
static void fire_completed(struct tarn_raft* t) {
  void** ring = t->raft.legacy.requests;
  while ((void**)ring[0] != ring) {
    void** head = ring[0];
    struct raft_apply* request = (struct raft_apply*)(void*)((char*)head - offsetof(struct raft_apply, queue));
    ((void**)head[1])[0] = head[0];
    ((void**)head[0])[1] = head[1];
    switch (request->type) {
      case RAFT_COMMAND:
        request->cb(request, request->status, request->result);
        break;
      case RAFT_BARRIER: {
        struct raft_barrier* barrier = (struct raft_barrier*)(void*)request;
        barrier->cb(barrier, barrier->status);
        break;
      }
      case RAFT_CHANGE: {
        struct raft_change* change = (struct raft_change*)(void*)request;
        change->cb(change, change->status);
        break;
      }
      case TRANSFER_REQUEST: {
        struct raft_transfer* transfer = (struct raft_transfer*)(void*)request;
        transfer->cb(transfer);
        break;
      }
      default:
        abort(); /* not a request of ours */
    }
  }
}

static void observe_leadership(struct tarn_raft* t) {
  const bool leads = raft_state(&t->raft) == RAFT_LEADER;
  const uint64_t term = raft_current_term(&t->raft);
  raft_id leader = 0;
  const char* address = NULL;
  raft_leader(&t->raft, &leader, &address);
  if (leads == t->leads && leader == t->leader && term == t->term) return;
  t->leads = leads;
  t->term = term;
  t->leader = leader;
  t->callbacks.leadership(t->callbacks.context, leads, term, leader, address != NULL ? address : "");
}

static uint64_t mark_of(const struct raft* raft) {
  uint64_t mark = raft->configuration_committed_index * 31 + raft->configuration_uncommitted_index * 7 + 1;
  unsigned i;
  for (i = 0; i < raft->configuration.n; i++) {
    mark =
        mark * 1099511628211ULL + raft->configuration.servers[i].id * 4 + (uint64_t)raft->configuration.servers[i].role;
  }
  return mark;
}

void tarn_raft_settle(struct tarn_raft* t) {
  uint64_t mark;
  fire_completed(t);
  if (t->closing) return;
  observe_leadership(t);
  mark = mark_of(&t->raft);
  if (mark != t->configuration_seen) {
    t->configuration_seen = mark;
    t->callbacks.members(t->callbacks.context);
  }
}

/* ---- Life ---- */

int tarn_raft_open(const struct tarn_raft_options* options, const struct tarn_raft_callbacks* callbacks,
                   struct raft_io* io, struct tarn_raft** raft, char* error) {
  struct tarn_raft* t = calloc(1, sizeof *t);
  int rv;
  if (t == NULL) {
    snprintf(error, TARN_RAFT_ERROR_BYTES, "out of memory");
    return RAFT_NOMEM;
  }
  t->callbacks = *callbacks;
  t->io = io;
  t->fsm.version = 1;
  t->fsm.data = t;
  t->fsm.apply = fsm_apply;
  t->fsm.snapshot = fsm_snapshot;
  t->fsm.restore = fsm_restore;
  rv = raft_init(&t->raft, io, &t->fsm, options->member_id, options->address);
  if (rv != 0) {
    describe(error, "initialize", rv, io->errmsg);
    free(t);
    return rv;
  }
  t->raft.data = t;
  t->raft.tracer = NULL; /* else each step formats several messages for nobody */
  raft_set_election_timeout(&t->raft, options->election_timeout_ms);
  raft_set_heartbeat_timeout(&t->raft, options->heartbeat_ms);
  raft_set_snapshot_threshold(&t->raft, options->snapshot_entries);
  raft_set_snapshot_trailing(&t->raft, options->snapshot_trailing);
  raft_set_max_catch_up_round_duration(&t->raft, options->catch_up_round_ms);
  raft_set_max_inflight_entries(&t->raft, INFLIGHT_ENTRIES_MAX);
  raft_set_pre_vote(&t->raft, true);
  /* The owner watches the disk. */
  raft_set_capacity_threshold(&t->raft, 0);
  t->put_snapshot = io->snapshot_put;
  t->load = io->load;
  t->start = io->start;
  t->send = io->send;
  io->load = watch_load;
  io->snapshot_put = hold_snapshot;
  io->start = watch_start;
  io->send = watch_send;
  t->silent_until_ms = io->time(io) + options->election_timeout_ms;
  *raft = t; /* commands are applied from here on */
  rv = raft_start(&t->raft);
  if (rv != 0) {
    *raft = NULL;
    describe(error, "load", rv, io->errmsg);
    tarn_raft_close(t);
    tarn_raft_free(t);
    return rv;
  }
  return 0;
}

static void on_closed(struct raft* raft) {
  struct tarn_raft* t = raft->data;
  t->closed = true;
}

void tarn_raft_close(struct tarn_raft* t) {
  if (t->closing) return;
  t->closing = true;
  drop_corrected(t);
  if (t->held.waits) {
    t->held.waits = false;
    t->raft.legacy.closing = true; /* what the callback asks */
    t->held.callback(t->held.request, RAFT_CANCELED);
    t->raft.legacy.closing = false; /* what raft_close asks */
  }
  raft_close(&t->raft, on_closed);
}

bool tarn_raft_closed(const struct tarn_raft* t) { return t->closed; }

void tarn_raft_free(struct tarn_raft* t) {
  t->io->snapshot_put = t->put_snapshot;
  t->io->load = t->load;
  t->io->start = t->start;
  t->io->send = t->send;
  free(t);
}

/* ---- Requests ---- */

int tarn_raft_propose(struct tarn_raft* t, void* data, size_t bytes, uint64_t tag, char* error) {
  struct command* command = calloc(1, sizeof *command);
  struct raft_buffer buffer = {.base = data, .len = bytes};
  int rv;
  if (command == NULL) {
    snprintf(error, TARN_RAFT_ERROR_BYTES, "out of memory");
    return RAFT_NOMEM;
  }
  command->tag = tag;
  command->owner = t;
  rv = raft_apply(&t->raft, &command->request, &buffer, 1, on_command);
  if (rv != 0) {
    describe(error, "append to the log", rv, raft_errmsg(&t->raft));
    free(command);
  }
  return rv;
}

int tarn_raft_barrier(struct tarn_raft* t, uint64_t tag) {
  struct barrier* barrier = calloc(1, sizeof *barrier);
  int rv;
  if (barrier == NULL) return RAFT_NOMEM;
  barrier->owner = t;
  barrier->tag = tag;
  barrier->term = raft_current_term(&t->raft);
  rv = raft_barrier(&t->raft, &barrier->request, on_barrier);
  if (rv != 0) free(barrier);
  return rv;
}

/* Whether a change may begin. */
static int begin_change(struct tarn_raft* t, char* error) {
  int rv = 0;
  if (t->raft.state != RAFT_LEADER || raft_transferee(&t->raft) != 0) {
    rv = RAFT_NOTLEADER;
  } else if (t->change_pending || t->raft.legacy.change != NULL) {
    rv = RAFT_CANTCHANGE;
  }
  if (rv != 0) {
    describe(error, "change the group", rv, "");
    return rv;
  }
  memset(&t->change, 0, sizeof t->change);
  t->change.data = t;
  t->change_pending = true;
  return 0;
}

static int end_change(struct tarn_raft* t, int rv, char* error) {
  if (rv == 0) return 0;
  t->change_pending = false;
  if (t->raft.legacy.change == &t->change) t->raft.legacy.change = NULL;
  describe(error, "change the group", rv, raft_errmsg(&t->raft));
  return rv;
}

int tarn_raft_add(struct tarn_raft* t, uint64_t id, const char* address, char* error) {
  const int rv = begin_change(t, error);
  if (rv != 0) return rv;
  return end_change(t, raft_add(&t->raft, &t->change, id, address, on_change), error);
}

int tarn_raft_assign(struct tarn_raft* t, uint64_t id, int role, char* error) {
  const int rv = begin_change(t, error);
  if (rv != 0) return rv;
  return end_change(t, raft_assign(&t->raft, &t->change, id, role, on_change), error);
}

int tarn_raft_remove(struct tarn_raft* t, uint64_t id, char* error) {
  const int rv = begin_change(t, error);
  if (rv != 0) return rv;
  return end_change(t, raft_remove(&t->raft, &t->change, id, on_change), error);
}

int tarn_raft_transfer(struct tarn_raft* t, uint64_t id, char* error) {
  int rv;
  if (t->transfer_pending) {
    describe(error, "transfer leadership", RAFT_BUSY, "");
    return RAFT_BUSY;
  }
  memset(&t->transfer, 0, sizeof t->transfer);
  t->transfer.data = t;
  rv = raft_transfer(&t->raft, &t->transfer, id, on_transfer);
  if (rv != 0) {
    describe(error, "transfer leadership", rv, raft_errmsg(&t->raft));
    return rv;
  }
  t->transfer_pending = true;
  return 0;
}

void tarn_raft_hold_election(struct tarn_raft* t) {
  if (t->raft.state != RAFT_LEADER) t->raft.election_timer_start = t->io->time(t->io);
}

int tarn_raft_release_snapshot(struct tarn_raft* t) {
  int rv;
  if (!t->held.waits) return 0;
  t->held.waits = false;
  if (!t->held.is_corrected) {
    return t->put_snapshot(t->io, t->held.trailing, t->held.request, t->held.snapshot, t->held.callback);
  }
  rv = t->put_snapshot(t->io, t->held.trailing, t->held.request, &t->held.corrected, t->held.callback);
  drop_corrected(t); /* the raft_io has copied it */
  return rv;
}

void tarn_raft_set_snapshot_entries(struct tarn_raft* t, unsigned entries) {
  raft_set_snapshot_threshold(&t->raft, entries);
}

bool tarn_raft_knows_configuration(const struct tarn_raft* t, uint64_t index) {
  return t->raft.configuration_committed_index >= index || t->raft.configuration_uncommitted_index >= index;
}

/* ---- What is known ---- */

uint64_t tarn_raft_durable_index(const struct tarn_raft* t) { return t->raft.last_stored; }

uint64_t tarn_raft_last_index(const struct tarn_raft* t) { return raft_last_index((struct raft*)&t->raft); }

bool tarn_raft_leads(const struct tarn_raft* t) { return t->raft.state == RAFT_LEADER; }

uint64_t tarn_raft_term(const struct tarn_raft* t) { return raft_current_term(&t->raft); }

uint64_t tarn_raft_leader(const struct tarn_raft* t) {
  raft_id leader = 0;
  const char* address = NULL;
  raft_leader((struct raft*)&t->raft, &leader, &address);
  return leader;
}

bool tarn_raft_votes_alone(const struct tarn_raft* t) {
  return votes_alone(&t->raft.configuration, t->raft.id) &&
         (t->raft.configuration_uncommitted_index == 0 || votes_alone(&t->raft.configuration_committed, t->raft.id));
}

unsigned tarn_raft_member_count(const struct tarn_raft* t) { return t->raft.configuration.n; }

struct tarn_raft_member tarn_raft_member_at(const struct tarn_raft* t, unsigned i) {
  const struct raft_server* server = &t->raft.configuration.servers[i];
  struct tarn_raft_member member;
  member.id = server->id;
  member.address = server->address;
  member.role = server->role;
  return member;
}

struct tarn_raft_progress tarn_raft_progress_at(const struct tarn_raft* t, unsigned i) {
  struct tarn_raft_progress progress;
  raft_index match = 0;
  raft_match_index(&t->raft, t->raft.configuration.servers[i].id, &match);
  progress.match_index = match;
  progress.needs_snapshot = match < t->raft.trail.offset;
  return progress;
}

bool tarn_raft_is_not_leader(int code) { return code == RAFT_NOTLEADER || code == RAFT_LEADERSHIPLOST; }
bool tarn_raft_is_busy(int code) { return code == RAFT_CANTCHANGE || code == RAFT_BUSY; }
bool tarn_raft_is_duplicate(int code) {
  return code == RAFT_DUPLICATEID || code == RAFT_DUPLICATEADDRESS || code == RAFT_BADROLE;
}
bool tarn_raft_is_unknown_member(int code) { return code == RAFT_NOTFOUND || code == RAFT_BADID; }
bool tarn_raft_is_no_connection(int code) { return code == RAFT_NOCONNECTION; }
