#include "common/fault/fault_points.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace tarn::fault {
namespace {

constexpr FaultPointName kSkipSync{"store.skip_sync"};
constexpr FaultPointName kReadError{"store.read_error"};
constexpr std::array kKnown = {kSkipSync, kReadError};

std::string FiringPattern(FaultPoints& faults, FaultPointName name, int questions) {
  std::string pattern;
  for (int i = 0; i < questions; ++i) pattern += faults.Fires(name) ? 'x' : '.';
  return pattern;
}

TEST(FaultPoints, NothingFiresUnlessArmed) {
  FaultPoints faults;
  EXPECT_FALSE(faults.armed());
  EXPECT_EQ(FiringPattern(faults, kSkipSync, 3), "...");
  auto empty = FaultPoints::Parse("", kKnown);
  ASSERT_TRUE(empty.ok());
  EXPECT_FALSE((*empty)->armed());
}

TEST(FaultPoints, ModesFireWhenTheySay) {
  auto faults = FaultPoints::Parse("store.skip_sync=always,store.read_error=nth:3", kKnown);
  ASSERT_TRUE(faults.ok()) << faults.status().ToString();
  EXPECT_EQ(FiringPattern(**faults, kSkipSync, 4), "xxxx");
  EXPECT_EQ(FiringPattern(**faults, kReadError, 5), "..x..");
  EXPECT_EQ((*faults)->CountsOf(kReadError).asked, 5u);
  EXPECT_EQ((*faults)->CountsOf(kReadError).fired, 1u);

  auto once = FaultPoints::Parse("store.skip_sync=once", kKnown);
  ASSERT_TRUE(once.ok());
  EXPECT_EQ(FiringPattern(**once, kSkipSync, 3), "x..");
  EXPECT_EQ(FiringPattern(**once, kReadError, 3), "...");
}

TEST(FaultPoints, ProbabilityIsRepeatable) {
  auto first = FaultPoints::Parse("store.skip_sync=probability:0.25:42", kKnown);
  auto second = FaultPoints::Parse("store.skip_sync=probability:0.25:42", kKnown);
  ASSERT_TRUE(first.ok() && second.ok());
  const std::string pattern = FiringPattern(**first, kSkipSync, 4000);
  EXPECT_EQ(pattern, FiringPattern(**second, kSkipSync, 4000));
  EXPECT_GT((*first)->CountsOf(kSkipSync).fired, 800u);
  EXPECT_LT((*first)->CountsOf(kSkipSync).fired, 1200u);
}

TEST(FaultPoints, BadSpecsAreRefusedAndNamed) {
  for (const char* spec :
       {"store.skip_sync", "store.skip_sync=", "store.skip_sync=sometimes", "store.skip_sync=nth:0",
        "store.skip_sync=nth:x", "store.skip_sync=probability:2:1", "store.skip_sync=probability:0.5", "no.such=always",
        "=always", "store.skip_sync=always,store.skip_sync=once"}) {
    auto faults = FaultPoints::Parse(spec, kKnown);
    EXPECT_EQ(faults.status().code(), StatusCode::kInvalidArgument) << spec;
    EXPECT_NE(faults.status().message().find("fault '"), std::string::npos) << faults.status().ToString();
  }
}

}  // namespace
}  // namespace tarn::fault
