#include "tests/sim/libraft_member.h"

#include <limits.h>
#include <raft.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A request of libraft's that the host has not finished. */
struct pending {
  struct pending* next;
  uint64_t number;
  enum { APPEND, PUT_SNAPSHOT, GET_SNAPSHOT } kind;
  void* request; /* raft_io_append, raft_io_snapshot_put or raft_io_snapshot_get */
  raft_io_append_cb append_cb;
  raft_io_snapshot_put_cb put_cb;
  raft_io_snapshot_get_cb get_cb;
};

struct sim_member {
  struct sim_host host;
  struct raft raft;
  struct raft_io io;
  struct raft_fsm fsm;
  raft_io_tick_cb tick;
  raft_io_recv_cb receive;
  struct pending* pending;
  uint64_t next_number;
  bool closing;
  bool leads;
  uint64_t term;
};

struct command {
  struct raft_apply request; /* first, so that libraft's pointer is ours */
  uint64_t tag;
  struct sim_member* owner;
};

struct barrier {
  struct raft_barrier request;
  uint64_t tag;
  struct sim_member* owner;
};

struct entry_header {
  uint64_t term;
  uint64_t type;
  uint64_t bytes;
};

/* libraft 0.22.1 looks at a field of a message that it has not set: it shall find the same there whenever a seed is run. */
static __attribute__((noinline)) void wipe_stack(void) {
  volatile char space[8192];
  size_t i;
  for (i = 0; i < sizeof space; i += sizeof(long)) *(volatile long*)(space + i) = 0;
}

static void must(bool held, const char* why) {
  if (held) return;
  fprintf(stderr, "simulated libraft: %s\n", why);
  abort();
}

static void* allocate(size_t bytes) {
  void* memory = raft_malloc(bytes > 0 ? bytes : 8);
  must(memory != NULL, "out of memory");
  return memory;
}

/* ---- Pending requests ---- */

static struct pending* remember(struct sim_member* m, int kind, void* request) {
  struct pending* p = calloc(1, sizeof *p);
  must(p != NULL, "out of memory");
  p->number = m->next_number++;
  p->kind = kind;
  p->request = request;
  p->next = m->pending;
  m->pending = p;
  return p;
}

static bool take(struct sim_member* m, uint64_t number, struct pending* out) {
  struct pending** link = &m->pending;
  while (*link != NULL && (*link)->number != number) link = &(*link)->next;
  if (*link == NULL) return false;
  *out = **link;
  struct pending* found = *link;
  *link = found->next;
  free(found);
  return true;
}

static struct raft_snapshot* copy_snapshot(const struct sim_snapshot* snapshot);

/* libraft 0.22.1 frees uninitialized pointers if a snapshot cannot be read (legacyLoadSnapshotCb): it gets an empty
 * one, whose message then goes nowhere. */
static void cancel_get(struct pending* p) {
  void* configuration = NULL;
  struct sim_snapshot empty;
  memset(&empty, 0, sizeof empty);
  sim_bootstrap_configuration(1, &configuration, &empty.configuration_bytes);
  empty.configuration = configuration;
  empty.index = UINT64_MAX;
  empty.data = "";
  p->get_cb(p->request, copy_snapshot(&empty), 0);
  free(configuration);
}

static void cancel(struct pending* p) {
  switch (p->kind) {
    case APPEND:
      p->append_cb(p->request, RAFT_CANCELED);
      break;
    case PUT_SNAPSHOT:
      p->put_cb(p->request, RAFT_CANCELED);
      break;
    case GET_SNAPSHOT:
      cancel_get(p);
      break;
  }
}

/* ---- Entries, snapshots and messages as bytes ---- */

/* All entries share one piece of memory, as libraft wants it of what was read or received. */
static struct raft_entry* copy_entries(const struct sim_entry* entries, size_t count) {
  size_t bytes = 0;
  size_t i;
  if (count == 0) return NULL;
  for (i = 0; i < count; i++) bytes += entries[i].bytes;
  uint8_t* batch = allocate(bytes);
  uint8_t* cursor = batch;
  struct raft_entry* copies = allocate(count * sizeof *copies);
  for (i = 0; i < count; i++) {
    copies[i].term = entries[i].term;
    copies[i].type = (enum raft_entry_type)entries[i].type;
    copies[i].buf.base = cursor;
    copies[i].buf.len = entries[i].bytes;
    copies[i].batch = batch;
    memcpy(cursor, entries[i].data, entries[i].bytes);
    cursor += entries[i].bytes;
  }
  return copies;
}

static struct raft_snapshot* copy_snapshot(const struct sim_snapshot* snapshot) {
  struct raft_snapshot* copy = allocate(sizeof *copy);
  struct raft_buffer configuration = {.base = (void*)snapshot->configuration, .len = snapshot->configuration_bytes};
  memset(copy, 0, sizeof *copy);
  copy->index = snapshot->index;
  copy->term = snapshot->term;
  copy->configuration_index = snapshot->configuration_index;
  must(raft_configuration_decode(&configuration, &copy->configuration) == 0, "a configuration cannot be decoded");
  copy->bufs = allocate(sizeof *copy->bufs);
  copy->n_bufs = 1;
  copy->bufs[0].base = allocate(snapshot->bytes);
  copy->bufs[0].len = snapshot->bytes;
  if (snapshot->bytes > 0) memcpy(copy->bufs[0].base, snapshot->data, snapshot->bytes);
  return copy;
}

struct writer {
  uint8_t* data;
  size_t bytes;
};

static void put(struct writer* w, const void* data, size_t bytes) {
  w->data = realloc(w->data, w->bytes + bytes + 1);
  must(w->data != NULL, "out of memory");
  if (bytes > 0) memcpy(w->data + w->bytes, data, bytes);
  w->bytes += bytes;
}

static void put_u64(struct writer* w, uint64_t value) { put(w, &value, sizeof value); }

static struct writer encode(const struct raft_message* message) {
  struct writer w = {NULL, 0};
  struct raft_buffer configuration;
  unsigned i;
  put(&w, message, sizeof *message);
  if (message->type == RAFT_APPEND_ENTRIES) {
    for (i = 0; i < message->append_entries.n_entries; i++) {
      const struct raft_entry* entry = &message->append_entries.entries[i];
      const struct entry_header header = {entry->term, entry->type, entry->buf.len};
      put(&w, &header, sizeof header);
      put(&w, entry->buf.base, entry->buf.len);
    }
  } else if (message->type == RAFT_INSTALL_SNAPSHOT) {
    must(raft_configuration_encode(&message->install_snapshot.conf, &configuration) == 0, "encode a configuration");
    put_u64(&w, configuration.len);
    put(&w, configuration.base, configuration.len);
    raft_free(configuration.base);
    put(&w, message->install_snapshot.data.base, message->install_snapshot.data.len);
  }
  return w;
}

static void decode_entries(struct raft_append_entries* args, const uint8_t* cursor) {
  struct sim_entry* entries;
  unsigned i;
  args->entries = NULL;
  if (args->n_entries == 0) return;
  entries = calloc(args->n_entries, sizeof *entries);
  must(entries != NULL, "out of memory");
  for (i = 0; i < args->n_entries; i++) {
    struct entry_header header;
    memcpy(&header, cursor, sizeof header);
    cursor += sizeof header;
    entries[i].term = header.term;
    entries[i].type = (int)header.type;
    entries[i].data = cursor;
    entries[i].bytes = header.bytes;
    cursor += header.bytes;
  }
  args->entries = copy_entries(entries, args->n_entries);
  free(entries);
}

static void decode_snapshot(struct raft_install_snapshot* args, const uint8_t* cursor) {
  struct raft_buffer configuration;
  uint64_t bytes;
  memcpy(&bytes, cursor, sizeof bytes);
  cursor += sizeof bytes;
  configuration.base = (void*)cursor;
  configuration.len = bytes;
  must(raft_configuration_decode(&configuration, &args->conf) == 0, "a configuration cannot be decoded");
  cursor += bytes;
  args->data.base = allocate(args->data.len);
  memcpy(args->data.base, cursor, args->data.len);
}

/* ---- raft_io ---- */

static struct sim_member* of(struct raft_io* io) { return io->impl; }

static int io_init(struct raft_io* io, raft_id id, const char* address) {
  (void)io;
  (void)id;
  (void)address;
  return 0;
}

static void io_close(struct raft_io* io, raft_io_close_cb cb) {
  struct sim_member* m = of(io);
  while (m->pending != NULL) {
    struct pending* p = m->pending;
    m->pending = p->next;
    cancel(p);
    free(p);
  }
  cb(io);
}

static int io_load(struct raft_io* io, raft_term* term, raft_id* voted_for, struct raft_snapshot** snapshot,
                   raft_index* start_index, struct raft_entry* entries[], size_t* n_entries) {
  struct sim_member* m = of(io);
  struct sim_loaded loaded;
  memset(&loaded, 0, sizeof loaded);
  m->host.load(m->host.context, &loaded);
  *term = loaded.term;
  *voted_for = loaded.voted_for;
  *snapshot = loaded.has_snapshot ? copy_snapshot(&loaded.snapshot) : NULL;
  *start_index = loaded.start_index;
  *entries = copy_entries(loaded.entries, loaded.entry_count);
  *n_entries = loaded.entry_count;
  return 0;
}

static int io_start(struct raft_io* io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv) {
  struct sim_member* m = of(io);
  (void)msecs;
  m->tick = tick;
  m->receive = recv;
  return 0;
}

static int io_bootstrap(struct raft_io* io, const struct raft_configuration* conf) {
  (void)io;
  (void)conf;
  return RAFT_CANTBOOTSTRAP;
}

static int io_set_term(struct raft_io* io, raft_term term) {
  of(io)->host.set_term(of(io)->host.context, term);
  return 0;
}

static int io_set_vote(struct raft_io* io, raft_id server_id) {
  of(io)->host.set_vote(of(io)->host.context, server_id);
  return 0;
}

static int io_send(struct raft_io* io, struct raft_io_send* req, const struct raft_message* message,
                   raft_io_send_cb cb) {
  struct sim_member* m = of(io);
  struct writer w = encode(message);
  if (!m->closing) m->host.send(m->host.context, message->server_id, w.data, w.bytes); /* else of cancel_get */
  free(w.data);
  cb(req, 0); /* as if the socket's buffer had taken it */
  return 0;
}

static int io_append(struct raft_io* io, struct raft_io_append* req, const struct raft_entry entries[], unsigned n,
                     raft_io_append_cb cb) {
  struct sim_member* m = of(io);
  struct pending* p = remember(m, APPEND, req);
  struct sim_entry* copies = calloc(n, sizeof *copies);
  unsigned i;
  must(copies != NULL, "out of memory");
  for (i = 0; i < n; i++) {
    copies[i].term = entries[i].term;
    copies[i].type = entries[i].type;
    copies[i].data = entries[i].buf.base;
    copies[i].bytes = entries[i].buf.len;
  }
  p->append_cb = cb;
  m->host.append(m->host.context, p->number, copies, n);
  free(copies);
  return 0;
}

static int io_truncate(struct raft_io* io, raft_index index) {
  of(io)->host.truncate(of(io)->host.context, index);
  return 0;
}

static int io_snapshot_put(struct raft_io* io, unsigned trailing, struct raft_io_snapshot_put* req,
                           const struct raft_snapshot* snapshot, raft_io_snapshot_put_cb cb) {
  struct sim_member* m = of(io);
  struct pending* p = remember(m, PUT_SNAPSHOT, req);
  struct raft_buffer configuration;
  must(snapshot->n_bufs == 1, "a snapshot is one buffer");
  must(raft_configuration_encode(&snapshot->configuration, &configuration) == 0, "encode a configuration");
  const struct sim_snapshot copy = {
      .index = snapshot->index,
      .term = snapshot->term,
      .configuration_index = snapshot->configuration_index,
      .configuration = configuration.base,
      .configuration_bytes = configuration.len,
      .data = snapshot->bufs[0].base,
      .bytes = snapshot->bufs[0].len,
  };
  p->put_cb = cb;
  m->host.put_snapshot(m->host.context, p->number, trailing, &copy);
  raft_free(configuration.base);
  return 0;
}

static int io_snapshot_get(struct raft_io* io, struct raft_io_snapshot_get* req, raft_io_snapshot_get_cb cb) {
  struct sim_member* m = of(io);
  struct pending* p = remember(m, GET_SNAPSHOT, req);
  p->get_cb = cb;
  m->host.get_snapshot(m->host.context, p->number);
  return 0;
}

static raft_time io_time(struct raft_io* io) { return of(io)->host.time_ms(of(io)->host.context); }

static int io_random(struct raft_io* io, int min, int max) {
  const uint32_t range = (uint32_t)(max - min) + 1;
  const uint32_t value = of(io)->host.random(of(io)->host.context);
  return min + (int)(range != 0 ? value % range : value & INT_MAX);
}

/* ---- raft_fsm ---- */

static int fsm_apply(struct raft_fsm* fsm, const struct raft_buffer* buf, void** result) {
  struct sim_member* m = fsm->data;
  *result = NULL;
  if (!m->closing) m->host.apply(m->host.context, buf->base, buf->len);
  return 0;
}

static int fsm_snapshot(struct raft_fsm* fsm, struct raft_buffer* bufs[], unsigned* n_bufs) {
  struct sim_member* m = fsm->data;
  void* data = NULL;
  size_t bytes = 0;
  if (!m->host.take_snapshot(m->host.context, &data, &bytes)) return RAFT_BUSY;
  *bufs = allocate(sizeof **bufs);
  (*bufs)[0].base = allocate(bytes);
  (*bufs)[0].len = bytes;
  memcpy((*bufs)[0].base, data, bytes);
  free(data);
  *n_bufs = 1;
  return 0;
}

static int fsm_restore(struct raft_fsm* fsm, struct raft_buffer* buf) {
  struct sim_member* m = fsm->data;
  m->host.restore(m->host.context, buf->base, buf->len);
  raft_free(buf->base);
  return 0;
}

/* libraft puts requests that are done into a queue, and leaves it to its raft_io to call their owners back after the
 * step. Its own back end does so by a function that the library does not export. */
static void fire_completed(struct sim_member* m) {
  void** queue = m->raft.legacy.requests;
  while (queue[0] != (void*)queue) {
    void** head = queue[0];
    void** next = head[0];
    void** previous = head[1];
    struct raft_apply* request = (struct raft_apply*)((char*)head - offsetof(struct raft_apply, queue));
    previous[0] = next;
    next[1] = previous;
    if (request->type == RAFT_COMMAND) {
      request->cb(request, request->status, request->result);
    } else {
      struct raft_barrier* barrier = (struct raft_barrier*)request;
      must(request->type == RAFT_BARRIER, "an unknown kind of request is done");
      barrier->cb(barrier, barrier->status);
    }
  }
}

static void observe_leadership(struct sim_member* m) {
  fire_completed(m);
  const bool leads = raft_state(&m->raft) == RAFT_LEADER;
  const uint64_t term = raft_current_term(&m->raft);
  if (leads == m->leads && (!leads || term == m->term)) return;
  m->leads = leads;
  m->term = term;
  m->host.leadership(m->host.context, leads, term);
}

/* ---- Interface ---- */

static void address_of(uint64_t member, char* text, size_t bytes) {
  snprintf(text, bytes, "member-%llu", (unsigned long long)member);
}

void sim_bootstrap_configuration(unsigned voters, void** data, size_t* bytes) {
  struct raft_configuration configuration;
  struct raft_buffer encoded;
  unsigned id;
  raft_configuration_init(&configuration);
  for (id = 1; id <= voters; id++) {
    char address[32];
    address_of(id, address, sizeof address);
    must(raft_configuration_add(&configuration, id, address, RAFT_VOTER) == 0, "add a voter");
  }
  must(raft_configuration_encode(&configuration, &encoded) == 0, "encode a configuration");
  raft_configuration_close(&configuration);
  *data = malloc(encoded.len);
  must(*data != NULL, "out of memory");
  memcpy(*data, encoded.base, encoded.len);
  *bytes = encoded.len;
  raft_free(encoded.base);
}

int sim_change_entry_type(void) { return RAFT_CHANGE; }

static void fill_tables(struct sim_member* m) {
  m->io.version = 2;
  m->io.capacity = USHRT_MAX;
  m->io.impl = m;
  m->io.init = io_init;
  m->io.close = io_close;
  m->io.load = io_load;
  m->io.start = io_start;
  m->io.bootstrap = io_bootstrap;
  m->io.set_term = io_set_term;
  m->io.set_vote = io_set_vote;
  m->io.send = io_send;
  m->io.append = io_append;
  m->io.truncate = io_truncate;
  m->io.snapshot_put = io_snapshot_put;
  m->io.snapshot_get = io_snapshot_get;
  m->io.time = io_time;
  m->io.random = io_random;
  m->fsm.version = 1;
  m->fsm.data = m;
  m->fsm.apply = fsm_apply;
  m->fsm.snapshot = fsm_snapshot;
  m->fsm.restore = fsm_restore;
}

struct sim_member* sim_member_open(const struct sim_member_options* options, const struct sim_host* host) {
  struct sim_member* m = calloc(1, sizeof *m);
  char address[32];
  must(m != NULL, "out of memory");
  m->host = *host;
  m->next_number = 1;
  fill_tables(m);
  address_of(options->member_id, address, sizeof address);
  if (raft_init(&m->raft, &m->io, &m->fsm, options->member_id, address) != 0) {
    free(m);
    return NULL;
  }
  m->raft.data = m;
  m->raft.tracer = NULL;
  raft_set_election_timeout(&m->raft, options->election_timeout_ms);
  raft_set_heartbeat_timeout(&m->raft, options->heartbeat_ms);
  raft_set_snapshot_threshold(&m->raft, options->snapshot_entries);
  raft_set_snapshot_trailing(&m->raft, options->snapshot_trailing);
  raft_set_install_snapshot_timeout(&m->raft, 4 * options->election_timeout_ms);
  raft_set_pre_vote(&m->raft, true);
  raft_set_capacity_threshold(&m->raft, 0);
  if (raft_start(&m->raft) != 0) {
    sim_member_free(m);
    return NULL;
  }
  return m;
}

void sim_member_free(struct sim_member* m) {
  m->closing = true;
  raft_close(&m->raft, NULL);
  free(m);
}

void sim_member_tick(struct sim_member* m) {
  wipe_stack();
  m->tick(&m->io);
  observe_leadership(m);
}

void sim_member_receive(struct sim_member* m, uint64_t from_member, const void* data, size_t bytes) {
  struct raft_message message;
  char address[32];
  const uint8_t* rest = (const uint8_t*)data + sizeof message;
  (void)bytes;
  memcpy(&message, data, sizeof message);
  /* libraft looks at the fields of a candidate before it asks whether it is one; as a follower it would read a byte of
   * a pointer there, and act by it. */
  if (message.type == RAFT_REQUEST_VOTE_RESULT && raft_state(&m->raft) != RAFT_CANDIDATE) return;
  address_of(from_member, address, sizeof address);
  message.server_id = from_member;
  message.server_address = address;
  if (message.type == RAFT_APPEND_ENTRIES) {
    struct raft_append_entries* args = &message.append_entries;
    decode_entries(args, rest);
    /* libraft would lower its commit index (raft_core.h). */
    if (args->prev_log_index + args->n_entries < m->raft.commit_index && args->leader_commit > m->raft.commit_index)
      args->leader_commit = m->raft.commit_index;
  }
  if (message.type == RAFT_INSTALL_SNAPSHOT) decode_snapshot(&message.install_snapshot, rest);
  wipe_stack();
  m->receive(&m->io, &message);
  observe_leadership(m);
}

void sim_member_appended(struct sim_member* m, uint64_t request) {
  struct pending p;
  if (!take(m, request, &p)) return;
  wipe_stack();
  p.append_cb(p.request, 0);
  observe_leadership(m);
}

void sim_member_snapshot_put(struct sim_member* m, uint64_t request) {
  struct pending p;
  if (!take(m, request, &p)) return;
  p.put_cb(p.request, 0);
  observe_leadership(m);
}

void sim_member_snapshot_got(struct sim_member* m, uint64_t request, const struct sim_snapshot* snapshot) {
  struct pending p;
  if (!take(m, request, &p)) return;
  p.get_cb(p.request, copy_snapshot(snapshot), 0);
  observe_leadership(m);
}

static void on_command(struct raft_apply* request, int status, void* result) {
  struct command* command = (struct command*)request;
  struct sim_member* m = command->owner;
  (void)result;
  if (status != 0 && !m->closing) m->host.lost(m->host.context, command->tag);
  free(command);
}

static void on_barrier(struct raft_barrier* request, int status) {
  struct barrier* barrier = (struct barrier*)request;
  struct sim_member* m = barrier->owner;
  if (!m->closing) m->host.barrier(m->host.context, barrier->tag, status == 0);
  free(barrier);
}

bool sim_member_propose(struct sim_member* m, const void* data, size_t bytes, uint64_t tag) {
  struct command* command = calloc(1, sizeof *command);
  struct raft_buffer buffer;
  int rv;
  must(command != NULL && bytes % 8 == 0, "a command has a length that is a multiple of 8");
  command->tag = tag;
  command->owner = m;
  buffer.base = allocate(bytes);
  buffer.len = bytes;
  memcpy(buffer.base, data, bytes);
  rv = raft_apply(&m->raft, &command->request, &buffer, 1, on_command);
  if (rv != 0) {
    raft_free(buffer.base);
    free(command);
  }
  observe_leadership(m);
  return rv == 0;
}

bool sim_member_barrier(struct sim_member* m, uint64_t tag) {
  struct barrier* barrier = calloc(1, sizeof *barrier);
  int rv;
  must(barrier != NULL, "out of memory");
  barrier->tag = tag;
  barrier->owner = m;
  rv = raft_barrier(&m->raft, &barrier->request, on_barrier);
  if (rv != 0) free(barrier);
  return rv == 0;
}

uint64_t sim_member_leader(const struct sim_member* m) {
  raft_id id = 0;
  const char* address = NULL;
  raft_leader((struct raft*)&m->raft, &id, &address);
  return id;
}

uint64_t sim_member_term(const struct sim_member* m) { return raft_current_term((struct raft*)&m->raft); }

bool sim_member_leads(const struct sim_member* m) { return raft_state((struct raft*)&m->raft) == RAFT_LEADER; }

enum sim_message_kind sim_message_kind_of(const void* data, size_t bytes) {
  struct raft_message message;
  (void)bytes;
  memcpy(&message, data, sizeof message);
  switch (message.type) {
    case RAFT_APPEND_ENTRIES:
      return SIM_APPEND;
    case RAFT_APPEND_ENTRIES_RESULT:
      return SIM_APPEND_RESULT;
    case RAFT_REQUEST_VOTE:
      return SIM_VOTE;
    case RAFT_REQUEST_VOTE_RESULT:
      return SIM_VOTE_RESULT;
    case RAFT_INSTALL_SNAPSHOT:
      return SIM_SNAPSHOT;
    default:
      return SIM_OTHER;
  }
}
