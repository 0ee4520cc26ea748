#include "fuse-client/mount/mount_options.h"

#include <gtest/gtest.h>

namespace tarn::fuse {
namespace {

MountOptions Parse(std::string_view list) {
  MountOptions options;
  const Status status = ParseMountOptionList(list, &options);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return options;
}

TEST(MountOptions, DefaultsAreSafe) {
  const MountOptions options = Parse("");
  EXPECT_FALSE(options.read_only);
  EXPECT_FALSE(options.suid);
  EXPECT_FALSE(options.dev);
  EXPECT_FALSE(options.allow_other.has_value());
  EXPECT_FALSE(options.entry_timeout_s.has_value());
  EXPECT_FALSE(options.attr_timeout_s.has_value());
  EXPECT_FALSE(options.negative_timeout_s.has_value());
}

TEST(MountOptions, FstabLine) {
  const MountOptions options = Parse(
      "ro,_netdev,nofail,x-systemd.automount,noauto,suid,dev,noexec,attr_timeout=0.5,entry_timeout=0,"
      "negative_timeout=1,memory_limit=256M,read_ahead_kb=1024,noallow_other,nonempty,local_locks,log_level=debug");
  EXPECT_TRUE(options.read_only);
  EXPECT_TRUE(options.suid);
  EXPECT_TRUE(options.dev);
  EXPECT_TRUE(options.noexec);
  EXPECT_TRUE(options.nonempty);
  EXPECT_TRUE(options.local_locks);
  EXPECT_EQ(options.attr_timeout_s, 0.5);
  EXPECT_EQ(options.entry_timeout_s, 0.0);
  EXPECT_EQ(options.negative_timeout_s, 1.0);
  EXPECT_EQ(options.memory_limit_bytes, 256ull << 20);
  EXPECT_EQ(options.read_ahead_kb, 1024u);
  EXPECT_EQ(options.allow_other, false);
  EXPECT_EQ(options.log_level, "debug");
}

TEST(MountOptions, LaterOnesWin) {
  EXPECT_FALSE(Parse("ro,rw").read_only);
  EXPECT_FALSE(Parse("suid,nosuid").suid);
}

TEST(MountOptions, EscapedCommaBelongsToTheValue) {
  EXPECT_EQ(Parse("log_file=/tmp/a\\,b.log,ro").log_file, "/tmp/a,b.log");
  EXPECT_EQ(Parse("meta=a:1\\,b:2,meta=c:3").metaservers, (std::vector<std::string>{"a:1", "b:2", "c:3"}));
}

TEST(MountOptions, RefusesUnknownAndOutOfRange) {
  for (const char* list : {"frobnicate", "frobnicate=1", "attr_timeout=1.5", "attr_timeout=-1", "attr_timeout=x",
                           "attr_timeout=nan", "memory_limit=lots", "read_ahead_kb=99999999", "meta=nowhere", "ro=1"}) {
    MountOptions options;
    EXPECT_EQ(ParseMountOptionList(list, &options).code(), StatusCode::kInvalidArgument) << list;
  }
}

TEST(ByteSize, Units) {
  EXPECT_EQ(ParseByteSize("4096").value(), 4096u);
  EXPECT_EQ(ParseByteSize("1K").value(), 1024u);
  EXPECT_EQ(ParseByteSize("1.5GiB").value(), 3ull << 29);
  EXPECT_EQ(ParseByteSize("2tb").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseByteSize("2TB").value(), 2ull << 40);
  EXPECT_FALSE(ParseByteSize("").ok());
  EXPECT_FALSE(ParseByteSize("-1").ok());
  EXPECT_FALSE(ParseByteSize("1X").ok());
}

}  // namespace
}  // namespace tarn::fuse
