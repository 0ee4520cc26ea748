#include "tests/posix/posix_fixture.h"

#include <dirent.h>
#include <grp.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <filesystem>
#include <memory>

namespace tarn::posix {
namespace {

// Where gtest's fixtures find what main was told.
std::string& BaseDirectory() {
  static std::string path;
  return path;
}

}  // namespace

void SetBaseDirectory(const std::string& path) { BaseDirectory() = path; }

void PosixTest::SetUp() {
  old_umask_ = umask(022);
  const ::testing::TestInfo* const info = ::testing::UnitTest::GetInstance()->current_test_info();
  directory_ = BaseDirectory() + "/" + info->test_suite_name() + "." + info->name();
  std::filesystem::remove_all(directory_);
  ASSERT_EQ(Error(mkdir(directory_.c_str(), 0755)), 0) << directory_;
}

void PosixTest::TearDown() {
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
  EXPECT_FALSE(error) << directory_ << ": " << error.message();
  umask(old_umask_);
}

struct stat StatOf(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(Error(stat(path.c_str(), &status)), 0) << path;
  return status;
}

struct stat LstatOf(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(Error(lstat(path.c_str(), &status)), 0) << path;
  return status;
}

int StatError(const std::string& path) {
  struct stat status {};
  return Error(lstat(path.c_str(), &status));
}

void WriteFile(const std::string& path, const std::string& contents, mode_t mode) {
  File file(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  ASSERT_TRUE(file.ok()) << path << " errno " << file.error();
  size_t done = 0;
  while (done < contents.size()) {
    const ssize_t put = write(file.fd(), contents.data() + done, contents.size() - done);
    ASSERT_GT(put, 0) << path << " errno " << errno;
    done += static_cast<size_t>(put);
  }
  ASSERT_EQ(file.Close(), 0);
}

std::string ReadFile(const std::string& path) {
  File file(path, O_RDONLY);
  EXPECT_TRUE(file.ok()) << path << " errno " << file.error();
  std::string contents;
  std::vector<char> buffer(1 << 18);
  while (file.ok()) {
    const ssize_t got = read(file.fd(), buffer.data(), buffer.size());
    EXPECT_GE(got, 0) << path << " errno " << errno;
    if (got <= 0) break;
    contents.append(buffer.data(), static_cast<size_t>(got));
  }
  return contents;
}

std::vector<std::string> List(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(path.c_str()), &closedir);
  EXPECT_NE(stream, nullptr) << path << " errno " << errno;
  while (stream != nullptr) {
    const dirent* const entry = readdir(stream.get());
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string Pattern(size_t bytes, uint32_t seed) {
  std::string pattern(bytes, '\0');
  uint32_t state = seed * 2654435761u + 1;
  for (char& byte : pattern) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return pattern;
}

bool Before(const timespec& lhs, const timespec& rhs) {
  return lhs.tv_sec != rhs.tv_sec ? lhs.tv_sec < rhs.tv_sec : lhs.tv_nsec < rhs.tv_nsec;
}

void NextTick() {
  // The kernel stamps files with its coarse clock.
  timespec start{};
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &start);
  do {
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (!Before(start, now));
}

int As(uid_t user, gid_t group, const std::function<int()>& action) {
  const pid_t child = fork();
  if (child == 0) {
    if (setgroups(0, nullptr) != 0 || setgid(group) != 0 || setuid(user) != 0) _exit(255);
    _exit(action());
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_NE(WEXITSTATUS(status), 255) << "cannot become user " << user;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool IsRoot() { return geteuid() == 0; }

}  // namespace tarn::posix
