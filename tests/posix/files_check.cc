// Bytes: opening, reading, writing, truncating, appending, direct I/O.
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>

#include "tests/posix/posix_fixture.h"

namespace tarn::posix {
namespace {

using Files = PosixTest;
using Append = PosixTest;
using Truncate = PosixTest;
using Direct = PosixTest;

constexpr size_t kMiB = 1 << 20;

std::string ReadAt(int fd, size_t length, off_t offset) {
  std::string bytes(length, '\0');
  const ssize_t got = pread(fd, bytes.data(), length, offset);
  EXPECT_GE(got, 0) << errno;
  bytes.resize(got < 0 ? 0 : static_cast<size_t>(got));
  return bytes;
}

void WriteAt(int fd, const std::string& bytes, off_t offset) {
  ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), offset), static_cast<ssize_t>(bytes.size())) << errno;
}

TEST_F(Files, OpenFlags) {
  EXPECT_EQ(File(Path("f"), O_RDONLY).error(), ENOENT);
  EXPECT_EQ(File(Path("f"), O_WRONLY | O_CREAT | O_EXCL).error(), 0);
  EXPECT_EQ(File(Path("f"), O_WRONLY | O_CREAT | O_EXCL).error(), EEXIST);
  WriteFile(Path("f"), "contents");
  File truncated(Path("f"), O_RDWR | O_TRUNC);
  EXPECT_EQ(StatOf(Path("f")).st_size, 0);
  EXPECT_EQ(ReadAt(truncated.fd(), 10, 0), "");
  File reader(Path("f"), O_RDONLY);
  EXPECT_EQ(Error(write(reader.fd(), "x", 1)), EBADF);
  File writer(Path("f"), O_WRONLY);
  char byte = 0;
  EXPECT_EQ(Error(read(writer.fd(), &byte, 1)), EBADF);
}

TEST_F(Files, ModeAndUmask) {
  umask(027);
  File first(Path("f"), O_WRONLY | O_CREAT, 0666);
  EXPECT_EQ(StatOf(Path("f")).st_mode & 07777, 0640u);
  ASSERT_EQ(Error(mkdir(Path("d").c_str(), 0777)), 0);
  EXPECT_EQ(StatOf(Path("d")).st_mode & 07777, 0750u);
  umask(0);
  File second(Path("g"), O_WRONLY | O_CREAT, 04777);
  EXPECT_EQ(StatOf(Path("g")).st_mode & 07777, 04777u);
  // A file made without the right to write it can still be written by its maker.
  File sealed(Path("h"), O_WRONLY | O_CREAT, 0400);
  EXPECT_EQ(write(sealed.fd(), "x", 1), 1);
}

TEST_F(Files, SizesAreSeenAtOnce) {
  File file(Path("f"), O_RDWR | O_CREAT);
  for (int i = 1; i <= 50; ++i) {
    ASSERT_EQ(write(file.fd(), "0123456789", 10), 10);
    ASSERT_EQ(StatOf(Path("f")).st_size, 10 * i);
  }
  EXPECT_GT(StatOf(Path("f")).st_blocks, 0);
}

TEST_F(Files, LargeSequentialContents) {
  const std::string contents = Pattern(20 * kMiB + 12'345);
  WriteFile(Path("f"), contents);
  EXPECT_EQ(StatOf(Path("f")).st_size, static_cast<off_t>(contents.size()));
  EXPECT_TRUE(ReadFile(Path("f")) == contents);
}

TEST_F(Files, RandomOverwritesMatchAModel) {
  std::string model = Pattern(3 * kMiB);
  WriteFile(Path("f"), model);
  File file(Path("f"), O_RDWR);
  uint32_t state = 42;
  const auto random = [&state](uint32_t bound) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % bound;
  };
  for (int i = 0; i < 300; ++i) {
    const size_t offset = random(static_cast<uint32_t>(model.size()));
    const std::string bytes = Pattern(1 + random(20'000), static_cast<uint32_t>(i));
    WriteAt(file.fd(), bytes, static_cast<off_t>(offset));
    if (model.size() < offset + bytes.size()) model.resize(offset + bytes.size());
    model.replace(offset, bytes.size(), bytes);
    const size_t at = random(static_cast<uint32_t>(model.size()));
    const size_t length = std::min<size_t>(1 + random(100'000), model.size() - at);
    ASSERT_TRUE(ReadAt(file.fd(), length, static_cast<off_t>(at)) == model.substr(at, length)) << i;
  }
  ASSERT_EQ(file.Close(), 0);
  EXPECT_TRUE(ReadFile(Path("f")) == model);
}

TEST_F(Files, HolesReadAsZeros) {
  File file(Path("f"), O_RDWR | O_CREAT);
  WriteAt(file.fd(), "start", 0);
  WriteAt(file.fd(), "end", 10 * kMiB);
  EXPECT_EQ(StatOf(Path("f")).st_size, static_cast<off_t>(10 * kMiB + 3));
  EXPECT_EQ(ReadAt(file.fd(), 8, 0), std::string("start\0\0\0", 8));
  EXPECT_EQ(ReadAt(file.fd(), 4096, 5 * kMiB + 17), std::string(4096, '\0'));
  EXPECT_EQ(ReadAt(file.fd(), 100, 10 * kMiB - 2), std::string("\0\0end", 5));
  ASSERT_EQ(file.Close(), 0);
  std::string expected(10 * kMiB, '\0');
  expected.replace(0, 5, "start");
  EXPECT_TRUE(ReadFile(Path("f")) == expected + "end");
}

TEST_F(Files, FarOffsets) {
  File file(Path("f"), O_RDWR | O_CREAT);
  const off_t far = off_t{1} << 40;
  WriteAt(file.fd(), "far", far);
  EXPECT_EQ(StatOf(Path("f")).st_size, far + 3);
  EXPECT_EQ(ReadAt(file.fd(), 10, far - 2), std::string("\0\0far", 5));
  EXPECT_EQ(ReadAt(file.fd(), 10, far + 3), "");
}

TEST_F(Files, Seeking) {
  WriteFile(Path("f"), "0123456789");
  File file(Path("f"), O_RDONLY);
  EXPECT_EQ(lseek(file.fd(), -3, SEEK_END), 7);
  EXPECT_EQ(Error(lseek(file.fd(), -1, SEEK_SET)), EINVAL);
  EXPECT_EQ(lseek(file.fd(), 100, SEEK_SET), 100);
  char byte = 0;
  EXPECT_EQ(read(file.fd(), &byte, 1), 0);
  EXPECT_EQ(lseek(file.fd(), 2, SEEK_DATA), 2);
  EXPECT_EQ(lseek(file.fd(), 2, SEEK_HOLE), 10);
  EXPECT_EQ(Error(lseek(file.fd(), 10, SEEK_DATA)), ENXIO);
}

TEST_F(Files, VectoredAndPositionedCalls) {
  File file(Path("f"), O_RDWR | O_CREAT);
  char first[] = "abc";
  char second[] = "defgh";
  const iovec out[] = {{first, 3}, {second, 5}};
  ASSERT_EQ(writev(file.fd(), out, 2), 8);
  char left[4] = {};
  char right[5] = {};
  const iovec in[] = {{left, 3}, {right, 4}};
  ASSERT_EQ(preadv(file.fd(), in, 2, 1), 7);
  EXPECT_STREQ(left, "bcd");
  EXPECT_STREQ(right, "efgh");
}

TEST_F(Files, PosixFallocateGrowsTheFile) {
  File file(Path("f"), O_RDWR | O_CREAT);
  WriteAt(file.fd(), "data", 0);
  EXPECT_EQ(posix_fallocate(file.fd(), 0, 100'000), 0);
  EXPECT_EQ(StatOf(Path("f")).st_size, 100'000);
  EXPECT_EQ(ReadAt(file.fd(), 6, 0), std::string("data\0\0", 6));
}

TEST_F(Files, FallocateZeroesAndGrows) {
  File file(Path("f"), O_RDWR | O_CREAT);
  WriteAt(file.fd(), "0123456789", 0);
  const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  EXPECT_EQ(fallocate(file.fd(), punch, 2, 3), 0) << errno;
  EXPECT_EQ(ReadAt(file.fd(), 20, 0), std::string("01\0\0\0" "56789", 10));
  EXPECT_EQ(fallocate(file.fd(), punch, 8, 100), 0) << errno;
  EXPECT_EQ(fallocate(file.fd(), punch, 50, 100), 0) << errno;
  EXPECT_EQ(ReadAt(file.fd(), 20, 0), std::string("01\0\0\0" "567\0\0", 10));
  EXPECT_EQ(fallocate(file.fd(), FALLOC_FL_KEEP_SIZE, 0, 1000), 0) << errno;
  EXPECT_EQ(fallocate(file.fd(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 6, 1000), 0) << errno;
  EXPECT_EQ(StatOf(Path("f")).st_size, 10);
  EXPECT_EQ(ReadAt(file.fd(), 20, 0), std::string("01\0\0\0" "5\0\0\0\0", 10));
  EXPECT_EQ(fallocate(file.fd(), FALLOC_FL_ZERO_RANGE, 1, 5000), 0) << errno;
  EXPECT_EQ(StatOf(Path("f")).st_size, 5001);
  EXPECT_EQ(ReadAt(file.fd(), 20, 0), std::string("0", 1) + std::string(19, '\0'));
  const timespec before = StatOf(Path("f")).st_mtim;
  EXPECT_EQ(fallocate(file.fd(), 0, 3 * kMiB, 7), 0) << errno;
  EXPECT_EQ(StatOf(Path("f")).st_size, static_cast<off_t>(3 * kMiB + 7));
  const timespec after = StatOf(Path("f")).st_mtim;
  EXPECT_TRUE(after.tv_sec > before.tv_sec || (after.tv_sec == before.tv_sec && after.tv_nsec > before.tv_nsec));
  EXPECT_EQ(ReadAt(file.fd(), 3, 2 * kMiB), std::string(3, '\0'));
  EXPECT_EQ(fallocate(file.fd(), 0, 0, 10), 0) << errno;
  EXPECT_EQ(StatOf(Path("f")).st_size, static_cast<off_t>(3 * kMiB + 7));
}

TEST_F(Files, FallocateRefusesWhatItCannot) {
  File file(Path("f"), O_RDWR | O_CREAT);
  EXPECT_EQ(fallocate(file.fd(), 0, 0, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE, 0, 10), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_EQ(fallocate(file.fd(), FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_EQ(fallocate(file.fd(), 0, std::numeric_limits<off_t>::max() - 10, 10), -1);
  EXPECT_EQ(errno, EFBIG);
  EXPECT_EQ(fallocate(File(Path("f"), O_RDONLY).fd(), 0, 0, 10), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(StatOf(Path("f")).st_size, 0);
}

// An open file for appending may be zeroed anywhere, too.
TEST_F(Append, FallocateSaysWhere) {
  WriteFile(Path("f"), "0123456789");
  File file(Path("f"), O_RDWR | O_APPEND);
  EXPECT_EQ(fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4), 0) << errno;
  EXPECT_EQ(ReadAt(file.fd(), 20, 0), std::string("\0\0\0\0" "456789", 10));
}

TEST_F(Files, KernelCopies) {
  const std::string contents = Pattern(3 * kMiB + 7);
  WriteFile(Path("from"), contents);
  for (const char* name : {"range", "sendfile"}) {
    File from(Path("from"), O_RDONLY);
    File to(Path(name), O_WRONLY | O_CREAT);
    size_t left = contents.size();
    while (left > 0) {
      const ssize_t copied = strcmp(name, "range") == 0 ? copy_file_range(from.fd(), nullptr, to.fd(), nullptr, left, 0)
                                                        : sendfile(to.fd(), from.fd(), nullptr, left);
      ASSERT_GT(copied, 0) << name << " errno " << errno;
      left -= static_cast<size_t>(copied);
    }
    ASSERT_EQ(to.Close(), 0);
    EXPECT_TRUE(ReadFile(Path(name)) == contents) << name;
  }
}

TEST_F(Files, SyncCallsSucceed) {
  File file(Path("f"), O_RDWR | O_CREAT);
  WriteAt(file.fd(), "x", 0);
  EXPECT_EQ(Error(fsync(file.fd())), 0);
  EXPECT_EQ(Error(fdatasync(file.fd())), 0);
  EXPECT_EQ(Error(syncfs(file.fd())), 0);
  File synchronous(Path("g"), O_WRONLY | O_CREAT | O_SYNC);
  EXPECT_EQ(write(synchronous.fd(), "x", 1), 1);
}

TEST_F(Files, ManySmallOnes) {
  for (int i = 0; i < 300; ++i)
    WriteFile(Path(std::to_string(i)), Pattern(static_cast<size_t>(i) * 37, static_cast<uint32_t>(i)));
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(ReadFile(Path(std::to_string(i))) == Pattern(static_cast<size_t>(i) * 37, static_cast<uint32_t>(i)))
        << i;
  }
}

TEST_F(Files, ThreadsWriteTheirOwnRanges) {
  constexpr size_t kThreads = 4;
  const std::string contents = Pattern(kThreads * kMiB);
  File file(Path("f"), O_RDWR | O_CREAT);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (size_t at = i * kMiB; at < (i + 1) * kMiB; at += 10'000) {
        const std::string piece = contents.substr(at, std::min<size_t>(10'000, (i + 1) * kMiB - at));
        WriteAt(file.fd(), piece, static_cast<off_t>(at));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(file.Close(), 0);
  EXPECT_TRUE(ReadFile(Path("f")) == contents);
}

TEST_F(Files, AWriterIsSeenThroughAnotherHandle) {
  File writer(Path("f"), O_RDWR | O_CREAT);
  File reader(Path("f"), O_RDONLY);
  WriteAt(writer.fd(), "first", 0);
  EXPECT_EQ(ReadAt(reader.fd(), 10, 0), "first");
  WriteAt(writer.fd(), "SECOND", 2);
  EXPECT_EQ(ReadAt(reader.fd(), 10, 0), "fiSECOND");
}

TEST_F(Files, ProgramsRunFromIt) {
  WriteFile(Path("program"), ReadFile("/bin/true"), 0755);
  const pid_t child = fork();
  if (child == 0) {
    execl(Path("program").c_str(), "program", nullptr);
    _exit(errno);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(Truncate, ShrinksAndGrows) {
  const std::string contents = Pattern(2 * kMiB);
  WriteFile(Path("f"), contents);
  ASSERT_EQ(Error(truncate(Path("f").c_str(), 1'000'001)), 0);
  EXPECT_EQ(StatOf(Path("f")).st_size, 1'000'001);
  EXPECT_TRUE(ReadFile(Path("f")) == contents.substr(0, 1'000'001));
  ASSERT_EQ(Error(truncate(Path("f").c_str(), 1'500'000)), 0);
  EXPECT_TRUE(ReadFile(Path("f")) == contents.substr(0, 1'000'001) + std::string(499'999, '\0'))
      << "cut bytes came back";
  EXPECT_EQ(Error(truncate(Path("f").c_str(), -1)), EINVAL);
  EXPECT_EQ(Error(truncate(Path("none").c_str(), 0)), ENOENT);
}

TEST_F(Truncate, ThroughAnOpenFile) {
  File file(Path("f"), O_RDWR | O_CREAT);
  WriteAt(file.fd(), Pattern(100'000), 0);
  ASSERT_EQ(Error(ftruncate(file.fd(), 5)), 0);
  EXPECT_EQ(ReadAt(file.fd(), 100, 0), Pattern(100'000).substr(0, 5));
  WriteAt(file.fd(), "x", 10);
  EXPECT_EQ(ReadAt(file.fd(), 100, 0), Pattern(100'000).substr(0, 5) + std::string(5, '\0') + "x");
  ASSERT_EQ(Error(ftruncate(file.fd(), 0)), 0);
  EXPECT_EQ(ReadAt(file.fd(), 100, 0), "");
}

TEST_F(Truncate, AnotherHandleSeesIt) {
  WriteFile(Path("f"), Pattern(50'000));
  File reader(Path("f"), O_RDONLY);
  EXPECT_EQ(ReadAt(reader.fd(), 50'000, 0).size(), 50'000u);
  ASSERT_EQ(Error(truncate(Path("f").c_str(), 10)), 0);
  EXPECT_EQ(ReadAt(reader.fd(), 50'000, 0).size(), 10u);
  WriteFile(Path("f"), "new");
  EXPECT_EQ(ReadAt(reader.fd(), 50'000, 0), "new");
}

TEST_F(Truncate, StampsTheFile) {
  WriteFile(Path("f"), "contents");
  const struct stat before = StatOf(Path("f"));
  NextTick();
  ASSERT_EQ(Error(truncate(Path("f").c_str(), 3)), 0);
  EXPECT_TRUE(Before(before.st_mtim, StatOf(Path("f")).st_mtim));
}

TEST_F(Append, TwoWritersNeverOverwrite) {
  File first(Path("f"), O_WRONLY | O_CREAT | O_APPEND);
  File second(Path("f"), O_WRONLY | O_APPEND);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(write(first.fd(), "aaaa\n", 5), 5);
    ASSERT_EQ(write(second.fd(), "bbbb\n", 5), 5);
  }
  const std::string contents = ReadFile(Path("f"));
  EXPECT_EQ(contents.size(), 1000u);
  EXPECT_EQ(contents.substr(990), "aaaa\nbbbb\n");
}

TEST_F(Append, ConcurrentLinesStayWhole) {
  constexpr int kThreads = 4;
  constexpr int kLines = 200;
  File creator(Path("f"), O_WRONLY | O_CREAT);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      File file(Path("f"), O_WRONLY | O_APPEND);
      const std::string line = std::string(63, static_cast<char>('a' + i)) + "\n";
      for (int n = 0; n < kLines; ++n) ASSERT_EQ(write(file.fd(), line.data(), line.size()), 64);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string contents = ReadFile(Path("f"));
  ASSERT_EQ(contents.size(), 64u * kThreads * kLines);
  for (size_t at = 0; at < contents.size(); at += 64) {
    ASSERT_EQ(contents.substr(at, 63), std::string(63, contents[at])) << at;
    ASSERT_EQ(contents[at + 63], '\n');
  }
}

TEST_F(Append, FollowsTruncationAndLargeWrites) {
  File file(Path("f"), O_RDWR | O_CREAT | O_APPEND);
  ASSERT_EQ(write(file.fd(), "0123456789", 10), 10);
  ASSERT_EQ(Error(ftruncate(file.fd(), 3)), 0);
  ASSERT_EQ(write(file.fd(), "x", 1), 1);
  EXPECT_EQ(ReadAt(file.fd(), 10, 0), "012x");
  const std::string large = Pattern(5 * kMiB + 3);
  ASSERT_EQ(write(file.fd(), large.data(), large.size()), static_cast<ssize_t>(large.size()));
  EXPECT_TRUE(ReadFile(Path("f")) == "012x" + large);
}

TEST_F(Append, EndsWhenTheFlagIsTakenAway) {
  File file(Path("f"), O_RDWR | O_CREAT | O_APPEND);
  ASSERT_EQ(write(file.fd(), "0123456789", 10), 10);
  ASSERT_EQ(Error(fcntl(file.fd(), F_SETFL, 0)), 0);
  WriteAt(file.fd(), "XX", 2);
  EXPECT_EQ(ReadAt(file.fd(), 20, 0), "01XX456789");
  ASSERT_EQ(Error(fcntl(file.fd(), F_SETFL, O_APPEND)), 0);
  ASSERT_EQ(write(file.fd(), "end", 3), 3);
  EXPECT_EQ(ReadAt(file.fd(), 20, 0), "01XX456789end");
}

// Aligned as every file system wants it.
std::unique_ptr<char, decltype(&std::free)> AlignedBuffer(size_t size) {
  return {static_cast<char*>(std::aligned_alloc(4096, size)), &std::free};
}

TEST_F(Direct, ReadsAndWrites) {
  constexpr size_t kSize = 6 * kMiB;
  const std::string contents = Pattern(kSize);
  File file(Path("f"), O_RDWR | O_CREAT | O_DIRECT);
  if (file.error() == EINVAL) GTEST_SKIP() << "no O_DIRECT here";
  ASSERT_TRUE(file.ok()) << file.error();
  const auto buffer = AlignedBuffer(kSize);
  memcpy(buffer.get(), contents.data(), kSize);
  ASSERT_EQ(pwrite(file.fd(), buffer.get(), kSize, 0), static_cast<ssize_t>(kSize));
  memset(buffer.get(), 0, kSize);
  ASSERT_EQ(pread(file.fd(), buffer.get(), kSize, 0), static_cast<ssize_t>(kSize));
  EXPECT_EQ(memcmp(buffer.get(), contents.data(), kSize), 0);
  ASSERT_EQ(pread(file.fd(), buffer.get(), 8192, kSize - 4096), 4096) << "short at the end";
  EXPECT_EQ(pread(file.fd(), buffer.get(), 4096, kSize), 0);
  EXPECT_TRUE(ReadFile(Path("f")) == contents) << "the page cache sees it";
}

TEST_F(Direct, AgreesWithThePageCache) {
  WriteFile(Path("f"), std::string(64 << 10, 'a'));
  EXPECT_EQ(ReadFile(Path("f")).size(), 64u << 10);
  File direct(Path("f"), O_RDWR | O_DIRECT);
  if (direct.error() == EINVAL) GTEST_SKIP() << "no O_DIRECT here";
  File cached(Path("f"), O_RDWR);
  const auto buffer = AlignedBuffer(4096);
  memset(buffer.get(), 'b', 4096);
  ASSERT_EQ(pwrite(direct.fd(), buffer.get(), 4096, 8192), 4096);
  EXPECT_EQ(ReadAt(cached.fd(), 4096, 8192), std::string(4096, 'b'));
  WriteAt(cached.fd(), std::string(4096, 'c'), 8192);
  ASSERT_EQ(pread(direct.fd(), buffer.get(), 4096, 8192), 4096);
  EXPECT_EQ(std::string(buffer.get(), 4096), std::string(4096, 'c'));
}

TEST_F(Direct, AppendsInOrder) {
  constexpr size_t kSize = 4 * kMiB;
  const std::string contents = Pattern(2 * kSize);
  File file(Path("f"), O_WRONLY | O_CREAT | O_APPEND | O_DIRECT);
  if (file.error() == EINVAL) GTEST_SKIP() << "no O_DIRECT here";
  const auto buffer = AlignedBuffer(kSize);
  for (size_t at = 0; at < contents.size(); at += kSize) {
    memcpy(buffer.get(), contents.data() + at, kSize);
    ASSERT_EQ(write(file.fd(), buffer.get(), kSize), static_cast<ssize_t>(kSize));
  }
  ASSERT_EQ(file.Close(), 0);
  EXPECT_TRUE(ReadFile(Path("f")) == contents);
}

}  // namespace
}  // namespace tarn::posix
