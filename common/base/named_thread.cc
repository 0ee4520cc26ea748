#include "common/base/named_thread.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <utility>

#include "common/base/check.h"

namespace tarn {
namespace {

constexpr size_t kThreadNameBytesMax = 15;

}  // namespace

std::thread StartNamedThread(const std::string& name, std::function<void()> body) {
  // The new thread inherits the mask of the one that makes it: block here, restore after.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread(std::move(body));
  } catch (const std::system_error& error) {
    CheckFailed(__FILE__, __LINE__, "std::thread", "cannot start thread " + name + ": " + error.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread.native_handle(), name.substr(0, kThreadNameBytesMax).c_str());
  return thread;
}

}  // namespace tarn
