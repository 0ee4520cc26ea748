// What the POSIX checks share: every check has a fresh directory of its own below the one given on the command line.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tarn::posix {

// The errno of a call that returns -1 on failure; 0 if it succeeded.
template <typename Result>
int Error(Result result) {
  return result == static_cast<Result>(-1) ? errno : 0;
}

// An open file that closes itself.
class File {
 public:
  File() = default;
  File(const std::string& path, int flags, mode_t mode = 0644)
      : fd_(open(path.c_str(), flags | O_CLOEXEC, mode)), error_(Error(fd_)) {}
  ~File() { Close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const { return fd_; }
  int error() const { return error_; }
  bool ok() const { return fd_ >= 0; }
  // The errno of close(2).
  int Close() {
    const int result = fd_ >= 0 ? Error(close(fd_)) : 0;
    fd_ = -1;
    return result;
  }

 private:
  int fd_ = -1;
  int error_ = 0;
};

// Nobody, and a group that is not his.
inline constexpr uid_t kUser = 65534;
inline constexpr gid_t kGroup = 65534;
inline constexpr uid_t kOtherUser = 65533;
inline constexpr gid_t kOtherGroup = 65533;

class PosixTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // A path in the check's directory.
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  const std::string& directory() const { return directory_; }

 private:
  std::string directory_;
  mode_t old_umask_ = 0;
};

// Set once by main.
void SetBaseDirectory(const std::string& path);

struct stat StatOf(const std::string& path);  // fails the check if there is none
struct stat LstatOf(const std::string& path);
int StatError(const std::string& path);  // of lstat(2)
void WriteFile(const std::string& path, const std::string& contents, mode_t mode = 0644);
std::string ReadFile(const std::string& path);
// Names without "." and "..", sorted.
std::vector<std::string> List(const std::string& path);
// Deterministic bytes that differ from place to place.
std::string Pattern(size_t bytes, uint32_t seed = 1);
// True if lhs < rhs.
bool Before(const timespec& lhs, const timespec& rhs);
// Waits for the clock that stamps files to move, so that two stamps differ.
void NextTick();

// Runs `action` in a child process as that user, with no other groups; its result, an errno, is ours. Needs root.
int As(uid_t user, gid_t group, const std::function<int()>& action);
bool IsRoot();

}  // namespace tarn::posix
