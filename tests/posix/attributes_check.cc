// Times, extended attributes, statistics of the file system.
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <algorithm>

#include "tests/posix/posix_fixture.h"

namespace tarn::posix {
namespace {

using Times = PosixTest;
using Xattrs = PosixTest;
using Statistics = PosixTest;

std::string GetXattr(const std::string& path, const char* name) {
  std::string value(70'000, '\0');
  const ssize_t length = lgetxattr(path.c_str(), name, value.data(), value.size());
  EXPECT_GE(length, 0) << name << " errno " << errno;
  value.resize(length < 0 ? 0 : static_cast<size_t>(length));
  return value;
}

std::vector<std::string> ListXattrs(const std::string& path) {
  std::string names(70'000, '\0');
  const ssize_t length = llistxattr(path.c_str(), names.data(), names.size());
  EXPECT_GE(length, 0) << errno;
  std::vector<std::string> list;
  for (ssize_t at = 0; at < length; at += static_cast<ssize_t>(list.back().size()) + 1)
    list.emplace_back(names.c_str() + at);
  std::erase_if(list, [](const std::string& name) { return name.starts_with("security."); });
  std::sort(list.begin(), list.end());
  return list;
}

int SetXattr(const std::string& path, const char* name, const std::string& value, int flags = 0) {
  return Error(lsetxattr(path.c_str(), name, value.data(), value.size(), flags));
}

TEST_F(Times, AreSetExactly) {
  WriteFile(Path("f"), "x");
  for (const time_t seconds : {time_t{0}, time_t{1'000'000'000}, time_t{4'102'444'800}, time_t{-86'400}}) {
    const struct timespec times[2] = {{seconds, 123'456'789}, {seconds + 1, 987'654'321}};
    ASSERT_EQ(Error(utimensat(AT_FDCWD, Path("f").c_str(), times, 0)), 0);
    const struct stat status = StatOf(Path("f"));
    EXPECT_EQ(status.st_atim.tv_sec, seconds);
    EXPECT_EQ(status.st_atim.tv_nsec, 123'456'789);
    EXPECT_EQ(status.st_mtim.tv_sec, seconds + 1);
    EXPECT_EQ(status.st_mtim.tv_nsec, 987'654'321);
  }
}

TEST_F(Times, NowAndOmit) {
  WriteFile(Path("f"), "x");
  const struct timespec old[2] = {{100, 0}, {200, 0}};
  ASSERT_EQ(Error(utimensat(AT_FDCWD, Path("f").c_str(), old, 0)), 0);
  const struct timespec only_access[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  ASSERT_EQ(Error(utimensat(AT_FDCWD, Path("f").c_str(), only_access, 0)), 0);
  const struct stat status = StatOf(Path("f"));
  EXPECT_GT(status.st_atim.tv_sec, 1'000'000'000);
  EXPECT_EQ(status.st_mtim.tv_sec, 200);
}

TEST_F(Times, SurviveTheCloseOfWhatWasWrittenBefore) {
  // As cp -p and tar do: write, set the times, close.
  File file(Path("f"), O_WRONLY | O_CREAT);
  const std::string contents = Pattern(300'000);
  ASSERT_EQ(write(file.fd(), contents.data(), contents.size()), 300'000);
  const struct timespec times[2] = {{1'111'111'111, 1}, {1'222'222'222, 2}};
  ASSERT_EQ(Error(futimens(file.fd(), times)), 0);
  ASSERT_EQ(Error(fsync(file.fd())), 0);
  ASSERT_EQ(file.Close(), 0);
  EXPECT_EQ(StatOf(Path("f")).st_mtim.tv_sec, 1'222'222'222);
  EXPECT_EQ(StatOf(Path("f")).st_mtim.tv_nsec, 2);
  EXPECT_EQ(StatOf(Path("f")).st_size, 300'000);
}

TEST_F(Times, WritesMoveModification) {
  WriteFile(Path("f"), "x");
  const struct timespec old[2] = {{100, 0}, {200, 0}};
  ASSERT_EQ(Error(utimensat(AT_FDCWD, Path("f").c_str(), old, 0)), 0);
  File file(Path("f"), O_WRONLY);
  ASSERT_EQ(write(file.fd(), "y", 1), 1);
  ASSERT_EQ(file.Close(), 0);
  EXPECT_GT(StatOf(Path("f")).st_mtim.tv_sec, 1'000'000'000);
}

TEST_F(Times, ChmodMovesOnlyChange) {
  WriteFile(Path("f"), "x");
  const struct stat before = StatOf(Path("f"));
  NextTick();
  ASSERT_EQ(Error(chmod(Path("f").c_str(), 0600)), 0);
  const struct stat after = StatOf(Path("f"));
  EXPECT_TRUE(Before(before.st_ctim, after.st_ctim));
  EXPECT_EQ(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
  EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

TEST_F(Times, OfASymbolicLinkItself) {
  ASSERT_EQ(Error(symlink("none", Path("l").c_str())), 0);
  const struct timespec times[2] = {{100, 0}, {200, 0}};
  ASSERT_EQ(Error(utimensat(AT_FDCWD, Path("l").c_str(), times, AT_SYMLINK_NOFOLLOW)), 0);
  EXPECT_EQ(LstatOf(Path("l")).st_mtim.tv_sec, 200);
}

TEST_F(Xattrs, SetGetListRemove) {
  WriteFile(Path("f"), "x");
  ASSERT_EQ(SetXattr(Path("f"), "user.a", "one"), 0);
  ASSERT_EQ(SetXattr(Path("f"), "user.b", ""), 0);
  ASSERT_EQ(SetXattr(Path("f"), "user.c", std::string("\0\xff\n", 3)), 0);
  EXPECT_EQ(GetXattr(Path("f"), "user.a"), "one");
  EXPECT_EQ(GetXattr(Path("f"), "user.b"), "");
  EXPECT_EQ(GetXattr(Path("f"), "user.c"), std::string("\0\xff\n", 3));
  EXPECT_EQ(ListXattrs(Path("f")), (std::vector<std::string>{"user.a", "user.b", "user.c"}));
  ASSERT_EQ(Error(removexattr(Path("f").c_str(), "user.b")), 0);
  EXPECT_EQ(ListXattrs(Path("f")), (std::vector<std::string>{"user.a", "user.c"}));
  EXPECT_EQ(Error(removexattr(Path("f").c_str(), "user.b")), ENODATA);
  EXPECT_EQ(Error(getxattr(Path("f").c_str(), "user.b", nullptr, 0)), ENODATA);
}

TEST_F(Xattrs, SizesAreAskedForFirst) {
  WriteFile(Path("f"), "x");
  ASSERT_EQ(SetXattr(Path("f"), "user.a", "12345"), 0);
  EXPECT_EQ(getxattr(Path("f").c_str(), "user.a", nullptr, 0), 5);
  char small[4];
  EXPECT_EQ(Error(getxattr(Path("f").c_str(), "user.a", small, sizeof(small))), ERANGE);
  EXPECT_GE(listxattr(Path("f").c_str(), nullptr, 0), 7);
  EXPECT_EQ(Error(listxattr(Path("f").c_str(), small, sizeof(small))), ERANGE);
}

TEST_F(Xattrs, CreateAndReplace) {
  WriteFile(Path("f"), "x");
  EXPECT_EQ(SetXattr(Path("f"), "user.a", "1", XATTR_REPLACE), ENODATA);
  EXPECT_EQ(SetXattr(Path("f"), "user.a", "1", XATTR_CREATE), 0);
  EXPECT_EQ(SetXattr(Path("f"), "user.a", "2", XATTR_CREATE), EEXIST);
  EXPECT_EQ(SetXattr(Path("f"), "user.a", "3", XATTR_REPLACE), 0);
  EXPECT_EQ(GetXattr(Path("f"), "user.a"), "3");
}

TEST_F(Xattrs, Bounds) {
  WriteFile(Path("f"), "x");
  EXPECT_EQ(SetXattr(Path("f"), ("user." + std::string(250, 'n')).c_str(), "x"), 0);
  EXPECT_EQ(SetXattr(Path("f"), ("user." + std::string(251, 'n')).c_str(), "x"), ERANGE);
  EXPECT_EQ(SetXattr(Path("f"), "user.large", std::string(65'537, 'v')), E2BIG);
  EXPECT_EQ(SetXattr(Path("f"), "nonsense", "x"), EOPNOTSUPP);
  const std::string kilobytes(3'000, 'v');
  EXPECT_EQ(SetXattr(Path("f"), "user.some", kilobytes), 0);
  EXPECT_EQ(GetXattr(Path("f"), "user.some"), kilobytes);
}

TEST_F(Xattrs, OfDirectoriesAndLinks) {
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0755)), 0);
  EXPECT_EQ(SetXattr(Path("d"), "user.a", "x"), 0);
  EXPECT_EQ(GetXattr(Path("d"), "user.a"), "x");
  ASSERT_EQ(Error(symlink("d", Path("l").c_str())), 0);
  EXPECT_EQ(SetXattr(Path("l"), "user.a", "x"), EPERM);
}

TEST_F(Xattrs, TrustedOnesAreRootsAlone) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  WriteFile(Path("f"), "x", 0666);
  ASSERT_EQ(Error(chmod(Path("f").c_str(), 0666)), 0);
  ASSERT_EQ(SetXattr(Path("f"), "trusted.a", "x"), 0);
  ASSERT_EQ(SetXattr(Path("f"), "user.a", "x"), 0);
  EXPECT_EQ(GetXattr(Path("f"), "trusted.a"), "x");
  EXPECT_EQ(ListXattrs(Path("f")).size(), 2u);
  EXPECT_EQ(As(kUser, kGroup, [&] { return ListXattrs(Path("f")) == std::vector<std::string>{"user.a"} ? 0 : 1; }), 0);
  EXPECT_EQ(As(kUser, kGroup, [&] { return SetXattr(Path("f"), "trusted.b", "x"); }), EPERM);
}

TEST_F(Xattrs, FollowTheInode) {
  WriteFile(Path("f"), "x");
  ASSERT_EQ(SetXattr(Path("f"), "user.a", "x"), 0);
  ASSERT_EQ(Error(link(Path("f").c_str(), Path("g").c_str())), 0);
  ASSERT_EQ(Error(rename(Path("f").c_str(), Path("h").c_str())), 0);
  EXPECT_EQ(GetXattr(Path("g"), "user.a"), "x");
  EXPECT_EQ(GetXattr(Path("h"), "user.a"), "x");
  WriteFile(Path("f"), "another");
  EXPECT_TRUE(ListXattrs(Path("f")).empty());
}

TEST_F(Statistics, MakeSense) {
  struct statvfs statistics {};
  ASSERT_EQ(Error(statvfs(directory().c_str(), &statistics)), 0);
  EXPECT_EQ(statistics.f_namemax, 255u);
  EXPECT_GT(statistics.f_frsize, 0u);
  EXPECT_GT(statistics.f_blocks, 0u);
  EXPECT_LE(statistics.f_bfree, statistics.f_blocks);
  EXPECT_LE(statistics.f_bavail, statistics.f_bfree);
}

}  // namespace
}  // namespace tarn::posix
