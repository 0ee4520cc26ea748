// What operations cost in the state machine over RocksDB, the log and the network left out.
//
// Create, Mkdir and Unlink: as in production, each in a session with its result remembered and acknowledged by the
// next, `batch` to an entry. Reads: over `files` files in directories of 1000, in shuffled order, after a flush.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "metaserver/state/deferred_writes.h"
#include "metaserver/state/rocks_kv.h"
#include "metaserver/state/testing/state_driver.h"
#include "metaserver/state/testing/temporary_directory.h"

namespace tarn::meta {
namespace {

constexpr int kFilesPerDirectory = 1000;

struct RocksState {
  RocksState() {
    auto opened = RocksKv::Open(directory.path(), {});
    CHECK(opened.ok(), opened.status().ToString());
    rocks = std::move(opened).value();
    store = std::make_unique<DeferredWrites>(rocks.get(), DeferredWrites::Bounds{});
    driver = std::make_unique<StateDriver>(store.get());
    driver->SetUpCluster();
  }

  TemporaryDirectory directory;
  std::unique_ptr<RocksKv> rocks;
  std::unique_ptr<DeferredWrites> store;
  std::unique_ptr<StateDriver> driver;
};

proto::Mutation CreateMutation(uint64_t parent, int64_t number) {
  proto::Mutation mutation;
  auto* op = mutation.mutable_create();
  op->set_parent(parent);
  op->set_name("image-" + std::to_string(number) + ".jpg");
  op->set_type(proto::FILE_TYPE_REGULAR);
  op->set_mode(0644);
  op->set_exclusive(true);
  return mutation;
}

// Runs `count` creates, `batch` to an entry; the log itself is not kept.
void CreateMany(StateDriver* driver, uint64_t parent, int64_t first, int64_t count, int64_t batch) {
  for (int64_t done = 0; done < count; done += batch) {
    std::vector<proto::Mutation> mutations;
    for (int64_t i = done; i < std::min(done + batch, count); ++i) {
      mutations.push_back(CreateMutation(parent, first + i));
      driver->Sign(&mutations.back());
    }
    const auto replies = driver->machine().Apply(driver->Fill(mutations));
    CHECK(replies.ok() && replies->back().status() == 0, "creates succeed");
  }
}

void BM_Create(benchmark::State& state) {
  RocksState rocks;
  const int64_t batch = state.range(0);
  int64_t made = 0;
  uint64_t parent = 0;
  for (auto unused : state) {
    if (made % kFilesPerDirectory < batch) {
      parent = rocks.driver->Mkdir(rocks.driver->root(), "d" + std::to_string(made)).attributes().inode();
    }
    CreateMany(rocks.driver.get(), parent, made, batch, batch);
    made += batch;
  }
  state.SetItemsProcessed(made);
}
BENCHMARK(BM_Create)->ArgName("batch")->Arg(1)->Arg(64);

// One create of each of many sessions, each in a directory of its own, to an entry: what a busy server gets.
void BM_CreateOfSessions(benchmark::State& state) {
  RocksState rocks;
  struct Client {
    uint64_t session = 0;
    uint64_t directory = 0;
    uint64_t sequence = 1;
  };
  std::vector<Client> clients(static_cast<size_t>(state.range(0)));
  for (size_t i = 0; i < clients.size(); ++i) {
    proto::Mutation open;
    open.mutable_open_session()->set_nonce(1000 + i);
    clients[i].session = rocks.driver->RunAsLeader(open).session();
    clients[i].directory = rocks.driver->Mkdir(rocks.driver->root(), "d" + std::to_string(i)).attributes().inode();
  }
  int64_t made = 0;
  for (auto unused : state) {
    std::vector<proto::Mutation> mutations;
    for (Client& client : clients) {
      proto::Mutation mutation = CreateMutation(client.directory, made++);
      mutation.set_session(client.session);
      mutation.set_sequence(client.sequence);
      mutation.set_acked_through(client.sequence - 1);
      ++client.sequence;
      mutations.push_back(std::move(mutation));
    }
    const auto replies = rocks.driver->machine().Apply(rocks.driver->Fill(mutations));
    CHECK(replies.ok() && replies->back().status() == 0, "creates succeed");
  }
  state.SetItemsProcessed(made);
}
BENCHMARK(BM_CreateOfSessions)->ArgName("sessions")->Arg(8)->Arg(64);

// A tree of directories of `files` each that has lost its name, removed in the portions that a leader uses.
void BM_Purge(benchmark::State& state) {
  constexpr uint32_t kSteps = 256;
  for (auto unused : state) {
    state.PauseTiming();
    RocksState rocks;
    const uint64_t top = rocks.driver->Mkdir(rocks.driver->root(), "d").attributes().inode();
    for (int64_t i = 0; i < state.range(0); ++i) {
      const uint64_t directory = rocks.driver->Mkdir(top, "d" + std::to_string(i)).attributes().inode();
      CreateMany(rocks.driver.get(), directory, 0, state.range(1), 64);
    }
    proto::Mutation remove;
    remove.mutable_remove_tree()->set_parent(rocks.driver->root());
    remove.mutable_remove_tree()->set_name("d");
    CHECK(rocks.driver->Run(remove).status() == 0, "the tree loses its name");
    state.ResumeTiming();
    while (rocks.driver->machine().header().purge_directories() > 0) {
      proto::Mutation purge;
      purge.mutable_purge()->set_volume(rocks.driver->volume());
      purge.mutable_purge()->set_steps_max(kSteps);
      const auto replies = rocks.driver->machine().Apply(rocks.driver->Fill({purge}));
      CHECK(replies.ok() && replies->back().status() == 0, "purges succeed");
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0) * (1 + state.range(1)));
}
BENCHMARK(BM_Purge)->ArgNames({"directories", "files"})->Iterations(1)->Args({1, 10'000})->Args({1, 100'000})->Args({5'000, 1})->Args({50'000, 1});

// A tree with many files, made once for all read benchmarks of the same size.
struct Tree {
  explicit Tree(int64_t files) {
    for (int64_t first = 0; first < files; first += kFilesPerDirectory) {
      const uint64_t directory =
          rocks.driver->Mkdir(rocks.driver->root(), "d" + std::to_string(first)).attributes().inode();
      directories.push_back(directory);
      CreateMany(rocks.driver.get(), directory, first, kFilesPerDirectory, 64);
    }
    CHECK(rocks.store->Flush().ok(), "flush");
    for (int64_t i = 0; i < files; ++i) order.push_back(i);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
  }

  RocksState rocks;
  std::vector<uint64_t> directories;
  std::vector<int64_t> order;
};

void BM_Lookup(benchmark::State& state) {
  Tree tree(state.range(0));
  size_t next = 0;
  proto::LookupRequest request;
  proto::LookupReply reply;
  for (auto unused : state) {
    const int64_t file = tree.order[next++ % tree.order.size()];
    request.set_parent(tree.directories[static_cast<size_t>(file / kFilesPerDirectory)]);
    request.set_name("image-" + std::to_string(file) + ".jpg");
    const Status status = tree.rocks.driver->machine().Lookup(request, &reply);
    CHECK(status.ok(), status.ToString());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Lookup)->ArgName("files")->Arg(10'000)->Arg(200'000);

void BM_LookupOfNothing(benchmark::State& state) {
  Tree tree(state.range(0));
  size_t next = 0;
  proto::LookupRequest request;
  proto::LookupReply reply;
  for (auto unused : state) {
    request.set_parent(tree.directories[next % tree.directories.size()]);
    request.set_name("none-" + std::to_string(next++));
    CHECK(!tree.rocks.driver->machine().Lookup(request, &reply).ok(), "no such name");
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_LookupOfNothing)->ArgName("files")->Arg(200'000);

void BM_ReadDir(benchmark::State& state) {
  Tree tree(state.range(0));
  size_t next = 0;
  proto::ReadDirRequest request;
  request.set_with_attributes(state.range(1) != 0);
  proto::ReadDirReply reply;
  int64_t entries = 0;
  for (auto unused : state) {
    request.set_directory(tree.directories[next++ % tree.directories.size()]);
    CHECK(tree.rocks.driver->machine().ReadDir(request, &reply).ok() && reply.end(), "list");
    entries += reply.entries_size();
  }
  state.SetItemsProcessed(entries);
}
BENCHMARK(BM_ReadDir)->ArgNames({"files", "attributes"})->Args({200'000, 0})->Args({200'000, 1});

void BM_Unlink(benchmark::State& state) {
  RocksState rocks;
  const uint64_t directory = rocks.driver->Mkdir(rocks.driver->root(), "d").attributes().inode();
  int64_t made = 0;
  int64_t removed = 0;
  for (auto unused : state) {
    if (removed == made) {
      state.PauseTiming();
      CreateMany(rocks.driver.get(), directory, made, 10'000, 64);
      made += 10'000;
      state.ResumeTiming();
    }
    proto::Mutation mutation;
    mutation.mutable_unlink()->set_parent(directory);
    mutation.mutable_unlink()->set_name("image-" + std::to_string(removed++) + ".jpg");
    rocks.driver->Sign(&mutation);
    CHECK(rocks.driver->machine().Apply(rocks.driver->Fill({mutation})).ok(), "unlink");
  }
  state.SetItemsProcessed(removed);
}
BENCHMARK(BM_Unlink);

}  // namespace
}  // namespace tarn::meta
