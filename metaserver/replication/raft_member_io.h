/* A `struct raft_io` for libraft over functions that the owner supplies: what a disk and a network are made of in
 * raft_member.h. C, for raft.h.
 *
 * One thread. None of the functions may fail: libraft handles no error of them (raft_core.h); the owner ends the member
 * instead. Term and vote are written behind libraft's back too (it takes set_term and set_vote for synchronous): the
 * owner lets no message out before what was asked for earlier is on stable storage. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct raft_io;
struct tarn_member_io;

struct tarn_entry {
  uint64_t term;
  uint8_t type; /* enum raft_entry_type */
  const void* data;
  size_t bytes;
};

struct tarn_snapshot {
  uint64_t index;
  uint64_t term;
  uint64_t configuration_index;
  const void* configuration; /* libraft's encoding */
  size_t configuration_bytes;
  const void* data;
  size_t data_bytes;
};

struct tarn_loaded {
  uint64_t term;
  uint64_t voted_for;
  const struct tarn_snapshot* snapshot; /* NULL: none */
  uint64_t start_index;
  const struct tarn_entry* entries;
  size_t entry_count;
};

struct tarn_member_io_functions {
  void* context;
  uint64_t (*now_ms)(void* context);
  uint32_t (*random)(void* context);
  void (*write_vote)(void* context, uint64_t term, uint64_t voted_for);
  /* The entries stay where they are until tarn_member_io_appended. */
  void (*append)(void* context, uint64_t first_index, const struct tarn_entry* entries, size_t count, void* request);
  /* Then tarn_member_io_stored. keep_from: the first entry that the log must keep, 0: none at all. */
  void (*put_snapshot)(void* context, const struct tarn_snapshot* snapshot, uint64_t keep_from, void* request);
  /* `data` is of raft_message.h; valid during the call. */
  void (*send)(void* context, uint64_t to, const char* address, const uint8_t* data, size_t bytes);
  size_t message_bytes_max; /* of one message, unless a single entry is larger */
};

/* NULL: no memory, or a configuration of `loaded` that is none. `loaded` is copied. */
struct tarn_member_io* tarn_member_io_new(const struct tarn_member_io_functions* functions,
                                          const struct tarn_loaded* loaded);
struct raft_io* tarn_member_io_table(struct tarn_member_io* io);
void tarn_member_io_free(struct tarn_member_io* io);

void tarn_member_io_tick(struct tarn_member_io* io);
/* False: not a message. */
bool tarn_member_io_receive(struct tarn_member_io* io, uint64_t from, const char* address, const uint8_t* data,
                            size_t bytes);
void tarn_member_io_appended(struct tarn_member_io* io, void* request);
void tarn_member_io_stored(struct tarn_member_io* io, void* request);

/* The entry that begins the log of a group of one voter: its encoding, from malloc. NULL: no memory. */
uint8_t* tarn_first_configuration(uint64_t member_id, const char* address, size_t* bytes);

#ifdef __cplusplus
} /* extern "C" */
#endif
