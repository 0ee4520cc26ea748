#include "chunkserver/service/write_budget.h"

#include <gtest/gtest.h>

#include <utility>

namespace tarn::chunk {
namespace {

TEST(WriteBudget, AdmitsUpToItsBoundAndGetsItBack) {
  WriteBudget budget(100);
  auto first = budget.Admit(60);
  auto second = budget.Admit(40);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(budget.Admit(1), nullptr);
  EXPECT_EQ(budget.bytes(), 100u) << "a refusal holds nothing";
  first.reset();
  EXPECT_EQ(budget.Admit(61), nullptr);
  EXPECT_NE(budget.Admit(60), nullptr);
  second.reset();
  EXPECT_EQ(budget.bytes(), 0u);
}

}  // namespace
}  // namespace tarn::chunk
