// The way from the data plane to the metadata half, which can be shut: requests to chunk servers end on their own
// threads, and none may call the metadata half once the data plane is gone. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

#include "client/data/data_plane.h"

namespace tarn::client {

class MetadataGate {
 public:
  explicit MetadataGate(MetadataForData* metadata) : metadata_(metadata) {}
  MetadataGate(const MetadataGate&) = delete;
  MetadataGate& operator=(const MetadataGate&) = delete;

  // A passage through the gate; false if it is shut. Short-lived: it covers the call, not the answer.
  class Use {
   public:
    explicit Use(MetadataGate& gate) : gate_(gate), open_((gate.state_.fetch_add(1) & kShut) == 0) {}
    ~Use() {
      if ((gate_.state_.fetch_sub(1) & kShut) != 0) gate_.state_.notify_all();
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    explicit operator bool() const { return open_; }
    MetadataForData* operator->() const { return gate_.metadata_; }

   private:
    MetadataGate& gate_;
    const bool open_;
  };

  // Returns when nobody is passing. Not to be called from within a passage.
  void Shut() {
    uint64_t state = state_.fetch_or(kShut) | kShut;
    while (state != kShut) {
      state_.wait(state);
      state = state_.load();
    }
  }

 private:
  static constexpr uint64_t kShut = uint64_t{1} << 63;

  MetadataForData* const metadata_;
  std::atomic<uint64_t> state_{0};
};

}  // namespace tarn::client
