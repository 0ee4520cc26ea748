// The lock table against a naive model: for each byte of a short file, who has it and how.
#include "metaserver/state/lock_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <random>

namespace tarn::meta {
namespace {

LockOwner Owner(uint64_t number) { return {SessionId(1 + number % 2), number}; }
LockRequest Shared(uint64_t owner, uint64_t first, uint64_t last) {
  return {.owner = Owner(owner), .pid = 7, .exclusive = false, .first = first, .last = last};
}
LockRequest Exclusive(uint64_t owner, uint64_t first, uint64_t last) {
  LockRequest request = Shared(owner, first, last);
  request.exclusive = true;
  return request;
}

TEST(LockTable, UnlockingTheMiddleSplits) {
  LockTable table;
  table.Set(Exclusive(1, 10, 29));
  table.Clear(Owner(1), 15, 19);
  EXPECT_THAT(table.held(), testing::ElementsAre(Exclusive(1, 10, 14), Exclusive(1, 20, 29)));
  table.Clear(Owner(2), 0, kLockLastMax);
  EXPECT_EQ(table.size(), 2u);
  table.Clear(Owner(1), 0, kLockLastMax);
  EXPECT_TRUE(table.empty());
}

TEST(LockTable, TouchingRangesOfOneKindMerge) {
  LockTable table;
  table.Set(Shared(1, 0, 9));
  table.Set(Shared(1, 20, kLockLastMax));
  table.Set(Shared(2, 0, 9));
  table.Set(Shared(1, 10, 19));
  EXPECT_THAT(table.held(), testing::UnorderedElementsAre(Shared(1, 0, kLockLastMax), Shared(2, 0, 9)));
}

TEST(LockTable, AnotherKindReplacesThePartItCovers) {
  LockTable table;
  table.Set(Shared(1, 0, 29));
  table.Set(Exclusive(1, 10, 19));
  EXPECT_THAT(table.held(), testing::ElementsAre(Shared(1, 0, 9), Exclusive(1, 10, 19), Shared(1, 20, 29)));
  table.Set(Shared(1, 10, 19));
  EXPECT_THAT(table.held(), testing::ElementsAre(Shared(1, 0, 29)));
}

TEST(LockTable, ConflictsAreWithOtherOwnersOnly) {
  LockTable table;
  table.Set(Shared(1, 0, 9));
  table.Set(Shared(2, 5, 14));
  EXPECT_FALSE(table.HasConflict(Shared(3, 0, 20)));
  EXPECT_TRUE(table.HasConflict(Exclusive(3, 14, 20)));
  EXPECT_FALSE(table.HasConflict(Exclusive(3, 15, 20)));
  EXPECT_FALSE(table.HasConflict(Exclusive(1, 0, 4)));
  EXPECT_THAT(table.Conflicts(Exclusive(1, 0, 9)), testing::ElementsAre(Shared(2, 5, 14)));
}

TEST(LockTable, GrantsInTheOrderOfWaiting) {
  LockTable table;
  table.Set(Exclusive(1, 0, 9));
  table.AddWait({Sequence(5), Exclusive(2, 0, 9)});
  table.AddWait({Sequence(6), Shared(3, 0, 9)});
  table.AddWait({Sequence(7), Shared(4, 0, 4)});
  EXPECT_TRUE(table.GrantWaiting().empty());
  table.Clear(Owner(1), 0, 9);
  EXPECT_THAT(table.GrantWaiting(), testing::ElementsAre(LockWait{Sequence(5), Exclusive(2, 0, 9)}));
  table.Clear(Owner(2), 0, 9);
  EXPECT_EQ(table.GrantWaiting().size(), 2u);
  EXPECT_TRUE(table.waiting().empty());
}

// The grant takes an exclusive lock of its owner away: who waits for that comes too.
TEST(LockTable, AGrantThatDowngradesGrantsOthers) {
  LockTable table;
  table.Set(Exclusive(1, 0, 9));
  table.Set(Exclusive(2, 10, 19));
  table.AddWait({Sequence(1), Shared(3, 0, 9)});
  table.AddWait({Sequence(2), Shared(1, 0, 19)});
  table.Clear(Owner(2), 10, 19);
  EXPECT_EQ(table.GrantWaiting().size(), 2u);
}

TEST(LockTable, ASessionTakesItsLocksAndWaitsAlong) {
  LockTable table;
  table.Set(Shared(1, 0, 9));
  table.Set(Shared(2, 0, 9));
  table.AddWait({Sequence(1), Exclusive(2, 0, 9)});
  table.RemoveSession(Owner(2).session);
  EXPECT_THAT(table.held(), testing::ElementsAre(Shared(1, 0, 9)));
  EXPECT_TRUE(table.waiting().empty());
  EXPECT_FALSE(table.ConcernsSession(Owner(2).session));
}

TEST(LockTable, RecordHasItsGoldenBytes) {
  LockTable table;
  table.Set(Exclusive(1, 2, 3));
  table.AddWait({Sequence(5), Shared(2, 0, kLockLastMax)});
  const std::string expected(
      "\x0a\x1a\x09\x02\0\0\0\0\0\0\0\x11\x01\0\0\0\0\0\0\0\x18\x07\x20\x01\x28\x02\x30\x03"
      "\x12\x29\x09\x05\0\0\0\0\0\0\0\x12\x1e\x09\x01\0\0\0\0\0\0\0\x11\x02\0\0\0\0\0\0\0\x18\x07"
      "\x30\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
      71);
  EXPECT_EQ(table.Encode(), expected);
  const auto decoded = LockTable::Decode(expected);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->held(), table.held());
  EXPECT_EQ(decoded->waiting(), table.waiting());
  EXPECT_EQ(LockTable::Decode("\xff").status().code(), StatusCode::kCorruption);
}

// What each byte's owners have, and nothing else.
class ByteModel {
 public:
  static constexpr uint64_t kFirstMax = 23;
  static constexpr uint64_t kBytes = 32;  // the last one stands for all that follow

  bool HasConflict(const LockRequest& request) const {
    for (uint64_t byte = request.first; byte <= std::min(request.last, kBytes - 1); ++byte) {
      for (const auto& [owner, exclusive] : bytes_[byte]) {
        if (owner != request.owner && (exclusive || request.exclusive)) return true;
      }
    }
    return false;
  }
  void Set(const LockRequest& request) {
    for (uint64_t byte = request.first; byte <= std::min(request.last, kBytes - 1); ++byte) {
      bytes_[byte][request.owner] = request.exclusive;
    }
  }
  void Clear(const LockOwner& owner, uint64_t first, uint64_t last) {
    for (uint64_t byte = first; byte <= std::min(last, kBytes - 1); ++byte) bytes_[byte].erase(owner);
  }
  void RemoveSession(SessionId session) {
    for (auto& byte : bytes_) std::erase_if(byte, [&](const auto& lock) { return lock.first.session == session; });
  }
  using Bytes = std::array<std::map<LockOwner, bool>, kBytes>;
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

ByteModel::Bytes Expand(const LockTable& table) {
  ByteModel::Bytes bytes;
  for (const LockRequest& lock : table.held()) {
    for (uint64_t byte = lock.first; byte <= std::min(lock.last, ByteModel::kBytes - 1); ++byte) {
      EXPECT_FALSE(bytes[byte].contains(lock.owner)) << "two locks of one owner on one byte";
      bytes[byte][lock.owner] = lock.exclusive;
    }
  }
  return bytes;
}

void ExpectMerged(const LockTable& table) {
  for (size_t i = 1; i < table.held().size(); ++i) {
    const LockRequest& before = table.held()[i - 1];
    const LockRequest& after = table.held()[i];
    if (before.owner != after.owner) continue;
    EXPECT_LT(before.last, after.first);
    EXPECT_FALSE(before.exclusive == after.exclusive && before.last + 1 == after.first) << "not merged";
  }
}

TEST(LockTableModel, AgreesWithEveryByte) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t bound) { return random() % bound; };
    LockTable table;
    ByteModel model;
    std::vector<LockWait> waits;  // of the model, in order
    uint64_t sequence = 0;
    const auto grant_in_model = [&] {
      size_t granted = 0;
      for (bool again = true; again;) {
        again = std::erase_if(waits, [&](const LockWait& wait) {
                  if (model.HasConflict(wait.request)) return false;
                  model.Set(wait.request);
                  ++granted;
                  return true;
                }) != 0;
      }
      return granted;
    };
    for (int step = 0; step < 400; ++step) {
      LockRequest request = below(2) == 0 ? Shared(below(5), 0, 0) : Exclusive(below(5), 0, 0);
      request.first = below(ByteModel::kFirstMax + 1);
      request.last = below(6) == 0 ? kLockLastMax : request.first + below(8);
      switch (below(8)) {
        case 0:
        case 1:
          table.Clear(request.owner, request.first, request.last);
          model.Clear(request.owner, request.first, request.last);
          break;
        case 2: {
          if (waits.empty()) break;
          const LockWait wait = waits[below(waits.size())];
          EXPECT_TRUE(table.RemoveWait(wait.request.owner.session, wait.sequence));
          std::erase(waits, wait);
          break;
        }
        case 3:
          if (below(10) != 0) break;
          table.RemoveSession(request.owner.session);
          model.RemoveSession(request.owner.session);
          std::erase_if(waits, [&](const LockWait& wait) { return wait.request.owner.session == request.owner.session; });
          break;
        default:
          ASSERT_EQ(table.HasConflict(request), model.HasConflict(request)) << "step " << step;
          if (!model.HasConflict(request)) {
            table.Set(request);
            model.Set(request);
          } else if (waits.size() < 6) {
            waits.push_back({Sequence(++sequence), request});
            table.AddWait(waits.back());
          }
      }
      ASSERT_EQ(table.GrantWaiting().size(), grant_in_model()) << "step " << step;
      ASSERT_EQ(table.waiting(), waits) << "step " << step;
      ASSERT_EQ(Expand(table), model.bytes()) << "step " << step;
      ExpectMerged(table);
      const auto decoded = LockTable::Decode(table.Encode());
      ASSERT_TRUE(decoded.ok());
      ASSERT_EQ(decoded->held(), table.held());
    }
  }
}

}  // namespace
}  // namespace tarn::meta
