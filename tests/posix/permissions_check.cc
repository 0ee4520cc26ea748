// Who may do what, as users other than root; set-id bits; ownership.
#include <sys/xattr.h>

#include "tests/posix/posix_fixture.h"

namespace tarn::posix {
namespace {

class Permissions : public PosixTest {
 protected:
  void SetUp() override {
    PosixTest::SetUp();
    if (!IsRoot()) GTEST_SKIP() << "needs root to become other users";
  }
  void MakeDirectory(const std::string& name, mode_t mode, uid_t user = 0, gid_t group = 0) {
    ASSERT_EQ(Error(mkdir(Path(name).c_str(), 0755)), 0);
    ASSERT_EQ(Error(chown(Path(name).c_str(), user, group)), 0);
    ASSERT_EQ(Error(chmod(Path(name).c_str(), mode)), 0);
  }
  void MakeFile(const std::string& name, mode_t mode, uid_t user = 0, gid_t group = 0) {
    WriteFile(Path(name), "contents");
    ASSERT_EQ(Error(chown(Path(name).c_str(), user, group)), 0);
    ASSERT_EQ(Error(chmod(Path(name).c_str(), mode)), 0);
  }
  mode_t ModeOf(const std::string& name) { return LstatOf(Path(name)).st_mode & 07777; }
  int AsUser(const std::function<int()>& action) { return As(kUser, kGroup, action); }
};

TEST_F(Permissions, ReadAndWrite) {
  MakeFile("secret", 0600);
  MakeFile("readable", 0644);
  MakeFile("own", 0600, kUser, kGroup);
  MakeFile("group", 0660, 0, kGroup);
  EXPECT_EQ(AsUser([&] { return File(Path("secret"), O_RDONLY).error(); }), EACCES);
  EXPECT_EQ(AsUser([&] { return File(Path("readable"), O_RDONLY).error(); }), 0);
  EXPECT_EQ(AsUser([&] { return File(Path("readable"), O_WRONLY).error(); }), EACCES);
  EXPECT_EQ(AsUser([&] { return File(Path("own"), O_RDWR).error(); }), 0);
  EXPECT_EQ(AsUser([&] { return File(Path("group"), O_RDWR).error(); }), 0);
  EXPECT_EQ(As(kOtherUser, kOtherGroup, [&] { return File(Path("group"), O_RDONLY).error(); }), EACCES);
  EXPECT_EQ(AsUser([&] { return Error(access(Path("secret").c_str(), R_OK)); }), EACCES);
  EXPECT_EQ(AsUser([&] { return Error(truncate(Path("readable").c_str(), 0)); }), EACCES);
}

TEST_F(Permissions, DirectoriesNeedSearchAndWrite) {
  MakeDirectory("closed", 0700);
  MakeDirectory("listed", 0744);
  MakeDirectory("readonly", 0755);
  MakeDirectory("open", 0777);
  WriteFile(Path("closed/f"), "x");
  WriteFile(Path("listed/f"), "x");
  WriteFile(Path("readonly/f"), "x");
  EXPECT_EQ(AsUser([&] { return StatError(Path("closed/f")); }), EACCES);
  EXPECT_EQ(AsUser([&] { return StatError(Path("listed/f")); }), EACCES);
  EXPECT_EQ(AsUser([&] { return File(Path("listed"), O_RDONLY | O_DIRECTORY).error(); }), 0);
  EXPECT_EQ(AsUser([&] { return StatError(Path("readonly/f")); }), 0);
  EXPECT_EQ(AsUser([&] { return File(Path("readonly/new"), O_WRONLY | O_CREAT).error(); }), EACCES);
  EXPECT_EQ(AsUser([&] { return Error(unlink(Path("readonly/f").c_str())); }), EACCES);
  EXPECT_EQ(AsUser([&] { return Error(mkdir(Path("readonly/d").c_str(), 0755)); }), EACCES);
  EXPECT_EQ(AsUser([&] { return Error(rename(Path("readonly/f").c_str(), Path("open/f").c_str())); }), EACCES);
  EXPECT_EQ(AsUser([&] { return File(Path("open/new"), O_WRONLY | O_CREAT).error(); }), 0);
}

TEST_F(Permissions, NewFilesBelongToTheirMaker) {
  MakeDirectory("open", 0777);
  EXPECT_EQ(AsUser([&] {
              File file(Path("open/f"), O_WRONLY | O_CREAT, 0640);
              const int made = Error(mkdir(Path("open/d").c_str(), 0750)) + Error(symlink("f", Path("open/l").c_str()));
              return file.error() + made + Error(mkfifo(Path("open/p").c_str(), 0600));
            }),
            0);
  for (const char* name : {"open/f", "open/d", "open/l", "open/p"}) {
    EXPECT_EQ(LstatOf(Path(name)).st_uid, kUser) << name;
    EXPECT_EQ(LstatOf(Path(name)).st_gid, kGroup) << name;
  }
  EXPECT_EQ(ModeOf("open/f"), 0640u);
  EXPECT_EQ(ModeOf("open/d"), 0750u);
}

TEST_F(Permissions, StickyDirectoriesProtectOthersFiles) {
  MakeDirectory("sticky", 01777);
  MakeFile("sticky/theirs", 0666, kOtherUser, kOtherGroup);
  MakeFile("sticky/own", 0644, kUser, kGroup);
  EXPECT_EQ(AsUser([&] { return Error(unlink(Path("sticky/theirs").c_str())); }), EPERM);
  EXPECT_EQ(AsUser([&] { return Error(rename(Path("sticky/theirs").c_str(), Path("sticky/x").c_str())); }), EPERM);
  EXPECT_EQ(AsUser([&] { return Error(rename(Path("sticky/own").c_str(), Path("sticky/theirs").c_str())); }), EPERM);
  EXPECT_EQ(AsUser([&] { return Error(rename(Path("sticky/own").c_str(), Path("sticky/renamed").c_str())); }), 0);
  EXPECT_EQ(AsUser([&] { return Error(unlink(Path("sticky/renamed").c_str())); }), 0);
}

TEST_F(Permissions, OnlyOwnersChangeModes) {
  MakeFile("theirs", 0666, kOtherUser, kOtherGroup);
  MakeFile("own", 0644, kUser, kGroup);
  EXPECT_EQ(AsUser([&] { return Error(chmod(Path("theirs").c_str(), 0777)); }), EPERM);
  EXPECT_EQ(AsUser([&] { return Error(chmod(Path("own").c_str(), 0600)); }), 0);
  EXPECT_EQ(ModeOf("own"), 0600u);
  const struct timespec times[2] = {{1, 0}, {1, 0}};
  EXPECT_EQ(AsUser([&] { return Error(utimensat(AT_FDCWD, Path("theirs").c_str(), times, 0)); }), EPERM);
  EXPECT_EQ(AsUser([&] { return Error(utimensat(AT_FDCWD, Path("theirs").c_str(), nullptr, 0)); }), 0)
      << "now is for writers";
  ASSERT_EQ(Error(chmod(Path("theirs").c_str(), 0644)), 0);
  EXPECT_EQ(AsUser([&] { return Error(utimensat(AT_FDCWD, Path("theirs").c_str(), nullptr, 0)); }), EACCES);
}

TEST_F(Permissions, OnlyRootGivesAway) {
  MakeFile("own", 0644, kUser, kGroup);
  EXPECT_EQ(AsUser([&] { return Error(chown(Path("own").c_str(), kOtherUser, static_cast<gid_t>(-1))); }), EPERM);
  EXPECT_EQ(AsUser([&] { return Error(chown(Path("own").c_str(), static_cast<uid_t>(-1), kOtherGroup)); }), EPERM);
  EXPECT_EQ(AsUser([&] { return Error(chown(Path("own").c_str(), kUser, kGroup)); }), 0);
  ASSERT_EQ(Error(chown(Path("own").c_str(), 12345, 23456)), 0);
  EXPECT_EQ(StatOf(Path("own")).st_uid, 12345u);
  EXPECT_EQ(StatOf(Path("own")).st_gid, 23456u);
  ASSERT_EQ(Error(chown(Path("own").c_str(), static_cast<uid_t>(-1), 1)), 0);
  EXPECT_EQ(StatOf(Path("own")).st_uid, 12345u);
}

TEST_F(Permissions, LchownChangesTheLink) {
  MakeFile("target", 0644);
  ASSERT_EQ(Error(symlink("target", Path("link").c_str())), 0);
  ASSERT_EQ(Error(lchown(Path("link").c_str(), kUser, kGroup)), 0);
  EXPECT_EQ(LstatOf(Path("link")).st_uid, kUser);
  EXPECT_EQ(StatOf(Path("target")).st_uid, 0u);
}

TEST_F(Permissions, AWriteByAUserClearsSetIds) {
  MakeFile("f", 06777, 0, 0);
  EXPECT_EQ(AsUser([&] {
              File file(Path("f"), O_WRONLY);
              return file.ok() && write(file.fd(), "x", 1) == 1 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(ModeOf("f"), 0777u);
  EXPECT_EQ(ReadFile(Path("f")), "xontents");
}

TEST_F(Permissions, ATruncationByAUserClearsSetIds) {
  MakeFile("f", 06777, 0, 0);
  EXPECT_EQ(AsUser([&] { return Error(truncate(Path("f").c_str(), 1)); }), 0);
  EXPECT_EQ(ModeOf("f"), 0777u);
  MakeFile("g", 06777, 0, 0);
  EXPECT_EQ(AsUser([&] { return File(Path("g"), O_WRONLY | O_TRUNC).error(); }), 0);
  EXPECT_EQ(ModeOf("g"), 0777u);
}

TEST_F(Permissions, RootsWritesKeepSetIds) {
  MakeFile("f", 06755, 0, 0);
  File file(Path("f"), O_WRONLY);
  ASSERT_EQ(write(file.fd(), "x", 1), 1);
  ASSERT_EQ(file.Close(), 0);
  EXPECT_EQ(ModeOf("f"), 06755u);
}

TEST_F(Permissions, ChownClearsSetIds) {
  MakeFile("f", 06755, kUser, kGroup);
  ASSERT_EQ(Error(chown(Path("f").c_str(), kOtherUser, kOtherGroup)), 0);
  EXPECT_EQ(ModeOf("f"), 0755u);
  MakeDirectory("d", 02755, kUser, kGroup);
  ASSERT_EQ(Error(chown(Path("d").c_str(), kOtherUser, kOtherGroup)), 0);
  EXPECT_EQ(ModeOf("d"), 02755u) << "directories keep theirs";
}

TEST_F(Permissions, ChmodBySomeoneOutsideTheGroupDropsSetGid) {
  MakeFile("f", 0644, kUser, kOtherGroup);
  EXPECT_EQ(AsUser([&] { return Error(chmod(Path("f").c_str(), 02755)); }), 0);
  EXPECT_EQ(ModeOf("f"), 0755u);
}

TEST_F(Permissions, ProgramsNeedTheirBit) {
  WriteFile(Path("program"), ReadFile("/bin/true"), 0644);
  EXPECT_EQ(AsUser([&] {
              execl(Path("program").c_str(), "program", nullptr);
              return errno;
            }),
            EACCES);
  ASSERT_EQ(Error(chmod(Path("program").c_str(), 0711)), 0);
  EXPECT_EQ(AsUser([&] {
              execl(Path("program").c_str(), "program", nullptr);
              return errno;
            }),
            0);
}

TEST_F(Permissions, AnOpenFileStaysOpen) {
  MakeFile("f", 0644);
  EXPECT_EQ(AsUser([&] {
              File file(Path("f"), O_RDONLY);
              char byte = 0;
              return file.ok() && read(file.fd(), &byte, 1) == 1 ? 0 : 1;
            }),
            0);
  File file(Path("f"), O_RDWR);
  ASSERT_EQ(Error(chmod(Path("f").c_str(), 0)), 0);
  EXPECT_EQ(pwrite(file.fd(), "x", 1, 0), 1);
}

}  // namespace
}  // namespace tarn::posix
