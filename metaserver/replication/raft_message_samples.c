#include "metaserver/replication/raft_message_samples.h"

#include <raft.h>
#include <stdlib.h>
#include <string.h>

#include "metaserver/replication/raft_message.h"

static void release(struct raft_message* message) {
  if (message->type == RAFT_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
    raft_free(message->append_entries.entries[0].batch);
    raft_free(message->append_entries.entries);
  }
  if (message->type == RAFT_INSTALL_SNAPSHOT) {
    raft_configuration_close(&message->install_snapshot.conf);
    raft_free(message->install_snapshot.data.base);
  }
}

static uint8_t* encode(const struct raft_message* message, size_t* bytes) {
  const unsigned count = message->type == RAFT_APPEND_ENTRIES ? message->append_entries.n_entries : 0;
  return tarn_message_encode(message, 0, count, bytes);
}

static uint8_t* encode_append_sample(struct raft_message* message, size_t* bytes) {
  struct raft_entry entries[2];
  uint8_t command[3] = {'a', 'b', 'c'};
  uint8_t barrier[8] = {0};
  memset(entries, 0, sizeof entries);
  entries[0].term = 4;
  entries[0].type = RAFT_COMMAND;
  entries[0].buf.base = command;
  entries[0].buf.len = sizeof command;
  entries[1].term = 5;
  entries[1].type = RAFT_BARRIER;
  entries[1].buf.base = barrier;
  entries[1].buf.len = sizeof barrier;
  message->append_entries.version = 1;
  message->append_entries.term = 5;
  message->append_entries.prev_log_index = 6;
  message->append_entries.prev_log_term = 4;
  message->append_entries.leader_commit = 3;
  message->append_entries.entries = entries;
  message->append_entries.n_entries = 2;
  return encode(message, bytes);
}

static uint8_t* encode_install_sample(struct raft_message* message, size_t* bytes) {
  struct raft_install_snapshot* args = &message->install_snapshot;
  uint8_t* data;
  args->version = 1;
  args->term = 5;
  args->last_index = 9;
  args->last_term = 4;
  args->conf_index = 2;
  args->data.base = (void*)"state";
  args->data.len = 5;
  raft_configuration_init(&args->conf);
  if (raft_configuration_add(&args->conf, 7, "h:1", RAFT_VOTER) != 0) return NULL;
  data = encode(message, bytes);
  raft_configuration_close(&args->conf);
  return data;
}

uint8_t* tarn_sample_encode(unsigned i, size_t* bytes) {
  struct raft_message message;
  memset(&message, 0, sizeof message);
  message.type = (enum raft_message_type)(RAFT_APPEND_ENTRIES + i);
  switch (message.type) {
    case RAFT_APPEND_ENTRIES:
      return encode_append_sample(&message, bytes);
    case RAFT_APPEND_ENTRIES_RESULT:
      message.append_entries_result.version = 1;
      message.append_entries_result.term = 5;
      message.append_entries_result.rejected = 6;
      message.append_entries_result.last_log_index = 4;
      break;
    case RAFT_REQUEST_VOTE:
      message.request_vote.version = 2;
      message.request_vote.term = 5;
      message.request_vote.candidate_id = 3;
      message.request_vote.last_log_index = 8;
      message.request_vote.last_log_term = 4;
      message.request_vote.pre_vote = true;
      break;
    case RAFT_REQUEST_VOTE_RESULT:
      message.request_vote_result.version = 2;
      message.request_vote_result.term = 5;
      message.request_vote_result.vote_granted = true;
      break;
    case RAFT_INSTALL_SNAPSHOT:
      return encode_install_sample(&message, bytes);
    default:
      message.timeout_now.version = 1;
      message.timeout_now.term = 5;
      message.timeout_now.last_log_index = 8;
      message.timeout_now.last_log_term = 4;
      break;
  }
  return encode(&message, bytes);
}

uint8_t* tarn_sample_again(const uint8_t* data, size_t bytes, size_t* bytes_again) {
  struct raft_message message;
  uint8_t* again;
  if (tarn_message_decode(data, bytes, &message) != 0) return NULL;
  again = encode(&message, bytes_again);
  release(&message);
  return again;
}
