/* Messages between members as bytes (docs/formats.md, "Messages between metadata servers"). C, for raft.h.
 *
 * Bytes that come in are checked: a length, a type or a configuration that does not hold makes the message none. They
 * carry no sum here; who carries them adds one. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct raft_message;
struct raft_entry;

enum {
  TARN_MESSAGE_VERSION = 1,
  TARN_MESSAGE_HEADER_BYTES = 8,
  /* Not of libraft: "you are not in the group", with the index of the configuration that says so. */
  TARN_MESSAGE_REMOVED = 200,
};

/* How many of the entries [from, n) of an AppendEntries fit into one message; at least 1 if there are any. */
unsigned tarn_message_entries_that_fit(const struct raft_message* message, unsigned from, size_t bytes_max);
/* The message with the entries [from, from + count), in a buffer from malloc; NULL: no memory, or a type that is not
 * known. Its server_id and server_address do not go along. */
uint8_t* tarn_message_encode(const struct raft_message* message, unsigned from, unsigned count, size_t* bytes);
/* 0, or -1 if it is none. Entries, configuration and snapshot are from raft_malloc, as libraft wants them. */
int tarn_message_decode(const uint8_t* data, size_t bytes, struct raft_message* message);

uint8_t* tarn_message_encode_removed(uint64_t configuration_index, size_t* bytes);
/* 1: it is one; 0: it is another message. */
int tarn_message_decode_removed(const uint8_t* data, size_t bytes, uint64_t* configuration_index);

/* Whether libraft can decode this configuration: its own decoder trusts the bytes. */
int tarn_configuration_is_valid(const void* data, size_t bytes);

#ifdef __cplusplus
} /* extern "C" */
#endif
