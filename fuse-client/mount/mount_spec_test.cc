#include "fuse-client/mount/mount_spec.h"

#include <gtest/gtest.h>

namespace tarn::fuse {
namespace {

TEST(MountSpec, VolumeAlone) {
  const MountSpec spec = ParseMountSpec("default").value();
  EXPECT_EQ(spec.volume, "default");
  EXPECT_EQ(spec.subdirectory, "");
  EXPECT_TRUE(spec.metaservers.empty());
  EXPECT_EQ(SourceName(spec), "default");
}

TEST(MountSpec, DirectoryIsCleaned) {
  const MountSpec spec = ParseMountSpec("data:/a//b/./c/").value();
  EXPECT_EQ(spec.subdirectory, "/a/b/c");
  EXPECT_EQ(SourceName(spec), "data:/a/b/c");
  EXPECT_EQ(ParseMountSpec("data:/").value().subdirectory, "");
}

TEST(MountSpec, AddressesFollowTheLastAt) {
  const MountSpec spec = ParseMountSpec("data:/a@b@node-1:7400,[::1]:7401").value();
  EXPECT_EQ(spec.volume, "data");
  EXPECT_EQ(spec.subdirectory, "/a@b");
  EXPECT_EQ(spec.metaservers, (std::vector<std::string>{"node-1:7400", "[::1]:7401"}));
  EXPECT_EQ(ParseMountSpec("data@127.0.0.1:7400").value().metaservers, (std::vector<std::string>{"127.0.0.1:7400"}));
}

TEST(MountSpec, AtInADirectoryIsNotAnAddress) {
  const MountSpec spec = ParseMountSpec("data:/a@b").value();
  EXPECT_EQ(spec.subdirectory, "/a@b");
  EXPECT_TRUE(spec.metaservers.empty());
}

TEST(MountSpec, RefusesNonsense) {
  for (const char* text : {"", ":/a", "@h:1", "data:a", "data:", "a/b", "data:/../x", "data@host", "data@host:0",
                           "data@host:70000", "data@:7400", "data@h:1,", "data@::1:7400"}) {
    EXPECT_EQ(ParseMountSpec(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace tarn::fuse
