// Memory mappings.
#include <sys/mman.h>

#include <cstring>

#include "tests/posix/posix_fixture.h"

namespace tarn::posix {
namespace {

// Unmaps itself.
class Mapping {
 public:
  Mapping(int fd, size_t size, int protection, int flags)
      : size_(size), at_(mmap(nullptr, size, protection, flags, fd, 0)) {}
  ~Mapping() { Unmap(); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  bool ok() const { return at_ != MAP_FAILED; }
  char* data() const { return static_cast<char*>(at_); }
  void Unmap() {
    if (ok()) munmap(at_, size_);
    at_ = MAP_FAILED;
  }

 private:
  size_t size_;
  void* at_;
};

using Mmap = PosixTest;

TEST_F(Mmap, ReadsTheFile) {
  const std::string contents = Pattern(5'000'000);
  WriteFile(Path("f"), contents);
  File file(Path("f"), O_RDONLY);
  for (const int flags : {MAP_PRIVATE, MAP_SHARED}) {
    Mapping mapping(file.fd(), contents.size(), PROT_READ, flags);
    ASSERT_TRUE(mapping.ok()) << errno;
    EXPECT_EQ(memcmp(mapping.data(), contents.data(), contents.size()), 0);
    EXPECT_EQ(mapping.data()[contents.size()], '\0') << "the rest of the last page is zero";
  }
}

TEST_F(Mmap, OutlivesDescriptorAndName) {
  const std::string contents = Pattern(100'000);
  WriteFile(Path("f"), contents);
  File file(Path("f"), O_RDONLY);
  Mapping mapping(file.fd(), contents.size(), PROT_READ, MAP_SHARED);
  ASSERT_TRUE(mapping.ok());
  ASSERT_EQ(file.Close(), 0);
  ASSERT_EQ(Error(unlink(Path("f").c_str())), 0);
  EXPECT_EQ(memcmp(mapping.data(), contents.data(), contents.size()), 0);
}

TEST_F(Mmap, SharedWritesReachTheFile) {
  const std::string contents = Pattern(1'000'000);
  WriteFile(Path("f"), contents);
  File file(Path("f"), O_RDWR);
  Mapping mapping(file.fd(), contents.size(), PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_TRUE(mapping.ok()) << errno;
  memcpy(mapping.data() + 4090, "across a page", 13);
  memcpy(mapping.data() + 999'990, "the end", 7);
  ASSERT_EQ(Error(msync(mapping.data(), contents.size(), MS_SYNC)), 0);
  std::string expected = contents;
  expected.replace(4090, 13, "across a page");
  expected.replace(999'990, 7, "the end");
  EXPECT_TRUE(ReadFile(Path("f")) == expected);
  EXPECT_EQ(StatOf(Path("f")).st_size, 1'000'000);
}

TEST_F(Mmap, SharedWritesWithoutMsyncAreThereAfterUnmap) {
  WriteFile(Path("f"), std::string(20'000, 'a'));
  {
    File file(Path("f"), O_RDWR);
    Mapping mapping(file.fd(), 20'000, PROT_READ | PROT_WRITE, MAP_SHARED);
    ASSERT_TRUE(mapping.ok());
    ASSERT_EQ(file.Close(), 0);
    memset(mapping.data() + 5'000, 'b', 10'000);
  }
  EXPECT_TRUE(ReadFile(Path("f")) == std::string(5'000, 'a') + std::string(10'000, 'b') + std::string(5'000, 'a'));
}

TEST_F(Mmap, SeesWhatWriteWrites) {
  WriteFile(Path("f"), std::string(8192, 'a'));
  File file(Path("f"), O_RDWR);
  Mapping mapping(file.fd(), 8192, PROT_READ, MAP_SHARED);
  ASSERT_TRUE(mapping.ok());
  EXPECT_EQ(mapping.data()[5000], 'a');
  ASSERT_EQ(pwrite(file.fd(), "z", 1, 5000), 1);
  EXPECT_EQ(mapping.data()[5000], 'z');
}

TEST_F(Mmap, PrivateWritesStayPrivate) {
  WriteFile(Path("f"), std::string(8192, 'a'));
  File file(Path("f"), O_RDONLY);
  Mapping mapping(file.fd(), 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  ASSERT_TRUE(mapping.ok());
  mapping.data()[0] = 'z';
  EXPECT_EQ(ReadFile(Path("f")), std::string(8192, 'a'));
}

TEST_F(Mmap, OfAnAppendingFileGoesWhereItIsMapped) {
  File file(Path("f"), O_RDWR | O_CREAT | O_APPEND);
  const std::string contents(10'000, 'a');
  ASSERT_EQ(write(file.fd(), contents.data(), contents.size()), 10'000);
  Mapping mapping(file.fd(), contents.size(), PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_TRUE(mapping.ok());
  mapping.data()[100] = 'z';
  ASSERT_EQ(Error(msync(mapping.data(), contents.size(), MS_SYNC)), 0);
  ASSERT_EQ(write(file.fd(), "end", 3), 3);
  std::string expected = contents + "end";
  expected[100] = 'z';
  mapping.Unmap();
  ASSERT_EQ(file.Close(), 0);
  EXPECT_TRUE(ReadFile(Path("f")) == expected);
}

TEST_F(Mmap, OfAGrownFile) {
  File file(Path("f"), O_RDWR | O_CREAT);
  ASSERT_EQ(Error(ftruncate(file.fd(), 3 << 20)), 0);
  Mapping mapping(file.fd(), 3 << 20, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_TRUE(mapping.ok());
  for (size_t at = 0; at < 3 << 20; at += 65'536) mapping.data()[at] = 'x';
  mapping.Unmap();
  ASSERT_EQ(Error(fsync(file.fd())), 0);
  const std::string contents = ReadFile(Path("f"));
  ASSERT_EQ(contents.size(), 3u << 20);
  for (size_t at = 0; at < contents.size(); at += 32'768) ASSERT_EQ(contents[at], at % 65'536 == 0 ? 'x' : '\0') << at;
}

TEST_F(Mmap, OfADirectFile) {
  WriteFile(Path("f"), std::string(8192, 'a'));
  File file(Path("f"), O_RDWR | O_DIRECT);
  if (file.error() == EINVAL) GTEST_SKIP() << "no O_DIRECT here";
  Mapping mapping(file.fd(), 8192, PROT_READ, MAP_PRIVATE);
  ASSERT_TRUE(mapping.ok()) << errno;
  EXPECT_EQ(mapping.data()[8191], 'a');
}

}  // namespace
}  // namespace tarn::posix
