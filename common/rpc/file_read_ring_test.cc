#include "common/rpc/file_read_ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/unique_fd.h"
#include "common/rpc/event_loop.h"

namespace tarn::rpc {
namespace {

constexpr size_t kFileBytes = 1 << 20;

class FileReadRingTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "file_read_ring_XXXXXX";
    file_ = UniqueFd(mkstemp(path.data()));
    ASSERT_TRUE(file_.valid());
    unlink(path.c_str());
    content_.resize(kFileBytes);
    for (size_t i = 0; i < kFileBytes; ++i) content_[i] = static_cast<char>(i * 7 + i / 4096);
    ASSERT_EQ(write(file_.get(), content_.data(), content_.size()), static_cast<ssize_t>(content_.size()));
    auto loop = EventLoop::Start("loop");
    ASSERT_TRUE(loop.ok());
    loop_ = *std::move(loop);
    Status available;
    RunOnLoop([&] { available = loop_->FileReads().status(); });
    if (!available.ok()) GTEST_SKIP() << available.ToString();
  }
  void RunOnLoop(const std::function<void()>& task) {
    std::promise<void> done;
    loop_->Post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }
  void DropPages() {
    ASSERT_EQ(fdatasync(file_.get()), 0);
    ASSERT_EQ(posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  }
  int ReadNow(int fd, uint64_t offset, std::span<uint8_t> bytes) {
    std::promise<int> result;
    loop_->Post([&] {
      EXPECT_TRUE((*loop_->FileReads())->Read(fd, offset, bytes, [&](int read) { result.set_value(read); }));
    });
    return result.get_future().get();
  }
  bool Holds(uint64_t offset, std::span<const uint8_t> bytes) const {
    return std::memcmp(content_.data() + offset, bytes.data(), bytes.size()) == 0;
  }

  UniqueFd file_;
  std::string content_;
  std::unique_ptr<EventLoop> loop_;
};

TEST_F(FileReadRingTest, ReadsFromMemoryAndFromTheDisk) {
  Buffer bytes(64 << 10);
  for (const bool from_disk : {false, true}) {
    for (const uint64_t offset : {uint64_t{0}, uint64_t{4096}, uint64_t{kFileBytes - bytes.size()}}) {
      if (from_disk) DropPages();
      std::memset(bytes.data(), 0, bytes.size());
      ASSERT_EQ(ReadNow(file_.get(), offset, bytes.span()), static_cast<int>(bytes.size()));
      EXPECT_TRUE(Holds(offset, bytes.span()));
    }
  }
}

TEST_F(FileReadRingTest, TellsTheEndOfTheFileAndErrors) {
  Buffer bytes(8192);
  EXPECT_EQ(ReadNow(file_.get(), kFileBytes - 100, bytes.span()), 100);
  EXPECT_EQ(ReadNow(file_.get(), kFileBytes, bytes.span()), 0);
  EXPECT_EQ(ReadNow(9999, 0, bytes.span()), -EBADF);
}

TEST_F(FileReadRingTest, IsBounded) {
  DropPages();
  std::vector<Buffer> places;
  for (uint32_t i = 0; i <= FileReadRing::kReadsMax; ++i) places.emplace_back(4096);
  uint32_t ended = 0;
  std::promise<void> all_ended;
  RunOnLoop([&] {
    FileReadRing& ring = **loop_->FileReads();
    for (uint32_t i = 0; i < FileReadRing::kReadsMax; ++i) {
      ASSERT_TRUE(ring.Read(file_.get(), uint64_t{i % 256} * 4096, places[i].span(), [&, i](int result) {
        EXPECT_EQ(result, 4096);
        EXPECT_TRUE(Holds(uint64_t{i % 256} * 4096, places[i].span()));
        if (++ended == FileReadRing::kReadsMax) all_ended.set_value();
      }));
    }
    EXPECT_FALSE(ring.Read(file_.get(), 0, places.back().span(), [](int) { ADD_FAILURE() << "it was refused"; }));
    EXPECT_EQ(ring.under_way(), FileReadRing::kReadsMax);
  });
  all_ended.get_future().wait();
  RunOnLoop([&] { EXPECT_EQ((*loop_->FileReads())->under_way(), 0u); });
}

// Tells when it is destroyed.
struct Witness {
  ~Witness() { ++*gone; }
  int* gone;
};

TEST_F(FileReadRingTest, TheEndOfTheLoopWaitsForTheKernelAndDropsTheCallbacks) {
  DropPages();
  constexpr int kReads = 100;
  std::vector<Buffer> places;
  for (int i = 0; i < kReads; ++i) places.emplace_back(4096);
  int ran = 0;
  int gone = 0;
  RunOnLoop([&] {
    FileReadRing& ring = **loop_->FileReads();
    for (int i = 0; i < kReads; ++i) {
      const auto witness = std::make_shared<Witness>(&gone);
      ASSERT_TRUE(ring.Read(file_.get(), uint64_t{4096} * static_cast<uint64_t>(i), places[static_cast<size_t>(i)].span(), [&ran, witness](int) { ++ran; }));
    }
  });
  loop_.reset();
  EXPECT_EQ(gone, kReads);
  EXPECT_LE(ran, kReads);
  places.clear();  // nobody writes there any more
}

}  // namespace
}  // namespace tarn::rpc
