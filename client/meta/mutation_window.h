// The sequence numbers of one session's mutations: which were given out, and up to which all are done.
//
// The metadata server remembers the result of every mutation until `acked_through` passes it, so the window tells how
// much it has to remember. Pure; thread-compatible.
#pragma once

#include <cstdint>
#include <deque>

namespace tarn::client {

class MutationWindow {
 public:
  // The next number, rising from 1.
  uint64_t Issue();
  // The answer of `sequence` was received, or nobody will ask for it again (then a late copy of the mutation is refused
  // by the server, which is what a caller that gave up wants). Numbers not issued, or done before, are ignored.
  void Done(uint64_t sequence);
  // Every number up to this one is done.
  uint64_t acked_through() const { return acked_through_; }
  uint64_t in_flight() const { return in_flight_; }

 private:
  uint64_t acked_through_ = 0;
  uint64_t in_flight_ = 0;
  std::deque<bool> done_;  // of acked_through_ + 1 and on, as far as issued
};

}  // namespace tarn::client
