// The reader against a model: whatever the frames, however the bytes arrive, the sink sees the frames as they were
// sent.
#include "common/rpc/frame_reader.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/base/unique_fd.h"

namespace tarn::rpc {
namespace {

struct ModelFrame {
  FrameHeader header;
  std::string message;
  std::string payload;
};

std::string RandomBytes(std::mt19937_64& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

size_t RandomSize(std::mt19937_64& random, size_t large) {
  switch (random() % 4) {
    case 0:
      return 0;
    case 1:
      return random() % 100;
    case 2:
      return random() % 5000;
    default:
      return random() % large;
  }
}

ModelFrame RandomFrame(std::mt19937_64& random, uint64_t id) {
  ModelFrame frame;
  frame.message = RandomBytes(random, RandomSize(random, 200'000));
  frame.payload = RandomBytes(random, RandomSize(random, 300'000));
  frame.header = {.kind = FrameKind::kReply,
                  .method = Method::kReadChunk,
                  .request_id = id,
                  .message_bytes = static_cast<uint32_t>(frame.message.size()),
                  .payload_bytes = static_cast<uint32_t>(frame.payload.size())};
  return frame;
}

std::string BytesOf(const ModelFrame& frame) {
  const auto header = EncodeFrameHeader(frame.header);
  return std::string(header.begin(), header.end()) + frame.message + frame.payload;
}

std::string_view TextOf(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Places payloads by turns, pauses now and then, and compares with the model.
class CheckingSink : public FrameSink {
 public:
  CheckingSink(const std::vector<ModelFrame>* frames, uint64_t seed) : frames_(frames), random_(seed) {}

  bool AcceptsFrames() override {
    if (!pausing_) return true;
    if (random_() % 20 == 0) paused_ = true;
    return !paused_;
  }
  PayloadPlace PlacePayload(const FrameHeader& header, std::span<const uint8_t> message) override {
    EXPECT_EQ(TextOf(message), frames_->at(seen_).message);
    kind_ = static_cast<PayloadPlace::Kind>(random_() % 3);
    destination_.assign(header.payload_bytes, '\0');
    auto* const bytes = reinterpret_cast<uint8_t*>(destination_.data());
    return {.kind = kind_,
            .destination = kind_ == PayloadPlace::Kind::kDestination ? std::span(bytes, destination_.size())
                                                                     : std::span(bytes, 0)};
  }
  Status OnFrame(const FrameHeader& header, std::span<const uint8_t> message,
                 std::span<const uint8_t> payload) override {
    const ModelFrame& expected = frames_->at(seen_++);
    EXPECT_EQ(header.request_id, expected.header.request_id);
    EXPECT_TRUE(TextOf(message) == expected.message) << seen_;
    if (expected.payload.empty()) {
      EXPECT_TRUE(payload.empty());
    } else if (kind_ == PayloadPlace::Kind::kDiscard) {
      EXPECT_TRUE(payload.empty());
    } else {
      EXPECT_TRUE(TextOf(payload) == expected.payload) << seen_;
      if (kind_ == PayloadPlace::Kind::kDestination) {
        EXPECT_TRUE(destination_ == expected.payload);
      }
    }
    return Status::Ok();
  }

  size_t seen() const { return seen_; }
  void Pause(bool pausing) { pausing_ = pausing; }
  bool TakePause() { return std::exchange(paused_, false); }

 private:
  const std::vector<ModelFrame>* const frames_;
  std::mt19937_64 random_;
  size_t seen_ = 0;
  PayloadPlace::Kind kind_ = PayloadPlace::Kind::kReader;
  std::string destination_;
  bool pausing_ = false;
  bool paused_ = false;
};

struct SocketPair {
  SocketPair() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    ours = UniqueFd(fds[0]);
    theirs = UniqueFd(fds[1]);
  }
  UniqueFd ours;
  UniqueFd theirs;
};

// Sends `bytes` in pieces cut at random and reads after each.
void SendInPieces(const std::string& bytes, size_t piece_max, std::mt19937_64& random, FrameReader& reader,
                  CheckingSink& sink) {
  const SocketPair sockets;
  size_t sent = 0;
  while (sent < bytes.size()) {
    const size_t piece = std::min<size_t>(1 + random() % piece_max, bytes.size() - sent);
    const ssize_t put = write(sockets.theirs.get(), bytes.data() + sent, piece);
    if (put > 0) sent += static_cast<size_t>(put);
    ASSERT_TRUE(reader.ReadAvailable(sockets.ours.get(), sink).ok());
    if (sink.TakePause()) {
      ASSERT_TRUE(reader.ParseBuffered(sink).ok());
    }
  }
  sink.Pause(false);
  (void)sink.TakePause();
  // Each call takes a bounded share.
  for (int round = 0; round < 1000; ++round) ASSERT_TRUE(reader.ReadAvailable(sockets.ours.get(), sink).ok());
}

TEST(FrameReader, FramesComeAsTheyWereSentHoweverTheyAreCut) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<ModelFrame> frames;
    std::string bytes;
    for (uint64_t id = 1; id <= 40; ++id) {
      frames.push_back(RandomFrame(random, id));
      bytes += BytesOf(frames.back());
    }
    FrameReader reader;
    CheckingSink sink(&frames, seed);
    sink.Pause(seed % 2 == 0);
    const size_t piece_max = std::vector<size_t>{37, 4096, 70'000, 400'000}[seed % 4];
    SendInPieces(bytes, seed % 4 == 0 ? 5000 : piece_max, random, reader, sink);
    ASSERT_EQ(sink.seen(), frames.size()) << seed;
  }
}

TEST(FrameReader, SmallFramesComeByteByByte) {
  std::mt19937_64 random(5);
  std::vector<ModelFrame> frames;
  std::string bytes;
  for (uint64_t id = 1; id <= 20; ++id) {
    ModelFrame frame;
    frame.message = RandomBytes(random, random() % 40);
    frame.payload = RandomBytes(random, random() % 40);
    frame.header = {.kind = FrameKind::kReply,
                    .method = Method::kLookup,
                    .request_id = id,
                    .message_bytes = static_cast<uint32_t>(frame.message.size()),
                    .payload_bytes = static_cast<uint32_t>(frame.payload.size())};
    bytes += BytesOf(frame);
    frames.push_back(std::move(frame));
  }
  FrameReader reader;
  CheckingSink sink(&frames, 1);
  SendInPieces(bytes, 1, random, reader, sink);
  EXPECT_EQ(sink.seen(), frames.size());
}

TEST(FrameReader, AClosedSocketIsUnavailable) {
  SocketPair sockets;
  const std::vector<ModelFrame> none;
  CheckingSink sink(&none, 1);
  FrameReader reader;
  EXPECT_TRUE(reader.ReadAvailable(sockets.ours.get(), sink).ok());
  sockets.theirs.Reset();
  EXPECT_EQ(reader.ReadAvailable(sockets.ours.get(), sink).code(), StatusCode::kUnavailable);
}

TEST(FrameReader, ADiscardedPayloadIsNotWrittenAnyMore) {
  std::mt19937_64 random(9);
  ModelFrame frame;
  frame.payload = RandomBytes(random, 100'000);
  frame.header = {.kind = FrameKind::kReply,
                  .method = Method::kReadChunk,
                  .request_id = 1,
                  .message_bytes = 0,
                  .payload_bytes = 100'000};

  class PlacingSink : public FrameSink {
   public:
    bool AcceptsFrames() override { return true; }
    PayloadPlace PlacePayload(const FrameHeader&, std::span<const uint8_t>) override {
      return {.kind = PayloadPlace::Kind::kDestination, .destination = destination};
    }
    Status OnFrame(const FrameHeader&, std::span<const uint8_t>, std::span<const uint8_t> payload) override {
      payload_bytes = payload.size();
      return Status::Ok();
    }
    std::vector<uint8_t> destination = std::vector<uint8_t>(100'000);
    std::optional<size_t> payload_bytes;
  };
  const SocketPair sockets;
  const std::string bytes = BytesOf(frame);
  PlacingSink sink;
  FrameReader reader;
  ASSERT_EQ(write(sockets.theirs.get(), bytes.data(), 50'000), 50'000);
  ASSERT_TRUE(reader.ReadAvailable(sockets.ours.get(), sink).ok());
  reader.DiscardPayload();
  sink.destination.assign(100'000, 0x77);
  ASSERT_EQ(write(sockets.theirs.get(), bytes.data() + 50'000, bytes.size() - 50'000),
            static_cast<ssize_t>(bytes.size() - 50'000));
  ASSERT_TRUE(reader.ReadAvailable(sockets.ours.get(), sink).ok());
  EXPECT_EQ(sink.payload_bytes, 0u);
  EXPECT_EQ(sink.destination, std::vector<uint8_t>(100'000, 0x77));
}

}  // namespace
}  // namespace tarn::rpc
