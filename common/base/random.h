// Randomness comes by constructor, like time.
#pragma once

#include <cstdint>
#include <random>

namespace tarn {

// Thread-safe.
class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t Next() = 0;
  // Never 0: for ids, nonces and incarnations.
  uint64_t NextNonZero() {
    uint64_t value = Next();
    return value != 0 ? value : 1;
  }
};

// getrandom(2): unpredictable, good for tokens, incarnations and nonces.
class SystemRandom final : public Random {
 public:
  uint64_t Next() override;
};

// Repeatable. Thread-compatible.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : engine_(seed) {}
  uint64_t Next() override { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

}  // namespace tarn
