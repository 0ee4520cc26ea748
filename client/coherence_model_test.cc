// Two clients of one server, over a real socket: what has returned on one of them is what the other sees, while other
// threads keep both of them busy.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "client/blocking.h"
#include "client/filesystem_impl.h"
#include "client/testing/memory_data_plane.h"
#include "client/testing/memory_metadata_server.h"

namespace tarn::client {
namespace {

using testing::MemoryDataPlane;
using testing::MemoryMetadataServer;

constexpr OpenFlags kReadWrite{.read = true, .write = true};
constexpr int kNames = 6;

class Client {
 public:
  Client(const std::string& address, uint64_t seed) {
    FilesystemImpl::Parts parts;
    parts.clock = std::make_unique<SystemClock>();
    parts.random = std::make_unique<SeededRandom>(seed);
    parts.loops.push_back(*rpc::EventLoop::Start("test-loop"));
    MetadataChannelOptions channel;
    channel.addresses = {address};
    parts.metadata =
        std::make_unique<MetadataClient>(parts.loops.front().get(), parts.clock.get(), parts.random.get(), channel);
    parts.metadata->EnableCaching(4 << 20);
    parts.volume.id = VolumeId(1);
    parts.root = InodeId(MemoryMetadataServer::kRoot);
    Coherence& coherence = *parts.metadata->coherence();
    CHECK(WaitStatus([&](StatusCallback done) { parts.metadata->OpenSession(VolumeId(1), std::move(done)); }).ok(),
          "no session");
    filesystem_ =
        *FilesystemImpl::Create(std::move(parts), [](MetadataForData* metadata) -> Result<std::unique_ptr<DataPlane>> {
          return std::unique_ptr<DataPlane>(std::make_unique<MemoryDataPlane>(metadata));
        });
    while (!coherence.cache().usable()) std::this_thread::yield();
  }

  Result<Attributes> Lookup(const std::string& name) {
    return Wait<Attributes>(
        [&](Callback<Attributes> done) { filesystem_->Lookup(filesystem_->root(), name, std::move(done)); });
  }
  Result<Attributes> Get(InodeId inode) {
    return Wait<Attributes>([&](Callback<Attributes> done) { filesystem_->GetAttributes(inode, std::move(done)); });
  }
  Result<OpenedFile> Create(const std::string& name) {
    return Wait<OpenedFile>([&](Callback<OpenedFile> done) {
      filesystem_->Create(filesystem_->root(), name, 0644, true, kReadWrite, Caller(), std::move(done));
    });
  }
  Result<OpenedFile> Open(InodeId inode) {
    return Wait<OpenedFile>(
        [&](Callback<OpenedFile> done) { filesystem_->OpenFile(inode, kReadWrite, std::move(done)); });
  }
  void Release(const OpenedFile& opened) { filesystem_->Release(opened.handle); }
  bool Unlink(const std::string& name) {
    return WaitStatus(
               [&](StatusCallback done) { filesystem_->Unlink(filesystem_->root(), name, Caller(), std::move(done)); })
        .ok();
  }
  bool Rename(const std::string& from, const std::string& to) {
    return WaitStatus([&](StatusCallback done) {
             filesystem_->Rename(filesystem_->root(), from, filesystem_->root(), to, {}, Caller(), std::move(done));
           })
        .ok();
  }
  bool SetMode(InodeId inode, uint32_t mode) {
    AttributeChanges changes;
    changes.mode = mode;
    return Wait<Attributes>([&](Callback<Attributes> done) {
             filesystem_->SetAttributes(inode, changes, Caller(), std::move(done));
           })
        .ok();
  }
  bool Append(InodeId inode, const std::string& text) {
    Result<OpenedFile> opened = Open(inode);
    if (!opened.ok()) return false;
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    const uint64_t end = opened->attributes.size_bytes;
    (void)WaitStatus([&](StatusCallback done) { filesystem_->Write(opened->handle, end, bytes, std::move(done)); });
    const bool flushed =
        WaitStatus([&](StatusCallback done) { filesystem_->Flush(opened->handle, std::move(done)); }).ok();
    Release(*opened);
    return flushed;
  }
  std::map<std::string, InodeId> List() {
    std::map<std::string, InodeId> names;
    const Result<DirectoryPage> page = Wait<DirectoryPage>([&](Callback<DirectoryPage> done) {
      filesystem_->ReadDirectory(filesystem_->root(), 0, 1000, true, std::move(done));
    });
    for (const DirectoryEntry& entry : page->entries) names[entry.name] = entry.attributes.inode;
    return names;
  }
  Filesystem::Counters counters() const { return filesystem_->counters(); }

 private:
  std::unique_ptr<FilesystemImpl> filesystem_;
};

class CoherenceModelTest : public ::testing::Test {
 protected:
  CoherenceModelTest() {
    server_.GrantInTerm(1);
    server_.PushToAll();
    clients_.push_back(std::make_unique<Client>(server_.address(), 1));
    clients_.push_back(std::make_unique<Client>(server_.address(), 2));
  }

  struct State {
    uint64_t size_bytes = 0;
    uint32_t mode = 0644;
    InodeId inode;
  };
  // What both clients say must be what the model says.
  void Observe(const std::string& step) {
    for (const auto& client : clients_) {
      for (int i = 0; i < kNames; ++i) {
        const std::string name = "m" + std::to_string(i);
        const Result<Attributes> seen = client->Lookup(name);
        const auto expected = model_.find(name);
        ASSERT_EQ(seen.ok(), expected != model_.end()) << step << " " << name;
        if (!seen.ok()) continue;
        ASSERT_EQ(seen->inode, expected->second.inode) << step << " " << name;
        ASSERT_EQ(seen->size_bytes, expected->second.size_bytes) << step << " " << name;
        ASSERT_EQ(seen->mode, expected->second.mode) << step << " " << name;
        ASSERT_EQ(client->Get(seen->inode)->size_bytes, expected->second.size_bytes) << step << " " << name;
      }
    }
  }
  void Step(SeededRandom& random, Client& actor) {
    const std::string name = "m" + std::to_string(random.Next() % kNames);
    const std::string other = "m" + std::to_string(random.Next() % kNames);
    const auto found = model_.find(name);
    switch (random.Next() % 5) {
      case 0: {
        const Result<OpenedFile> made = actor.Create(name);
        ASSERT_EQ(made.ok(), found == model_.end()) << "create " << name;
        if (!made.ok()) return;
        actor.Release(*made);
        model_[name] = State{0, 0644, made->attributes.inode};
        return Observe("create");
      }
      case 1:
        ASSERT_EQ(actor.Unlink(name), found != model_.end());
        model_.erase(name);
        return Observe("unlink");
      case 2:
        if (name == other) return;
        ASSERT_EQ(actor.Rename(name, other), found != model_.end());
        if (found == model_.end()) return;
        model_[other] = found->second;
        model_.erase(name);
        return Observe("rename");
      case 3: {
        if (found == model_.end()) return;
        found->second.mode = static_cast<uint32_t>(random.Next() % 0777);
        ASSERT_TRUE(actor.SetMode(found->second.inode, found->second.mode));
        return Observe("chmod");
      }
      default:
        if (found == model_.end()) return;
        ASSERT_TRUE(actor.Append(found->second.inode, "0123456789"));
        found->second.size_bytes += 10;
        return Observe("append");
    }
  }
  // Keeps a client's cache moving: names of its own, and the same ones that everybody looks at.
  void MakeNoise(Client& client, int number, const std::atomic<bool>& stop) {
    SeededRandom random(static_cast<uint64_t>(number));
    const std::string own = "noise" + std::to_string(number);
    while (!stop.load()) {
      const Result<OpenedFile> made = client.Create(own);
      if (made.ok()) client.Release(*made);
      (void)client.Lookup("m" + std::to_string(random.Next() % kNames));
      (void)client.List();
      (void)client.Rename(own, own + "x");
      (void)client.Unlink(own + "x");
    }
  }

  MemoryMetadataServer server_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::map<std::string, State> model_;
};

TEST_F(CoherenceModelTest, EachSeesWhatHasReturnedOnTheOther) {
  SeededRandom random(42);
  for (int step = 0; step < 400 && !HasFatalFailure(); ++step) Step(random, *clients_[random.Next() % 2]);
  EXPECT_GT(clients_[0]->counters().cache_hits, 1'000u);
  EXPECT_GT(clients_[0]->counters().pushes, 50u);
}

TEST_F(CoherenceModelTest, AlsoWhileBothAreBusy) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> noise;
  for (int i = 0; i < 2; ++i)
    noise.emplace_back([this, i, &stop] { MakeNoise(*clients_[static_cast<size_t>(i)], i, stop); });
  SeededRandom random(43);
  for (int step = 0; step < 200 && !HasFatalFailure(); ++step) Step(random, *clients_[random.Next() % 2]);
  stop = true;
  for (std::thread& thread : noise) thread.join();
}

TEST_F(CoherenceModelTest, AnOpenFileOutlivesItsNameAndThenGoes) {
  const Result<OpenedFile> made = clients_[0]->Create("a");
  const InodeId inode = made->attributes.inode;
  EXPECT_TRUE(clients_[1]->Lookup("a").ok());
  EXPECT_TRUE(clients_[1]->Unlink("a"));
  EXPECT_FALSE(clients_[0]->Lookup("a").ok());
  EXPECT_TRUE(server_.IsOrphan(inode.value()));
  EXPECT_TRUE(clients_[0]->Get(inode).ok());
  clients_[0]->Release(*made);
  while (server_.Exists(inode.value())) std::this_thread::yield();
  EXPECT_FALSE(clients_[1]->Get(inode).ok());
}

TEST_F(CoherenceModelTest, OpensRaceWithRemovals) {
  for (int round = 0; round < 100; ++round) {
    const Result<OpenedFile> made = clients_[0]->Create("a");
    ASSERT_TRUE(made.ok());
    const InodeId inode = made->attributes.inode;
    clients_[0]->Release(*made);
    std::thread remover([&] { EXPECT_TRUE(clients_[1]->Unlink("a")); });
    const Result<OpenedFile> opened = clients_[0]->Open(inode);
    remover.join();
    // Opened in time: then it is kept; else the open has failed.
    EXPECT_EQ(opened.ok(), server_.Exists(inode.value())) << "round " << round;
    if (opened.ok()) clients_[0]->Release(*opened);
    while (server_.Exists(inode.value())) std::this_thread::yield();
  }
}

}  // namespace
}  // namespace tarn::client
