#include "fuse-client/options.h"

#include <gtest/gtest.h>

namespace tarn::fuse {
namespace {

Options Parse(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "/usr/bin/tarn-fuse");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  return ParseCommandLine(static_cast<int>(arguments.size()), argv.data());
}

TEST(Options, SpecificationAndMountPoint) {
  const Options options = Parse({"data:/a@h:1", "/mnt", "-o", "ro", "-o", "nonempty", "-f", "--memory-limit", "64M",
                                 "--node", "n7"});
  EXPECT_EQ(options.action, Options::Action::kMount);
  EXPECT_EQ(options.spec.volume, "data");
  EXPECT_EQ(options.spec.subdirectory, "/a");
  EXPECT_EQ(options.spec.metaservers, std::vector<std::string>{"h:1"});
  EXPECT_EQ(options.mount_point, "/mnt");
  EXPECT_TRUE(options.mount.read_only);
  EXPECT_TRUE(options.mount.nonempty);
  EXPECT_TRUE(options.foreground);
  EXPECT_EQ(options.mount.memory_limit_bytes, 64u << 20);
  EXPECT_EQ(options.node, "n7");
}

TEST(Options, OptionsMayComeFirst) {
  const Options options = Parse({"-o", "ro", "data", "/mnt", "--meta", "h:1,i:2"});
  EXPECT_EQ(options.action, Options::Action::kMount);
  EXPECT_EQ(options.spec.volume, "data");
  EXPECT_EQ(options.spec.metaservers, (std::vector<std::string>{"h:1", "i:2"}));
}

TEST(Options, TheSpecificationsServersWin) {
  EXPECT_EQ(Parse({"data@a:1", "/mnt", "--meta", "b:2", "-o", "meta=c:3"}).spec.metaservers,
            std::vector<std::string>{"a:1"});
  EXPECT_EQ(Parse({"data", "/mnt", "--meta", "b:2", "-o", "meta=c:3"}).spec.metaservers,
            std::vector<std::string>{"c:3"});
}

TEST(Options, WrongUsageIsExitStatusTwo) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"data"},
                                             {"data", "/mnt", "more"},
                                             {"data", "/mnt", "-o", "frobnicate"},
                                             {"data", "/mnt", "--lazy"},
                                             {"data:a", "/mnt"},
                                             {"--unmount"},
                                             {"--unmount", "/a", "/b"},
                                             {"--no-such-flag"},
                                             {"data", "/mnt", "--memory-limit", "x"}}) {
    const Options options = Parse(arguments);
    EXPECT_EQ(options.action, Options::Action::kExit);
    EXPECT_EQ(options.exit_status, 2);
  }
}

TEST(Options, Unmount) {
  const Options options = Parse({"--unmount", "/mnt", "--lazy"});
  EXPECT_EQ(options.action, Options::Action::kUnmount);
  EXPECT_EQ(options.mount_point, "/mnt");
  EXPECT_TRUE(options.lazy);
  EXPECT_FALSE(options.force);
}

TEST(MountHelper, TakesWhatMountGives) {
  const Options options =
      ParseMountHelper({"data@h:1", "/mnt", "-sn", "-o", "rw,_netdev,x-systemd.requires=a", "-t", "fuse.tarn"}).value();
  EXPECT_EQ(options.action, Options::Action::kMount);
  EXPECT_EQ(options.spec.volume, "data");
  EXPECT_FALSE(options.foreground);
  EXPECT_EQ(ParseMountHelper({"data@h:1", "/mnt", "-f"}).value().action, Options::Action::kExit) << "-f is fake here";
  EXPECT_TRUE(ParseMountHelper({"-r", "data@h:1", "/mnt"}).value().mount.read_only);
  EXPECT_FALSE(ParseMountHelper({"data@h:1"}).ok());
  EXPECT_FALSE(ParseMountHelper({"data@h:1", "/mnt", "-o"}).ok());
  EXPECT_FALSE(ParseMountHelper({"data@h:1", "/mnt", "--help"}).ok());
}

}  // namespace
}  // namespace tarn::fuse
