// Lean frames over loopback, client and server in this process (so both share the machine's cores):
//   frame_bench --benchmark_min_time=1
// Reads: size in bytes / calls in flight / way of the payload. `items_per_second` is calls, `bytes_per_second` payload,
// CPU is the whole process's (both ends).
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "common/rpc/frame_server.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::rpc {
namespace {

constexpr uint32_t kFileBytes = 64 << 20;

enum Way : int64_t { kBuffer = 0, kSendfile = 1, kBufferOverUnixSocket = 2, kSendfileOverUnixSocket = 3 };

// A server of reads from a file in memory (pread into a buffer, or sendfile), of writes to nowhere, and of look-ups.
class ReadServer {
 public:
  explicit ReadServer(Way way) : way_(way), file_(memfd_create("bench", MFD_CLOEXEC)) {
    const std::vector<uint8_t> bytes(kFileBytes, 0x5a);
    CHECK(PwriteFull(file_.get(), bytes, 0, "memfd").ok(), "memfd");
    sums_ = ComputePieceSums(0, std::span<const uint8_t>(bytes).first(4 << 20));
    FrameServerOptions options;
    options.buffers = buffers_;
    options.offers_local_sockets = false;  // TCP, where it says so
    if (way >= kBufferOverUnixSocket) options.listen = "unix:/tmp/frame_bench." + std::to_string(getpid());
    auto server = FrameServer::Start(
        options, [](const proto::HelloRequest&, proto::HelloReply*) { return Status::Ok(); },
        [this](Request request, std::unique_ptr<Responder> responder) { Handle(std::move(request), *responder); });
    CHECK(server.ok(), server.status().ToString());
    server_ = std::move(*server);
  }
  const std::string& address() const { return server_->address(); }

 private:
  void Handle(Request request, Responder& responder) {
    if (request.method == Method::kReadChunk) return Read(request, responder);
    if (request.method == Method::kWriteChunk) return responder.Reply(proto::WriteChunkReply());
    proto::LookupRequest lookup;
    if (!ParseRequest(request, &lookup).ok()) return responder.Fail(Status(StatusCode::kInvalidArgument, "no look-up"));
    proto::LookupReply reply;
    reply.mutable_attributes()->set_inode(lookup.parent() + 1);
    reply.mutable_attributes()->set_size_bytes(112 << 10);
    reply.mutable_attributes()->set_mtime_ns(1'700'000'000'000'000'000);
    reply.mutable_attributes()->set_data_id(12345);
    responder.Reply(reply);
  }

  void Read(const Request& request, Responder& responder) {
    proto::ReadChunkRequest read;
    if (!ParseRequest(request, &read).ok()) return responder.Fail(Status(StatusCode::kInvalidArgument, "no read"));
    proto::ReadChunkReply reply;
    reply.set_chunk_bytes(kFileBytes);
    reply.set_block_sums(sums_.data(), PieceCount(0, read.length_bytes()) * kSumBytes);
    if (way_ == kSendfile || way_ == kSendfileOverUnixSocket) {
      return responder.ReplyFile(reply, {{file_.get(), read.offset_bytes(), read.length_bytes(), nullptr}});
    }
    Buffer payload = buffers_->Allocate(read.length_bytes());
    CHECK(PreadFull(file_.get(), payload.span(), read.offset_bytes(), "memfd").ok(), "memfd");
    responder.Reply(reply, std::move(payload));
  }

  const Way way_;
  const UniqueFd file_;
  const std::shared_ptr<BufferPool> buffers_ = BufferPool::Create(64 << 20);
  std::string sums_;
  std::unique_ptr<FrameServer> server_;
};

class BenchClient {
 public:
  explicit BenchClient(const std::string& address) {
    auto loop = EventLoop::Start("client");
    CHECK(loop.ok(), loop.status().ToString());
    loop_ = std::move(*loop);
    FrameClientOptions options;
    options.address = address;
    client_ = FrameClient::Create(loop_.get(), options, proto::HelloRequest());
    CHECK(client_->CallAndWait(Method::kPing, proto::LookupRequest(), nullptr).ok(), "ping");
  }
  ~BenchClient() { client_.reset(); }
  FrameClient& operator*() { return *client_; }
  EventLoop& loop() { return *loop_; }

 private:
  std::unique_ptr<EventLoop> loop_;
  std::shared_ptr<FrameClient> client_;
};

// `count` reads, `in_flight` at a time; each answer starts the next on the loop thread.
class ReadRun {
 public:
  ReadRun(BenchClient* client, uint32_t size, int in_flight, int count, bool verify)
      : client_(client), size_(size), left_(count), unanswered_(count), verify_(verify) {
    for (int i = 0; i < in_flight; ++i) destinations_.emplace_back(size);
  }
  void Run() {
    client_->loop().Post([this] {
      for (Buffer& destination : destinations_) Next(&destination);
    });
    done_.get_future().wait();
  }

 private:
  void Next(Buffer* destination) {
    if (left_-- <= 0) return;
    proto::ReadChunkRequest request;
    request.mutable_chunk()->set_target(1);
    request.mutable_chunk()->set_data_id(12345);
    request.mutable_chunk()->set_epoch(3);
    request.set_session(77);
    request.set_length_bytes(size_);
    offset_ = (offset_ + size_) % (kFileBytes - size_) / 4096 * 4096;
    request.set_offset_bytes(offset_);
    CallOptions options;
    options.payload_destination = destination->span();
    (**client_).Call(Method::kReadChunk, request, options, [this, destination](const Reply& reply) {
      proto::ReadChunkReply message;
      CHECK(ParseReply(reply, &message).ok() && reply.payload.size() == size_, reply.status.ToString());
      if (verify_) CHECK(!FindBadPiece(0, reply.payload, message.block_sums()).has_value(), "bad sum");
      if (--unanswered_ == 0) return done_.set_value();
      Next(destination);
    });
  }

  BenchClient* const client_;
  const uint32_t size_;
  int left_;
  int unanswered_;
  const bool verify_;
  uint32_t offset_ = 0;
  std::vector<Buffer> destinations_;
  std::promise<void> done_;
};

void RunReads(benchmark::State& state, bool verify) {
  const auto size = static_cast<uint32_t>(state.range(0));
  const auto in_flight = static_cast<int>(state.range(1));
  ReadServer server(static_cast<Way>(state.range(2)));
  BenchClient client(server.address());
  const int count = size >= (1 << 20) ? 512 : 4096;
  for (auto _ : state) ReadRun(&client, size, in_flight, count, verify).Run();
  state.SetItemsProcessed(state.iterations() * count);
  state.SetBytesProcessed(state.iterations() * count * size);
}

void BM_Read(benchmark::State& state) { RunReads(state, false); }
void BM_ReadVerified(benchmark::State& state) { RunReads(state, true); }

void ReadArguments(benchmark::internal::Benchmark* bench) {
  bench->UseRealTime()->MeasureProcessCPUTime()->Unit(benchmark::kMillisecond);
}
BENCHMARK(BM_Read)
    ->Apply(ReadArguments)
    ->Args({1 << 20, 1, kBuffer})
    ->Args({1 << 20, 4, kBuffer})
    ->Args({1 << 20, 1, kSendfile})
    ->Args({1 << 20, 4, kSendfile})
    ->Args({128 << 10, 8, kBuffer})
    ->Args({128 << 10, 8, kSendfile})
    ->Args({4096, 1, kBuffer})
    ->Args({4096, 32, kBuffer})
    ->Args({4096, 1, kSendfile})
    ->Args({4096, 32, kSendfile})
    ->Args({1 << 20, 4, kBufferOverUnixSocket})
    ->Args({1 << 20, 4, kSendfileOverUnixSocket})
    ->Args({4096, 1, kBufferOverUnixSocket})
    ->Args({4096, 32, kBufferOverUnixSocket});
BENCHMARK(BM_ReadVerified)
    ->Apply(ReadArguments)
    ->Args({1 << 20, 4, kBuffer})
    ->Args({1 << 20, 4, kSendfile})
    ->Args({4096, 32, kBuffer});

// Each thread waits for its answer before it asks again; all of them use one client.
void BM_Lookup(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  ReadServer server(kBuffer);
  BenchClient client(server.address());
  constexpr int kCallsPerThread = 2000;
  for (auto _ : state) {
    std::vector<std::thread> callers;
    for (int i = 0; i < threads; ++i) {
      callers.emplace_back([&client] {
        proto::LookupRequest request;
        request.set_parent(1);
        request.set_name("n01440764_10026.JPEG");
        for (int call = 0; call < kCallsPerThread; ++call) {
          proto::LookupReply reply;
          CHECK((*client).CallAndWait(Method::kLookup, request, &reply).ok(), "look-up");
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
  }
  state.SetItemsProcessed(state.iterations() * kCallsPerThread * threads);
}
BENCHMARK(BM_Lookup)->Apply(ReadArguments)->Arg(1)->Arg(4)->Arg(16);

// As a FUSE client calls: answers on the loop thread start the next call. Calls in flight.
class LookupRun {
 public:
  LookupRun(BenchClient* client, int in_flight, int count)
      : client_(client), in_flight_(in_flight), left_(count), unanswered_(count) {}
  void Run() {
    client_->loop().Post([this] {
      for (int i = 0; i < in_flight_; ++i) Next();
    });
    done_.get_future().wait();
  }

 private:
  void Next() {
    if (left_-- <= 0) return;
    proto::LookupRequest request;
    request.set_parent(1);
    request.set_name("n01440764_10026.JPEG");
    (**client_).Call(Method::kLookup, request, {}, [this](const Reply& reply) {
      proto::LookupReply message;
      CHECK(ParseReply(reply, &message).ok(), reply.status.ToString());
      if (--unanswered_ == 0) return done_.set_value();
      Next();
    });
  }

  BenchClient* const client_;
  const int in_flight_;
  int left_;
  int unanswered_;
  std::promise<void> done_;
};

void BM_LookupChained(benchmark::State& state) {
  ReadServer server(kBuffer);
  BenchClient client(server.address());
  constexpr int kCalls = 8192;
  for (auto _ : state) LookupRun(&client, static_cast<int>(state.range(0)), kCalls).Run();
  state.SetItemsProcessed(state.iterations() * kCalls);
}
BENCHMARK(BM_LookupChained)->Apply(ReadArguments)->Arg(1)->Arg(4)->Arg(64);

// Payloads to the server. Size / calls in flight.
class WriteRun {
 public:
  WriteRun(BenchClient* client, uint32_t size, int in_flight, int count)
      : client_(client), payload_(size), in_flight_(in_flight), left_(count), unanswered_(count) {
    std::memset(payload_.data(), 1, payload_.size());
  }
  void Run() {
    client_->loop().Post([this] {
      for (int i = 0; i < in_flight_; ++i) Next();
    });
    done_.get_future().wait();
  }

 private:
  void Next() {
    if (left_-- <= 0) return;
    CallOptions options;
    options.payload = payload_.span();
    (**client_).Call(Method::kWriteChunk, proto::WriteChunkRequest(), options, [this](const Reply& reply) {
      CHECK(reply.status.ok(), reply.status.ToString());
      if (--unanswered_ == 0) return done_.set_value();
      Next();
    });
  }

  BenchClient* const client_;
  Buffer payload_;
  const int in_flight_;
  int left_;
  int unanswered_;
  std::promise<void> done_;
};

void BM_Write(benchmark::State& state) {
  ReadServer server(kBuffer);
  BenchClient client(server.address());
  const auto size = static_cast<uint32_t>(state.range(0));
  const int count = size >= (1 << 20) ? 512 : 4096;
  for (auto _ : state) WriteRun(&client, size, static_cast<int>(state.range(1)), count).Run();
  state.SetItemsProcessed(state.iterations() * count);
  state.SetBytesProcessed(state.iterations() * count * size);
}
BENCHMARK(BM_Write)->Apply(ReadArguments)->Args({1 << 20, 4})->Args({112 << 10, 16})->Args({4096, 16});

}  // namespace
}  // namespace tarn::rpc
