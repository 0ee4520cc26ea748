// A way to a server that can be cut silently, as by a switch that drops everything: connections stay open, new ones are
// taken, and nothing passes. When it is mended, what was sent meanwhile arrives, also from who has long hung up.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <list>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/mutex.h"
#include "common/base/unique_fd.h"
#include "common/rpc/socket_address.h"

namespace tarn::client {

// Thread-safe.
class NetworkCut {
 public:
  // To the server at this address.
  explicit NetworkCut(std::string server)
      : server_(std::move(server)),
        listener_(std::move(*rpc::ListenOn(rpc::ResolveNumeric(*rpc::ParseEndpoint("127.0.0.1:0"))->front()))),
        wake_(eventfd(0, EFD_CLOEXEC)),
        thread_([this] { Run(); }) {}
  ~NetworkCut() {
    ending_ = true;
    Wake();
    thread_.join();
  }
  NetworkCut(const NetworkCut&) = delete;
  NetworkCut& operator=(const NetworkCut&) = delete;

  std::string address() const { return rpc::LocalAddressOf(listener_.get()); }
  // What was sent before has passed, or passes only after Mend.
  void Cut() { Set(true); }
  void Mend() { Set(false); }

 private:
  struct Way {
    UniqueFd client;
    UniqueFd server;
  };

  void Set(bool cut) {
    MutexLock lock(mutex_);
    wanted_ = cut;
    Wake();
    while (is_cut_ != cut) changed_.Wait(lock);
  }
  void Wake() {
    const uint64_t one = 1;
    CHECK(write(wake_.get(), &one, sizeof(one)) == sizeof(one), "an eventfd takes a number");
  }
  bool IsCut() {
    MutexLock lock(mutex_);
    is_cut_ = wanted_;
    changed_.NotifyAll();
    return is_cut_;
  }

  void Run() {
    while (!ending_) {
      const bool cut = IsCut();
      std::vector<pollfd> waits = {{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      for (const Way& way : ways_) {
        waits.push_back({cut ? -1 : way.client.get(), POLLIN, 0});
        waits.push_back({cut || !way.server.valid() ? -1 : way.server.get(), POLLIN, 0});
      }
      poll(waits.data(), waits.size(), -1);
      if (waits[0].revents != 0) {
        uint64_t count = 0;
        (void)!read(wake_.get(), &count, sizeof(count));
      }
      size_t index = 2;
      for (auto way = ways_.begin(); way != ways_.end(); index += 2) {
        const bool open = (waits[index].revents == 0 || PassOn(*way, /*to_server=*/true)) &&
                          (waits[index + 1].revents == 0 || PassOn(*way, /*to_server=*/false));
        way = open ? std::next(way) : ways_.erase(way);
      }
      if (waits[1].revents != 0) ways_.push_back({UniqueFd(accept(listener_.get(), nullptr, nullptr)), UniqueFd()});
    }
  }

  // False: the way is over.
  bool PassOn(Way& way, bool to_server) {
    if (!way.server.valid() && !Connect(way)) return false;
    char bytes[65'536];
    const ssize_t got = recv((to_server ? way.client : way.server).get(), bytes, sizeof(bytes), 0);
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t more = send((to_server ? way.server : way.client).get(), bytes + sent,
                                static_cast<size_t>(got - sent), MSG_NOSIGNAL);
      // Who has hung up hears nothing, and is heard all the same.
      if (more <= 0) return !to_server;
      sent += more;
    }
    return got > 0;
  }
  bool Connect(Way& way) const {
    const auto resolved = rpc::ResolveNumeric(*rpc::ParseEndpoint(server_));
    const rpc::SocketAddress& address = resolved->front();
    way.server = UniqueFd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    setsockopt(way.server.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(way.client.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return connect(way.server.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) == 0;
  }

  const std::string server_;
  const UniqueFd listener_;
  const UniqueFd wake_;
  std::atomic<bool> ending_{false};

  Mutex mutex_;
  CondVar changed_;
  bool wanted_ GUARDED_BY(mutex_) = false;
  bool is_cut_ GUARDED_BY(mutex_) = false;

  // The thread's only.
  std::list<Way> ways_;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace tarn::client
