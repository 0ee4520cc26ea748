#include "metaserver/replication/raft_message.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "common/base/random.h"
#include "metaserver/replication/raft_envelope.h"
#include "metaserver/replication/raft_message_samples.h"

namespace tarn::meta {
namespace {

std::string Take(uint8_t* data, size_t bytes) {
  EXPECT_NE(data, nullptr);
  std::string text(reinterpret_cast<const char*>(data), bytes);
  std::free(data);
  return text;
}

std::string Sample(unsigned i) {
  size_t bytes = 0;
  uint8_t* data = tarn_sample_encode(i, &bytes);
  return Take(data, bytes);
}

// What decoding and encoding again makes of it; "" if it is no message. The copy has its exact size, so that a
// sanitizer sees a read beyond its end.
std::string Again(const std::string& message) {
  const auto copy = std::make_unique<uint8_t[]>(message.size());
  std::copy(message.begin(), message.end(), copy.get());
  size_t bytes = 0;
  uint8_t* data = tarn_sample_again(copy.get(), message.size(), &bytes);
  return data == nullptr ? "" : Take(data, bytes);
}

TEST(RaftMessage, GoldenBytes) {
  EXPECT_EQ(Sample(0), std::string("\x01\0\x01\0\0\0\0\0\x01\0\0\0\x02\0\0\0"
                                   "\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0"
                                   "\0\0\0\0\0\0\0\0"
                                   "\x04\0\0\0\0\0\0\0\x01\0\0\0\x03\0\0\0"
                                   "\x05\0\0\0\0\0\0\0\x02\0\0\0\x08\0\0\0"
                                   "abc\0\0\0\0\0\0\0\0",
                                   56 + 32 + 11));
  EXPECT_EQ(Sample(2), std::string("\x01\0\x03\0\0\0\0\0\x02\0\0\0\0\0\x01\0"
                                   "\x05\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0",
                                   48));
  size_t bytes = 0;
  uint8_t* removed = tarn_message_encode_removed(9, &bytes);
  EXPECT_EQ(Take(removed, bytes), std::string("\x01\0\xc8\0\0\0\0\0\x09\0\0\0\0\0\0\0", 16));
}

TEST(RaftMessage, EveryTypeComesBackAsItWas) {
  for (unsigned i = 0; i < TARN_SAMPLES; ++i) EXPECT_EQ(Again(Sample(i)), Sample(i)) << i;
}

TEST(RaftMessage, NoneIsTakenWithBytesMissingOrTooMany) {
  for (unsigned i = 0; i < TARN_SAMPLES; ++i) {
    const std::string sample = Sample(i);
    for (size_t bytes = 0; bytes < sample.size(); ++bytes) EXPECT_EQ(Again(sample.substr(0, bytes)), "") << i;
    EXPECT_EQ(Again(sample + "x"), "") << i;
  }
}

TEST(RaftMessage, WhatIsChangedIsRefusedOrAMessageAgain) {
  SeededRandom random(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string message = Sample(static_cast<unsigned>(round) % TARN_SAMPLES);
    for (uint64_t changes = random.Next() % 3 + 1; changes > 0; --changes) {
      message[random.Next() % message.size()] = static_cast<char>(random.Next());
    }
    const std::string again = Again(message);
    if (again.empty()) continue;
    EXPECT_EQ(Again(again), again);
  }
}

TEST(RaftMessage, AnotherVersionIsNoMessage) {
  std::string message = Sample(1);
  message[0] = 2;
  EXPECT_EQ(Again(message), "");
}

TEST(RaftEnvelope, HoldsTheMessageAndSeesDamage) {
  std::string bytes = CloseEnvelope("message");
  EXPECT_EQ(bytes.substr(0, 8), std::string("TRM1\0\0\0\0", 8));
  ASSERT_TRUE(OpenEnvelope(bytes).has_value());
  EXPECT_EQ(*OpenEnvelope(bytes), "message");
  for (size_t i = 8; i < bytes.size(); ++i) {
    bytes[i] ^= 1;
    EXPECT_FALSE(OpenEnvelope(bytes).has_value()) << i;
    bytes[i] ^= 1;
  }
  EXPECT_FALSE(OpenEnvelope("TRM1").has_value());
}

}  // namespace
}  // namespace tarn::meta
