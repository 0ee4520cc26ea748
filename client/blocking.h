// Waits for the answer of an asynchronous call: for tools and tests, never on an event-loop thread.
//
//   Result<Attributes> found = Wait<Attributes>([&](auto done) { filesystem.Lookup(parent, name, std::move(done)); });
//   Status flushed = WaitStatus([&](auto done) { filesystem.Flush(handle, std::move(done)); });
// Thread-safe (no state). No time-out of its own: the library's calls end by their retry deadline.
#pragma once

#include <future>
#include <memory>
#include <utility>

#include "client/types.h"

namespace tarn::client {

// `start` takes a Callback<T>.
template <typename T, typename Start>
Result<T> Wait(Start&& start) {
  // Shared with the callback: the promise outlives this frame's interest until set_value has returned.
  auto promise = std::make_shared<std::promise<Result<T>>>();
  std::future<Result<T>> answer = promise->get_future();
  std::forward<Start>(start)(Callback<T>([promise](Result<T> result) { promise->set_value(std::move(result)); }));
  return answer.get();
}

// `start` takes a StatusCallback.
template <typename Start>
Status WaitStatus(Start&& start) {
  auto promise = std::make_shared<std::promise<Status>>();
  std::future<Status> answer = promise->get_future();
  std::forward<Start>(start)(StatusCallback([promise](Status status) { promise->set_value(std::move(status)); }));
  return answer.get();
}

}  // namespace tarn::client
