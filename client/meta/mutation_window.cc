#include "client/meta/mutation_window.h"

namespace tarn::client {

uint64_t MutationWindow::Issue() {
  done_.push_back(false);
  ++in_flight_;
  return acked_through_ + done_.size();
}

void MutationWindow::Done(uint64_t sequence) {
  if (sequence <= acked_through_ || sequence > acked_through_ + done_.size()) return;
  const uint64_t index = sequence - acked_through_ - 1;
  if (done_[index]) return;
  done_[index] = true;
  --in_flight_;
  while (!done_.empty() && done_.front()) {
    done_.pop_front();
    ++acked_through_;
  }
}

}  // namespace tarn::client
