#include "fuse-client/mount/mount_table.h"

#include <gtest/gtest.h>

namespace tarn::fuse {
namespace {

constexpr std::string_view kTable =
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
    "30 22 0:26 / /mnt/data rw,nosuid,nodev,relatime shared:2 master:1 - fuse.tarn default:/a "
    "rw,user_id=0,max_read=1048576\n"
    "31 22 0:27 / /mnt/with\\040space rw - fuse.tarn a\\054b rw\n"
    "broken line\n"
    "32 30 0:28 / /mnt/data rw - tmpfs tmpfs rw\n";

TEST(MountTable, ParsesFieldsAndEscapes) {
  const std::vector<MountEntry> table = ParseMountTable(kTable);
  ASSERT_EQ(table.size(), 4u);
  EXPECT_EQ(table[1].device, "0:26");
  EXPECT_EQ(table[1].type, "fuse.tarn");
  EXPECT_EQ(table[1].source, "default:/a");
  EXPECT_EQ(table[2].path, "/mnt/with space");
  EXPECT_EQ(table[2].source, "a,b");
}

TEST(MountTable, TheTopmostMountIsFound) {
  const std::vector<MountEntry> table = ParseMountTable(kTable);
  EXPECT_EQ(FindMount(table, "/mnt/data")->type, "tmpfs");
  EXPECT_FALSE(FindMount(table, "/mnt").has_value());
}

TEST(MountTable, ResolvesMountPoints) {
  EXPECT_EQ(ResolveMountPoint("/").value(), "/");
  EXPECT_EQ(ResolveMountPoint("/proc/").value(), "/proc");
  EXPECT_EQ(ResolveMountPoint("/usr/../proc").value(), "/proc");
  EXPECT_EQ(ResolveMountPoint("/no/such/place").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ResolveMountPoint("").status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tarn::fuse
