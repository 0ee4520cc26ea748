#include "metaserver/replication/raft_member_io.h"

#include <raft.h>
#include <stdlib.h>
#include <string.h>

#include "metaserver/replication/raft_message.h"

/* The last snapshot, which leaders send to others. */
struct cached_snapshot {
  bool present;
  struct tarn_snapshot snapshot; /* its bytes are from malloc */
};

/* Asked for and not done, so that a close can cancel it. */
struct pending {
  struct pending* next;
  struct pending* previous;
  bool is_append;
  struct raft_io_append* append;
  struct raft_io_snapshot_put* put;
  raft_io_append_cb on_append;
  raft_io_snapshot_put_cb on_put;
  struct cached_snapshot snapshot; /* of a put */
};

struct tarn_member_io {
  struct raft_io table;
  struct tarn_member_io_functions functions;
  struct tarn_loaded loaded; /* entries and snapshot are ours until raft_start took them */
  struct raft_snapshot* loaded_snapshot;
  struct raft_entry* loaded_entries;
  uint64_t term;
  uint64_t voted_for;
  struct cached_snapshot last;
  struct pending ring;
  raft_io_tick_cb tick;
  raft_io_recv_cb receive;
};

static struct tarn_member_io* of(struct raft_io* table) { return table->impl; }

static void* copy_bytes(const void* data, size_t bytes) {
  void* copy = raft_malloc(bytes > 0 ? bytes : 1);
  if (copy != NULL && bytes > 0) memcpy(copy, data, bytes);
  return copy;
}

static void release_snapshot(struct cached_snapshot* cached) {
  free((void*)cached->snapshot.configuration);
  free((void*)cached->snapshot.data);
  cached->present = false;
}

static int copy_snapshot(const struct tarn_snapshot* source, struct cached_snapshot* copy) {
  copy->snapshot = *source;
  copy->snapshot.configuration = copy_bytes(source->configuration, source->configuration_bytes);
  copy->snapshot.data = copy_bytes(source->data, source->data_bytes);
  copy->present = true;
  if (copy->snapshot.configuration != NULL && copy->snapshot.data != NULL) return 0;
  release_snapshot(copy);
  return RAFT_NOMEM;
}

/* As libraft wants it: one buffer, everything from raft_malloc. */
static struct raft_snapshot* make_raft_snapshot(const struct tarn_snapshot* source) {
  struct raft_buffer conf = {.base = (void*)source->configuration, .len = source->configuration_bytes};
  struct raft_snapshot* snapshot;
  if (!tarn_configuration_is_valid(conf.base, conf.len)) return NULL;
  snapshot = raft_calloc(1, sizeof *snapshot);
  if (snapshot == NULL) return NULL;
  snapshot->index = source->index;
  snapshot->term = source->term;
  snapshot->configuration_index = source->configuration_index;
  snapshot->bufs = raft_calloc(1, sizeof *snapshot->bufs);
  snapshot->n_bufs = 1;
  if (snapshot->bufs == NULL || raft_configuration_decode(&conf, &snapshot->configuration) != 0) goto err;
  snapshot->bufs[0].base = copy_bytes(source->data, source->data_bytes);
  snapshot->bufs[0].len = source->data_bytes;
  if (snapshot->bufs[0].base != NULL) return snapshot;
  raft_configuration_close(&snapshot->configuration);
err:
  raft_free(snapshot->bufs);
  raft_free(snapshot);
  return NULL;
}

/* ---- The table ---- */

static int io_init(struct raft_io* table, raft_id id, const char* address) {
  (void)table;
  (void)id;
  (void)address;
  return 0;
}

static int io_load(struct raft_io* table, raft_term* term, raft_id* voted_for, struct raft_snapshot** snapshot,
                   raft_index* start_index, struct raft_entry* entries[], size_t* entry_count) {
  struct tarn_member_io* io = of(table);
  *term = io->loaded.term;
  *voted_for = io->loaded.voted_for;
  *snapshot = io->loaded_snapshot;
  *start_index = io->loaded.start_index;
  *entries = io->loaded_entries;
  *entry_count = io->loaded.entry_count;
  io->loaded_snapshot = NULL;
  io->loaded_entries = NULL;
  return 0;
}

static int io_start(struct raft_io* table, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb receive) {
  (void)msecs; /* the owner ticks */
  of(table)->tick = tick;
  of(table)->receive = receive;
  return 0;
}

static int io_bootstrap(struct raft_io* table, const struct raft_configuration* configuration) {
  (void)table;
  (void)configuration;
  return RAFT_INVALID;
}

static int io_set_term(struct raft_io* table, raft_term term) {
  struct tarn_member_io* io = of(table);
  /* libraft sets the term again with each vote that it gives: the vote of this term must not be forgotten meanwhile. */
  if (term == io->term) return 0;
  io->term = term;
  io->voted_for = 0;
  io->functions.write_vote(io->functions.context, io->term, io->voted_for);
  return 0;
}

static int io_set_vote(struct raft_io* table, raft_id id) {
  struct tarn_member_io* io = of(table);
  if (id == io->voted_for) return 0;
  io->voted_for = id;
  io->functions.write_vote(io->functions.context, io->term, io->voted_for);
  return 0;
}

static void send_part(struct tarn_member_io* io, const struct raft_message* message, unsigned from, unsigned count) {
  size_t bytes = 0;
  /* Without memory it is as if the message had been lost. */
  uint8_t* data = tarn_message_encode(message, from, count, &bytes);
  if (data == NULL) return;
  io->functions.send(io->functions.context, message->server_id, message->server_address, data, bytes);
  free(data);
}

static int io_send(struct raft_io* table, struct raft_io_send* request, const struct raft_message* message,
                   raft_io_send_cb callback) {
  struct tarn_member_io* io = of(table);
  if (message->type == RAFT_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
    unsigned from = 0;
    while (from < message->append_entries.n_entries) {
      const unsigned count = tarn_message_entries_that_fit(message, from, io->functions.message_bytes_max);
      send_part(io, message, from, count);
      from += count;
    }
  } else {
    send_part(io, message, 0, 0);
  }
  callback(request, 0); /* everything was copied */
  return 0;
}

static struct pending* add_pending(struct tarn_member_io* io) {
  struct pending* pending = calloc(1, sizeof *pending);
  if (pending == NULL) abort(); /* libraft handles no failed append */
  pending->next = &io->ring;
  pending->previous = io->ring.previous;
  io->ring.previous->next = pending;
  io->ring.previous = pending;
  return pending;
}

static void remove_pending(struct pending* pending) {
  pending->previous->next = pending->next;
  pending->next->previous = pending->previous;
}

static int io_append(struct raft_io* table, struct raft_io_append* request, const struct raft_entry entries[],
                     unsigned n, raft_io_append_cb callback) {
  struct tarn_member_io* io = of(table);
  struct raft* raft = table->data;
  struct pending* pending = add_pending(io);
  struct tarn_entry* list = calloc(n, sizeof *list);
  unsigned i;
  if (list == NULL) abort();
  pending->is_append = true;
  pending->append = request;
  pending->on_append = callback;
  for (i = 0; i < n; i++) {
    list[i].term = entries[i].term;
    list[i].type = (uint8_t)entries[i].type;
    list[i].data = entries[i].buf.base;
    list[i].bytes = entries[i].buf.len;
  }
  /* Appends end where libraft's log does. */
  io->functions.append(io->functions.context, raft_last_index(raft) - n + 1, list, n, pending);
  free(list);
  return 0;
}

static int io_truncate(struct raft_io* table, raft_index index) {
  (void)table;
  (void)index; /* the append that always follows says where the log goes on */
  return 0;
}

static int io_snapshot_put(struct raft_io* table, unsigned trailing, struct raft_io_snapshot_put* request,
                           const struct raft_snapshot* snapshot, raft_io_snapshot_put_cb callback) {
  struct tarn_member_io* io = of(table);
  struct pending* pending = add_pending(io);
  struct raft_buffer conf;
  struct tarn_snapshot source;
  uint64_t keep_from = 0;
  if (raft_configuration_encode(&snapshot->configuration, &conf) != 0) abort();
  source.index = snapshot->index;
  source.term = snapshot->term;
  source.configuration_index = snapshot->configuration_index;
  source.configuration = conf.base;
  source.configuration_bytes = conf.len;
  source.data = snapshot->bufs[0].base;
  source.data_bytes = snapshot->bufs[0].len;
  if (copy_snapshot(&source, &pending->snapshot) != 0) abort();
  raft_free(conf.base);
  pending->put = request;
  pending->on_put = callback;
  if (trailing > 0) keep_from = snapshot->index >= trailing ? snapshot->index - trailing + 1 : 1;
  io->functions.put_snapshot(io->functions.context, &pending->snapshot.snapshot, keep_from, pending);
  return 0;
}

static int io_snapshot_get(struct raft_io* table, struct raft_io_snapshot_get* request,
                           raft_io_snapshot_get_cb callback) {
  struct tarn_member_io* io = of(table);
  struct raft_snapshot* snapshot = io->last.present ? make_raft_snapshot(&io->last.snapshot) : NULL;
  /* libraft would free uninitialized memory on an error through the callback. */
  if (snapshot == NULL) return RAFT_NOTFOUND;
  callback(request, snapshot, 0);
  return 0;
}

static raft_time io_time(struct raft_io* table) { return of(table)->functions.now_ms(of(table)->functions.context); }

static int io_random(struct raft_io* table, int min, int max) {
  const uint32_t value = of(table)->functions.random(of(table)->functions.context);
  return max > min ? min + (int)(value % (uint32_t)(max - min)) : min;
}

static void io_close(struct raft_io* table, raft_io_close_cb callback) {
  struct tarn_member_io* io = of(table);
  while (io->ring.next != &io->ring) {
    struct pending* pending = io->ring.next;
    remove_pending(pending);
    if (pending->is_append) {
      pending->on_append(pending->append, RAFT_CANCELED);
    } else {
      release_snapshot(&pending->snapshot);
      pending->on_put(pending->put, RAFT_CANCELED);
    }
    free(pending);
  }
  callback(table);
}

/* ---- Life ---- */

static int copy_entries(struct tarn_member_io* io, const struct tarn_loaded* loaded) {
  size_t bytes = 0;
  size_t i;
  uint8_t* batch;
  if (loaded->entry_count == 0) return 0;
  for (i = 0; i < loaded->entry_count; i++) {
    bytes += loaded->entries[i].bytes;
    if (loaded->entries[i].type == RAFT_CHANGE &&
        !tarn_configuration_is_valid(loaded->entries[i].data, loaded->entries[i].bytes)) {
      return RAFT_MALFORMED;
    }
  }
  batch = raft_malloc(bytes + 1);
  io->loaded_entries = raft_calloc(loaded->entry_count, sizeof *io->loaded_entries);
  if (batch == NULL || io->loaded_entries == NULL) {
    raft_free(batch);
    return RAFT_NOMEM;
  }
  bytes = 0;
  for (i = 0; i < loaded->entry_count; i++) {
    struct raft_entry* entry = &io->loaded_entries[i];
    entry->term = loaded->entries[i].term;
    entry->type = (enum raft_entry_type)loaded->entries[i].type;
    entry->buf.base = batch + bytes;
    entry->buf.len = loaded->entries[i].bytes;
    entry->batch = batch;
    memcpy(entry->buf.base, loaded->entries[i].data, entry->buf.len);
    bytes += entry->buf.len;
  }
  return 0;
}

static void fill_table(struct tarn_member_io* io) {
  struct raft_io* table = &io->table;
  table->version = 1;
  table->impl = io;
  table->init = io_init;
  table->close = io_close;
  table->load = io_load;
  table->start = io_start;
  table->bootstrap = io_bootstrap;
  table->recover = io_bootstrap;
  table->set_term = io_set_term;
  table->set_vote = io_set_vote;
  table->send = io_send;
  table->append = io_append;
  table->truncate = io_truncate;
  table->snapshot_put = io_snapshot_put;
  table->snapshot_get = io_snapshot_get;
  table->time = io_time;
  table->random = io_random;
}

struct tarn_member_io* tarn_member_io_new(const struct tarn_member_io_functions* functions,
                                          const struct tarn_loaded* loaded) {
  struct tarn_member_io* io = calloc(1, sizeof *io);
  if (io == NULL) return NULL;
  io->functions = *functions;
  io->loaded = *loaded;
  io->term = loaded->term;
  io->voted_for = loaded->voted_for;
  io->ring.next = &io->ring;
  io->ring.previous = &io->ring;
  fill_table(io);
  if (copy_entries(io, loaded) != 0) goto err;
  if (loaded->snapshot != NULL) {
    io->loaded_snapshot = make_raft_snapshot(loaded->snapshot);
    if (io->loaded_snapshot == NULL || copy_snapshot(loaded->snapshot, &io->last) != 0) goto err;
  }
  return io;
err:
  tarn_member_io_free(io);
  return NULL;
}

struct raft_io* tarn_member_io_table(struct tarn_member_io* io) {
  return &io->table;
}

void tarn_member_io_free(struct tarn_member_io* io) {
  if (io->loaded_snapshot != NULL) {
    raft_configuration_close(&io->loaded_snapshot->configuration);
    raft_free(io->loaded_snapshot->bufs[0].base);
    raft_free(io->loaded_snapshot->bufs);
    raft_free(io->loaded_snapshot);
  }
  if (io->loaded_entries != NULL) {
    raft_free(io->loaded_entries[0].batch);
    raft_free(io->loaded_entries);
  }
  if (io->last.present) release_snapshot(&io->last);
  free(io);
}

void tarn_member_io_tick(struct tarn_member_io* io) {
  if (io->tick != NULL) io->tick(&io->table);
}

bool tarn_member_io_receive(struct tarn_member_io* io, uint64_t from, const char* address, const uint8_t* data,
                            size_t bytes) {
  struct raft_message message;
  if (io->receive == NULL || from == 0 || tarn_message_decode(data, bytes, &message) != 0) return false;
  message.server_id = from;
  message.server_address = address;
  io->receive(&io->table, &message);
  return true;
}

void tarn_member_io_appended(struct tarn_member_io* io, void* request) {
  struct pending* pending = request;
  (void)io;
  remove_pending(pending);
  pending->on_append(pending->append, 0);
  free(pending);
}

void tarn_member_io_stored(struct tarn_member_io* io, void* request) {
  struct pending* pending = request;
  remove_pending(pending);
  if (io->last.present) release_snapshot(&io->last);
  io->last = pending->snapshot;
  pending->on_put(pending->put, 0);
  free(pending);
}

uint8_t* tarn_first_configuration(uint64_t member_id, const char* address, size_t* bytes) {
  struct raft_configuration configuration;
  struct raft_buffer buffer = {NULL, 0};
  raft_configuration_init(&configuration);
  if (raft_configuration_add(&configuration, member_id, address, RAFT_VOTER) == 0) {
    if (raft_configuration_encode(&configuration, &buffer) != 0) buffer.base = NULL;
  }
  raft_configuration_close(&configuration);
  *bytes = buffer.len;
  return buffer.base;
}
