#include "fuse-client/operations/fresh_files.h"

#include <gtest/gtest.h>

namespace tarn::fuse {
namespace {

TEST(FreshFiles, AreRememberedForASecond) {
  FreshFiles files;
  EXPECT_FALSE(files.Contains(InodeId(7), 0));
  files.Add(InodeId(7), 100);
  EXPECT_TRUE(files.Contains(InodeId(7), 100 + FreshFiles::kAgeMaxNs - 1));
  EXPECT_FALSE(files.Contains(InodeId(7), 100 + FreshFiles::kAgeMaxNs));
  EXPECT_FALSE(files.Contains(InodeId(7 + FreshFiles::kSlots), 100));
}

TEST(FreshFiles, RemovalIsOfThatFileOnly) {
  FreshFiles files;
  files.Add(InodeId(7), 0);
  files.Remove(InodeId(7 + FreshFiles::kSlots));
  EXPECT_TRUE(files.Contains(InodeId(7), 1));
  files.Remove(InodeId(7));
  EXPECT_FALSE(files.Contains(InodeId(7), 1));
}

}  // namespace
}  // namespace tarn::fuse
