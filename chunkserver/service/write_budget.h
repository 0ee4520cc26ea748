// How many bytes of writes a server holds at a time, over all its connections: each connection bounds only its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace tarn::chunk {

// Thread-safe. Outlives what it admitted.
class WriteBudget {
 public:
  explicit WriteBudget(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  WriteBudget(const WriteBudget&) = delete;
  WriteBudget& operator=(const WriteBudget&) = delete;

  // Holds its bytes until it is destroyed.
  class Share {
   public:
    Share(WriteBudget* budget, uint64_t bytes) : budget_(budget), bytes_(bytes) {}
    ~Share() { budget_->bytes_.fetch_sub(bytes_, std::memory_order_relaxed); }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

   private:
    WriteBudget* const budget_;
    const uint64_t bytes_;
  };

  // Null: too much is held already; the sender should try again later.
  std::unique_ptr<Share> Admit(uint64_t bytes) {
    if (bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes > bytes_max_) {
      bytes_.fetch_sub(bytes, std::memory_order_relaxed);
      return nullptr;
    }
    return std::make_unique<Share>(this, bytes);
  }

  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  const uint64_t bytes_max_;
  std::atomic<uint64_t> bytes_{0};
};

}  // namespace tarn::chunk
