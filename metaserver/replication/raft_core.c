#include "metaserver/replication/raft_core.h"

#include <limits.h>
#include <raft.h>
#include <raft/uv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* libraft prints this through its tracer when a log write fails; there is no other sign of it (uv_append.c,
 * uvAliveSegmentWriteCb). */
static const char kWriteFailed[] = "retry failed write";

struct tarn_raft {
  struct tarn_raft_callbacks callbacks;
  uv_loop_t loop;
  struct raft_uv_transport transport;
  struct raft_io io;
  struct raft_fsm fsm;
  struct raft raft;
  struct raft_tracer tracer;
  uv_async_t wake;
  uv_timer_t tick;
  uv_check_t observe;
  unsigned tick_ms;
  bool leads;
  uint64_t term;
  bool closing;
  bool has_failed;
  bool handles_open; /* wake, tick and observe */

  int (*put_snapshot)(struct raft_io*, unsigned, struct raft_io_snapshot_put*, const struct raft_snapshot*,
                      raft_io_snapshot_put_cb);
  struct {
    bool waits;
    unsigned trailing;
    struct raft_io_snapshot_put* request;
    const struct raft_snapshot* snapshot;
    raft_io_snapshot_put_cb callback;
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
  struct tarn_raft* owner;
};

static void describe(char* error, const char* what, int code, const char* detail) {
  snprintf(error, TARN_RAFT_ERROR_BYTES, "%s: %s%s%s", what, raft_strerror(code), detail[0] != '\0' ? ": " : "",
           detail);
}

static void fail(struct tarn_raft* t, const char* text) {
  if (t->has_failed) return;
  t->has_failed = true;
  t->callbacks.failed(t->callbacks.context, text);
}

/* ---- The transport without peers ---- */

static int transport_init(struct raft_uv_transport* t, raft_id id, const char* address) {
  (void)t;
  (void)id;
  (void)address;
  return 0;
}

static int transport_listen(struct raft_uv_transport* t, raft_uv_accept_cb cb) {
  (void)t;
  (void)cb;
  return 0;
}

static int transport_connect(struct raft_uv_transport* t, struct raft_uv_connect* request, raft_id id,
                             const char* address, raft_uv_connect_cb cb) {
  (void)request;
  (void)cb;
  snprintf(t->errmsg, sizeof t->errmsg, "no connection to member %llu (%s): more than one member is not supported yet",
           id, address);
  return RAFT_NOCONNECTION;
}

static void transport_close(struct raft_uv_transport* t, raft_uv_transport_close_cb cb) { cb(t); }

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

static int hold_snapshot(struct raft_io* io, unsigned trailing, struct raft_io_snapshot_put* request,
                         const struct raft_snapshot* snapshot, raft_io_snapshot_put_cb callback) {
  struct raft* raft = io->data;
  struct tarn_raft* t = raft->data;
  t->held.waits = true;
  t->held.trailing = trailing;
  t->held.request = request;
  t->held.snapshot = snapshot;
  t->held.callback = callback;
  t->callbacks.snapshot_held(t->callbacks.context);
  return 0;
}

static void trace(struct raft_tracer* tracer, int type, const void* data) {
  const struct raft_tracer_info* info = data;
  if (type != RAFT_TRACER_DIAGNOSTIC) return;
  if (strncmp(info->diagnostic.message, kWriteFailed, sizeof kWriteFailed - 1) == 0)
    fail(tracer->impl, info->diagnostic.message);
}

static void observe_leadership(struct tarn_raft* t) {
  const bool leads = raft_state(&t->raft) == RAFT_LEADER;
  const uint64_t term = raft_current_term(&t->raft);
  if (leads == t->leads && (!leads || term == t->term)) return;
  t->leads = leads;
  t->term = term;
  t->callbacks.leadership(t->callbacks.context, leads, term);
}

static void on_check(uv_check_t* check) { observe_leadership(check->data); }

static void on_tick(uv_timer_t* timer) {
  struct tarn_raft* t = timer->data;
  t->callbacks.tick(t->callbacks.context);
}

static void on_wake(uv_async_t* async) {
  struct tarn_raft* t = async->data;
  if (!t->closing) t->callbacks.woken(t->callbacks.context);
}

static void on_command(struct raft_apply* request, int status, void* result) {
  struct command* command = (struct command*)request;
  (void)result;
  if (status != 0) command->owner->callbacks.lost(command->owner->callbacks.context, command->tag);
  free(command);
}

static void on_barrier(struct raft_barrier* request, int status) {
  struct barrier* barrier = (struct barrier*)request;
  if (status == 0) barrier->owner->callbacks.barrier(barrier->owner->callbacks.context, barrier->term);
  free(barrier);
}

/* ---- Life ---- */

/* Everything up to raft_init. On failure nothing is left open. */
static int prepare(struct tarn_raft* t, const char* directory, uint64_t member_id, char* error) {
  char address[64];
  int rv = uv_loop_init(&t->loop);
  if (rv != 0) {
    snprintf(error, TARN_RAFT_ERROR_BYTES, "make an event loop: %s", uv_strerror(rv));
    return RAFT_IOERR;
  }
  t->transport.version = 1;
  t->transport.init = transport_init;
  t->transport.listen = transport_listen;
  t->transport.connect = transport_connect;
  t->transport.close = transport_close;
  rv = raft_uv_init(&t->io, &t->loop, directory, &t->transport);
  if (rv != 0) {
    describe(error, directory, rv, t->io.errmsg);
    uv_loop_close(&t->loop);
    return rv;
  }
  t->tracer.impl = t;
  t->tracer.version = 2;
  t->tracer.emit = trace;
  raft_uv_set_tracer(&t->io, &t->tracer);
  raft_uv_set_auto_recovery(&t->io, false);
  raft_uv_set_disk_retry(&t->io, INT_MAX);
  t->fsm.version = 1;
  t->fsm.data = t;
  t->fsm.apply = fsm_apply;
  t->fsm.snapshot = fsm_snapshot;
  t->fsm.restore = fsm_restore;
  snprintf(address, sizeof address, "member-%llu", (unsigned long long)member_id);
  rv = raft_init(&t->raft, &t->io, &t->fsm, member_id, address);
  if (rv != 0) {
    describe(error, directory, rv, t->io.errmsg);
    raft_uv_close(&t->io);
    uv_loop_close(&t->loop);
    return rv;
  }
  t->raft.data = t;
  t->raft.tracer = NULL; /* else each step formats several messages for nobody */
  return 0;
}

static void on_handle_closed(uv_handle_t* handle) { (void)handle; }

static void close_handles(struct tarn_raft* t) {
  if (!t->handles_open) return;
  t->handles_open = false;
  uv_close((uv_handle_t*)&t->wake, on_handle_closed);
  uv_close((uv_handle_t*)&t->tick, on_handle_closed);
  uv_close((uv_handle_t*)&t->observe, on_handle_closed);
}

static void on_raft_closed(struct raft* raft) { close_handles(raft->data); }

static void open_handles(struct tarn_raft* t) {
  uv_async_init(&t->loop, &t->wake, on_wake);
  uv_timer_init(&t->loop, &t->tick);
  uv_check_init(&t->loop, &t->observe);
  t->wake.data = t;
  t->tick.data = t;
  t->observe.data = t;
  t->handles_open = true;
}

static struct tarn_raft* make(void) {
  struct tarn_raft* t = malloc(sizeof *t);
  if (t != NULL) memset(t, 0, sizeof *t);
  return t;
}

int tarn_raft_bootstrap(const char* directory, uint64_t member_id, char* error) {
  struct tarn_raft* t = make();
  struct raft_configuration configuration;
  int rv;
  if (t == NULL) {
    snprintf(error, TARN_RAFT_ERROR_BYTES, "out of memory");
    return RAFT_NOMEM;
  }
  rv = prepare(t, directory, member_id, error);
  if (rv != 0) {
    free(t);
    return rv;
  }
  raft_configuration_init(&configuration);
  rv = raft_configuration_add(&configuration, member_id, t->raft.address, RAFT_VOTER);
  if (rv == 0) rv = raft_bootstrap(&t->raft, &configuration);
  if (rv != 0) describe(error, directory, rv, t->io.errmsg);
  raft_configuration_close(&configuration);
  tarn_raft_close(t);
  tarn_raft_run(t);
  tarn_raft_free(t);
  return rv;
}

int tarn_raft_open(const struct tarn_raft_options* options, const struct tarn_raft_callbacks* callbacks,
                   struct tarn_raft** raft, char* error) {
  struct tarn_raft* t = make();
  int rv;
  if (t == NULL) {
    snprintf(error, TARN_RAFT_ERROR_BYTES, "out of memory");
    return RAFT_NOMEM;
  }
  t->callbacks = *callbacks;
  t->tick_ms = options->tick_ms;
  rv = prepare(t, options->directory, options->member_id, error);
  if (rv != 0) {
    free(t);
    return rv;
  }
  open_handles(t);
  raft_set_election_timeout(&t->raft, options->election_timeout_ms);
  raft_set_heartbeat_timeout(&t->raft, options->heartbeat_ms);
  raft_set_snapshot_threshold(&t->raft, options->snapshot_entries);
  raft_set_snapshot_trailing(&t->raft, options->snapshot_trailing);
  raft_set_pre_vote(&t->raft, true);
  /* The owner watches the disk: libraft's own measure counts only what is preallocated at the moment. */
  raft_set_capacity_threshold(&t->raft, 0);
  t->put_snapshot = t->io.snapshot_put;
  t->io.snapshot_put = hold_snapshot;
  rv = raft_start(&t->raft);
  if (rv != 0) {
    describe(error, options->directory, rv, t->io.errmsg);
    tarn_raft_close(t);
    tarn_raft_run(t);
    tarn_raft_free(t);
    return rv;
  }
  uv_timer_start(&t->tick, on_tick, t->tick_ms, t->tick_ms);
  uv_check_start(&t->observe, on_check);
  *raft = t;
  return 0;
}

void tarn_raft_run(struct tarn_raft* t) {
  if (!t->closing) observe_leadership(t);
  uv_run(&t->loop, UV_RUN_DEFAULT);
}

void tarn_raft_close(struct tarn_raft* t) {
  if (t->closing) return;
  t->closing = true;
  raft_close(&t->raft, on_raft_closed);
  if (t->held.waits) {
    t->held.waits = false;
    t->held.callback(t->held.request, RAFT_CANCELED);
  }
}

void tarn_raft_free(struct tarn_raft* t) {
  raft_uv_close(&t->io);
  uv_loop_close(&t->loop);
  free(t);
}

void tarn_raft_wake(struct tarn_raft* t) { uv_async_send(&t->wake); }

/* ---- Requests ---- */

int tarn_raft_propose(struct tarn_raft* t, void* data, size_t bytes, uint64_t tag, char* error) {
  struct command* command = malloc(sizeof *command);
  struct raft_buffer buffer = {.base = data, .len = bytes};
  int rv;
  if (command == NULL) {
    snprintf(error, TARN_RAFT_ERROR_BYTES, "out of memory");
    return RAFT_NOMEM;
  }
  memset(command, 0, sizeof *command);
  command->tag = tag;
  command->owner = t;
  rv = raft_apply(&t->raft, &command->request, &buffer, 1, on_command);
  if (rv != 0) {
    describe(error, "append to the log", rv, raft_errmsg(&t->raft));
    free(command);
  }
  return rv;
}

int tarn_raft_barrier(struct tarn_raft* t) {
  struct barrier* barrier = malloc(sizeof *barrier);
  int rv;
  if (barrier == NULL) return RAFT_NOMEM;
  memset(barrier, 0, sizeof *barrier);
  barrier->owner = t;
  barrier->term = raft_current_term(&t->raft);
  rv = raft_barrier(&t->raft, &barrier->request, on_barrier);
  if (rv != 0) free(barrier);
  return rv;
}

int tarn_raft_release_snapshot(struct tarn_raft* t) {
  int rv;
  if (!t->held.waits) return 0;
  t->held.waits = false;
  rv = t->put_snapshot(&t->io, t->held.trailing, t->held.request, t->held.snapshot, t->held.callback);
  return rv;
}

void tarn_raft_set_snapshot_entries(struct tarn_raft* t, unsigned entries) {
  raft_set_snapshot_threshold(&t->raft, entries);
}

uint64_t tarn_raft_durable_index(const struct tarn_raft* t) { return t->raft.last_stored; }

unsigned tarn_raft_voters(const struct tarn_raft* t) {
  unsigned voters = 0;
  unsigned i;
  for (i = 0; i < t->raft.configuration.n; i++) {
    if (t->raft.configuration.servers[i].role == RAFT_VOTER) voters++;
  }
  return voters;
}

bool tarn_raft_is_not_leader(int code) { return code == RAFT_NOTLEADER || code == RAFT_LEADERSHIPLOST; }
