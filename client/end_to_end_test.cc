// The whole client library against real servers in processes of their own.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "client/blocking.h"
#include "client/filesystem.h"
#include "client/testing/server_process.h"

namespace tarn::client {
namespace {

using testing::ProcessCluster;
using Bytes = std::vector<uint8_t>;

constexpr OpenFlags kReadOnly{.read = true};
constexpr OpenFlags kReadWrite{.read = true, .write = true};

Bytes RandomBytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// A file system with blocking calls that end the test on errors.
class Client {
 public:
  explicit Client(const std::string& meta_address, int64_t retry_deadline_ms = 30'000) {
    FilesystemOptions options;
    options.metaservers = {meta_address};
    options.volume = "test";
    options.memory_limit_bytes = 256 << 20;
    options.retry_deadline_ms = retry_deadline_ms;
    filesystem = Must(Filesystem::Open(options), "open the file system");
  }

  template <typename T>
  static T Must(Result<T> result, const std::string& what) {
    CHECK(result.ok(), what + ": " + result.status().ToString());
    return *std::move(result);
  }
  static void Must(const Status& status, const std::string& what) {
    CHECK(status.ok(), what + ": " + status.ToString());
  }

  OpenedFile Create(const std::string& name) {
    return Must(Wait<OpenedFile>([&](Callback<OpenedFile> done) {
                  filesystem->Create(filesystem->root(), name, 0644, /*exclusive=*/true, kReadWrite, Caller(),
                                     std::move(done));
                }),
                "create " + name);
  }
  OpenedFile Open(const std::string& name, OpenFlags flags = kReadOnly) {
    const InodeId inode = Lookup(name).inode;
    return Must(
        Wait<OpenedFile>([&](Callback<OpenedFile> done) { filesystem->OpenFile(inode, flags, std::move(done)); }),
        "open " + name);
  }
  Result<Attributes> TryLookup(const std::string& name) {
    return Wait<Attributes>(
        [&](Callback<Attributes> done) { filesystem->Lookup(filesystem->root(), name, std::move(done)); });
  }
  Attributes Lookup(const std::string& name) { return Must(TryLookup(name), "look up " + name); }
  void Write(const FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes) {
    constexpr size_t kPieceBytes = 1 << 20;
    for (size_t done_bytes = 0; done_bytes < bytes.size(); done_bytes += kPieceBytes) {
      const auto piece = bytes.subspan(done_bytes, std::min(kPieceBytes, bytes.size() - done_bytes));
      Must(WaitStatus(
               [&](StatusCallback done) { filesystem->Write(handle, offset + done_bytes, piece, std::move(done)); }),
           "write");
    }
  }
  Bytes Read(const FileHandlePtr& handle, uint64_t offset, size_t length) {
    ReadResult result = Must(
        Wait<ReadResult>([&](Callback<ReadResult> done) { filesystem->Read(handle, offset, length, std::move(done)); }),
        "read");
    Bytes bytes;
    for (const iovec& piece : result.pieces) {
      const auto* begin = static_cast<const uint8_t*>(piece.iov_base);
      bytes.insert(bytes.end(), begin, begin + piece.iov_len);
    }
    CHECK(bytes.size() == result.bytes, "the pieces are the result");
    return bytes;
  }
  Bytes ReadAll(const std::string& name) {
    OpenedFile file = Open(name);
    Bytes all;
    while (true) {
      const Bytes part = Read(file.handle, all.size(), 1 << 20);
      if (part.empty()) break;
      all.insert(all.end(), part.begin(), part.end());
    }
    filesystem->Release(file.handle);
    return all;
  }
  void Close(OpenedFile& file) {
    Must(WaitStatus([&](StatusCallback done) { filesystem->Flush(file.handle, std::move(done)); }), "close");
    filesystem->Release(file.handle);
  }
  void Fsync(OpenedFile& file) {
    Must(WaitStatus([&](StatusCallback done) { filesystem->Fsync(file.handle, std::move(done)); }), "fsync");
  }
  void MakeFile(const std::string& name, const Bytes& bytes) {
    OpenedFile file = Create(name);
    Write(file.handle, 0, bytes);
    Close(file);
  }
  Attributes Set(InodeId inode, const AttributeChanges& changes) {
    return Must(Wait<Attributes>([&](Callback<Attributes> done) {
                  filesystem->SetAttributes(inode, changes, Caller(), std::move(done));
                }),
                "set attributes");
  }
  void Unlink(const std::string& name) {
    Must(WaitStatus(
             [&](StatusCallback done) { filesystem->Unlink(filesystem->root(), name, Caller(), std::move(done)); }),
         "unlink " + name);
  }
  void Ingest(const std::string& name, const Bytes& bytes, int64_t mtime_ns) {
    Filesystem::IngestFile file;
    file.parent = filesystem->root();
    file.name = name;
    file.mtime_ns = mtime_ns;
    Must(Wait<Attributes>([&](Callback<Attributes> done) { filesystem->Ingest(file, bytes, std::move(done)); }),
         "ingest " + name);
  }

  std::unique_ptr<Filesystem> filesystem;
};

class EndToEnd : public ::testing::Test {
 protected:
  void SetUp() override {
    if (testing::ProgramDirectory().empty()) GTEST_SKIP() << "tarn-metaserver and tarn-chunkserver are not built";
    cluster_ = std::make_unique<ProcessCluster>(3);
    VolumeRequest volume;
    volume.name = "test";
    Client::Must(cluster_->admin().CreateVolume(volume), "create volume");
  }
  std::unique_ptr<Client> NewClient() { return std::make_unique<Client>(cluster_->meta_address()); }

  std::unique_ptr<ProcessCluster> cluster_;
};

TEST_F(EndToEnd, FilesOfAllSizesAreReadBackByAnotherClient) {
  auto writer = NewClient();
  const std::vector<size_t> sizes = {0,         1,       4095,          4096,    4097,
                                     112 << 10, 1 << 20, (1 << 20) + 1, 9 << 20, (20 << 20) + 7};
  for (const size_t size : sizes) writer->MakeFile("f" + std::to_string(size), RandomBytes(size, size));
  auto reader = NewClient();
  for (const size_t size : sizes) {
    const std::string name = "f" + std::to_string(size);
    EXPECT_EQ(reader->Lookup(name).size_bytes, size);
    EXPECT_TRUE(reader->ReadAll(name) == RandomBytes(size, size)) << name;
    EXPECT_TRUE(writer->ReadAll(name) == RandomBytes(size, size)) << name;
  }
}

TEST_F(EndToEnd, RandomWritesAndTruncatesGiveTheBytesOfAnArray) {
  auto client = NewClient();
  std::mt19937_64 random(42);
  constexpr size_t kFileBytes = 12 << 20;
  Bytes model;
  OpenedFile file = client->Create("random");
  for (int step = 0; step < 300; ++step) {
    const uint64_t kind = random() % 20;
    if (kind == 0) {
      AttributeChanges changes;
      changes.size_bytes = random() % kFileBytes;
      model.resize(*changes.size_bytes);
      EXPECT_EQ(client->Set(file.attributes.inode, changes).size_bytes, model.size());
    } else if (kind == 1) {
      client->Fsync(file);
    } else if (kind < 8) {
      const uint64_t offset = random() % kFileBytes;
      const size_t length = random() % (1 << 20);
      const Bytes got = client->Read(file.handle, offset, length);
      const size_t begin = std::min<size_t>(offset, model.size());
      const size_t end = std::min<size_t>(offset + length, model.size());
      ASSERT_TRUE(got ==
                  Bytes(model.begin() + static_cast<ptrdiff_t>(begin), model.begin() + static_cast<ptrdiff_t>(end)))
          << "step " << step << " offset " << offset << " length " << length;
    } else {
      const uint64_t offset = random() % kFileBytes;
      const Bytes bytes = RandomBytes(random() % (kind < 16 ? 5'000 : 600'000), random());
      if (!bytes.empty() && model.size() < offset + bytes.size()) model.resize(offset + bytes.size());
      std::ranges::copy(bytes, model.begin() + static_cast<ptrdiff_t>(bytes.empty() ? 0 : offset));
      client->Write(file.handle, offset, bytes);
    }
  }
  client->Close(file);
  EXPECT_TRUE(NewClient()->ReadAll("random") == model);
}

TEST_F(EndToEnd, IngestedFilesAreCompleteAndListed) {
  auto client = NewClient();
  std::map<std::string, Bytes> files;
  for (int i = 0; i < 300; ++i) files["file" + std::to_string(i)] = RandomBytes(static_cast<size_t>(i) * 517, i);
  for (const auto& [name, bytes] : files) client->Ingest(name, bytes, /*mtime_ns=*/1'234'567'890'123'456'789);
  client->Ingest("file7", RandomBytes(100, 1), 5);  // replaces
  files["file7"] = RandomBytes(100, 1);
  auto reader = NewClient();
  size_t listed = 0;
  uint64_t cookie = 0;
  while (true) {
    DirectoryPage page =
        Client::Must(Wait<DirectoryPage>([&](Callback<DirectoryPage> done) {
                       reader->filesystem->ReadDirectory(reader->filesystem->root(), cookie, 64, true, std::move(done));
                     }),
                     "list");
    for (const DirectoryEntry& entry : page.entries) {
      ++listed;
      cookie = entry.cookie;
      ASSERT_TRUE(files.contains(entry.name));
      EXPECT_EQ(entry.attributes.size_bytes, files[entry.name].size());
    }
    if (page.end) break;
  }
  EXPECT_EQ(listed, files.size());
  for (const auto& [name, bytes] : files) EXPECT_TRUE(reader->ReadAll(name) == bytes) << name;
  EXPECT_EQ(reader->Lookup("file9").mtime_ns, 1'234'567'890'123'456'789);
  EXPECT_EQ(reader->Lookup("file7").mtime_ns, 5);
}

TEST_F(EndToEnd, AnUnlinkedFileIsReadableUntilItsRelease) {
  auto client = NewClient();
  const Bytes bytes = RandomBytes(3 << 20, 1);
  OpenedFile file = client->Create("a");
  client->Write(file.handle, 0, bytes);
  client->Unlink("a");
  EXPECT_EQ(client->TryLookup("a").status().code(), StatusCode::kNotFound);
  client->Fsync(file);
  EXPECT_TRUE(client->Read(file.handle, 0, 1 << 20) == Bytes(bytes.begin(), bytes.begin() + (1 << 20)));
  const InodeId inode = file.attributes.inode;
  client->filesystem->Release(file.handle);
  // Changes are carried out in the order in which they were sent: once this one is answered, the release is done.
  client->MakeFile("later", Bytes());
  const Result<Attributes> gone =
      Wait<Attributes>([&](Callback<Attributes> done) { client->filesystem->GetAttributes(inode, std::move(done)); });
  EXPECT_FALSE(gone.ok());
}

TEST_F(EndToEnd, ModificationTimesStayAsSet) {
  auto client = NewClient();
  OpenedFile file = client->Create("a");
  client->Write(file.handle, 0, RandomBytes(2 << 20, 1));
  AttributeChanges changes;
  changes.mtime_ns = 987'654'321'000'000'001;
  EXPECT_EQ(client->Set(file.attributes.inode, changes).mtime_ns, *changes.mtime_ns);
  client->Close(file);
  client.reset();
  EXPECT_EQ(NewClient()->Lookup("a").mtime_ns, *changes.mtime_ns);
}

TEST_F(EndToEnd, WhatWasClosedIsSeenByAnOpenElsewhere) {
  auto writer = NewClient();
  auto reader = NewClient();
  writer->MakeFile("a", RandomBytes(100'000, 1));
  EXPECT_TRUE(reader->ReadAll("a") == RandomBytes(100'000, 1));
  OpenedFile again = writer->Open("a", kReadWrite);
  writer->Write(again.handle, 0, RandomBytes(200'000, 2));
  writer->Close(again);
  EXPECT_TRUE(reader->ReadAll("a") == RandomBytes(200'000, 2));
}

TEST_F(EndToEnd, EverythingSyncedSurvivesTheDeathOfAllServers) {
  auto client = NewClient();
  std::vector<OpenedFile> open;
  for (int i = 0; i < 8; ++i) {
    const size_t size = static_cast<size_t>(i) * 700'000 + 10;
    open.push_back(client->Create("f" + std::to_string(i)));
    client->Write(open.back().handle, 0, RandomBytes(size, i));
    client->Fsync(open.back());
  }
  cluster_->KillAndRestartAll();
  auto reader = NewClient();
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(reader->ReadAll("f" + std::to_string(i)) == RandomBytes(static_cast<size_t>(i) * 700'000 + 10, i)) << i;
  }
  // The client that lived through it goes on, too.
  client->Write(open[3].handle, 0, RandomBytes(50'000, 99));
  client->Close(open[3]);
  const Bytes got = reader->ReadAll("f3");
  EXPECT_TRUE(Bytes(got.begin(), got.begin() + 50'000) == RandomBytes(50'000, 99));
  for (int i = 0; i < 8; ++i) {
    if (i != 3) client->Close(open[i]);
  }
}

TEST_F(EndToEnd, WritesThatWereNotSyncedAreSentAgainToARestartedServer) {
  auto client = NewClient();
  const Bytes bytes = RandomBytes(6 << 20, 5);
  OpenedFile file = client->Create("a");
  client->Write(file.handle, 0, bytes);
  for (size_t i = 0; i < cluster_->chunkserver_count(); ++i) {
    cluster_->chunkserver(i).Stop(SIGKILL);
    cluster_->chunkserver(i).Start();
  }
  client->Fsync(file);
  client->Close(file);
  EXPECT_TRUE(NewClient()->ReadAll("a") == bytes);
}

TEST_F(EndToEnd, NamespaceChangesGoThroughWhileTheMetadataServerIsKilled) {
  auto client = NewClient();
  constexpr int kFiles = 400;
  std::thread changes([&] {
    for (int i = 0; i < kFiles; ++i) {
      // Exclusive: a repeat that was applied twice would say that the name exists.
      OpenedFile file = client->Create("f" + std::to_string(i));
      client->Close(file);
      if (i % 2 == 1) client->Unlink("f" + std::to_string(i));
    }
  });
  for (int round = 0; round < 3; ++round) {
    // It serves, and so do the changes, for a moment before each kill.
    cluster_->WaitUntilServing();
    (void)cluster_->metaserver().EndsWithin(100);
    cluster_->metaserver().Stop(SIGKILL);
    cluster_->metaserver().Start();
  }
  changes.join();
  for (int i = 0; i < kFiles; ++i) {
    EXPECT_EQ(client->TryLookup("f" + std::to_string(i)).ok(), i % 2 == 0) << i;
  }
}

TEST_F(EndToEnd, UnknownVolumesAndDirectoriesAreNamed) {
  FilesystemOptions options;
  options.metaservers = {cluster_->meta_address()};
  options.volume = "nosuch";
  const Status no_volume = Filesystem::Open(options).status();
  EXPECT_EQ(no_volume.code(), StatusCode::kNotFound);
  EXPECT_NE(no_volume.message().find("nosuch"), std::string::npos);
  options.volume = "test";
  options.subdirectory = "/missing/dir";
  const Status no_directory = Filesystem::Open(options).status();
  EXPECT_EQ(no_directory.code(), StatusCode::kNotFound);
  EXPECT_NE(no_directory.message().find("/missing/dir"), std::string::npos);
}

TEST_F(EndToEnd, VolumesAreManaged) {
  AdminClient& admin = cluster_->admin();
  VolumeRequest request;
  request.name = "second";
  request.quota_bytes = 1 << 30;
  request.stripe_width = 2;
  const VolumeInfo made = Client::Must(admin.CreateVolume(request), "create");
  EXPECT_EQ(made.quota_bytes, 1u << 30);
  EXPECT_EQ(made.stripe_width, 2u);
  EXPECT_EQ(admin.CreateVolume(request).status().code(), StatusCode::kExists);
  EXPECT_EQ(Client::Must(admin.ResizeVolume("second", 2 << 20, std::nullopt), "resize").quota_bytes, 2u << 20);
  EXPECT_EQ(Client::Must(admin.ListVolumes(), "list").size(), 2u);
  EXPECT_EQ(Client::Must(admin.GetVolume("second"), "get").name, "second");
  EXPECT_EQ(admin.GetVolume("third").status().code(), StatusCode::kNotFound);
  request.name = "replicated";
  request.replicas = 4;
  EXPECT_EQ(admin.CreateVolume(request).status().code(), StatusCode::kInvalidArgument);
  request.replicas = 2;  // the servers name one node
  EXPECT_EQ(admin.CreateVolume(request).status().code(), StatusCode::kNoSpace);
  Client::Must(admin.DeleteVolume("second", /*recursive=*/false), "delete");
  EXPECT_EQ(Client::Must(admin.ListVolumes(), "list").size(), 1u);
  const ClusterStatus status = Client::Must(admin.GetStatus(), "status");
  EXPECT_EQ(status.health, "ok");
  EXPECT_EQ(status.metaservers.size(), 1u);
  EXPECT_EQ(status.chunkservers.size(), 3u);
  EXPECT_EQ(status.cluster_id.size(), 32u);
}

}  // namespace
}  // namespace tarn::client
