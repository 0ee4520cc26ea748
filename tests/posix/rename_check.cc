// rename(2) and renameat2(2): every case.
#include <stdio.h>

#include "tests/posix/posix_fixture.h"

namespace tarn::posix {
namespace {

class Rename : public PosixTest {
 protected:
  int Move(const std::string& from, const std::string& to, unsigned flags = 0) {
    return Error(renameat2(AT_FDCWD, Path(from).c_str(), AT_FDCWD, Path(to).c_str(), flags));
  }
  void MakeDirectory(const std::string& name) { ASSERT_EQ(Error(mkdir(Path(name).c_str(), 0755)), 0) << name; }
  ino_t InodeOf(const std::string& name) { return LstatOf(Path(name)).st_ino; }
  nlink_t LinksOf(const std::string& name) { return LstatOf(Path(name)).st_nlink; }
};

TEST_F(Rename, FileToANewName) {
  WriteFile(Path("a"), "contents");
  const ino_t inode = InodeOf("a");
  EXPECT_EQ(Move("a", "b"), 0);
  EXPECT_EQ(StatError(Path("a")), ENOENT);
  EXPECT_EQ(InodeOf("b"), inode);
  EXPECT_EQ(ReadFile(Path("b")), "contents");
}

TEST_F(Rename, FileReplacesAFile) {
  WriteFile(Path("a"), "new");
  WriteFile(Path("b"), "old");
  EXPECT_EQ(Move("a", "b"), 0);
  EXPECT_EQ(ReadFile(Path("b")), "new");
  EXPECT_EQ(List(directory()), std::vector<std::string>{"b"});
}

TEST_F(Rename, AReplacedFileStaysReadableWhileOpen) {
  WriteFile(Path("a"), "new");
  WriteFile(Path("b"), "old");
  File old(Path("b"), O_RDONLY);
  ASSERT_EQ(Move("a", "b"), 0);
  char bytes[4] = {};
  EXPECT_EQ(pread(old.fd(), bytes, 3, 0), 3);
  EXPECT_STREQ(bytes, "old");
  struct stat status {};
  ASSERT_EQ(Error(fstat(old.fd(), &status)), 0);
  EXPECT_EQ(status.st_nlink, 0u);
}

TEST_F(Rename, AnOpenFileKeepsWorkingUnderItsNewName) {
  File file(Path("a"), O_RDWR | O_CREAT);
  ASSERT_EQ(write(file.fd(), "one", 3), 3);
  ASSERT_EQ(Move("a", "b"), 0);
  ASSERT_EQ(write(file.fd(), "two", 3), 3);
  ASSERT_EQ(file.Close(), 0);
  EXPECT_EQ(ReadFile(Path("b")), "onetwo");
}

TEST_F(Rename, DirectoryReplacesAnEmptyDirectory) {
  MakeDirectory("a");
  MakeDirectory("b");
  WriteFile(Path("a/file"), "x");
  EXPECT_EQ(Move("a", "b"), 0);
  EXPECT_EQ(ReadFile(Path("b/file")), "x");
  EXPECT_EQ(LinksOf("."), 3u);
}

TEST_F(Rename, DirectoryOverANonEmptyOneIsRefused) {
  MakeDirectory("a");
  MakeDirectory("b");
  WriteFile(Path("b/file"), "x");
  const int error = Move("a", "b");
  EXPECT_TRUE(error == ENOTEMPTY || error == EEXIST) << error;
}

TEST_F(Rename, TypesMustAgree) {
  MakeDirectory("d");
  WriteFile(Path("f"), "x");
  EXPECT_EQ(Move("d", "f"), ENOTDIR);
  EXPECT_EQ(Move("f", "d"), EISDIR);
}

TEST_F(Rename, IntoItselfIsRefused) {
  MakeDirectory("a");
  MakeDirectory("a/b");
  MakeDirectory("a/b/c");
  EXPECT_EQ(Move("a", "a/x"), EINVAL);
  EXPECT_EQ(Move("a", "a/b/c/x"), EINVAL);
  const int over_ancestor = Move("a/b/c", "a");
  EXPECT_TRUE(over_ancestor == ENOTEMPTY || over_ancestor == EEXIST) << over_ancestor;
}

TEST_F(Rename, OntoItselfDoesNothing) {
  WriteFile(Path("a"), "x");
  EXPECT_EQ(Move("a", "a"), 0);
  EXPECT_EQ(ReadFile(Path("a")), "x");
}

TEST_F(Rename, TwoNamesOfOneFileBothStay) {
  WriteFile(Path("a"), "x");
  ASSERT_EQ(Error(link(Path("a").c_str(), Path("b").c_str())), 0);
  EXPECT_EQ(Move("a", "b"), 0);
  EXPECT_EQ(List(directory()), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(LinksOf("a"), 2u);
}

TEST_F(Rename, SourceMustExist) {
  WriteFile(Path("b"), "x");
  EXPECT_EQ(Move("a", "b"), ENOENT);
  EXPECT_EQ(Move("b", "none/b"), ENOENT);
  EXPECT_EQ(Move("b", "b/c"), ENOTDIR);
  EXPECT_EQ(ReadFile(Path("b")), "x");
}

TEST_F(Rename, LinkCountsFollowMovedDirectories) {
  MakeDirectory("from");
  MakeDirectory("to");
  MakeDirectory("from/d");
  EXPECT_EQ(LinksOf("from"), 3u);
  EXPECT_EQ(Move("from/d", "to/d"), 0);
  EXPECT_EQ(LinksOf("from"), 2u);
  EXPECT_EQ(LinksOf("to"), 3u);
  EXPECT_EQ(StatOf(Path("to/d/..")).st_ino, InodeOf("to"));
}

TEST_F(Rename, ReplacedDirectoryInAnotherParentCountsOnce) {
  MakeDirectory("from");
  MakeDirectory("to");
  MakeDirectory("from/d");
  MakeDirectory("to/d");
  EXPECT_EQ(Move("from/d", "to/d"), 0);
  EXPECT_EQ(LinksOf("from"), 2u);
  EXPECT_EQ(LinksOf("to"), 3u);
}

TEST_F(Rename, SymbolicLinksThemselvesMove) {
  WriteFile(Path("target"), "x");
  ASSERT_EQ(Error(symlink("target", Path("a").c_str())), 0);
  EXPECT_EQ(Move("a", "b"), 0);
  EXPECT_TRUE(S_ISLNK(LstatOf(Path("b")).st_mode));
  EXPECT_EQ(StatError(Path("target")), 0);
}

TEST_F(Rename, StampsBothParents) {
  MakeDirectory("from");
  MakeDirectory("to");
  WriteFile(Path("from/f"), "x");
  const struct stat from = StatOf(Path("from"));
  const struct stat to = StatOf(Path("to"));
  NextTick();
  ASSERT_EQ(Move("from/f", "to/f"), 0);
  EXPECT_TRUE(Before(from.st_mtim, StatOf(Path("from")).st_mtim));
  EXPECT_TRUE(Before(to.st_mtim, StatOf(Path("to")).st_mtim));
}

TEST_F(Rename, NoReplace) {
  WriteFile(Path("a"), "a");
  WriteFile(Path("b"), "b");
  EXPECT_EQ(Move("a", "b", RENAME_NOREPLACE), EEXIST);
  EXPECT_EQ(ReadFile(Path("b")), "b");
  EXPECT_EQ(Move("a", "c", RENAME_NOREPLACE), 0);
  EXPECT_EQ(ReadFile(Path("c")), "a");
}

TEST_F(Rename, ExchangesFiles) {
  WriteFile(Path("a"), "a");
  WriteFile(Path("b"), "b");
  EXPECT_EQ(Move("a", "b", RENAME_EXCHANGE), 0);
  EXPECT_EQ(ReadFile(Path("a")), "b");
  EXPECT_EQ(ReadFile(Path("b")), "a");
  EXPECT_EQ(Move("a", "none", RENAME_EXCHANGE), ENOENT);
}

TEST_F(Rename, ExchangesAFileWithAFullDirectoryElsewhere) {
  MakeDirectory("left");
  MakeDirectory("right");
  MakeDirectory("left/d");
  WriteFile(Path("left/d/file"), "x");
  WriteFile(Path("right/f"), "f");
  EXPECT_EQ(Move("left/d", "right/f", RENAME_EXCHANGE), 0);
  EXPECT_EQ(ReadFile(Path("left/d")), "f");
  EXPECT_EQ(ReadFile(Path("right/f/file")), "x");
  EXPECT_EQ(LinksOf("left"), 2u);
  EXPECT_EQ(LinksOf("right"), 3u);
  EXPECT_EQ(StatOf(Path("right/f/..")).st_ino, InodeOf("right"));
}

TEST_F(Rename, ExchangeIntoItselfIsRefused) {
  MakeDirectory("a");
  MakeDirectory("a/b");
  EXPECT_EQ(Move("a", "a/b", RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(Move("a/b", "a", RENAME_EXCHANGE), EINVAL);
}

TEST_F(Rename, ContradictingFlagsAreRefused) {
  WriteFile(Path("a"), "a");
  EXPECT_EQ(Move("a", "b", RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
}

TEST_F(Rename, ManyTimesBackAndForth) {
  WriteFile(Path("a"), "x");
  for (int i = 0; i < 200; ++i) ASSERT_EQ(Move(i % 2 == 0 ? "a" : "b", i % 2 == 0 ? "b" : "a"), 0);
  EXPECT_EQ(List(directory()), std::vector<std::string>{"a"});
}

}  // namespace
}  // namespace tarn::posix
