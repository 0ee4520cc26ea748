// Threads with names, so that every thread of a process can be told apart in top, gdb and perf.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace tarn {

// Starts a thread named `name` (the kernel shows the first 15 bytes) with every signal blocked, so that signals go to main's thread.
// The caller owns and joins it. Ends the process if the kernel gives no thread.
std::thread StartNamedThread(const std::string& name, std::function<void()> body);

}  // namespace tarn
