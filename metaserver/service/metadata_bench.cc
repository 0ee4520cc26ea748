// A whole metadata server over loopback: creates and look-ups per second with few and many requests in flight.
//
// Server and client share this process and its processors. The directory is made under $TMPDIR (or /tmp): the figures
// for creates are those of that disk.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <semaphore>

#include "common/base/check.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "metaserver/service/metadata_server.h"
#include "metaserver/service/push_coordinator.h"
#include "proto/hello.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;
using rpc::Method;

class Bench {
 public:
  Bench() {
    std::string pattern = (fs::temp_directory_path() / "metadata_bench.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    MetadataServerOptions options;
    options.directory = directory_;
    options.listen = "127.0.0.1:0";
    auto started = MetadataServer::Start(options, &clock_, &random_);
    CHECK(started.ok(), started.status().ToString());
    server_ = std::move(*started);
    loop_ = std::move(rpc::EventLoop::Start("bench client")).value();
    proto::HelloRequest hello;
    hello.set_protocol_version(1);
    hello.set_protocol_version_min(1);
    rpc::FrameClientOptions client_options;
    client_options.address = server_->address();
    client_ = rpc::FrameClient::Create(loop_.get(), client_options, hello);
    OpenSession();
    MakeVolume();
  }
  ~Bench() {
    client_->Close();
    client_.reset();
    loop_.reset();
    server_.reset();
    fs::remove_all(directory_);
  }

  // Runs `count` calls with at most `in_flight` unanswered at once.
  void Run(int64_t count, int in_flight, const std::function<void(int64_t, rpc::ReplyCallback)>& call) {
    std::counting_semaphore<> room(in_flight);
    for (int64_t i = 0; i < count; ++i) {
      room.acquire();
      call(i, [&room](rpc::Reply reply) {
        CHECK(reply.status.ok(), reply.status.ToString());
        room.release();
      });
    }
    for (int i = 0; i < in_flight; ++i) room.acquire();
  }

  void Create(rpc::ReplyCallback callback) {
    proto::Mutation mutation = Next();
    proto::CreateOp* op = mutation.mutable_create();
    op->set_parent(root_);
    op->set_name("file-" + std::to_string(++files_));
    op->set_type(proto::FILE_TYPE_REGULAR);
    op->set_mode(0644);
    client_->Call(Method::kMutate, mutation, {}, std::move(callback));
  }
  void Lookup(int64_t i, rpc::ReplyCallback callback) {
    proto::LookupRequest request;
    request.set_parent(root_);
    request.set_name("file-" + std::to_string(1 + i % files_));
    client_->Call(Method::kLookup, request, {}, std::move(callback));
  }
  int64_t files() const { return files_; }

 private:
  proto::Mutation Next() {
    proto::Mutation mutation;
    mutation.set_session(session_);
    mutation.set_sequence(++sequence_);
    // As a client that has at most 1024 requests in flight would say.
    mutation.set_acked_through(sequence_ > 1024 ? sequence_ - 1024 : 0);
    return mutation;
  }
  void OpenSession() {
    proto::Mutation mutation;
    mutation.mutable_open_session()->set_nonce(random_.NextNonZero());
    proto::MutationReply reply;
    Status status;
    do {
      status = client_->CallAndWait(Method::kMutate, mutation, &reply);
    } while (status.code() == StatusCode::kNotLeader);
    CHECK(status.ok(), status.ToString());
    session_ = reply.session();
  }
  void MakeVolume() {
    proto::Mutation mutation = Next();
    mutation.mutable_create_volume()->mutable_volume()->set_name("bench");
    proto::MutationReply reply;
    const Status status = client_->CallAndWait(Method::kMutate, mutation, &reply);
    CHECK(status.ok(), status.ToString());
    root_ = reply.volume().root();
  }

  std::string directory_;
  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<MetadataServer> server_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::shared_ptr<rpc::FrameClient> client_;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
  uint64_t root_ = 0;
  int64_t files_ = 0;
};

void Creates(benchmark::State& state) {
  Bench bench;
  constexpr int64_t kPerRound = 2000;
  for (auto _ : state) {
    bench.Run(kPerRound, static_cast<int>(state.range(0)),
              [&](int64_t, rpc::ReplyCallback callback) { bench.Create(std::move(callback)); });
  }
  state.SetItemsProcessed(state.iterations() * kPerRound);
}
BENCHMARK(Creates)
    ->ArgName("in_flight")
    ->Arg(1)
    ->Arg(8)
    ->Arg(64)
    ->Arg(256)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond)
    ->MinTime(3.0);

void Lookups(benchmark::State& state) {
  Bench bench;
  bench.Run(100'000, 256, [&](int64_t, rpc::ReplyCallback callback) { bench.Create(std::move(callback)); });
  constexpr int64_t kPerRound = 10'000;
  int64_t next = 0;
  for (auto _ : state) {
    bench.Run(kPerRound, static_cast<int>(state.range(0)),
              [&](int64_t, rpc::ReplyCallback callback) { bench.Lookup(next++ * 7919, std::move(callback)); });
  }
  state.SetItemsProcessed(state.iterations() * kPerRound);
}
BENCHMARK(Lookups)
    ->ArgName("in_flight")
    ->Arg(1)
    ->Arg(8)
    ->Arg(64)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond)
    ->MinTime(2.0);

// ---- What coherence costs the apply thread and the readers ----

class DiscardingPeer final : public rpc::Peer {
 public:
  const proto::HelloRequest& hello() const override { return hello_; }
  const std::string& address() const override { return address_; }
  bool connected() const override { return true; }
  void Push(Method, const google::protobuf::MessageLite&) override {}

 private:
  const proto::HelloRequest hello_;
  const std::string address_;
};

class Coordinator {
 public:
  explicit Coordinator(uint64_t sessions) : keeper_(&clock_, 5000), coherence_(Options(), &clock_, &keeper_) {
    coherence_.SetSettle([](InodeId, std::vector<SessionId>, const auto&) {});
    coherence_.BeginLeading(1, {}, {});
    for (uint64_t id = 1; id <= sessions; ++id) {
      proto::LogEntry entry;
      entry.add_commands()->mutable_mutation()->mutable_open_session()->set_caches(true);
      proto::MutationReply reply;
      reply.set_session(id);
      coherence_.OnApplied(entry, {&reply, 1}, {});
      coherence_.Attach(SessionId(id), peer_);
    }
  }
  PushCoordinator& coherence() { return coherence_; }

 private:
  static PushCoordinatorOptions Options() {
    PushCoordinatorOptions options;
    options.budget.burst = 1e18;
    return options;
  }

  SystemClock clock_;
  SessionKeeper keeper_;
  PushCoordinator coherence_;
  std::shared_ptr<rpc::Peer> peer_ = std::make_shared<DiscardingPeer>();
};

// A create in a directory that so many sessions watch, the creating one among them; the others acknowledge.
void ChangeBookkeeping(benchmark::State& state) {
  const auto sessions = static_cast<uint64_t>(state.range(0));
  Coordinator coordinator(sessions);
  constexpr InodeId kDirectory(100);
  for (uint64_t id = 1; id <= sessions; ++id) coordinator.coherence().Watch(SessionId(id), kDirectory, true);
  proto::LogEntry entry;
  proto::Mutation* mutation = entry.add_commands()->mutable_mutation();
  mutation->set_session(1);
  mutation->mutable_create()->set_name("file");
  const proto::MutationReply reply;
  ChangeSet changes;
  changes.names.push_back({.directory = kDirectory, .name = "file"});
  changes.Inode(kDirectory);
  uint64_t push = 1;  // the same for all but the first session
  for (auto _ : state) {
    mutation->set_sequence(mutation->sequence() + 1);
    coordinator.coherence().OnApplied(entry, {&reply, 1}, {&changes, 1});
    for (uint64_t id = 2; id <= sessions; ++id) {
      proto::AckPushRequest ack;
      ack.set_session(id);
      ack.set_term(1);
      ack.add_pushes(push);
      coordinator.coherence().Acknowledge(ack);
    }
    ++push;
  }
  CHECK(!coordinator.coherence().AnythingWaits(), "everybody has acknowledged");
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(ChangeBookkeeping)->ArgName("sessions")->Arg(0)->Arg(1)->Arg(2)->Arg(10)->Arg(100);

// A look-up's share: so many sessions over one directory.
void WatchBookkeeping(benchmark::State& state) {
  const auto sessions = static_cast<uint64_t>(state.range(0));
  Coordinator coordinator(sessions);
  uint64_t id = 0;
  for (auto _ : state) {
    id = id % sessions + 1;
    benchmark::DoNotOptimize(coordinator.coherence().Watch(SessionId(id), InodeId(100), true));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(WatchBookkeeping)->ArgName("sessions")->Arg(1)->Arg(1000)->Arg(10'000);

}  // namespace
}  // namespace tarn::meta
