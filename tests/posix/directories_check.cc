// Listings: completeness, positions, changes while listing, and what directories inherit.
#include <dirent.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "tests/posix/posix_fixture.h"

namespace tarn::posix {
namespace {

class Directories : public PosixTest {
 protected:
  using Stream = std::unique_ptr<DIR, int (*)(DIR*)>;
  static Stream Open(const std::string& path) { return Stream(opendir(path.c_str()), &closedir); }
  void MakeFiles(int count) {
    for (int i = 0; i < count; ++i)
      ASSERT_EQ(Error(mknod(Path("file" + std::to_string(i)).c_str(), S_IFREG | 0644, 0)), 0);
  }
};

TEST_F(Directories, EveryEntryOnce) {
  constexpr int kCount = 3000;
  MakeFiles(kCount);
  std::map<std::string, int> seen;
  const Stream stream = Open(directory());
  while (const dirent* entry = readdir(stream.get())) ++seen[entry->d_name];
  EXPECT_EQ(seen.size(), kCount + 2u);
  for (const auto& [name, times] : seen) EXPECT_EQ(times, 1) << name;
}

TEST_F(Directories, DotsHaveTheRightInodesAndTypes) {
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0755)), 0);
  WriteFile(Path("d/f"), "x");
  ASSERT_EQ(Error(symlink("f", Path("d/l").c_str())), 0);
  std::map<std::string, dirent> seen;
  const Stream stream = Open(Path("d"));
  while (const dirent* entry = readdir(stream.get())) seen.emplace(entry->d_name, *entry);
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_EQ(seen["."].d_ino, StatOf(Path("d")).st_ino);
  EXPECT_EQ(seen[".."].d_ino, StatOf(directory()).st_ino);
  EXPECT_EQ(seen["f"].d_ino, StatOf(Path("d/f")).st_ino);
  EXPECT_EQ(seen["."].d_type, DT_DIR);
  EXPECT_EQ(seen["f"].d_type, DT_REG);
  EXPECT_EQ(seen["l"].d_type, DT_LNK);
}

TEST_F(Directories, PositionsCanBeReturnedTo) {
  constexpr int kCount = 500;
  MakeFiles(kCount);
  const Stream stream = Open(directory());
  std::vector<long> positions;
  std::vector<std::string> names;
  while (true) {
    const long position = telldir(stream.get());
    const dirent* const entry = readdir(stream.get());
    if (entry == nullptr) break;
    positions.push_back(position);
    names.push_back(entry->d_name);
  }
  ASSERT_EQ(names.size(), kCount + 2u);
  for (size_t i = 0; i < positions.size(); i += 37) {
    const size_t at = positions.size() - 1 - i;
    seekdir(stream.get(), positions[at]);
    const dirent* const entry = readdir(stream.get());
    ASSERT_NE(entry, nullptr) << at;
    EXPECT_EQ(entry->d_name, names[at]) << at;
  }
}

TEST_F(Directories, RewindSeesWhatIsNew) {
  MakeFiles(3);
  const Stream stream = Open(directory());
  while (readdir(stream.get()) != nullptr) {
  }
  WriteFile(Path("later"), "x");
  rewinddir(stream.get());
  std::set<std::string> seen;
  while (const dirent* entry = readdir(stream.get())) seen.insert(entry->d_name);
  EXPECT_TRUE(seen.contains("later"));
  ASSERT_EQ(Error(unlink(Path("later").c_str())), 0);
  rewinddir(stream.get());
  seen.clear();
  while (const dirent* entry = readdir(stream.get())) seen.insert(entry->d_name);
  EXPECT_FALSE(seen.contains("later"));
}

TEST_F(Directories, EntriesMayBeRemovedWhileListing) {
  constexpr int kCount = 2000;
  MakeFiles(kCount);
  const Stream stream = Open(directory());
  int removed = 0;
  while (const dirent* entry = readdir(stream.get())) {
    if (entry->d_name[0] == '.') continue;
    ASSERT_EQ(Error(unlinkat(dirfd(stream.get()), entry->d_name, 0)), 0) << entry->d_name;
    ++removed;
  }
  EXPECT_EQ(removed, kCount);
  EXPECT_TRUE(List(directory()).empty());
}

TEST_F(Directories, SmallBuffersSeeEverything) {
  constexpr int kCount = 100;
  MakeFiles(kCount);
  File directory_handle(directory(), O_RDONLY | O_DIRECTORY);
  std::set<std::string> seen;
  std::vector<char> buffer(128);  // a few entries
  while (true) {
    const long got = syscall(SYS_getdents64, directory_handle.fd(), buffer.data(), buffer.size());
    ASSERT_GE(got, 0) << errno;
    if (got == 0) break;
    for (long at = 0; at < got;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      EXPECT_TRUE(seen.insert(entry->d_name).second) << entry->d_name;
      at += entry->d_reclen;
    }
  }
  EXPECT_EQ(seen.size(), kCount + 2u);
}

TEST_F(Directories, ListingShowsFreshAttributes) {
  for (int i = 0; i < 300; ++i) WriteFile(Path("file" + std::to_string(i)), "x");
  const Stream stream = Open(directory());
  int checked = 0;
  while (const dirent* entry = readdir(stream.get())) {
    if (entry->d_name[0] == '.') continue;
    // Grows the file that is listed, and one that may be listed later or earlier.
    const std::string other = Path("file" + std::to_string((checked * 7) % 300));
    File file(other, O_WRONLY | O_APPEND);
    ASSERT_EQ(write(file.fd(), "y", 1), 1);
    struct stat through_handle {};
    ASSERT_EQ(Error(fstat(file.fd(), &through_handle)), 0);
    ASSERT_EQ(StatOf(other).st_size, through_handle.st_size) << other;
    struct stat listed {};
    ASSERT_EQ(Error(fstatat(dirfd(stream.get()), entry->d_name, &listed, 0)), 0);
    ASSERT_EQ(listed.st_size, static_cast<off_t>(ReadFile(Path(entry->d_name)).size())) << entry->d_name;
    ++checked;
  }
  EXPECT_EQ(checked, 300);
}

TEST_F(Directories, LinkCountIsSubdirectoriesAndTwo) {
  EXPECT_EQ(StatOf(directory()).st_nlink, 2u);
  for (const char* name : {"a", "b", "c"}) ASSERT_EQ(Error(mkdir(Path(name).c_str(), 0755)), 0);
  WriteFile(Path("file"), "x");
  EXPECT_EQ(StatOf(directory()).st_nlink, 5u);
  ASSERT_EQ(Error(rmdir(Path("b").c_str())), 0);
  EXPECT_EQ(StatOf(directory()).st_nlink, 4u);
  EXPECT_EQ(StatOf(Path("a")).st_nlink, 2u);
}

TEST_F(Directories, ChangesStampThem) {
  const struct stat before = StatOf(directory());
  NextTick();
  WriteFile(Path("f"), "x");
  const struct stat created = StatOf(directory());
  EXPECT_TRUE(Before(before.st_mtim, created.st_mtim));
  EXPECT_TRUE(Before(before.st_ctim, created.st_ctim));
  NextTick();
  WriteFile(Path("f"), "changed");
  EXPECT_FALSE(Before(created.st_mtim, StatOf(directory()).st_mtim)) << "writing a file is no change of its directory";
}

TEST_F(Directories, CannotBeReadOrWrittenAsFiles) {
  EXPECT_EQ(File(directory(), O_WRONLY).error(), EISDIR);
  EXPECT_EQ(File(directory(), O_RDONLY | O_CREAT).error(), EISDIR);
  File handle(directory(), O_RDONLY);
  char byte = 0;
  EXPECT_EQ(Error(read(handle.fd(), &byte, 1)), EISDIR);
  EXPECT_EQ(Error(truncate(directory().c_str(), 0)), EISDIR);
  EXPECT_EQ(Error(fsync(handle.fd())), 0);
  WriteFile(Path("f"), "x");
  EXPECT_EQ(File(Path("f"), O_RDONLY | O_DIRECTORY).error(), ENOTDIR);
}

TEST_F(Directories, SetGidIsInherited) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0755)), 0);
  ASSERT_EQ(Error(chown(Path("d").c_str(), 0, kOtherGroup)), 0);
  ASSERT_EQ(Error(chmod(Path("d").c_str(), 02777)), 0);
  WriteFile(Path("d/f"), "x");
  ASSERT_EQ(Error(mkdir(Path("d/sub").c_str(), 0755)), 0);
  EXPECT_EQ(StatOf(Path("d/f")).st_gid, kOtherGroup);
  EXPECT_EQ(StatOf(Path("d/f")).st_mode & 07777, 0644u);
  EXPECT_EQ(StatOf(Path("d/sub")).st_gid, kOtherGroup);
  EXPECT_EQ(StatOf(Path("d/sub")).st_mode & 07777, 02755u);
}

TEST_F(Directories, DeepTrees) {
  std::string path = directory();
  for (int depth = 0; depth < 100; ++depth) {
    path += "/d" + std::to_string(depth);
    ASSERT_EQ(Error(mkdir(path.c_str(), 0755)), 0) << depth;
  }
  WriteFile(path + "/leaf", "x");
  EXPECT_EQ(ReadFile(path + "/leaf"), "x");
}

TEST_F(Directories, TheWorkingDirectoryIsKnown) {
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0755)), 0);
  File old(".", O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(Error(chdir(Path("d").c_str())), 0);
  ASSERT_EQ(Error(rename(Path("d").c_str(), Path("e").c_str())), 0);
  std::string current(4096, '\0');
  EXPECT_NE(getcwd(current.data(), current.size()), nullptr);
  EXPECT_STREQ(current.c_str() + strlen(current.c_str()) - 2, "/e");
  ASSERT_EQ(Error(fchdir(old.fd())), 0);
}

}  // namespace
}  // namespace tarn::posix
