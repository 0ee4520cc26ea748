// Client and server together: calls, hellos, answers in any order, bounds, payloads, pushes, ends.
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <thread>

#include "common/base/posix_io.h"
#include "common/base/worker_pool.h"
#include "common/rpc/frame_rpc_fixture.h"
#include "proto/data.pb.h"

namespace tarn::rpc {
namespace {

using testing::HasSubstr;

std::vector<uint8_t> Pattern(size_t size, uint8_t seed) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(seed + i * 7 + i / 251);
  return bytes;
}

Buffer PatternBuffer(size_t size, uint8_t seed) {
  Buffer buffer(size);
  const std::vector<uint8_t> bytes = Pattern(size, seed);
  std::copy(bytes.begin(), bytes.end(), buffer.span().begin());
  return buffer;
}

TEST_F(FrameRpc, ACallIsAnswered) {
  StartServer(EchoHandler());
  const auto client = Connect();
  proto::LookupRequest reply;
  const Status status = client->CallAndWait(Method::kLookup, Named("file"), &reply);
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(reply.name(), "file");
  EXPECT_EQ(client->hello_reply().server_id(), 7u);
  EXPECT_EQ(client->hello_reply().protocol_version(), 1u);
  EXPECT_TRUE(client->CallAndWait(Method::kPing, proto::LookupRequest(), nullptr).ok());
  EXPECT_EQ(server_->connection_count(), 1u);
}

TEST_F(FrameRpc, FeaturesAreTheIntersection) {
  StartServer(EchoHandler());
  hello_.set_features(0b1010);
  const auto client = Connect();
  ASSERT_TRUE(client->CallAndWait(Method::kPing, proto::LookupRequest(), nullptr).ok());
  EXPECT_EQ(client->hello_reply().features(), 0b0010u);
}

TEST_F(FrameRpc, TheHandlerSeesTheHelloOfItsPeer) {
  hello_.set_session(99);
  StartServer([](const Request& request, std::unique_ptr<Responder> responder) {
    EXPECT_EQ(request.peer->hello().session(), 99u);
    EXPECT_THAT(request.peer->address(), HasSubstr("127.0.0.1:"));
    EXPECT_TRUE(request.peer->connected());
    Echo(request, *responder);
  });
  EXPECT_TRUE(Connect()->CallAndWait(Method::kLookup, Named("x"), nullptr).ok());
}

TEST_F(FrameRpc, ARefusedHelloFailsTheCallsWithTheServersStatus) {
  StartServer(EchoHandler());
  hello_.set_token("wrong");
  const auto client = Connect();
  CallCounter counter;
  for (int i = 0; i < 100; ++i) {
    client->Call(Method::kLookup, Named("x"), {}, [&](const Reply& reply) {
      EXPECT_EQ(reply.status.code(), StatusCode::kPermission) << reply.status.ToString();
      EXPECT_THAT(reply.status.message(), HasSubstr("the token is not valid"));
      counter.Add();
    });
  }
  counter.Wait(100);
  EXPECT_FALSE(client->usable());
  EXPECT_EQ(client->CallAndWait(Method::kLookup, Named("x"), nullptr).code(), StatusCode::kPermission);
}

TEST_F(FrameRpc, AnswersComeInAnyOrder) {
  StartServer([&](Request, std::unique_ptr<Responder> responder) { held_.Hold(std::move(responder)); });
  const auto client = Connect();
  constexpr int kCalls = 200;
  CallCounter counter;
  std::vector<std::string> answers(kCalls);
  for (int i = 0; i < kCalls; ++i) {
    client->Call(Method::kLookup, Named("x"), {}, [&, i](const Reply& reply) {
      proto::LookupRequest message;
      EXPECT_TRUE(ParseReply(reply, &message).ok());
      answers[static_cast<size_t>(i)] = message.name();
      counter.Add();
    });
  }
  auto responders = held_.WaitForAndTake(kCalls);
  for (size_t i = kCalls; i-- > 0;) responders[i]->Reply(Named("answer " + std::to_string(i)));
  counter.Wait(kCalls);
  for (size_t i = 0; i < kCalls; ++i) EXPECT_EQ(answers[i], "answer " + std::to_string(i));
}

TEST_F(FrameRpc, ManyThreadsCallThroughOneClientAndAreAnsweredByMany) {
  const auto workers = WorkerPool::Start("answer", 3, 1 << 20);
  FrameServerOptions options;
  options.loop_threads = 2;
  StartServer(options, [&](Request request, std::unique_ptr<Responder> responder) {
    proto::LookupRequest lookup;
    ASSERT_TRUE(ParseRequest(request, &lookup).ok());
    std::shared_ptr<Responder> shared = std::move(responder);
    const size_t size = lookup.name().size() % 3 == 0 ? 50'000 : 10;
    ASSERT_TRUE(workers->Submit(
        [shared, lookup, size] { shared->Reply(lookup, PatternBuffer(size, static_cast<uint8_t>(size))); }));
  });
  const auto client = Connect();
  std::vector<std::thread> threads;
  constexpr int kCallsPerThread = 500;
  std::atomic<int> good = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kCallsPerThread; ++i) {
        const std::string name(static_cast<size_t>(1 + i % 7), static_cast<char>('a' + t));
        std::promise<void> done;
        client->Call(Method::kLookup, Named(name), {}, [&](const Reply& reply) {
          proto::LookupRequest message;
          const size_t size = name.size() % 3 == 0 ? 50'000 : 10;
          if (ParseReply(reply, &message).ok() && message.name() == name &&
              std::equal(reply.payload.begin(), reply.payload.end(),
                         Pattern(size, static_cast<uint8_t>(size)).begin()) &&
              reply.payload.size() == size) {
            ++good;
          }
          done.set_value();
        });
        done.get_future().wait();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 4 * kCallsPerThread);
  server_.reset();  // its loops may still be leaving Submit
}

TEST_F(FrameRpc, ServerErrorsCarryTheirDetail) {
  StartServer([](const Request& request, std::unique_ptr<Responder> responder) {
    if (request.method == Method::kReadChunk) {
      proto::ErrorDetail detail;
      detail.set_map_version(42);
      responder->Fail(Status(StatusCode::kStaleEpoch, "epoch 3, now 5"), detail);
    } else {
      responder->Fail(Status(StatusCode::kNotFound, "no such file"));
    }
  });
  const auto client = Connect();
  std::promise<void> done;
  client->Call(Method::kReadChunk, proto::ReadChunkRequest(), {}, [&](const Reply& reply) {
    EXPECT_EQ(reply.status.code(), StatusCode::kStaleEpoch);
    EXPECT_EQ(reply.status.message(), "epoch 3, now 5");
    EXPECT_EQ(ParseErrorDetail(reply).map_version(), 42u);
    done.set_value();
  });
  done.get_future().wait();
  const Status status = client->CallAndWait(Method::kLookup, Named("x"), nullptr);
  EXPECT_EQ(status.ToString(), "kNotFound: no such file");
  EXPECT_TRUE(client->usable());
}

TEST_F(FrameRpc, UnknownMethodsAndBadMessagesAreRefusedOnALivingConnection) {
  StartServer([](Request request, std::unique_ptr<Responder> responder) {
    if (request.method == Method::kGetAttr) request.message = request.message.first(request.message.size() - 1);
    Echo(request, *responder);
  });
  const auto client = Connect();
  const Status unknown = client->CallAndWait(static_cast<Method>(999), Named("x"), nullptr);
  EXPECT_EQ(unknown.code(), StatusCode::kNotSupported);
  EXPECT_THAT(unknown.message(), HasSubstr("999"));
  const Status cut = client->CallAndWait(Method::kGetAttr, Named("cut"), nullptr);
  EXPECT_EQ(cut.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(cut.message(), HasSubstr("tarn.proto.LookupRequest"));
  EXPECT_EQ(client->CallAndWait(Method::kHello, hello_, nullptr).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(client->CallAndWait(Method::kLookup, Named("x"), nullptr).ok());
}

TEST_F(FrameRpc, ADroppedResponderAnswersInternal) {
  StartServer([](const Request&, std::unique_ptr<Responder>) {});
  EXPECT_EQ(Connect()->CallAndWait(Method::kLookup, Named("x"), nullptr).code(), StatusCode::kInternal);
}

TEST_F(FrameRpc, TooLongMessagesAreRefusedBeforeTheyAreSent) {
  StartServer([](const Request& request, std::unique_ptr<Responder> responder) {
    if (request.message.size() < 100) return responder->Reply(Named(std::string(kMessageBytesMax, 'x')));
    Echo(request, *responder);
  });
  const auto client = Connect();
  EXPECT_EQ(client->CallAndWait(Method::kLookup, Named(std::string(kMessageBytesMax, 'x')), nullptr).code(),
            StatusCode::kTooLong);
  EXPECT_EQ(client->CallAndWait(Method::kLookup, Named("x"), nullptr).code(), StatusCode::kTooLong);
  // The largest that fits (tag and length take some bytes).
  proto::LookupRequest reply;
  ASSERT_TRUE(client->CallAndWait(Method::kLookup, Named(std::string(kMessageBytesMax - 16, 'x')), &reply).ok());
  EXPECT_EQ(reply.name().size(), kMessageBytesMax - 16);
}

TEST_F(FrameRpc, PayloadsGoBothWays) {
  StartServer([](Request request, std::unique_ptr<Responder> responder) {
    for (uint8_t& byte : request.payload.span()) byte = static_cast<uint8_t>(~byte);
    responder->Reply(proto::WriteChunkReply(), std::move(request.payload));
  });
  const auto client = Connect();
  for (size_t size : {size_t{1}, size_t{4096}, size_t{70'000}, size_t{1 << 20}, size_t{kPayloadBytesMax}}) {
    for (const bool with_destination : {false, true}) {
      const std::vector<uint8_t> sent = Pattern(size, 3);
      std::vector<uint8_t> destination(with_destination ? size + 10 : 0);
      CallOptions options;
      options.payload = sent;
      options.payload_destination = destination;
      std::promise<void> done;
      client->Call(Method::kWriteChunk, proto::WriteChunkRequest(), options, [&](const Reply& reply) {
        EXPECT_TRUE(reply.status.ok()) << reply.status.ToString();
        if (with_destination) {
          EXPECT_EQ(reply.payload.data(), destination.data());
        }
        ASSERT_EQ(reply.payload.size(), size);
        for (size_t i = 0; i < size; ++i)
          ASSERT_EQ(reply.payload[i], static_cast<uint8_t>(~sent[i])) << i << " of " << size;
        done.set_value();
      });
      done.get_future().wait();
    }
  }
}

TEST_F(FrameRpc, APayloadLongerThanItsDestinationFailsOnlyThatCall) {
  StartServer([](const Request&, std::unique_ptr<Responder> responder) {
    responder->Reply(proto::ReadChunkReply(), PatternBuffer(200'000, 1));
  });
  const auto client = Connect();
  std::vector<uint8_t> destination(199'999, 0x55);
  std::promise<void> done;
  CallOptions options;
  options.payload_destination = destination;
  client->Call(Method::kReadChunk, proto::ReadChunkRequest(), options, [&](const Reply& reply) {
    EXPECT_EQ(reply.status.code(), StatusCode::kCorruption);
    done.set_value();
  });
  done.get_future().wait();
  EXPECT_EQ(destination, std::vector<uint8_t>(199'999, 0x55));
  EXPECT_TRUE(client->CallAndWait(Method::kReadChunk, proto::ReadChunkRequest(), nullptr).ok());
}

class TemporaryFile {
 public:
  explicit TemporaryFile(std::span<const uint8_t> bytes) : fd_(memfd_create("payload", MFD_CLOEXEC)) {
    EXPECT_TRUE(PwriteFull(fd_.get(), bytes, 0, "memfd").ok());
  }
  int fd() const { return fd_.get(); }

 private:
  const UniqueFd fd_;
};

TEST_F(FrameRpc, FilePartsFollowOneAnother) {
  const std::vector<uint8_t> bytes = Pattern(3 << 20, 9);
  const TemporaryFile file(bytes);
  auto alive = std::make_shared<int>(0);
  StartServer([&](const Request&, std::unique_ptr<Responder> responder) {
    responder->ReplyFile(proto::ReadChunkReply(), {{file.fd(), 1'000'000, 1'048'576, alive},
                                                   {file.fd(), 7, 0, alive},
                                                   {file.fd(), 5, 10'000, alive},
                                                   {file.fd(), 0, 1, alive}});
  });
  const auto client = Connect();
  for (int round = 0; round < 3; ++round) {
    std::vector<uint8_t> destination(1'048'576 + 10'000 + 1);
    std::promise<void> done;
    CallOptions options;
    options.payload_destination = destination;
    client->Call(Method::kReadChunk, proto::ReadChunkRequest(), options, [&](const Reply& reply) {
      EXPECT_TRUE(reply.status.ok()) << reply.status.ToString();
      EXPECT_EQ(reply.payload.size(), destination.size());
      done.set_value();
    });
    done.get_future().wait();
    EXPECT_TRUE(std::equal(destination.begin(), destination.begin() + 1'048'576, bytes.begin() + 1'000'000));
    EXPECT_TRUE(std::equal(destination.begin() + 1'048'576, destination.end() - 1, bytes.begin() + 5));
    EXPECT_EQ(destination.back(), bytes[0]);
  }
  // The file is let go once it was sent; the server's thread does that just after, so wait for its next turn.
  ASSERT_TRUE(client->CallAndWait(Method::kPing, proto::LookupRequest(), nullptr).ok());
  EXPECT_EQ(alive.use_count(), 1);
}

TEST_F(FrameRpc, AFileThatIsTooShortEndsTheConnection) {
  const TemporaryFile file(Pattern(5000, 9));
  StartServer([&](const Request&, std::unique_ptr<Responder> responder) {
    responder->ReplyFile(proto::ReadChunkReply(), {{file.fd(), 0, 8192, nullptr}});
  });
  const auto client = Connect();
  EXPECT_EQ(client->CallAndWait(Method::kReadChunk, proto::ReadChunkRequest(), nullptr).code(),
            StatusCode::kUnavailable);
  EXPECT_FALSE(client->usable());
}

TEST_F(FrameRpc, ACallTimesOutAndItsLateAnswerIsDropped) {
  StartServer([&](const Request& request, std::unique_ptr<Responder> responder) {
    if (request.method == Method::kGetAttr) return Echo(request, *responder);
    held_.Hold(std::move(responder));
  });
  const auto client = Connect();
  const Status status = client->CallAndWait(Method::kLookup, Named("x"), nullptr, 20);
  EXPECT_EQ(status.code(), StatusCode::kTimeout);
  EXPECT_THAT(status.message(), HasSubstr("kLookup to 127.0.0.1:"));
  for (auto& responder : held_.WaitForAndTake(1)) responder->Reply(Named("late"));
  proto::LookupRequest reply;
  ASSERT_TRUE(client->CallAndWait(Method::kGetAttr, Named("next"), &reply).ok());
  EXPECT_EQ(reply.name(), "next");
}

TEST_F(FrameRpc, TimeOutsOfDifferentLengthsFireEach) {
  StartServer([&](Request, std::unique_ptr<Responder> responder) { held_.Hold(std::move(responder)); });
  const auto client = Connect();
  CallCounter counter;
  std::vector<int64_t> order;
  for (const int64_t timeout_ms : {200, 50, 120, 10, 160, 20}) {
    CallOptions options;
    options.timeout_ms = timeout_ms;
    client->Call(Method::kLookup, Named("x"), options, [&, timeout_ms](const Reply& reply) {
      EXPECT_EQ(reply.status.code(), StatusCode::kTimeout);
      order.push_back(timeout_ms);
      counter.Add();
    });
  }
  counter.Wait(6);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(FrameRpc, AServerThatGoesAwayFailsTheCallsInFlight) {
  StartServer([&](Request, std::unique_ptr<Responder> responder) { held_.Hold(std::move(responder)); });
  const auto client = Connect();
  CallCounter counter;
  for (int i = 0; i < 10; ++i) {
    client->Call(Method::kLookup, Named("x"), {}, [&](const Reply& reply) {
      EXPECT_EQ(reply.status.code(), StatusCode::kUnavailable);
      counter.Add();
    });
  }
  auto responders = held_.WaitForAndTake(10);
  server_.reset();
  counter.Wait(10);
  EXPECT_FALSE(client->usable());
  // Answers to nobody, and dropping the rest: nothing happens.
  for (size_t i = 0; i < 5; ++i) responders[i]->Reply(Named("x"), PatternBuffer(100'000, 1));
  responders.clear();
  EXPECT_EQ(client->CallAndWait(Method::kLookup, Named("x"), nullptr).code(), StatusCode::kUnavailable);
}

TEST_F(FrameRpc, NobodyListeningIsUnavailable) {
  StartServer(EchoHandler());
  const FrameClientOptions options = Options();
  server_.reset();
  const auto client = Connect(options);
  const Status status = client->CallAndWait(Method::kLookup, Named("x"), nullptr);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("connect " + options.address + ": Connection refused"));
}

TEST_F(FrameRpc, NamesAreResolvedAndBadAddressesRefused) {
  StartServer(EchoHandler());
  FrameClientOptions options = Options();
  const std::string port = options.address.substr(options.address.rfind(':'));
  options.address = "localhost" + port;
  EXPECT_TRUE(Connect(options)->CallAndWait(Method::kLookup, Named("x"), nullptr).ok());
  options.address = "no port";
  EXPECT_EQ(Connect(options)->CallAndWait(Method::kLookup, Named("x"), nullptr).code(), StatusCode::kInvalidArgument);
}

TEST_F(FrameRpc, ClosingFailsWhatIsInFlightAndWhatComesLater) {
  StartServer([&](Request, std::unique_ptr<Responder> responder) { held_.Hold(std::move(responder)); });
  const auto client = Connect();
  CallCounter counter;
  client->Call(Method::kLookup, Named("x"), {}, [&](const Reply& reply) {
    EXPECT_EQ(reply.status.code(), StatusCode::kUnavailable);
    counter.Add();
  });
  client->Close();
  EXPECT_FALSE(client->usable());
  EXPECT_EQ(client->CallAndWait(Method::kLookup, Named("x"), nullptr).code(), StatusCode::kUnavailable);
  counter.Wait(1);
}

TEST_F(FrameRpc, DroppingTheClientFailsItsCalls) {
  StartServer([&](Request, std::unique_ptr<Responder> responder) { held_.Hold(std::move(responder)); });
  auto client = Connect();
  std::promise<StatusCode> code;
  client->Call(Method::kLookup, Named("x"), {}, [&](const Reply& reply) { code.set_value(reply.status.code()); });
  const auto responders = held_.WaitForAndTake(1);
  client.reset();
  EXPECT_EQ(code.get_future().get(), StatusCode::kUnavailable);
}

TEST_F(FrameRpc, DestroyingTheLoopRunsEveryCallback) {
  StartServer([&](Request, std::unique_ptr<Responder> responder) { held_.Hold(std::move(responder)); });
  auto client = Connect();
  std::atomic<int> called = 0;
  for (int i = 0; i < 20; ++i) {
    client->Call(Method::kLookup, Named("x"), {}, [&](const Reply& reply) {
      EXPECT_FALSE(reply.status.ok());
      ++called;
    });
  }
  const auto responders = held_.WaitForAndTake(20);
  client.reset();
  client_loop_.reset();
  EXPECT_EQ(called, 20);
}

TEST_F(FrameRpc, CallsBeyondTheBoundAreRefused) {
  StartServer([&](Request, std::unique_ptr<Responder> responder) { held_.Hold(std::move(responder)); });
  FrameClientOptions options = Options();
  options.requests_in_flight_max = 3;
  const auto client = Connect(options);
  CallCounter answered;
  for (int i = 0; i < 3; ++i) {
    client->Call(Method::kLookup, Named("x"), {}, [&](const Reply& reply) {
      EXPECT_TRUE(reply.status.ok());
      answered.Add();
    });
  }
  EXPECT_EQ(client->CallAndWait(Method::kLookup, Named("x"), nullptr).code(), StatusCode::kResourceExhausted);
  for (auto& responder : held_.WaitForAndTake(3)) responder->Reply(Named("x"));
  answered.Wait(3);
}

TEST_F(FrameRpc, TheServerStopsReadingAtItsBound) {
  FrameServerOptions options;
  options.requests_in_flight_max = 4;
  StartServer(options, [&](Request, std::unique_ptr<Responder> responder) { held_.Hold(std::move(responder)); });
  const auto client = Connect();
  constexpr int kCalls = 50;
  CallCounter counter;
  for (int i = 0; i < kCalls; ++i) {
    client->Call(Method::kLookup, Named("x"), {}, [&](const Reply& reply) {
      EXPECT_TRUE(reply.status.ok()) << reply.status.ToString();
      counter.Add();
    });
  }
  int answered = 0;
  while (answered < kCalls) {
    auto responders = held_.WaitForAndTake(1);
    EXPECT_LE(responders.size(), 4u);
    // All but one of those in flight were taken here, so no more than the bound can be out together.
    for (auto& responder : responders) responder->Reply(Named("x"));
    answered += static_cast<int>(responders.size());
  }
  counter.Wait(kCalls);
}

TEST_F(FrameRpc, AClientThatDoesNotReadBlocksOnlyItself) {
  // The content does not matter, and making it would hold up the server's loop.
  StartServer([](const Request&, std::unique_ptr<Responder> responder) {
    responder->Reply(proto::ReadChunkReply(), Buffer(kPayloadBytesMax));
  });
  // Its loop stands still in the first callback, so that answers of 4 MiB pile up at the server until it stops reading
  // requests.
  auto slow_loop = EventLoop::Start("slow");
  ASSERT_TRUE(slow_loop.ok());
  const auto slow = FrameClient::Create(slow_loop->get(), Options(), hello_);
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  CallCounter counter;
  constexpr int kCalls = 40;
  for (int i = 0; i < kCalls; ++i) {
    slow->Call(Method::kReadChunk, proto::ReadChunkRequest(),
               {.timeout_ms = 60'000, .payload = {}, .payload_destination = {}}, [&](const Reply& reply) {
                 released.wait();
                 EXPECT_TRUE(reply.status.ok()) << reply.status.ToString();
                 EXPECT_EQ(reply.payload.size(), kPayloadBytesMax);
                 counter.Add();
               });
  }
  const auto quick = Connect();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(quick->CallAndWait(Method::kPing, proto::LookupRequest(), nullptr).ok());
  EXPECT_EQ(counter.count(), 0);
  release.set_value();
  counter.Wait(kCalls);
}

TEST_F(FrameRpc, PushesReachTheirHandler) {
  std::promise<std::shared_ptr<Peer>> peer_promise;
  StartServer([&](const Request& request, std::unique_ptr<Responder> responder) {
    request.peer->Push(Method::kLookup, Named("before the answer"));
    Echo(request, *responder);
    peer_promise.set_value(request.peer);
  });
  CallCounter counter;
  std::vector<std::string> pushed;
  FrameClientOptions options = Options();
  options.push_handler = [&](Method method, std::span<const uint8_t> bytes) {
    EXPECT_EQ(method, Method::kLookup);
    proto::LookupRequest message;
    EXPECT_TRUE(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    pushed.push_back(message.name());
    counter.Add();
  };
  const auto client = Connect(options);
  ASSERT_TRUE(client->CallAndWait(Method::kLookup, Named("x"), nullptr).ok());
  const std::shared_ptr<Peer> peer = peer_promise.get_future().get();
  peer->Push(Method::kLookup, Named("from another thread"));
  counter.Wait(2);
  EXPECT_THAT(pushed, testing::ElementsAre("before the answer", "from another thread"));
  server_.reset();
  EXPECT_FALSE(peer->connected());
  peer->Push(Method::kLookup, Named("to nobody"));
}

TEST_F(FrameRpc, UnixSocketsServeAndTheirFilesAreReplaced) {
  std::string directory = testing::TempDir() + "frame_rpc_XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const std::string path = directory + "/socket";
  FrameServerOptions options;
  options.listen = "unix:" + path;
  StartServer(options, EchoHandler());
  EXPECT_EQ(server_->address(), "unix:" + path);
  EXPECT_TRUE(Connect()->CallAndWait(Method::kLookup, Named("x"), nullptr).ok());
  const auto second = FrameServer::Start(
      options, [](const proto::HelloRequest&, proto::HelloReply*) { return Status::Ok(); }, EchoHandler());
  EXPECT_EQ(second.status().code(), StatusCode::kBusy);
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
  // A file left behind by a killed server.
  {
    StartServer(options, EchoHandler());
    std::filesystem::rename(path, path + ".left");
    server_.reset();
    std::filesystem::rename(path + ".left", path);
  }
  StartServer(options, EchoHandler());
  EXPECT_TRUE(Connect()->CallAndWait(Method::kLookup, Named("x"), nullptr).ok());
  server_.reset();
  std::filesystem::remove_all(directory);
}

TEST_F(FrameRpc, ATakenPortIsBusyAndNamed) {
  StartServer(EchoHandler());
  FrameServerOptions options;
  options.listen = server_->address();
  const auto second = FrameServer::Start(
      options, [](const proto::HelloRequest&, proto::HelloReply*) { return Status::Ok(); }, EchoHandler());
  EXPECT_EQ(second.status().code(), StatusCode::kBusy);
  EXPECT_THAT(second.status().message(), HasSubstr(server_->address()));
}

TEST_F(FrameRpc, ConnectionsBeyondTheBoundAreClosed) {
  FrameServerOptions options;
  options.connections_max = 2;
  StartServer(options, EchoHandler());
  const auto first = Connect();
  const auto second = Connect();
  EXPECT_TRUE(first->CallAndWait(Method::kLookup, Named("x"), nullptr).ok());
  EXPECT_TRUE(second->CallAndWait(Method::kLookup, Named("x"), nullptr).ok());
  EXPECT_EQ(Connect()->CallAndWait(Method::kLookup, Named("x"), nullptr).code(), StatusCode::kUnavailable);
  EXPECT_EQ(server_->connection_count(), 2u);
}

TEST_F(FrameRpc, TheServerMayEndWhileManyThreadsAnswer) {
  const auto workers = WorkerPool::Start("answer", 3, 1 << 20);
  for (int round = 0; round < 20; ++round) {
    StartServer([&](Request, std::unique_ptr<Responder> responder) {
      std::shared_ptr<Responder> shared = std::move(responder);
      ASSERT_TRUE(workers->Submit([shared] { shared->Reply(proto::ReadChunkReply(), PatternBuffer(40'000, 1)); }));
    });
    const auto client = Connect();
    CallCounter counter;
    for (int i = 0; i < 100; ++i) {
      client->Call(Method::kReadChunk, proto::ReadChunkRequest(), {}, [&](const Reply&) { counter.Add(); });
    }
    counter.Wait(10);
    server_.reset();
    counter.Wait(100);
  }
}

}  // namespace
}  // namespace tarn::rpc
