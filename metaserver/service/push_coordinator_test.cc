// What each change pushes to whom: one test per row of the table in docs/coherence.md.
#include "metaserver/service/push_coordinator.h"

#include "metaserver/service/coherence_fixture.h"

namespace tarn::meta {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::UnorderedElementsAre;

// ---- Grants ----

TEST_F(CoherenceTest, LookupGrantsNamesAndTheDirectoryItFinds) {
  const uint64_t directory = Dir("d");
  const uint64_t file = File(root_, "f");
  const auto found = Lookup(a_, root_, "d");
  EXPECT_EQ(found.grant().term(), 7u);
  EXPECT_EQ(found.grant().directory(), root_);
  EXPECT_EQ(found.grant().inode(), directory);
  const auto plain = Lookup(a_, root_, "f");
  EXPECT_EQ(plain.attributes().inode(), file);
  EXPECT_EQ(plain.attributes().parent(), root_);
  EXPECT_EQ(plain.grant().inode(), 0u) << "its directory covers it";
  const auto missing = Lookup(a_, root_, "none");
  EXPECT_FALSE(missing.has_attributes());
  EXPECT_EQ(missing.grant().directory(), root_);
}

TEST_F(CoherenceTest, GetAttrGrantsWhatCoversTheInode) {
  const uint64_t file = File(root_, "f");
  EXPECT_EQ(GetAttr(a_, file).grant().directory(), root_);
  EXPECT_EQ(GetAttr(a_, file).grant().inode(), 0u);
  EXPECT_EQ(GetAttr(a_, file, true).grant().inode(), file);
  EXPECT_EQ(GetAttr(a_, root_).grant().inode(), root_);
  driver_.Link(file, root_, "g");
  EXPECT_EQ(GetAttr(a_, file).grant().inode(), file) << "with two links nothing else covers it";
  EXPECT_EQ(ReadDir(a_, root_).grant().directory(), root_);
}

TEST_F(CoherenceTest, SessionThatDoesNotCacheGetsNoGrant) {
  Client tool = Open(false);
  const auto reply = Lookup(tool, root_, "none");
  EXPECT_EQ(reply.grant().directory(), 0u);
  As(a_, Create(root_, "f"));
  EXPECT_THAT(tool.peer->Take(), IsEmpty());
}

TEST_F(CoherenceTest, SecondUserMakesADirectorySharedAndTheFirstHearsOfIt) {
  EXPECT_FALSE(Lookup(a_, root_, "x").grant().shared());
  EXPECT_TRUE(Lookup(b_, root_, "x").grant().shared());
  EXPECT_THAT(AckAll(a_), ElementsAre("d" + std::to_string(IdCounter(root_)) + " shared"));
  EXPECT_TRUE(Lookup(c_, root_, "x").grant().shared());
  EXPECT_THAT(AckAll(a_), IsEmpty()) << "once is enough";
  EXPECT_TRUE(Lookup(a_, root_, "x").grant().shared());
}

// ---- What each change pushes ----

TEST_F(CoherenceTest, CreateWaitsForTheWatchersOfItsParent) {
  Lookup(b_, root_, "f");
  Lookup(c_, root_, "f");
  AckAll(b_);
  const auto answer = As(a_, Create(root_, "f"));
  EXPECT_FALSE(answer->answered());
  EXPECT_THAT(AckAll(b_), ElementsAre(D(root_, "f")));
  EXPECT_FALSE(answer->answered());
  EXPECT_THAT(AckAll(c_), ElementsAre(D(root_, "f")));
  EXPECT_TRUE(answer->answered());
  EXPECT_THAT(a_.peer->Take(), IsEmpty());
}

TEST_F(CoherenceTest, ChangeThatNobodyCachesIsAnsweredAtOnce) {
  Lookup(a_, root_, "f");
  EXPECT_TRUE(As(a_, Create(root_, "f"))->answered()) << "its own interest does not count";
  Lookup(b_, Dir("elsewhere"), "x");
  EXPECT_TRUE(As(a_, Create(root_, "g"))->answered());
}

TEST_F(CoherenceTest, MkdirAndSymlinkPushTheName) {
  Lookup(b_, root_, "x");
  proto::Mutation mkdir;
  mkdir.mutable_mkdir()->set_parent(root_);
  mkdir.mutable_mkdir()->set_name("m");
  As(a_, mkdir);
  proto::Mutation symlink;
  symlink.mutable_symlink()->set_parent(root_);
  symlink.mutable_symlink()->set_name("s");
  symlink.mutable_symlink()->set_target("t");
  As(a_, symlink);
  EXPECT_THAT(AckAll(b_), ElementsAre(D(root_, "m"), D(root_, "s")));
}

TEST_F(CoherenceTest, FailedMutationPushesNothing) {
  File(root_, "f");
  Lookup(b_, root_, "f");
  auto create = Create(root_, "f");
  create.mutable_create()->set_exclusive(true);
  const auto answer = As(a_, create);
  EXPECT_NE(answer->reply.status(), 0u);
  EXPECT_TRUE(answer->answered());
  EXPECT_THAT(b_.peer->Take(), IsEmpty());
}

TEST_F(CoherenceTest, CreateThatReturnsAnExistingFilePushesNothing) {
  File(root_, "f");
  Lookup(b_, root_, "f");
  EXPECT_TRUE(As(a_, Create(root_, "f"))->answered());
  EXPECT_THAT(b_.peer->Take(), IsEmpty());
}

TEST_F(CoherenceTest, ReplacedDataIsPushedAsData) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 10);
  proto::Mutation reserve;
  reserve.mutable_reserve_data_ids()->set_volume(driver_.volume());
  reserve.mutable_reserve_data_ids()->set_count(1);
  const proto::MutationReply reserved = driver_.Run(reserve);
  Lookup(b_, root_, "f");
  auto create = Create(root_, "f");
  create.mutable_create()->set_data_id(reserved.first_data_id());
  *create.mutable_create()->mutable_layout() = reserved.layout_template();
  create.mutable_create()->set_size_bytes(20);
  create.mutable_create()->set_replace(true);
  ASSERT_EQ(As(a_, create)->reply.status(), 0u);
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file.inode(), "data")));
}

TEST_F(CoherenceTest, LinkTakesAFileOutOfItsDirectorysCover) {
  const uint64_t other = Dir("other");
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  Lookup(c_, other, "x");
  As(a_, Link(file, other, "g"));
  EXPECT_THAT(AckAll(b_, {file}), ElementsAre(I(file, "report")));
  EXPECT_THAT(AckAll(c_), ElementsAre(D(other, "g")));
  EXPECT_EQ(driver_.Attr(file).parent(), 0u);
  // b has it open: it goes on hearing of it, though neither directory covers it.
  As(a_, Chmod(file, 0600));
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file)));
  EXPECT_THAT(AckAll(c_), IsEmpty());
}

TEST_F(CoherenceTest, FileThatLeavesACoverAndIsNotOpenIsForgotten) {
  const uint64_t other = Dir("other");
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  As(a_, Link(file, other, "g"));
  AckAll(b_);
  As(a_, Chmod(file, 0600));
  EXPECT_THAT(AckAll(b_), IsEmpty());
}

TEST_F(CoherenceTest, InterestTakenMeanwhileOutlivesTheReport) {
  const uint64_t other = Dir("other");
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  As(a_, Link(file, other, "g"));
  EXPECT_EQ(GetAttr(b_, file).grant().inode(), file) << "granted before the push is acknowledged";
  AckAll(b_);
  As(a_, Chmod(file, 0600));
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file)));
}

TEST_F(CoherenceTest, UnlinkPushesNameAndInode) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  GetAttr(c_, file, true);
  const auto answer = As(a_, Unlink(root_, "f"), true);
  EXPECT_THAT(AckAll(b_), UnorderedElementsAre(D(root_, "f"), I(file, "removed report")));
  EXPECT_FALSE(answer->answered());
  EXPECT_THAT(AckAll(c_), ElementsAre(I(file, "removed report")));
  EXPECT_TRUE(answer->answered());
}

TEST_F(CoherenceTest, UnlinkOfOneOfTwoNamesChangesTheInode) {
  const uint64_t file = File(root_, "f");
  driver_.Link(file, root_, "g");
  GetAttr(b_, file);
  As(a_, Unlink(root_, "f"), true);
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file)));
}

TEST_F(CoherenceTest, RmdirPushesNameAndDirectory) {
  const uint64_t directory = Dir("d");
  Lookup(b_, root_, "d");
  Lookup(c_, directory, "x");
  proto::Mutation rmdir;
  rmdir.mutable_rmdir()->set_parent(root_);
  rmdir.mutable_rmdir()->set_name("d");
  As(a_, rmdir);
  EXPECT_THAT(AckAll(b_), UnorderedElementsAre(D(root_, "d"), I(directory, "removed")));
  EXPECT_THAT(AckAll(c_), ElementsAre(I(directory, "removed")));
}

TEST_F(CoherenceTest, RenamePushesBothNamesAndWhatMoved) {
  const uint64_t from = Dir("from");
  const uint64_t to = Dir("to");
  const uint64_t file = File(from, "f");
  Lookup(b_, from, "f");
  Lookup(c_, to, "g");
  As(a_, Rename(from, "f", to, "g"));
  EXPECT_THAT(AckAll(b_, {file}), ElementsAre(D(from, "f"), I(file, "report")));
  EXPECT_THAT(AckAll(c_), ElementsAre(D(to, "g"), I(file)));
  EXPECT_EQ(driver_.Attr(file).parent(), to);
  // b still has it open, so its removal asks b.
  const auto removal = coherence_.PrepareRemoval(a_.id, InodeId(to), InodeId(file));
  EXPECT_TRUE(removal.hold);
  As(a_, Unlink(to, "g"), true);
  EXPECT_THAT(AckAll(b_, {file}), ElementsAre(I(file, "removed report")));
}

TEST_F(CoherenceTest, RenameWithinADirectoryKeepsTheCover) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  As(a_, Rename(root_, "f", root_, "g"));
  EXPECT_THAT(AckAll(b_), ElementsAre(D(root_, "f,g"), I(file)));
  As(a_, Chmod(file, 0600));
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file)));
}

TEST_F(CoherenceTest, RenameOverAFileRemovesIt) {
  const uint64_t file = File(root_, "f");
  const uint64_t replaced = File(root_, "g");
  Lookup(b_, root_, "g");
  As(a_, Rename(root_, "f", root_, "g"), true);
  EXPECT_THAT(AckAll(b_), UnorderedElementsAre(D(root_, "f,g"), I(file), I(replaced, "removed report")));
}

TEST_F(CoherenceTest, RenameOverADirectoryTellsItsWatchers) {
  const uint64_t moved = Dir("m");
  const uint64_t replaced = Dir("r");
  Lookup(b_, replaced, "x");
  Lookup(c_, moved, "x");
  As(a_, Rename(root_, "m", root_, "r"));
  EXPECT_THAT(AckAll(b_), ElementsAre(I(replaced, "removed")));
  EXPECT_THAT(AckAll(c_), ElementsAre(I(moved))) << "its '..' and ctime";
}

TEST_F(CoherenceTest, ExchangePushesBoth) {
  const uint64_t other = Dir("other");
  const uint64_t f = File(root_, "f");
  const uint64_t g = File(other, "g");
  Lookup(b_, root_, "f");
  Lookup(c_, other, "g");
  auto rename = Rename(root_, "f", other, "g");
  rename.mutable_rename()->set_exchange(true);
  As(a_, rename);
  EXPECT_THAT(AckAll(b_), UnorderedElementsAre(D(root_, "f"), I(f, "report"), I(g)));
  EXPECT_THAT(AckAll(c_), UnorderedElementsAre(D(other, "g"), I(g, "report"), I(f)));
  EXPECT_EQ(driver_.Attr(f).parent(), other);
  EXPECT_EQ(driver_.Attr(g).parent(), root_);
}

TEST_F(CoherenceTest, AttributeChangesReachTheDirectorysWatchersAndTheInodes) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  GetAttr(c_, file, true);
  const auto answer = As(a_, Chmod(file, 0600));
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file)));
  EXPECT_THAT(AckAll(c_), ElementsAre(I(file)));
  EXPECT_TRUE(answer->answered());
  proto::Mutation xattr;
  xattr.mutable_set_xattr()->set_inode(file);
  xattr.mutable_set_xattr()->set_name("user.a");
  As(a_, xattr);
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file)));
  proto::Mutation remove;
  remove.mutable_remove_xattr()->set_inode(file);
  remove.mutable_remove_xattr()->set_name("user.a");
  As(a_, remove);
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file)));
}

TEST_F(CoherenceTest, DirectorysOwnAttributesReachItsWatchers) {
  const uint64_t directory = Dir("d");
  Lookup(b_, root_, "d");
  As(a_, Chmod(directory, 0700));
  EXPECT_THAT(AckAll(b_), ElementsAre(I(directory)));
  As(a_, Create(directory, "f"));
  EXPECT_THAT(AckAll(b_), ElementsAre(D(directory, "f"))) << "mtime and size, which go with a pushed name";
}

TEST_F(CoherenceTest, DataChangesSaySo) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 100);
  Lookup(b_, root_, "f");
  As(a_, Truncate(file.inode(), 10));
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file.inode(), "data")));
  proto::Mutation done;
  done.mutable_truncate_done()->set_inode(file.inode());
  done.mutable_truncate_done()->set_truncate_generation(driver_.Attr(file.inode()).truncate_generation());
  As(a_, done);
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file.inode())));
  proto::Mutation commit;
  const proto::Attributes now = driver_.Attr(file.inode());
  commit.mutable_commit_write()->set_inode(file.inode());
  commit.mutable_commit_write()->set_data_id(now.data_id());
  commit.mutable_commit_write()->set_truncate_generation(now.truncate_generation());
  commit.mutable_commit_write()->set_min_size_bytes(50);
  ASSERT_EQ(As(a_, commit)->reply.status(), 0u);
  EXPECT_THAT(AckAll(b_), ElementsAre(I(file.inode(), "data")));
}

TEST_F(CoherenceTest, AllocateDataPushesNothing) {
  const uint64_t file = File(root_, "f");
  Lookup(b_, root_, "f");
  proto::Mutation allocate;
  allocate.mutable_allocate_data()->set_inode(file);
  EXPECT_TRUE(As(a_, allocate)->answered());
  EXPECT_THAT(b_.peer->Take(), IsEmpty());
}

TEST_F(CoherenceTest, PurgeTellsTheWatchersOfWhatGoes) {
  const uint64_t directory = Dir("d");
  const uint64_t file = File(directory, "f");
  Lookup(b_, directory, "f");
  Lookup(c_, root_, "d");
  proto::Mutation remove;
  remove.mutable_delete_volume()->set_name("v");
  remove.mutable_delete_volume()->set_recursive(true);
  ASSERT_EQ(Apply(remove)->reply.status(), 0u);
  EXPECT_THAT(AckAll(b_), IsEmpty());
  proto::Mutation purge;
  purge.mutable_purge()->set_volume(driver_.volume());
  purge.mutable_purge()->set_steps_max(100);
  const auto answer = Apply(purge);
  EXPECT_TRUE(answer->answered()) << "nobody waits for background work";
  EXPECT_THAT(AckAll(b_), IsSupersetOf({I(file, "removed"), I(directory, "removed")}));
  EXPECT_THAT(AckAll(c_), IsSupersetOf({"d" + std::to_string(IdCounter(root_))}));
}

TEST_F(CoherenceTest, OneEntryIsOnePush) {
  Lookup(b_, root_, "x");
  const auto answers = ApplyEntry(
      driver_.Fill({Sign(a_, Create(root_, "f")), Sign(c_, Create(root_, "g")), Sign(a_, Unlink(root_, "f"))}));
  const auto pushes = b_.peer->Take();
  ASSERT_EQ(pushes.size(), 1u);
  EXPECT_EQ(Text(pushes[0].items(0)), D(root_, "f,g,f"));
  for (const auto& answer : answers) EXPECT_FALSE(answer->answered());
  proto::AckPushRequest ack;
  ack.set_session(b_.id.value());
  ack.set_term(7);
  ack.add_pushes(pushes[0].push());
  coherence_.Acknowledge(ack);
  for (const auto& answer : answers) EXPECT_TRUE(answer->answered());
}

TEST_F(CoherenceTest, WhoRemovesAFileThatItHasOpenHearsOfItFurther) {
  const uint64_t file = File(root_, "f");
  Lookup(a_, root_, "f");
  GetAttr(b_, file, true);
  proto::Mutation unlink = Unlink(root_, "f");
  unlink.mutable_unlink()->set_held_open(true);
  const auto removed = As(a_, unlink, true);
  AckAll(b_, {file});
  RunSettles();
  EXPECT_TRUE(removed->answered());
  const auto changed = As(b_, Chmod(file, 0600));
  EXPECT_FALSE(changed->answered());
  EXPECT_THAT(AckAll(a_), ElementsAre(I(file)));
  EXPECT_TRUE(changed->answered());
  // And no more once it has closed it.
  proto::Mutation release;
  release.mutable_release_orphan()->set_inode(file);
  const size_t interests = coherence_.stats().interests;
  As(a_, release);
  EXPECT_EQ(coherence_.stats().interests, interests - 1);
  EXPECT_TRUE(As(b_, Chmod(file, 0644))->answered());
}

TEST_F(CoherenceTest, WhoTakesAFileOutOfItsDirectorysCoverHearsOfItFurther) {
  const uint64_t linked = File(root_, "f");
  const uint64_t moved = File(root_, "g");
  const uint64_t directory = Dir("d");
  ReadDir(a_, root_);
  As(a_, Link(linked, directory, "f"));
  As(a_, Rename(root_, "g", directory, "g"));
  for (const uint64_t file : {linked, moved}) {
    const auto changed = As(b_, Chmod(file, 0600));
    EXPECT_FALSE(changed->answered());
    EXPECT_THAT(AckAll(a_), ElementsAre(I(file)));
    EXPECT_TRUE(changed->answered());
  }
  // Nor is anything of a file that it never heard of.
  EXPECT_TRUE(As(c_, Link(linked, directory, "h"))->reply.status() == 0);
  AckAll(a_);
  const size_t interests = coherence_.stats().interests;
  As(c_, Rename(directory, "g", root_, "g"));
  EXPECT_EQ(coherence_.stats().interests, interests);
}

}  // namespace
}  // namespace tarn::meta
