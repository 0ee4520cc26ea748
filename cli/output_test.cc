#include "cli/output.h"

#include <gtest/gtest.h>

#include "cli/context.h"

namespace tarn::cli {
namespace {

TEST(Output, BytesAreShownInBinaryUnits) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(uint64_t{5} << 40), "5.0 TiB");
}

TEST(Output, SizesAreParsedWithUnits) {
  uint64_t bytes = 0;
  for (const auto& [text, expected] : std::vector<std::pair<std::string, uint64_t>>{
           {"0", 0}, {"4096", 4096}, {"64K", 64 << 10}, {"1M", 1 << 20}, {"10GiB", uint64_t{10} << 30}, {"2t", uint64_t{2} << 40}, {"7B", 7}}) {
    EXPECT_TRUE(ParseBytes(text, &bytes)) << text;
    EXPECT_EQ(bytes, expected) << text;
  }
  for (const std::string text : {"", "x", "-1", "1X", "1MM", "99999999999P"}) EXPECT_FALSE(ParseBytes(text, &bytes)) << text;
}

TEST(Output, CopyProgressSaysWhatIsKnown) {
  EXPECT_EQ(CopyProgressLine(512, 1024, 1024, 61), "[##########          ] 50 %, 512 B left, 1.0 KiB/s, 1:01 to go");
  EXPECT_EQ(CopyProgressLine(0, 2048, 0, 0), "[                    ] 0 %, 2.0 KiB left");
  // What was estimated may have been too little.
  EXPECT_EQ(CopyProgressLine(5000, 4096, 0, 0), "[####################] 100 %, 0 B left");
}

TEST(Output, ModesAreShownAsLsDoes) {
  EXPECT_EQ(ModeString('d', 01777), "drwxrwxrwt");
  EXPECT_EQ(ModeString('-', 04755), "-rwsr-xr-x");
  EXPECT_EQ(ModeString('-', 02644), "-rw-r-Sr--");
}

TEST(VolumePath, TakesVolumePathAndServers) {
  const auto parse = [](const std::string& text) {
    Result<VolumePath> where = ParseVolumePath(text);
    return where.ok() ? where->volume + "|" + where->path + "|" + (where->servers.empty() ? "" : where->servers.front()) : "error";
  };
  EXPECT_EQ(parse("default"), "default|/|");
  EXPECT_EQ(parse("default:"), "default|/|");
  EXPECT_EQ(parse("default:/a/b/"), "default|/a/b/|");
  EXPECT_EQ(parse("data@10.0.0.1:7400,10.0.0.2:7400:/a"), "data|/a|10.0.0.1:7400");
  EXPECT_EQ(parse("data:/a@10.0.0.1:7400"), "data|/a|10.0.0.1:7400");
  EXPECT_EQ(parse("data:/user@host/a"), "data|/user@host/a|");
  EXPECT_EQ(parse("/local/path"), "error");
  EXPECT_EQ(parse(":/a"), "error");
}

}  // namespace
}  // namespace tarn::cli
