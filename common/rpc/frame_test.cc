#include "common/rpc/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "common/checksum/block_sums.h"

namespace tarn::rpc {
namespace {

using HeaderBytes = std::array<uint8_t, kFrameHeaderBytes>;

FrameHeader SampleHeader() {
  return {.kind = FrameKind::kReply,
          .method = Method::kReadChunk,
          .request_id = 0x0123456789abcdefull,
          .message_bytes = 0x1234,
          .payload_bytes = 0x100000,
          .status = StatusCode::kStaleEpoch};
}

// Changes bytes [position, position + 1) and makes the sum right again.
HeaderBytes WithByte(HeaderBytes bytes, size_t position, uint8_t value) {
  bytes[position] = value;
  const auto sum = static_cast<uint32_t>(Xxh3(std::span<const uint8_t>(bytes).first(28)));
  for (size_t i = 0; i < 4; ++i) bytes[28 + i] = static_cast<uint8_t>(sum >> (8 * i));
  return bytes;
}

TEST(FrameHeader, GoldenBytes) {
  const HeaderBytes expected = {
      'T',  'R',  'N',  'F',                           // magic
      1,                                               // version
      2,                                               // kind: reply
      40,   0,                                         // method: kReadChunk
      0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,  // request id
      0x34, 0x12, 0,    0,                             // message bytes
      0,    0,    0x10, 0,                             // payload bytes
      61,   0,    0,    0,                             // status: kStaleEpoch
      0x37, 0xd4, 0xa3, 0x55,                          // sum: low half of the XXH3-64 of what is above
  };
  EXPECT_EQ(EncodeFrameHeader(SampleHeader()), expected);
}

TEST(FrameHeader, ComesBackAsItWas) {
  const auto decoded = DecodeFrameHeader(EncodeFrameHeader(SampleHeader()));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->kind, FrameKind::kReply);
  EXPECT_EQ(decoded->method, Method::kReadChunk);
  EXPECT_EQ(decoded->request_id, 0x0123456789abcdefull);
  EXPECT_EQ(decoded->message_bytes, 0x1234u);
  EXPECT_EQ(decoded->payload_bytes, 0x100000u);
  EXPECT_EQ(decoded->status, StatusCode::kStaleEpoch);
}

TEST(FrameHeader, EveryFlippedBitIsNoticed) {
  const HeaderBytes good = EncodeFrameHeader(SampleHeader());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    HeaderBytes bad = good;
    bad[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    EXPECT_FALSE(DecodeFrameHeader(bad).ok()) << bit;
  }
}

TEST(FrameHeader, WhatBreaksABoundIsNamed) {
  const HeaderBytes good = EncodeFrameHeader(SampleHeader());
  const auto code = [&](size_t position, uint8_t value) {
    return DecodeFrameHeader(WithByte(good, position, value)).status().code();
  };
  EXPECT_EQ(code(0, 'X'), StatusCode::kCorruption);
  EXPECT_EQ(code(4, 2), StatusCode::kNotSupported);
  EXPECT_EQ(code(5, 0), StatusCode::kCorruption);
  EXPECT_EQ(code(5, 4), StatusCode::kCorruption);
  EXPECT_EQ(code(5, 1), StatusCode::kInvalidArgument);      // a request with a status
  EXPECT_EQ(code(18, 0x80), StatusCode::kInvalidArgument);  // message of 8 MiB and some
  EXPECT_EQ(code(22, 0x50), StatusCode::kInvalidArgument);  // payload of 5 MiB
  EXPECT_EQ(code(26, 1), StatusCode::kInvalidArgument);     // status past 16 bits
  // The greatest that are allowed, and codes and methods of later versions.
  EXPECT_EQ(code(22, 0x40), StatusCode::kOk);
  EXPECT_EQ(code(25, 0xff), StatusCode::kOk);
  EXPECT_EQ(code(7, 0xff), StatusCode::kOk);
}

TEST(Method, NumbersAreFixed) {
  const std::vector<std::pair<int, std::string>> expected = {
      {1, "kHello"},        {2, "kPing"},           {10, "kLookup"},       {11, "kLookupPath"},    {12, "kGetAttr"},
      {13, "kReadDir"},     {14, "kGetXattr"},      {15, "kListXattr"},    {16, "kStatFs"},        {17, "kGetVolume"},
      {18, "kListVolumes"}, {19, "kGetClusterMap"}, {20, "kKeepAlive"},    {21, "kMutate"},        {22, "kMutateBatch"},
      {23, "kAckPush"},     {24, "kForget"},        {25, "kAcquireWrite"}, {26, "kReleaseWrite"},  {27, "kTestLock"},
      {28, "kLockWaits"},   {30, "kInvalidate"},    {31, "kLocksGranted"},
      {40, "kReadChunk"},   {41, "kWriteChunk"},    {42, "kCommitTarget"}, {43, "kTruncateChunk"}, {44, "kStatData"},
      {45, "kListData"},  {46, "kRelay"},
      {50, "kReplicate"},   {51, "kReconcile"},     {52, "kInventory"},    {53, "kChunkSums"},     {54, "kInstallChunk"},
      {55, "kInstallWindows"}, {56, "kReadGrant"}, {57, "kConfirmChanges"}, {60, "kRaftMessage"},
  };
  size_t known = 0;
  for (int number = 0; number < 1000; ++number) known += IsKnownMethod(static_cast<Method>(number)) ? 1 : 0;
  EXPECT_EQ(known, expected.size());
  for (const auto& [number, name] : expected) EXPECT_EQ(MethodName(static_cast<Method>(number)), name);
  EXPECT_EQ(MethodName(static_cast<Method>(999)), "unknown method 999");
}

}  // namespace
}  // namespace tarn::rpc
