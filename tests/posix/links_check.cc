// Hard links, symbolic links, removal, and files that outlive their names.
#include <sys/sysmacros.h>

#include <climits>

#include "tests/posix/posix_fixture.h"

namespace tarn::posix {
namespace {

using Links = PosixTest;
using Unlinked = PosixTest;

std::string ReadLink(const std::string& path) {
  std::string target(PATH_MAX, '\0');
  const ssize_t length = readlink(path.c_str(), target.data(), target.size());
  target.resize(length < 0 ? 0 : static_cast<size_t>(length));
  return target;
}

TEST_F(Links, HardLinksShareTheInode) {
  WriteFile(Path("a"), "x");
  ASSERT_EQ(Error(link(Path("a").c_str(), Path("b").c_str())), 0);
  EXPECT_EQ(StatOf(Path("a")).st_ino, StatOf(Path("b")).st_ino);
  EXPECT_EQ(StatOf(Path("a")).st_nlink, 2u);
  WriteFile(Path("b"), "changed");
  EXPECT_EQ(ReadFile(Path("a")), "changed");
  EXPECT_EQ(StatOf(Path("a")).st_size, 7);
  ASSERT_EQ(Error(chmod(Path("b").c_str(), 0600)), 0);
  EXPECT_EQ(StatOf(Path("a")).st_mode & 07777, 0600u);
  ASSERT_EQ(Error(unlink(Path("a").c_str())), 0);
  EXPECT_EQ(StatOf(Path("b")).st_nlink, 1u);
  EXPECT_EQ(ReadFile(Path("b")), "changed");
}

TEST_F(Links, HardLinksThatAreRefused) {
  WriteFile(Path("a"), "x");
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0755)), 0);
  EXPECT_EQ(Error(link(Path("d").c_str(), Path("e").c_str())), EPERM);
  EXPECT_EQ(Error(link(Path("a").c_str(), Path("d").c_str())), EEXIST);
  EXPECT_EQ(Error(link(Path("none").c_str(), Path("b").c_str())), ENOENT);
}

TEST_F(Links, AHardLinkStampsTheFile) {
  WriteFile(Path("a"), "x");
  const struct stat before = StatOf(Path("a"));
  NextTick();
  ASSERT_EQ(Error(link(Path("a").c_str(), Path("b").c_str())), 0);
  EXPECT_TRUE(Before(before.st_ctim, StatOf(Path("a")).st_ctim));
  EXPECT_FALSE(Before(before.st_mtim, StatOf(Path("a")).st_mtim));
}

TEST_F(Links, SymbolicLinksOfAllLengths) {
  for (const size_t length : {size_t{1}, size_t{59}, size_t{60}, size_t{255}, size_t{1024}, size_t{4095}}) {
    const std::string target(length, 't');
    const std::string path = Path("link" + std::to_string(length));
    ASSERT_EQ(Error(symlink(target.c_str(), path.c_str())), 0) << length;
    EXPECT_EQ(ReadLink(path), target);
    EXPECT_EQ(LstatOf(path).st_size, static_cast<off_t>(length));
    EXPECT_EQ(LstatOf(path).st_mode & 0777, 0777u);
  }
  EXPECT_EQ(Error(symlink("", Path("empty").c_str())), ENOENT);
  EXPECT_EQ(Error(symlink(std::string(4096, 't').c_str(), Path("long").c_str())), ENAMETOOLONG);
}

TEST_F(Links, SymbolicLinksAreFollowed) {
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0755)), 0);
  WriteFile(Path("d/file"), "x");
  ASSERT_EQ(Error(symlink("d", Path("to_d").c_str())), 0);
  ASSERT_EQ(Error(symlink("to_d/file", Path("to_file").c_str())), 0);
  EXPECT_EQ(ReadFile(Path("to_file")), "x");
  EXPECT_EQ(ReadFile(Path("to_d/file")), "x");
  ASSERT_EQ(Error(symlink("none", Path("dangling").c_str())), 0);
  EXPECT_EQ(File(Path("dangling"), O_RDONLY).error(), ENOENT);
  EXPECT_EQ(File(Path("to_file"), O_RDONLY | O_NOFOLLOW).error(), ELOOP);
  ASSERT_EQ(Error(symlink("loop", Path("loop").c_str())), 0);
  EXPECT_EQ(File(Path("loop"), O_RDONLY).error(), ELOOP);
  char byte = 0;
  EXPECT_EQ(Error(readlink(Path("d").c_str(), &byte, 1)), EINVAL);
}

TEST_F(Links, AReplacedSymbolicLinkShowsItsNewTarget) {
  for (int i = 0; i < 20; ++i) {
    const std::string target = "target" + std::to_string(i);
    ASSERT_EQ(Error(symlink(target.c_str(), Path("new").c_str())), 0);
    ASSERT_EQ(Error(rename(Path("new").c_str(), Path("link").c_str())), 0);
    ASSERT_EQ(ReadLink(Path("link")), target);
  }
}

TEST_F(Links, RemovalWantsTheRightCall) {
  WriteFile(Path("f"), "x");
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0755)), 0);
  WriteFile(Path("d/f"), "x");
  EXPECT_EQ(Error(unlink(Path("d").c_str())), EISDIR);
  EXPECT_EQ(Error(rmdir(Path("f").c_str())), ENOTDIR);
  EXPECT_EQ(Error(rmdir(Path("d").c_str())), ENOTEMPTY);
  EXPECT_EQ(Error(unlink(Path("none").c_str())), ENOENT);
  EXPECT_EQ(Error(rmdir(Path("none").c_str())), ENOENT);
  EXPECT_EQ(Error(unlink(Path("d/f").c_str())), 0);
  EXPECT_EQ(Error(rmdir(Path("d").c_str())), 0);
}

TEST_F(Links, UnlinkStampsParentAndFile) {
  WriteFile(Path("a"), "x");
  ASSERT_EQ(Error(link(Path("a").c_str(), Path("b").c_str())), 0);
  const struct stat file = StatOf(Path("a"));
  const struct stat parent = StatOf(directory());
  NextTick();
  ASSERT_EQ(Error(unlink(Path("b").c_str())), 0);
  EXPECT_TRUE(Before(file.st_ctim, StatOf(Path("a")).st_ctim));
  EXPECT_TRUE(Before(parent.st_mtim, StatOf(directory()).st_mtim));
}

TEST_F(Links, SpecialFiles) {
  ASSERT_EQ(Error(mkfifo(Path("fifo").c_str(), 0644)), 0);
  EXPECT_TRUE(S_ISFIFO(LstatOf(Path("fifo")).st_mode));
  File both(Path("fifo"), O_RDWR);
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(write(both.fd(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(both.fd(), &byte, 1), 1);
  ASSERT_EQ(Error(mknod(Path("socket").c_str(), S_IFSOCK | 0600, 0)), 0);
  EXPECT_TRUE(S_ISSOCK(LstatOf(Path("socket")).st_mode));
  if (!IsRoot()) return;
  ASSERT_EQ(Error(mknod(Path("device").c_str(), S_IFCHR | 0600, makedev(1, 300))), 0);
  EXPECT_TRUE(S_ISCHR(LstatOf(Path("device")).st_mode));
  EXPECT_EQ(LstatOf(Path("device")).st_rdev, makedev(1, 300));
}

TEST_F(Unlinked, StaysReadableAndWritable) {
  File file(Path("f"), O_RDWR | O_CREAT);
  const std::string contents = Pattern(300'000);
  ASSERT_EQ(pwrite(file.fd(), contents.data(), contents.size(), 0), static_cast<ssize_t>(contents.size()));
  ASSERT_EQ(Error(unlink(Path("f").c_str())), 0);
  EXPECT_EQ(StatError(Path("f")), ENOENT);
  std::string read_back(contents.size(), '\0');
  ASSERT_EQ(pread(file.fd(), read_back.data(), read_back.size(), 0), static_cast<ssize_t>(contents.size()));
  EXPECT_TRUE(read_back == contents);
  ASSERT_EQ(pwrite(file.fd(), "tail", 4, 300'000), 4);
  struct stat status {};
  ASSERT_EQ(Error(fstat(file.fd(), &status)), 0);
  EXPECT_EQ(status.st_size, 300'004);
  EXPECT_EQ(status.st_nlink, 0u);
  EXPECT_EQ(Error(ftruncate(file.fd(), 10)), 0);
  EXPECT_EQ(Error(fsync(file.fd())), 0);
  EXPECT_EQ(Error(fchmod(file.fd(), 0600)), 0);
  ASSERT_EQ(Error(fstat(file.fd(), &status)), 0);
  EXPECT_EQ(status.st_size, 10);
  EXPECT_EQ(file.Close(), 0);
}

TEST_F(Unlinked, TheNameIsFreeAtOnce) {
  File old(Path("f"), O_RDWR | O_CREAT);
  ASSERT_EQ(write(old.fd(), "old", 3), 3);
  ASSERT_EQ(Error(unlink(Path("f").c_str())), 0);
  WriteFile(Path("f"), "new");
  char bytes[4] = {};
  EXPECT_EQ(pread(old.fd(), bytes, 3, 0), 3);
  EXPECT_STREQ(bytes, "old");
  EXPECT_EQ(ReadFile(Path("f")), "new");
}

TEST_F(Unlinked, TwoHandlesLiveUntilTheLast) {
  WriteFile(Path("f"), "contents");
  File first(Path("f"), O_RDONLY);
  File second(Path("f"), O_RDONLY);
  ASSERT_EQ(Error(unlink(Path("f").c_str())), 0);
  ASSERT_EQ(first.Close(), 0);
  char bytes[9] = {};
  EXPECT_EQ(pread(second.fd(), bytes, 8, 0), 8);
  EXPECT_STREQ(bytes, "contents");
}

TEST_F(Unlinked, ARemovedDirectoryTakesNoNewEntries) {
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0755)), 0);
  File directory_handle(Path("d"), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(Error(rmdir(Path("d").c_str())), 0);
  EXPECT_EQ(Error(openat(directory_handle.fd(), "f", O_WRONLY | O_CREAT, 0644)), ENOENT);
  EXPECT_EQ(Error(mkdirat(directory_handle.fd(), "f", 0755)), ENOENT);
}

}  // namespace
}  // namespace tarn::posix
