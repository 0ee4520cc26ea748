#include "fuse-client/mount/mount_socket.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

namespace tarn::fuse {
namespace {

class MountSocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/mount_socket_test.XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
};

TEST_F(MountSocketTest, NobodyListens) { EXPECT_FALSE(MountProcessWatch::Connect(directory_, "0:1").has_value()); }

TEST_F(MountSocketTest, TheWatchEndsWithTheProcess) {
  int go[2];
  int ready[2];
  ASSERT_EQ(pipe(go), 0);
  ASSERT_EQ(pipe(ready), 0);
  char byte = 0;
  const pid_t child = fork();
  if (child == 0) {
    Result<MountSocket> socket = MountSocket::Listen(directory_ + "/run", "0:7");
    if (!socket.ok() || write(ready[1], "r", 1) != 1) _exit(1);
    close(go[1]);
    _exit(read(go[0], &byte, 1) == 1 ? 0 : 1);  // without the destructor, as after SIGKILL
  }
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  std::optional<MountProcessWatch> watch = MountProcessWatch::Connect(directory_ + "/run", "0:7");
  ASSERT_TRUE(watch.has_value());
  EXPECT_EQ(watch->pid(), child);
  EXPECT_FALSE(watch->WaitUntilGone(1));
  ASSERT_EQ(write(go[1], "g", 1), 1);
  EXPECT_TRUE(watch->WaitUntilGone(10'000));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(MountProcessWatch::Connect(directory_ + "/run", "0:7").has_value()) << "a stale socket must refuse";
  for (int fd : {go[0], go[1], ready[0], ready[1]}) close(fd);
}

TEST_F(MountSocketTest, TheSuccessorKeepsItsSocket) {
  std::optional<MountSocket> first(MountSocket::Listen(directory_, "0:7").value());
  std::optional<MountSocket> second(MountSocket::Listen(directory_, "0:7").value());
  first.reset();
  EXPECT_TRUE(MountProcessWatch::Connect(directory_, "0:7").has_value());
  second.reset();
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

}  // namespace
}  // namespace tarn::fuse
