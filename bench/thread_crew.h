#pragma once

// Runs the same work on several threads at once and measures how long all of them took together.

#include <functional>

namespace tarn::bench {

// Calls work(0) ... work(thread_count - 1), each on a thread of its own. The threads are started first and let go
// together, so that starting them is not measured. Returns the wall time in seconds from then until the last one ended.
// An exception thrown by `work` ends the program: a benchmark with failed operations has no result.
double RunCrew(int thread_count, const std::function<void(int)>& work);

}  // namespace tarn::bench
