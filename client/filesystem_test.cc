// The facade over a metadata server and a data plane that live in memory.
#include "client/filesystem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "client/blocking.h"
#include "client/filesystem_impl.h"
#include "client/testing/memory_data_plane.h"
#include "client/testing/memory_metadata_server.h"

namespace tarn::client {
namespace {

using ::testing::ElementsAre;
using testing::MemoryDataPlane;
using testing::MemoryMetadataServer;

constexpr OpenFlags kReadOnly{.read = true};
constexpr OpenFlags kReadWrite{.read = true, .write = true};

class FilesystemTest : public ::testing::Test {
 protected:
  FilesystemTest() {
    FilesystemImpl::Parts parts;
    parts.clock = std::make_unique<SystemClock>();
    parts.random = std::make_unique<SeededRandom>(1);
    parts.loops.push_back(*rpc::EventLoop::Start("test-loop"));
    MetadataChannelOptions channel;
    channel.addresses = {server_.address()};
    parts.metadata =
        std::make_unique<MetadataClient>(parts.loops.front().get(), parts.clock.get(), parts.random.get(), channel);
    parts.volume.id = VolumeId(1);
    parts.root = InodeId(MemoryMetadataServer::kRoot);
    CHECK(WaitStatus([&](StatusCallback done) { parts.metadata->OpenSession(VolumeId(1), std::move(done)); }).ok(),
          "no session");
    filesystem_ = *FilesystemImpl::Create(std::move(parts),
                                          [this](MetadataForData* metadata) -> Result<std::unique_ptr<DataPlane>> {
                                            auto data = std::make_unique<MemoryDataPlane>(metadata);
                                            data_ = data.get();
                                            return std::unique_ptr<DataPlane>(std::move(data));
                                          });
  }

  OpenedFile Create(const std::string& name, bool exclusive = true, OpenFlags flags = kReadWrite) {
    Result<OpenedFile> opened = Wait<OpenedFile>([&](Callback<OpenedFile> done) {
      filesystem_->Create(filesystem_->root(), name, 0644, exclusive, flags, Caller(), std::move(done));
    });
    CHECK(opened.ok(), opened.status().ToString());
    return *std::move(opened);
  }
  Result<OpenedFile> Open(InodeId inode, OpenFlags flags = kReadOnly) {
    return Wait<OpenedFile>([&](Callback<OpenedFile> done) { filesystem_->OpenFile(inode, flags, std::move(done)); });
  }
  void Write(const FileHandlePtr& handle, uint64_t offset, const std::string& text) {
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    ASSERT_TRUE(
        WaitStatus([&](StatusCallback done) { filesystem_->Write(handle, offset, bytes, std::move(done)); }).ok());
  }
  std::string Read(const FileHandlePtr& handle) {
    Result<ReadResult> result =
        Wait<ReadResult>([&](Callback<ReadResult> done) { filesystem_->Read(handle, 0, 1 << 20, std::move(done)); });
    CHECK(result.ok(), result.status().ToString());
    std::string text;
    for (const iovec& piece : result->pieces) text.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
    return text;
  }
  Status Flush(const FileHandlePtr& handle) {
    return WaitStatus([&](StatusCallback done) { filesystem_->Flush(handle, std::move(done)); });
  }
  Status Unlink(const std::string& name) {
    return WaitStatus(
        [&](StatusCallback done) { filesystem_->Unlink(filesystem_->root(), name, Caller(), std::move(done)); });
  }
  Attributes Get(InodeId inode) {
    return *Wait<Attributes>([&](Callback<Attributes> done) { filesystem_->GetAttributes(inode, std::move(done)); });
  }
  Result<Attributes> Set(InodeId inode, const AttributeChanges& changes) {
    return Wait<Attributes>(
        [&](Callback<Attributes> done) { filesystem_->SetAttributes(inode, changes, Caller(), std::move(done)); });
  }
  // A write and close of a whole file, as another program of this client.
  InodeId MakeFile(const std::string& name, const std::string& text) {
    OpenedFile file = Create(name);
    Write(file.handle, 0, text);
    CHECK(Flush(file.handle).ok(), "flush");
    filesystem_->Release(file.handle);
    return file.attributes.inode;
  }
  // Requests are answered in order, so that what was sent before has arrived.
  void Settle() { (void)Get(filesystem_->root()); }

  int CountMutations(proto::Mutation::OpCase op) {
    Settle();
    const std::vector<proto::Mutation> all = server_.mutations();
    return static_cast<int>(std::ranges::count_if(all, [&](const proto::Mutation& m) { return m.op_case() == op; }));
  }

  MemoryMetadataServer server_;
  MemoryDataPlane* data_ = nullptr;
  std::unique_ptr<FilesystemImpl> filesystem_;
};

TEST_F(FilesystemTest, FilesThatAreWrittenWhereTheyAreMadeGetTheirDataIdWithTheirName) {
  int without = 0;
  for (int i = 0; i < 20; ++i) {
    const OpenedFile file = Create("file " + std::to_string(i));
    EXPECT_TRUE(file.created);
    EXPECT_EQ(file.attributes.size_bytes, 0u);
    without += file.attributes.data.valid() ? 0 : 1;
    Write(file.handle, 0, "text");
    EXPECT_TRUE(Flush(file.handle).ok());
    EXPECT_EQ(Read(file.handle), "text");
    filesystem_->Release(file.handle);
  }
  // The first two show that files are written here, and then ids must be reserved first.
  EXPECT_LE(without, 5);
  EXPECT_EQ(CountMutations(proto::Mutation::kReserveDataIds), 1);
  // A file that exists keeps its data, and is not made.
  const OpenedFile again = Create("file 3", /*exclusive=*/false);
  EXPECT_FALSE(again.created);
  EXPECT_EQ(Read(again.handle), "text");
  filesystem_->Release(again.handle);
  // Where files stay empty they get no ids.
  for (int i = 0; i < 10; ++i) filesystem_->Release(Create("empty " + std::to_string(i)).handle);
  const OpenedFile empty = Create("empty");
  EXPECT_FALSE(empty.attributes.data.valid());
  filesystem_->Release(empty.handle);
}

TEST_F(FilesystemTest, WhatWasWrittenIsReadBack) {
  OpenedFile file = Create("a");
  EXPECT_TRUE(file.created);
  Write(file.handle, 0, "hello");
  Write(file.handle, 5, " world");
  EXPECT_EQ(Read(file.handle), "hello world");
  EXPECT_TRUE(Flush(file.handle).ok());
  EXPECT_EQ(server_.Get(file.attributes.inode.value()).size_bytes(), 11u);
  filesystem_->Release(file.handle);
}

TEST_F(FilesystemTest, AttributesShowWhatIsStillBuffered) {
  OpenedFile file = Create("a");
  Write(file.handle, 0, "hello");
  EXPECT_EQ(server_.Get(file.attributes.inode.value()).size_bytes(), 0u);
  EXPECT_EQ(Get(file.attributes.inode).size_bytes, 5u);
  Result<Attributes> looked_up = Wait<Attributes>(
      [&](Callback<Attributes> done) { filesystem_->Lookup(filesystem_->root(), "a", std::move(done)); });
  EXPECT_EQ(looked_up->size_bytes, 5u);
  Result<DirectoryPage> page = Wait<DirectoryPage>([&](Callback<DirectoryPage> done) {
    filesystem_->ReadDirectory(filesystem_->root(), 0, 100, true, std::move(done));
  });
  ASSERT_EQ(page->entries.size(), 1u);
  EXPECT_EQ(page->entries[0].attributes.size_bytes, 5u);
  filesystem_->Release(file.handle);
}

TEST_F(FilesystemTest, TheLastReleaseFlushesWhatIsDirty) {
  OpenedFile file = Create("a");
  Write(file.handle, 0, "hello");
  filesystem_->Release(file.handle);
  Settle();
  Settle();  // allocate, then commit
  EXPECT_EQ(server_.Get(file.attributes.inode.value()).size_bytes(), 5u);
}

TEST_F(FilesystemTest, HandlesOfAnInodeShareItsData) {
  OpenedFile writer = Create("a");
  OpenedFile reader = *Open(writer.attributes.inode);
  Write(writer.handle, 0, "hello");
  EXPECT_EQ(Read(reader.handle), "hello");
  filesystem_->Release(writer.handle);
  filesystem_->Release(reader.handle);
}

TEST_F(FilesystemTest, HandlesDoOnlyWhatTheyWereOpenedFor) {
  const InodeId inode = MakeFile("a", "hello");
  OpenedFile reader = *Open(inode);
  EXPECT_EQ(WaitStatus([&](StatusCallback done) { filesystem_->Write(reader.handle, 0, {}, std::move(done)); }).code(),
            StatusCode::kBadHandle);
  filesystem_->Release(reader.handle);
  OpenedFile writer = *Open(inode, OpenFlags{.read = false, .write = true});
  EXPECT_EQ(
      Wait<ReadResult>([&](Callback<ReadResult> done) { filesystem_->Read(writer.handle, 0, 1, std::move(done)); })
          .status()
          .code(),
      StatusCode::kBadHandle);
  filesystem_->Release(writer.handle);
}

TEST_F(FilesystemTest, ADirectoryIsNotOpenedAsAFile) {
  EXPECT_EQ(Open(filesystem_->root()).status().code(), StatusCode::kIsDirectory);
}

TEST_F(FilesystemTest, OpeningWithTruncateEmptiesTheFile) {
  const InodeId inode = MakeFile("a", "hello");
  OpenedFile file = *Open(inode, OpenFlags{.read = true, .write = true, .truncate = true});
  EXPECT_EQ(file.attributes.size_bytes, 0u);
  EXPECT_FALSE(file.keep_cache);
  EXPECT_EQ(Read(file.handle), "");
  filesystem_->Release(file.handle);
  OpenedFile again = Create("a", /*exclusive=*/false, OpenFlags{.read = true, .write = true, .truncate = true});
  EXPECT_FALSE(again.created);
  EXPECT_EQ(again.attributes.inode, inode);
  filesystem_->Release(again.handle);
}

// ---- Unlinked while open ----

TEST_F(FilesystemTest, AnUnlinkedFileLivesUntilItsLastRelease) {
  OpenedFile file = Create("a");
  Write(file.handle, 0, "hello");
  const uint64_t inode = file.attributes.inode.value();
  ASSERT_TRUE(Unlink("a").ok());
  EXPECT_TRUE(server_.IsOrphan(inode));
  EXPECT_EQ(Get(file.attributes.inode).nlink, 0u);
  EXPECT_EQ(Read(file.handle), "hello");
  EXPECT_TRUE(Flush(file.handle).ok());
  filesystem_->Release(file.handle);
  Settle();
  EXPECT_FALSE(server_.Exists(inode));
}

TEST_F(FilesystemTest, AnUnlinkedFileThatIsStillDirtyIsReleasedAfterItsFlush) {
  OpenedFile file = Create("a");
  Write(file.handle, 0, "hello");
  const uint64_t inode = file.attributes.inode.value();
  ASSERT_TRUE(Unlink("a").ok());
  filesystem_->Release(file.handle);
  for (int i = 0; i < 3; ++i) Settle();
  EXPECT_FALSE(server_.Exists(inode));
}

TEST_F(FilesystemTest, AFileReplacedByARenameLivesUntilItsLastRelease) {
  MakeFile("new", "new");
  OpenedFile old = Create("a");
  const uint64_t inode = old.attributes.inode.value();
  EXPECT_TRUE(WaitStatus([&](StatusCallback done) {
                filesystem_->Rename(filesystem_->root(), "new", filesystem_->root(), "a", {}, Caller(),
                                    std::move(done));
              }).ok());
  EXPECT_TRUE(server_.IsOrphan(inode));
  filesystem_->Release(old.handle);
  Settle();
  EXPECT_FALSE(server_.Exists(inode));
}

TEST_F(FilesystemTest, UnlinkingAnotherFileWhileOneIsOpenLeavesNoOrphan) {
  const InodeId other = MakeFile("other", "x");
  OpenedFile open = Create("open");
  ASSERT_TRUE(Unlink("other").ok());
  Settle();
  EXPECT_FALSE(server_.Exists(other.value()));
  filesystem_->Release(open.handle);
}

TEST_F(FilesystemTest, UnlinkingWithNothingOpenCostsOneMutation) {
  MakeFile("a", "x");
  ASSERT_TRUE(Unlink("a").ok());
  EXPECT_EQ(CountMutations(proto::Mutation::kReleaseOrphan), 0);
}

// ---- Attributes and buffered data ----

TEST_F(FilesystemTest, AModificationTimeThatIsSetAfterAWriteStays) {
  OpenedFile file = Create("a");
  Write(file.handle, 0, "hello");
  AttributeChanges changes;
  changes.mtime_ns = 123;
  EXPECT_EQ(Set(file.attributes.inode, changes)->mtime_ns, 123);
  EXPECT_TRUE(Flush(file.handle).ok());
  filesystem_->Release(file.handle);
  const proto::Attributes stored = server_.Get(file.attributes.inode.value());
  EXPECT_EQ(stored.mtime_ns(), 123);
  EXPECT_EQ(stored.size_bytes(), 5u);
}

TEST_F(FilesystemTest, AWriteErrorIsReportedByWhatFlushesFirst) {
  OpenedFile file = Create("a");
  Write(file.handle, 0, "hello");
  data_->FailNextFlush(Status(StatusCode::kNoSpace, "full"));
  AttributeChanges changes;
  changes.mode = 0600;
  EXPECT_EQ(Set(file.attributes.inode, changes).status().code(), StatusCode::kNoSpace);
  filesystem_->Release(file.handle);
}

TEST_F(FilesystemTest, AnOvertakenAnswerDoesNotShowAnOldSize) {
  OpenedFile file = Create("a");
  Write(file.handle, 0, "hello");
  EXPECT_TRUE(Flush(file.handle).ok());
  const uint64_t inode = file.attributes.inode.value();
  // As if the answer had been made before the commit.
  server_.Edit(inode, [](proto::Attributes* attributes) {
    attributes->set_size_bytes(0);
    attributes->set_change(0);
  });
  EXPECT_EQ(Get(file.attributes.inode).size_bytes, 5u);
  filesystem_->Release(file.handle);
}

TEST_F(FilesystemTest, GrowthByAnotherClientIsSeenByAnOpenFile) {
  const InodeId inode = MakeFile("a", "hello");
  OpenedFile file = *Open(inode);
  server_.Edit(inode.value(), [](proto::Attributes* attributes) { attributes->set_size_bytes(9); });
  EXPECT_EQ(Get(inode).size_bytes, 9u);
  EXPECT_EQ(Read(file.handle).size(), 9u);
  filesystem_->Release(file.handle);
}

// ---- Truncate ----

TEST_F(FilesystemTest, ShrinkingCutsTheChunksAndReportsIt) {
  const InodeId inode = MakeFile("a", "hello world");
  AttributeChanges changes;
  changes.size_bytes = 5;
  const Attributes shown = *Set(inode, changes);
  EXPECT_EQ(shown.size_bytes, 5u);
  EXPECT_FALSE(shown.truncate_floor_bytes.has_value());
  EXPECT_FALSE(server_.Get(inode.value()).truncate_pending());
  EXPECT_THAT(data_->calls(), ::testing::Contains("truncate 5"));
}

TEST_F(FilesystemTest, APendingTruncateOfAnotherIsFinishedFirst) {
  const InodeId inode = MakeFile("a", "hello world");
  server_.Edit(inode.value(), [](proto::Attributes* attributes) {
    attributes->set_truncate_pending(true);
    attributes->set_truncate_floor_bytes(8);
    attributes->set_size_bytes(8);
  });
  AttributeChanges changes;
  changes.size_bytes = 5;
  EXPECT_EQ(Set(inode, changes)->size_bytes, 5u);
  EXPECT_FALSE(server_.Get(inode.value()).truncate_pending());
  const std::vector<std::string> calls = data_->calls();
  const auto first = std::ranges::find(calls, "truncate 8");
  EXPECT_NE(first, calls.end());
  EXPECT_NE(std::find(first, calls.end(), "truncate 5"), calls.end());
}

TEST_F(FilesystemTest, GrowingAnOpenFileReadsAsZeros) {
  const InodeId inode = MakeFile("a", "hi");
  OpenedFile file = *Open(inode, kReadWrite);
  AttributeChanges changes;
  changes.size_bytes = 4;
  changes.mtime_ns = 42;
  const Attributes shown = *Set(inode, changes);
  EXPECT_EQ(shown.size_bytes, 4u);
  EXPECT_EQ(shown.mtime_ns, 42);
  EXPECT_EQ(Read(file.handle), std::string("hi\0\0", 4));
  filesystem_->Release(file.handle);
}

// ---- Page cache ----

TEST_F(FilesystemTest, PagesAreKeptOnlyIfTheFileIsStillTheSame) {
  const InodeId inode = MakeFile("a", "hello");
  OpenedFile first = *Open(inode);
  filesystem_->Release(first.handle);
  OpenedFile same = *Open(inode);
  EXPECT_TRUE(same.keep_cache);
  filesystem_->Release(same.handle);
  server_.Edit(inode.value(), [](proto::Attributes* attributes) {
    attributes->set_data_generation(attributes->data_generation() + 1);
  });
  OpenedFile changed = *Open(inode);
  EXPECT_FALSE(changed.keep_cache);
  filesystem_->Release(changed.handle);
  OpenedFile again = *Open(inode);
  EXPECT_TRUE(again.keep_cache);
  filesystem_->Release(again.handle);
}

TEST_F(FilesystemTest, PagesOfOwnWritesAreKept) {
  const InodeId inode = MakeFile("a", "hello");
  OpenedFile file = *Open(inode);
  EXPECT_TRUE(file.keep_cache);
  filesystem_->Release(file.handle);
}

TEST_F(FilesystemTest, PagesAreDroppedIfAnotherWroteBetweenOwnWrites) {
  OpenedFile file = Create("a");
  Write(file.handle, 0, "hello");
  ASSERT_TRUE(Flush(file.handle).ok());
  server_.Edit(file.attributes.inode.value(), [](proto::Attributes* attributes) {
    attributes->set_data_generation(attributes->data_generation() + 1);
  });
  Write(file.handle, 0, "HELLO");
  ASSERT_TRUE(Flush(file.handle).ok());
  filesystem_->Release(file.handle);
  OpenedFile again = *Open(file.attributes.inode);
  EXPECT_FALSE(again.keep_cache);
  filesystem_->Release(again.handle);
}

// ---- Ingest ----

TEST_F(FilesystemTest, IngestMakesACompleteFile) {
  const std::string text = "content";
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  Filesystem::IngestFile file;
  file.parent = filesystem_->root();
  file.name = "a";
  file.mtime_ns = 99;
  Result<Attributes> made =
      Wait<Attributes>([&](Callback<Attributes> done) { filesystem_->Ingest(file, bytes, std::move(done)); });
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  EXPECT_EQ(made->size_bytes, text.size());
  EXPECT_EQ(made->mtime_ns, 99);
  EXPECT_EQ(data_->Stored(made->data), text);
  EXPECT_EQ(CountMutations(proto::Mutation::kCreate), 1);
}

TEST_F(FilesystemTest, IngestReservesIdsInBatches) {
  const std::vector<uint8_t> bytes(10);
  std::vector<DataId> ids;
  std::vector<uint64_t> seeds;
  for (int i = 0; i < 900; ++i) {
    Filesystem::IngestFile file;
    file.parent = filesystem_->root();
    file.name = "f" + std::to_string(i);
    Result<Attributes> made =
        Wait<Attributes>([&](Callback<Attributes> done) { filesystem_->Ingest(file, bytes, std::move(done)); });
    ASSERT_TRUE(made.ok());
    ids.push_back(made->data);
  }
  std::ranges::sort(ids);
  EXPECT_EQ(std::ranges::adjacent_find(ids), ids.end());
  EXPECT_EQ(CountMutations(proto::Mutation::kReserveDataIds), 2);  // the second one ahead of time
}

TEST_F(FilesystemTest, AFileTooLargeForIngestIsRefused) {
  const std::vector<uint8_t> bytes((8 << 20) + 1);
  Filesystem::IngestFile file;
  file.parent = filesystem_->root();
  file.name = "a";
  EXPECT_EQ(Wait<Attributes>([&](Callback<Attributes> done) { filesystem_->Ingest(file, bytes, std::move(done)); })
                .status()
                .code(),
            StatusCode::kFileTooLarge);
}

}  // namespace
}  // namespace tarn::client
