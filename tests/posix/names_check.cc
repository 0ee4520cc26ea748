// Which names exist, and which are refused.
#include <stdio.h>

#include <algorithm>
#include <climits>

#include "tests/posix/posix_fixture.h"

namespace tarn::posix {
namespace {

using Names = PosixTest;

TEST_F(Names, Of255BytesWork) {
  const std::string name(255, 'n');
  WriteFile(Path(name), "x");
  EXPECT_EQ(List(directory()), std::vector<std::string>{name});
  EXPECT_EQ(ReadFile(Path(name)), "x");
  const std::string other(255, 'm');
  EXPECT_EQ(Error(rename(Path(name).c_str(), Path(other).c_str())), 0);
  EXPECT_EQ(Error(unlink(Path(other).c_str())), 0);
}

TEST_F(Names, Of256BytesAreTooLong) {
  const std::string name = Path(std::string(256, 'n'));
  WriteFile(Path("file"), "x");
  EXPECT_EQ(File(name, O_WRONLY | O_CREAT).error(), ENAMETOOLONG);
  EXPECT_EQ(File(name, O_RDONLY).error(), ENAMETOOLONG);
  EXPECT_EQ(Error(mkdir(name.c_str(), 0755)), ENAMETOOLONG);
  EXPECT_EQ(Error(symlink("x", name.c_str())), ENAMETOOLONG);
  EXPECT_EQ(Error(link(Path("file").c_str(), name.c_str())), ENAMETOOLONG);
  EXPECT_EQ(Error(rename(Path("file").c_str(), name.c_str())), ENAMETOOLONG);
  EXPECT_EQ(Error(unlink(name.c_str())), ENAMETOOLONG);
  EXPECT_EQ(Error(rmdir(name.c_str())), ENAMETOOLONG);
  EXPECT_EQ(StatError(name), ENAMETOOLONG);
  EXPECT_EQ(List(directory()), std::vector<std::string>{"file"});
}

TEST_F(Names, PathsOf4096BytesAreTooLong) {
  std::string path = directory();
  while (path.size() < PATH_MAX) path += "/.";
  EXPECT_EQ(StatError(path), ENAMETOOLONG);
}

TEST_F(Names, AnyBytesButSlashAndNul) {
  std::vector<std::string> names = {"\xff\xfe\x80", "\xc3\x28", " ",   "-rf", "a\nb", "a\\b",
                                    "*?[",          "\x01\x7f", "...", "..a", ".a",   "tab\t"};
  for (const std::string& name : names) WriteFile(Path(name), name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(List(directory()), names);
  for (const std::string& name : names) EXPECT_EQ(ReadFile(Path(name)), name);
}

TEST_F(Names, EveryByteIsAName) {
  for (int byte = 1; byte < 256; ++byte) {
    if (byte == '/' || byte == '.') continue;
    const std::string path = Path(std::string(1, static_cast<char>(byte)));
    EXPECT_EQ(Error(mknod(path.c_str(), S_IFREG | 0644, 0)), 0) << byte;
  }
  EXPECT_EQ(List(directory()).size(), 253u);
}

TEST_F(Names, CaseMatters) {
  WriteFile(Path("a"), "lower");
  WriteFile(Path("A"), "upper");
  EXPECT_EQ(ReadFile(Path("a")), "lower");
  EXPECT_EQ(ReadFile(Path("A")), "upper");
}

TEST_F(Names, DotAndDotDotCannotBeMadeOrRemoved) {
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0755)), 0);
  EXPECT_EQ(Error(mkdir(Path(".").c_str(), 0755)), EEXIST);
  EXPECT_EQ(Error(mkdir(Path("d/..").c_str(), 0755)), EEXIST);
  EXPECT_EQ(Error(rmdir(Path("d/.").c_str())), EINVAL);
  EXPECT_EQ(Error(rmdir(Path("d/..").c_str())), ENOTEMPTY);
  EXPECT_NE(Error(rename(Path("d/.").c_str(), Path("e").c_str())), 0);
  EXPECT_NE(Error(rename(Path("d").c_str(), Path("d/..").c_str())), 0);
}

TEST_F(Names, TrailingSlashesWantADirectory) {
  WriteFile(Path("file"), "x");
  EXPECT_EQ(Error(mkdir(Path("d/").c_str(), 0755)), 0);
  EXPECT_EQ(StatError(Path("d/")), 0);
  EXPECT_EQ(StatError(Path("file/")), ENOTDIR);
  EXPECT_EQ(File(Path("file/"), O_RDONLY).error(), ENOTDIR);
  EXPECT_EQ(File(Path("new/"), O_WRONLY | O_CREAT).error(), EISDIR);
  EXPECT_EQ(Error(rename(Path("file").c_str(), Path("other/").c_str())), ENOTDIR);
  EXPECT_EQ(Error(rename(Path("d/").c_str(), Path("e/").c_str())), 0);
}

TEST_F(Names, AFileIsNoDirectory) {
  WriteFile(Path("file"), "x");
  EXPECT_EQ(StatError(Path("file/x")), ENOTDIR);
  EXPECT_EQ(Error(mkdir(Path("file/x").c_str(), 0755)), ENOTDIR);
  EXPECT_EQ(Error(unlink(Path("file/x").c_str())), ENOTDIR);
  EXPECT_EQ(StatError(Path("none/x")), ENOENT);
}

}  // namespace
}  // namespace tarn::posix
