// The facade with a server that grants and pushes: what needs no request, what a push does, what is said in
// acknowledgements and registrations.
#include "client/meta/coherence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "client/blocking.h"
#include "client/filesystem_impl.h"
#include "client/testing/memory_data_plane.h"
#include "client/testing/memory_metadata_server.h"

namespace tarn::client {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::MemoryDataPlane;
using testing::MemoryMetadataServer;

constexpr OpenFlags kReadOnly{.read = true};
constexpr OpenFlags kReadWrite{.read = true, .write = true};

class CoherenceTest : public ::testing::Test {
 protected:
  void Mount(uint64_t term = 1) {
    server_.GrantInTerm(term);
    FilesystemImpl::Parts parts;
    parts.clock = std::make_unique<SystemClock>();
    parts.random = std::make_unique<SeededRandom>(1);
    parts.loops.push_back(*rpc::EventLoop::Start("test-loop"));
    MetadataChannelOptions channel;
    channel.addresses = {server_.address()};
    parts.metadata =
        std::make_unique<MetadataClient>(parts.loops.front().get(), parts.clock.get(), parts.random.get(), channel);
    parts.metadata->EnableCaching(4 << 20);
    parts.volume.id = VolumeId(1);
    parts.root = InodeId(MemoryMetadataServer::kRoot);
    coherence_ = parts.metadata->coherence();
    CHECK(WaitStatus([&](StatusCallback done) { parts.metadata->OpenSession(VolumeId(1), std::move(done)); }).ok(),
          "no session");
    filesystem_ =
        *FilesystemImpl::Create(std::move(parts), [this](MetadataForData* metadata) -> Result<std::unique_ptr<DataPlane>> {
          auto data = std::make_unique<MemoryDataPlane>(metadata);
          data_ = data.get();
          return std::unique_ptr<DataPlane>(std::move(data));
        });
    if (term != 0) WaitUntilUsable();
  }
  void WaitUntilUsable() {
    while (!coherence_->cache().usable()) std::this_thread::yield();
  }
  InodeId MakeFile(const std::string& name) {
    Result<OpenedFile> made = Wait<OpenedFile>([&](Callback<OpenedFile> done) {
      filesystem_->Create(filesystem_->root(), name, 0644, true, kReadWrite, Caller(), std::move(done));
    });
    filesystem_->Release(made->handle);
    return made->attributes.inode;
  }
  Result<Attributes> Lookup(const std::string& name) {
    return Wait<Attributes>(
        [&](Callback<Attributes> done) { filesystem_->Lookup(filesystem_->root(), name, std::move(done)); });
  }
  Attributes Get(InodeId inode) {
    return *Wait<Attributes>([&](Callback<Attributes> done) { filesystem_->GetAttributes(inode, std::move(done)); });
  }
  Result<OpenedFile> Open(InodeId inode) {
    return Wait<OpenedFile>(
        [&](Callback<OpenedFile> done) { filesystem_->OpenFile(inode, kReadOnly, std::move(done)); });
  }
  FileHandlePtr OpenForWriting(InodeId inode, OpenFlags flags = kReadWrite) {
    return Wait<OpenedFile>([&](Callback<OpenedFile> done) { filesystem_->OpenFile(inode, flags, std::move(done)); })
        ->handle;
  }
  void Write(const FileHandlePtr& handle, uint64_t offset, const std::string& text) {
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    ASSERT_TRUE(
        WaitStatus([&](StatusCallback done) { filesystem_->Write(handle, offset, bytes, std::move(done)); }).ok());
  }
  // As a program's last close.
  void Close(const FileHandlePtr& handle) {
    EXPECT_TRUE(WaitStatus([&](StatusCallback done) { filesystem_->Flush(handle, std::move(done)); }).ok());
    filesystem_->Release(handle);
  }
  proto::CommitWriteOp LastCommit() {
    proto::CommitWriteOp last;
    for (const proto::Mutation& mutation : server_.mutations()) {
      if (mutation.has_commit_write()) last = mutation.commit_write();
    }
    return last;
  }
  uint64_t RequestsOf(const std::function<void()>& what) {
    const uint64_t before = server_.requests();
    what();
    return server_.requests() - before;
  }
  static proto::Invalidation NameItem(const std::string& name, uint64_t directory = MemoryMetadataServer::kRoot) {
    proto::Invalidation item;
    item.set_directory(directory);
    item.add_names(name);
    return item;
  }
  static proto::Invalidation InodeItem(InodeId inode) {
    proto::Invalidation item;
    item.set_inode(inode.value());
    return item;
  }

  MemoryMetadataServer server_;
  Coherence* coherence_ = nullptr;
  MemoryDataPlane* data_ = nullptr;
  std::unique_ptr<FilesystemImpl> filesystem_;
};

TEST_F(CoherenceTest, FsyncIsForEverybodysDataUnlessNobodyElseCanHaveWritten) {
  Mount();
  const InodeId file = MakeFile("a");
  FileHandlePtr handle = OpenForWriting(file);
  const auto syncs_of_all = [&] {
    EXPECT_TRUE(WaitStatus([&](StatusCallback done) { filesystem_->Fsync(handle, std::move(done)); }).ok());
    const std::vector<std::string> calls = data_->calls();
    return std::ranges::count(calls, "sync everybody's");
  };
  Write(handle, 0, "hello");
  EXPECT_EQ(syncs_of_all(), 0) << "it had no data when it was opened";
  server_.PushAndWait({InodeItem(file)});
  EXPECT_EQ(syncs_of_all(), 1) << "another client has written";
  EXPECT_EQ(syncs_of_all(), 1) << "and not since";
  Close(handle);
  handle = OpenForWriting(file);
  EXPECT_EQ(syncs_of_all(), 2) << "who wrote what is there is not known";
  EXPECT_EQ(syncs_of_all(), 2);
  Close(handle);
}

TEST_F(CoherenceTest, WhatIsKnownNeedsNoRequest) {
  Mount();
  (void)Lookup("a");  // of nothing, but it brings the directory
  const InodeId file = MakeFile("a");
  const uint64_t counted = filesystem_->counters().metadata_requests;
  const uint64_t requests = RequestsOf([&] {
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(Lookup("a")->inode, file);
      EXPECT_EQ(Get(file).inode, file);
      Result<OpenedFile> opened = Open(file);
      ASSERT_TRUE(opened.ok());
      filesystem_->Release(opened->handle);
      EXPECT_EQ(Wait<std::string>([&](Callback<std::string> done) {
                  filesystem_->GetXattr(file, "security.capability", std::move(done));
                })
                    .status()
                    .code(),
                StatusCode::kNoAttribute);
    }
  });
  EXPECT_EQ(requests, 0u);
  EXPECT_EQ(filesystem_->counters().metadata_requests, counted);
}

TEST_F(CoherenceTest, InADirectoryThatThisClientFillsAloneNoNameIsAskedForBeforeItIsMade) {
  Mount();
  (void)Lookup("a");
  (void)MakeFile("a");
  EXPECT_EQ(RequestsOf([&] {
              EXPECT_EQ(Lookup("b").status().code(), StatusCode::kNotFound);
              EXPECT_EQ(Lookup("c").status().code(), StatusCode::kNotFound);
            }),
            0u);
  const InodeId b = MakeFile("b");
  EXPECT_EQ(Lookup("b")->inode, b);
  // Another client may have made any name.
  server_.PushAndWait({NameItem("d")});
  EXPECT_EQ(RequestsOf([&] { EXPECT_EQ(Lookup("c").status().code(), StatusCode::kNotFound); }), 1u);
}

TEST_F(CoherenceTest, InADirectoryThatHadNamesEachNameIsAskedFor) {
  Mount();
  (void)Lookup("a");
  (void)MakeFile("a");
  server_.PushAndWait({NameItem("a")});
  (void)Lookup("b");
  (void)MakeFile("b");
  EXPECT_EQ(RequestsOf([&] { EXPECT_EQ(Lookup("c").status().code(), StatusCode::kNotFound); }), 1u);
}

TEST_F(CoherenceTest, AnOwnChangeOfADirectoryCostsOneRequestAndLeavesItsAttributesKnown) {
  Mount();
  const InodeId root = filesystem_->root();
  (void)Lookup("a");
  (void)Get(root);
  uint64_t change = Get(root).change;
  const auto costs_one = [&](const std::string& what, const std::function<void()>& run) {
    EXPECT_EQ(RequestsOf([&] {
                run();
                const uint64_t after = Get(root).change;
                EXPECT_GT(after, change) << what;
                change = after;
              }),
              1u)
        << what;
  };
  const auto wait = [](const std::function<void(StatusCallback)>& start) { EXPECT_TRUE(WaitStatus(start).ok()); };
  costs_one("create", [&] { (void)MakeFile("a"); });
  costs_one("mkdir", [&] {
    (void)Wait<Attributes>([&](Callback<Attributes> done) {
      filesystem_->MakeDirectory(root, "d", 0755, Caller(), std::move(done));
    });
  });
  costs_one("rename", [&] {
    wait([&](StatusCallback done) { filesystem_->Rename(root, "a", root, "b", {}, Caller(), std::move(done)); });
  });
  costs_one("unlink",
            [&] { wait([&](StatusCallback done) { filesystem_->Unlink(root, "b", Caller(), std::move(done)); }); });
}

TEST_F(CoherenceTest, FirstWriteOfAnOpenFileAcquiresOnceAndItsCloseReleases) {
  Mount();
  const InodeId file = MakeFile("a");
  EXPECT_TRUE(server_.acquires().empty()) << "nothing was written";
  const FileHandlePtr handle = OpenForWriting(file);
  Write(handle, 0, "hello");
  Write(handle, 5, " world");
  ASSERT_EQ(server_.acquires().size(), 1u);
  EXPECT_FALSE(server_.acquires()[0].append());
  EXPECT_EQ(server_.Get(file.value()).size_bytes(), 0u) << "buffered";
  EXPECT_EQ(Get(file).size_bytes, 11u);
  Close(handle);
  EXPECT_EQ(server_.Get(file.value()).size_bytes(), 11u);
  EXPECT_TRUE(LastCommit().release_write());
  EXPECT_TRUE(server_.releases().empty());
}

TEST_F(CoherenceTest, GrantThatNoCommitEndedIsReleased) {
  Mount();
  const InodeId file = MakeFile("a");
  const FileHandlePtr handle = OpenForWriting(file);
  Write(handle, 0, "hello");
  EXPECT_TRUE(WaitStatus([&](StatusCallback done) { filesystem_->Fsync(handle, std::move(done)); }).ok());
  EXPECT_FALSE(LastCommit().release_write()) << "it may be written again";
  filesystem_->Release(handle);
  (void)Lookup("other");  // behind it
  ASSERT_EQ(server_.releases().size(), 1u);
  EXPECT_EQ(server_.releases()[0].inode(), file.value());
}

TEST_F(CoherenceTest, SharedWriteIsPublishedWhenItReturns) {
  Mount();
  server_.ShareWrites(true);
  const InodeId file = MakeFile("a");
  const FileHandlePtr handle = OpenForWriting(file);
  for (uint64_t size = 5; size <= 15; size += 5) {
    Write(handle, size - 5, "hello");
    EXPECT_EQ(server_.Get(file.value()).size_bytes(), size);
  }
  EXPECT_EQ(server_.acquires().size(), 1u);
  filesystem_->Release(handle);
}

TEST_F(CoherenceTest, RecallIsAcknowledgedWhenWhatWasBufferedIsPublished) {
  Mount();
  const InodeId file = MakeFile("a");
  const FileHandlePtr handle = OpenForWriting(file, {.read = true, .write = true, .append = true});
  for (uint64_t round = 1; round <= 3; ++round) {
    Write(handle, 0, "hello");
    ASSERT_EQ(server_.acquires().size(), round);
    EXPECT_TRUE(server_.acquires().back().append());
    proto::Invalidation recall = InodeItem(file);
    recall.set_recall_write(true);
    server_.PushAndWait({recall});
    EXPECT_EQ(server_.Get(file.value()).size_bytes(), round * 5);
  }
  filesystem_->Release(handle);
}

TEST_F(CoherenceTest, NewTermEndsGrantsAndPublishesWhatIsBuffered) {
  Mount();
  const InodeId file = MakeFile("a");
  const FileHandlePtr handle = OpenForWriting(file);
  Write(handle, 0, "hello");
  server_.GrantInTerm(2);
  (void)Lookup("b");  // brings the new term
  WaitUntilUsable();
  while (server_.Get(file.value()).size_bytes() == 0) std::this_thread::yield();
  Write(handle, 5, " world");
  EXPECT_EQ(server_.acquires().size(), 2u);
  Close(handle);
}

TEST_F(CoherenceTest, AbsentNamesNeedNoRequestEither) {
  Mount();
  EXPECT_EQ(Lookup("none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(RequestsOf([&] { EXPECT_EQ(Lookup("none").status().code(), StatusCode::kNotFound); }), 0u);
  server_.PushAndWait({NameItem("none")});
  EXPECT_EQ(RequestsOf([&] { (void)Lookup("none"); }), 1u);
}

TEST_F(CoherenceTest, AListingAnswersLaterQuestions) {
  Mount();
  const InodeId a = MakeFile("a");
  (void)Wait<DirectoryPage>([&](Callback<DirectoryPage> done) {
    filesystem_->ReadDirectory(filesystem_->root(), 0, 100, true, std::move(done));
  });
  EXPECT_EQ(RequestsOf([&] {
              EXPECT_EQ(Lookup("a")->inode, a);
              EXPECT_EQ(Get(a).inode, a);
            }),
            0u);
}

TEST_F(CoherenceTest, OwnChangesKeepTheCacheTrue) {
  Mount();
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  EXPECT_TRUE(WaitStatus([&](StatusCallback done) {
                filesystem_->Rename(filesystem_->root(), "a", filesystem_->root(), "b", {}, Caller(), std::move(done));
              }).ok());
  EXPECT_EQ(Lookup("a").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Lookup("b")->inode, file);
  EXPECT_TRUE(WaitStatus([&](StatusCallback done) {
                filesystem_->Unlink(filesystem_->root(), "b", Caller(), std::move(done));
              }).ok());
  EXPECT_EQ(RequestsOf([&] { EXPECT_EQ(Lookup("b").status().code(), StatusCode::kNotFound); }), 0u);
}

TEST_F(CoherenceTest, AfterAnAcknowledgementNothingOldIsShown) {
  Mount();
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  EXPECT_EQ(Get(file).mode, 0644u);
  for (uint32_t mode = 0; mode < 50; ++mode) {
    server_.Edit(file.value(), [&](proto::Attributes* attributes) { attributes->set_mode(mode); });
    server_.PushAndWait({InodeItem(file)});
    EXPECT_EQ(Get(file).mode, mode);
    EXPECT_EQ(Lookup("a")->mode, mode);
  }
}

TEST_F(CoherenceTest, AnOpenFileReadsWhatAnotherClientWrote) {
  Mount();
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  Result<OpenedFile> opened = Open(file);
  server_.Edit(file.value(), [&](proto::Attributes* attributes) {
    attributes->set_size_bytes(3);
    attributes->set_data_generation(attributes->data_generation() + 1);
  });
  proto::Invalidation item = InodeItem(file);
  item.set_data(true);
  server_.PushAndWait({item});
  Result<ReadResult> read =
      Wait<ReadResult>([&](Callback<ReadResult> done) { filesystem_->Read(opened->handle, 0, 100, std::move(done)); });
  EXPECT_EQ(read->bytes, 3u);
  filesystem_->Release(opened->handle);
}

TEST_F(CoherenceTest, OpenFilesAreReportedWhenTheirLastNameGoes) {
  Mount();
  (void)Lookup("a");
  const InodeId open_file = MakeFile("a");
  const InodeId closed_file = MakeFile("b");
  Result<OpenedFile> opened = Open(open_file);
  proto::Invalidation first = InodeItem(open_file);
  first.set_removed(true);
  first.set_report_open(true);
  proto::Invalidation second = InodeItem(closed_file);
  second.set_removed(true);
  second.set_report_open(true);
  EXPECT_THAT(server_.PushAndWait({first, second}).open_inodes(), ElementsAre(open_file.value()));
  filesystem_->Release(opened->handle);
  // Nobody waits for what a release sends.
  const auto released = server_.WaitForMutation([](const proto::Mutation& mutation) { return mutation.has_release_orphan(); });
  EXPECT_EQ(released.release_orphan().inode(), open_file.value());
}

TEST_F(CoherenceTest, WhatWasReportedAsOpenIsReleasedWithItsLastUse) {
  Mount(1);
  (void)MakeFile("first");  // without an interest, so that other names are asked for
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  Result<OpenedFile> opened = Open(file);
  server_.GrantInTerm(2);
  (void)Lookup("b");  // its reply names the new term
  WaitUntilUsable();
  ASSERT_THAT(server_.keep_alives().back().open_inodes(), ElementsAre(file.value()));
  // Others may have unlinked it before: then the server made this session its holder, and nothing else tells so.
  filesystem_->Release(opened->handle);
  const auto released = server_.WaitForMutation([](const proto::Mutation& mutation) { return mutation.has_release_orphan(); });
  EXPECT_EQ(released.release_orphan().inode(), file.value());
}

TEST_F(CoherenceTest, AFileThatIsMadeWhereNothingIsWatchedIsCoveredBeforeItIsOpen) {
  Mount();
  EXPECT_EQ(RequestsOf([&] { (void)MakeFile("first"); }), 2u) << "the server would not ask before it lets go of it";
  (void)Lookup("a");
  EXPECT_EQ(RequestsOf([&] { (void)MakeFile("a"); }), 1u) << "its directory covers it";
}

TEST_F(CoherenceTest, AListingDoesNotShowWhatAnOpenFileWasBeforeAnotherClientWroteIt) {
  Mount();
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  Result<OpenedFile> opened = Open(file);
  server_.Edit(file.value(), [](proto::Attributes* attributes) {
    attributes->set_nlink(0);  // left out
    attributes->set_change(attributes->change() - 1);
  });
  const auto page = Wait<DirectoryPage>([&](Callback<DirectoryPage> done) {
    filesystem_->ReadDirectory(filesystem_->root(), 0, 100, true, std::move(done));
  });
  ASSERT_EQ(page->entries.size(), 1u);
  EXPECT_EQ(page->entries[0].attributes.inode, file);
  EXPECT_EQ(page->entries[0].attributes.nlink, 0u);
  filesystem_->Release(opened->handle);
}

TEST_F(CoherenceTest, ADroppedDirectoryLeavesItsOpenFilesCovered) {
  Mount();
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  Result<OpenedFile> opened = Open(file);
  proto::Invalidation item;
  item.set_directory(MemoryMetadataServer::kRoot);
  item.set_drop(true);
  EXPECT_THAT(server_.PushAndWait({item}).open_inodes(), ElementsAre(file.value()));
  EXPECT_EQ(RequestsOf([&] { (void)Get(file); }), 1u);
  filesystem_->Release(opened->handle);
}

TEST_F(CoherenceTest, DroppingEverythingReportsEverythingThatIsOpen) {
  Mount();
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  Result<OpenedFile> opened = Open(file);
  proto::Invalidation item;
  item.set_drop(true);
  EXPECT_THAT(server_.PushAndWait({item}).open_inodes(), ElementsAre(file.value()));
  EXPECT_EQ(RequestsOf([&] { (void)Lookup("a"); }), 1u);
  filesystem_->Release(opened->handle);
}

TEST_F(CoherenceTest, ANewTermEndsEverythingAndIsRegisteredWithWhatIsOpen) {
  Mount(1);
  (void)MakeFile("first");  // without an interest, so that other names are asked for
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  Result<OpenedFile> opened = Open(file);
  server_.GrantInTerm(2);
  EXPECT_EQ(RequestsOf([&] { (void)Lookup("a"); }), 0u) << "the old lease still runs";
  (void)Lookup("b");  // its reply names the new term
  WaitUntilUsable();
  EXPECT_EQ(coherence_->cache().term(), 2u);
  EXPECT_EQ(server_.keep_alives().back().term(), 2u);
  EXPECT_THAT(server_.keep_alives().back().open_inodes(), ElementsAre(file.value()));
  EXPECT_EQ(RequestsOf([&] { (void)Lookup("a"); }), 1u);
  EXPECT_EQ(RequestsOf([&] { (void)Lookup("a"); }), 0u);
  filesystem_->Release(opened->handle);
}

TEST_F(CoherenceTest, APushOfANewTermRegisters) {
  Mount(1);
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  server_.GrantInTerm(5);
  server_.PushAndWait({NameItem("zzz")});
  WaitUntilUsable();
  EXPECT_EQ(coherence_->cache().term(), 5u);
  EXPECT_EQ(RequestsOf([&] { EXPECT_EQ(Lookup("a")->inode, file); }), 1u);
}

TEST_F(CoherenceTest, ALapseThatTheServerTellsOfEndsEverything) {
  Mount(1);
  (void)Lookup("a");
  const InodeId file = MakeFile("a");
  Result<OpenedFile> opened = Open(file);
  server_.SetLapses(1);
  const size_t before = server_.keep_alives().size();
  proto::KeepAliveRequest request;
  const auto answered = coherence_->PrepareKeepAlive(&request);
  EXPECT_THAT(request.open_inodes(), IsEmpty()) << "it is registered";
  proto::KeepAliveReply lapsed;
  lapsed.set_term(1);
  lapsed.set_lapses(1);
  lapsed.set_lease_ms(600'000);
  answered(lapsed);
  while (server_.keep_alives().size() == before) std::this_thread::yield();
  WaitUntilUsable();
  EXPECT_EQ(server_.keep_alives().back().lapses(), 1u);
  EXPECT_THAT(server_.keep_alives().back().open_inodes(), ElementsAre(file.value()));
  EXPECT_EQ(RequestsOf([&] { (void)Lookup("a"); }), 1u);
  filesystem_->Release(opened->handle);
}

TEST_F(CoherenceTest, ARecallIsAcknowledgedWhenWhatIsBufferedIsCommitted) {
  Mount();
  (void)Lookup("a");
  Result<OpenedFile> opened = Wait<OpenedFile>([&](Callback<OpenedFile> done) {
    filesystem_->Create(filesystem_->root(), "a", 0644, true, kReadWrite, Caller(), std::move(done));
  });
  const InodeId file = opened->attributes.inode;
  const std::string text = "buffered";
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  EXPECT_TRUE(
      WaitStatus([&](StatusCallback done) { filesystem_->Write(opened->handle, 0, bytes, std::move(done)); }).ok());
  EXPECT_EQ(server_.Get(file.value()).size_bytes(), 0u);
  proto::Invalidation item = InodeItem(file);
  item.set_recall_write(true);
  server_.PushAndWait({item});
  EXPECT_EQ(server_.Get(file.value()).size_bytes(), text.size());
  filesystem_->Release(opened->handle);
}

TEST_F(CoherenceTest, AServerThatGrantsNothingIsAskedEachTime) {
  Mount(/*term=*/0);
  const InodeId file = MakeFile("a");
  EXPECT_EQ(RequestsOf([&] {
              (void)Lookup("a");
              (void)Lookup("a");
              (void)Get(file);
            }),
            3u);
  EXPECT_EQ(filesystem_->freshness(), Filesystem::Freshness::kGranted) << "nothing may be believed for any time";
}

TEST_F(CoherenceTest, DirectoriesAreCoveredByThemselves) {
  Mount();
  Result<Attributes> made = Wait<Attributes>([&](Callback<Attributes> done) {
    filesystem_->MakeDirectory(filesystem_->root(), "d", 0755, Caller(), std::move(done));
  });
  (void)Lookup("d");
  EXPECT_EQ(RequestsOf([&] {
              (void)Lookup("d");
              (void)Get(made->inode);
            }),
            0u);
  server_.PushAndWait({NameItem("x", made->inode.value())});
  EXPECT_EQ(RequestsOf([&] { (void)Get(made->inode); }), 1u);
}

}  // namespace
}  // namespace tarn::client
