/* For tests: one message of each type, made and compared in C, for raft.h. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TARN_SAMPLES = 6 };

/* The encoding of sample i (0 to TARN_SAMPLES - 1), from malloc. */
uint8_t* tarn_sample_encode(unsigned i, size_t* bytes);
/* Decodes and encodes again; NULL: not a message. From malloc. */
uint8_t* tarn_sample_again(const uint8_t* data, size_t bytes, size_t* bytes_again);

#ifdef __cplusplus
} /* extern "C" */
#endif
