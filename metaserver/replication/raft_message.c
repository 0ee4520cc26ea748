#include "metaserver/replication/raft_message.h"

#include <raft.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_HEADER_BYTES = 16, APPEND_FIXED_BYTES = 8 + 5 * 8, MEMBERS_MAX = 64, ENTRIES_MAX = 4096 };

/* ---- Little-endian cursors ---- */

struct writer {
  uint8_t* at;
};

static void put(struct writer* w, uint64_t value, unsigned bytes) {
  unsigned i;
  for (i = 0; i < bytes; i++) *w->at++ = (uint8_t)(value >> (8 * i));
}

static void put_bytes(struct writer* w, const void* data, size_t bytes) {
  if (bytes > 0) memcpy(w->at, data, bytes);
  w->at += bytes;
}

struct reader {
  const uint8_t* at;
  size_t left;
  bool failed;
};

static uint64_t get(struct reader* r, unsigned bytes) {
  uint64_t value = 0;
  unsigned i;
  if (r->failed || r->left < bytes) {
    r->failed = true;
    return 0;
  }
  for (i = 0; i < bytes; i++) value |= (uint64_t)r->at[i] << (8 * i);
  r->at += bytes;
  r->left -= bytes;
  return value;
}

static const uint8_t* get_bytes(struct reader* r, size_t bytes) {
  const uint8_t* at = r->at;
  if (r->failed || r->left < bytes) {
    r->failed = true;
    return NULL;
  }
  r->at += bytes;
  r->left -= bytes;
  return at;
}

int tarn_configuration_is_valid(const void* data, size_t bytes) {
  struct reader r = {data, bytes, false};
  uint64_t n;
  uint64_t i;
  if (get(&r, 1) != 1) return 0; /* libraft's format */
  n = get(&r, 8);
  if (r.failed || n == 0 || n > MEMBERS_MAX) return 0;
  for (i = 0; i < n; i++) {
    const uint8_t* end;
    if (get(&r, 8) == 0 || r.failed) return 0;
    end = memchr(r.at, 0, r.left);
    if (end == NULL) return 0;
    get_bytes(&r, (size_t)(end - r.at) + 1);
    if (get(&r, 1) > RAFT_SPARE || r.failed) return 0;
  }
  return 1;
}

/* ---- Encoding ---- */

unsigned tarn_message_entries_that_fit(const struct raft_message* message, unsigned from, size_t bytes_max) {
  const struct raft_append_entries* args = &message->append_entries;
  size_t bytes = TARN_MESSAGE_HEADER_BYTES + APPEND_FIXED_BYTES;
  unsigned count = 0;
  while (from + count < args->n_entries && count < ENTRIES_MAX) {
    bytes += ENTRY_HEADER_BYTES + args->entries[from + count].buf.len;
    if (count > 0 && bytes > bytes_max) break;
    count++;
  }
  return count;
}

static uint8_t* begin(struct writer* w, unsigned type, size_t body_bytes, size_t* bytes) {
  uint8_t* data;
  *bytes = TARN_MESSAGE_HEADER_BYTES + body_bytes;
  data = malloc(*bytes);
  if (data == NULL) return NULL;
  w->at = data;
  put(w, TARN_MESSAGE_VERSION, 2);
  put(w, type, 2);
  put(w, 0, 4);
  return data;
}

static uint8_t* encode_append(const struct raft_append_entries* args, unsigned from, unsigned count, size_t* bytes) {
  size_t body = APPEND_FIXED_BYTES;
  struct writer w;
  uint8_t* data;
  unsigned i;
  for (i = from; i < from + count; i++) body += ENTRY_HEADER_BYTES + args->entries[i].buf.len;
  data = begin(&w, RAFT_APPEND_ENTRIES, body, bytes);
  if (data == NULL) return NULL;
  put(&w, args->version, 4);
  put(&w, count, 4);
  put(&w, args->term, 8);
  put(&w, args->prev_log_index + from, 8);
  put(&w, from > 0 ? args->entries[from - 1].term : args->prev_log_term, 8);
  put(&w, args->leader_commit, 8);
  put(&w, 0, 8);
  for (i = from; i < from + count; i++) {
    put(&w, args->entries[i].term, 8);
    put(&w, (uint64_t)args->entries[i].type, 4);
    put(&w, args->entries[i].buf.len, 4);
  }
  for (i = from; i < from + count; i++) put_bytes(&w, args->entries[i].buf.base, args->entries[i].buf.len);
  return data;
}

static uint8_t* encode_append_result(const struct raft_append_entries_result* args, size_t* bytes) {
  struct writer w;
  uint8_t* data = begin(&w, RAFT_APPEND_ENTRIES_RESULT, 8 + 3 * 8, bytes);
  if (data == NULL) return NULL;
  put(&w, args->version, 4);
  put(&w, args->features, 2);
  put(&w, args->capacity, 2);
  put(&w, args->term, 8);
  put(&w, args->rejected, 8);
  put(&w, args->last_log_index, 8);
  return data;
}

static uint8_t* encode_vote(const struct raft_request_vote* args, size_t* bytes) {
  struct writer w;
  uint8_t* data = begin(&w, RAFT_REQUEST_VOTE, 8 + 4 * 8, bytes);
  if (data == NULL) return NULL;
  put(&w, args->version, 4);
  put(&w, args->disrupt_leader, 2);
  put(&w, args->pre_vote, 2);
  put(&w, args->term, 8);
  put(&w, args->candidate_id, 8);
  put(&w, args->last_log_index, 8);
  put(&w, args->last_log_term, 8);
  return data;
}

static uint8_t* encode_vote_result(const struct raft_request_vote_result* args, size_t* bytes) {
  struct writer w;
  uint8_t* data = begin(&w, RAFT_REQUEST_VOTE_RESULT, 8 + 2 * 8, bytes);
  if (data == NULL) return NULL;
  put(&w, args->version, 4);
  put(&w, args->vote_granted, 2);
  put(&w, args->pre_vote, 2);
  put(&w, args->term, 8);
  put(&w, args->features, 4);
  put(&w, args->capacity, 4);
  return data;
}

static uint8_t* encode_install(const struct raft_install_snapshot* args, size_t* bytes) {
  struct raft_buffer conf;
  struct writer w;
  uint8_t* data;
  if (raft_configuration_encode(&args->conf, &conf) != 0) return NULL;
  data = begin(&w, RAFT_INSTALL_SNAPSHOT, 8 + 4 * 8 + 8 + conf.len + args->data.len, bytes);
  if (data != NULL) {
    put(&w, args->version, 4);
    put(&w, 0, 4);
    put(&w, args->term, 8);
    put(&w, args->last_index, 8);
    put(&w, args->last_term, 8);
    put(&w, args->conf_index, 8);
    put(&w, conf.len, 4);
    put(&w, args->data.len, 4);
    put_bytes(&w, conf.base, conf.len);
    put_bytes(&w, args->data.base, args->data.len);
  }
  raft_free(conf.base);
  return data;
}

static uint8_t* encode_timeout_now(const struct raft_timeout_now* args, size_t* bytes) {
  struct writer w;
  uint8_t* data = begin(&w, RAFT_TIMEOUT_NOW, 8 + 3 * 8, bytes);
  if (data == NULL) return NULL;
  put(&w, args->version, 4);
  put(&w, 0, 4);
  put(&w, args->term, 8);
  put(&w, args->last_log_index, 8);
  put(&w, args->last_log_term, 8);
  return data;
}

uint8_t* tarn_message_encode(const struct raft_message* message, unsigned from, unsigned count, size_t* bytes) {
  switch (message->type) {
    case RAFT_APPEND_ENTRIES:
      return encode_append(&message->append_entries, from, count, bytes);
    case RAFT_APPEND_ENTRIES_RESULT:
      return encode_append_result(&message->append_entries_result, bytes);
    case RAFT_REQUEST_VOTE:
      return encode_vote(&message->request_vote, bytes);
    case RAFT_REQUEST_VOTE_RESULT:
      return encode_vote_result(&message->request_vote_result, bytes);
    case RAFT_INSTALL_SNAPSHOT:
      return encode_install(&message->install_snapshot, bytes);
    case RAFT_TIMEOUT_NOW:
      return encode_timeout_now(&message->timeout_now, bytes);
    default:
      return NULL;
  }
}

uint8_t* tarn_message_encode_removed(uint64_t configuration_index, size_t* bytes) {
  struct writer w;
  uint8_t* data = begin(&w, TARN_MESSAGE_REMOVED, 8, bytes);
  if (data != NULL) put(&w, configuration_index, 8);
  return data;
}

/* ---- Decoding ---- */

static unsigned begin_decode(struct reader* r) {
  const uint64_t version = get(r, 2);
  const uint64_t type = get(r, 2);
  get(r, 4);
  return r->failed || version != TARN_MESSAGE_VERSION ? 0 : (unsigned)type;
}

static bool entry_is_valid(const struct raft_entry* entry) {
  if (entry->term == 0 || entry->buf.len == 0) return false;
  if (entry->type == RAFT_CHANGE) return tarn_configuration_is_valid(entry->buf.base, entry->buf.len) != 0;
  return entry->type == RAFT_COMMAND || entry->type == RAFT_BARRIER;
}

/* The entry headers, then the entries' bytes to the end of the message. */
static int decode_entries(struct reader* r, struct raft_append_entries* args) {
  struct reader headers = *r;
  size_t data_bytes = 0;
  uint8_t* batch;
  unsigned i;
  if (get_bytes(r, (size_t)args->n_entries * ENTRY_HEADER_BYTES) == NULL || r->left == 0) return -1;
  args->entries = raft_malloc(args->n_entries * sizeof *args->entries);
  batch = raft_malloc(r->left);
  if (args->entries == NULL || batch == NULL) goto err;
  memcpy(batch, r->at, r->left);
  for (i = 0; i < args->n_entries; i++) {
    struct raft_entry* entry = &args->entries[i];
    entry->term = get(&headers, 8);
    entry->type = (enum raft_entry_type)get(&headers, 4);
    entry->buf.len = get(&headers, 4);
    entry->buf.base = batch + data_bytes;
    entry->batch = batch;
    if (entry->buf.len > r->left - data_bytes || !entry_is_valid(entry)) goto err;
    data_bytes += entry->buf.len;
  }
  if (data_bytes != r->left) goto err;
  r->left = 0;
  return 0;
err:
  raft_free(batch);
  raft_free(args->entries);
  return -1;
}

static int decode_append(struct reader* r, struct raft_append_entries* args) {
  args->version = (unsigned char)get(r, 4);
  args->n_entries = (unsigned)get(r, 4);
  args->term = get(r, 8);
  args->prev_log_index = get(r, 8);
  args->prev_log_term = get(r, 8);
  args->leader_commit = get(r, 8);
  get(r, 8);
  args->entries = NULL;
  if (r->failed || args->term == 0 || args->n_entries > ENTRIES_MAX) return -1;
  if ((args->prev_log_index == 0) != (args->prev_log_term == 0) || args->prev_log_term > args->term) return -1;
  return args->n_entries > 0 ? decode_entries(r, args) : 0;
}

static void decode_append_result(struct reader* r, struct raft_append_entries_result* args) {
  args->version = (unsigned char)get(r, 4);
  args->features = (unsigned short)get(r, 2);
  args->capacity = (unsigned short)get(r, 2);
  args->term = get(r, 8);
  args->rejected = get(r, 8);
  args->last_log_index = get(r, 8);
}

static void decode_vote(struct reader* r, struct raft_request_vote* args) {
  args->version = (unsigned char)get(r, 4);
  args->disrupt_leader = get(r, 2) != 0;
  args->pre_vote = get(r, 2) != 0;
  args->term = get(r, 8);
  args->candidate_id = get(r, 8);
  args->last_log_index = get(r, 8);
  args->last_log_term = get(r, 8);
}

static void decode_vote_result(struct reader* r, struct raft_request_vote_result* args) {
  args->version = (unsigned char)get(r, 4);
  args->vote_granted = get(r, 2) != 0;
  args->pre_vote = get(r, 2) != 0;
  args->term = get(r, 8);
  args->features = (unsigned short)get(r, 4);
  args->capacity = (unsigned short)get(r, 4);
}

static int decode_install(struct reader* r, struct raft_install_snapshot* args) {
  size_t conf_bytes;
  size_t data_bytes;
  struct raft_buffer conf;
  const uint8_t* data;
  args->version = (unsigned char)get(r, 4);
  get(r, 4);
  args->term = get(r, 8);
  args->last_index = get(r, 8);
  args->last_term = get(r, 8);
  args->conf_index = get(r, 8);
  conf_bytes = get(r, 4);
  data_bytes = get(r, 4);
  conf.base = (void*)get_bytes(r, conf_bytes);
  conf.len = conf_bytes;
  data = get_bytes(r, data_bytes);
  if (r->failed || r->left != 0 || args->term == 0 || args->last_index == 0 || args->last_term == 0 ||
      args->conf_index == 0 || args->conf_index > args->last_index || data_bytes == 0 ||
      !tarn_configuration_is_valid(conf.base, conf.len)) {
    return -1;
  }
  if (raft_configuration_decode(&conf, &args->conf) != 0) return -1;
  args->data.base = raft_malloc(data_bytes);
  args->data.len = data_bytes;
  if (args->data.base == NULL) {
    raft_configuration_close(&args->conf);
    return -1;
  }
  memcpy(args->data.base, data, data_bytes);
  return 0;
}

static void decode_timeout_now(struct reader* r, struct raft_timeout_now* args) {
  args->version = (unsigned char)get(r, 4);
  get(r, 4);
  args->term = get(r, 8);
  args->last_log_index = get(r, 8);
  args->last_log_term = get(r, 8);
}

int tarn_message_decode(const uint8_t* data, size_t bytes, struct raft_message* message) {
  struct reader r = {data, bytes, false};
  const unsigned type = begin_decode(&r);
  memset(message, 0, sizeof *message);
  message->type = (enum raft_message_type)type;
  switch (type) {
    case RAFT_APPEND_ENTRIES:
      if (decode_append(&r, &message->append_entries) != 0) return -1;
      break;
    case RAFT_APPEND_ENTRIES_RESULT:
      decode_append_result(&r, &message->append_entries_result);
      break;
    case RAFT_REQUEST_VOTE:
      decode_vote(&r, &message->request_vote);
      break;
    case RAFT_REQUEST_VOTE_RESULT:
      decode_vote_result(&r, &message->request_vote_result);
      break;
    case RAFT_INSTALL_SNAPSHOT:
      return decode_install(&r, &message->install_snapshot);
    case RAFT_TIMEOUT_NOW:
      decode_timeout_now(&r, &message->timeout_now);
      break;
    default:
      return -1;
  }
  /* The two that allocate have consumed everything or failed before they did. */
  return r.failed || r.left != 0 ? -1 : 0;
}

int tarn_message_decode_removed(const uint8_t* data, size_t bytes, uint64_t* configuration_index) {
  struct reader r = {data, bytes, false};
  if (begin_decode(&r) != TARN_MESSAGE_REMOVED) return 0;
  *configuration_index = get(&r, 8);
  return r.failed ? 0 : 1;
}
