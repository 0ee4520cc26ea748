#include "common/rpc/frame_server.h"

#include <google/protobuf/message_lite.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "common/rpc/event_loop.h"
#include "common/rpc/local_socket.h"
#include "common/rpc/server_connection.h"
#include "common/rpc/socket_address.h"

namespace tarn::rpc {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
// Of unused memory in a server's own pool.
constexpr size_t kPooledBytesMax = 64 << 20;
// When descriptors run out, accepting is tried again after this.
constexpr int64_t kAcceptPauseMs = 100;

class SocketFrameServer final : public FrameServer {
 public:
  SocketFrameServer(const FrameServerOptions& options, HelloHandler hello, RequestHandler handler) {
    context_.options = options;
    if (context_.options.buffers == nullptr) context_.options.buffers = BufferPool::Create(kPooledBytesMax);
    context_.hello = std::move(hello);
    context_.handler = std::move(handler);
  }
  ~SocketFrameServer() override;

  Status Listen();

  const std::string& address() const override { return address_; }
  uint32_t connection_count() const override { return context_.connection_count; }

 private:
  struct Worker {
    // Loop thread only.
    std::unordered_map<ServerConnection*, std::shared_ptr<ServerConnection>> connections;
    std::unique_ptr<EventLoop> loop;
  };

  // On the first worker's loop.
  void WatchListeners();
  void StopListening();
  void Accept(int listener);
  void Deal(UniqueFd fd);

  static void RunAndWait(EventLoop* loop, const std::function<void()>& task);

  ServerContext context_;
  std::string address_;
  // The first worker's loop only, once it runs.
  std::vector<UniqueFd> listeners_;
  size_t next_worker_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
};

SocketFrameServer::~SocketFrameServer() {
  if (!workers_.empty()) {
    EventLoop* const first = workers_.front()->loop.get();
    RunAndWait(first, [this] {
      StopListening();
      listeners_.clear();
    });
  }
  if (address_.starts_with(kUnixPrefix)) unlink(address_.substr(kUnixPrefix.size()).c_str());
  // Each connection lets go of its loop before the loop ends: responders held elsewhere may be answering just now.
  for (const auto& worker : workers_) {
    RunAndWait(worker->loop.get(), [&worker] {
      const auto connections = std::exchange(worker->connections, {});
      for (const auto& [raw, connection] : connections) connection->Close();
    });
  }
  for (const auto& worker : workers_) worker->loop.reset();
}

void SocketFrameServer::RunAndWait(EventLoop* loop, const std::function<void()>& task) {
  // Shared, so that it lives until set_value has returned there.
  const auto done = std::make_shared<std::promise<void>>();
  loop->Post([&task, done] {
    task();
    done->set_value();
  });
  done->get_future().wait();
}

Status SocketFrameServer::Listen() {
  ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(context_.options.listen));
  ASSIGN_OR_RETURN(const std::vector<SocketAddress> addresses, ResolveBlocking(endpoint));
  ASSIGN_OR_RETURN(UniqueFd listener, ListenOn(addresses.front()));
  address_ = LocalAddressOf(listener.get());
  if (context_.options.offers_local_sockets) listeners_ = ListenOnLocalNames(listener.get());
  listeners_.push_back(std::move(listener));
  for (uint32_t i = 0; i < std::max(1u, context_.options.loop_threads); ++i) {
    auto worker = std::make_unique<Worker>();
    ASSIGN_OR_RETURN(worker->loop, EventLoop::Start(context_.options.thread_name));
    workers_.push_back(std::move(worker));
  }
  workers_.front()->loop->Post([this] { WatchListeners(); });
  return Status::Ok();
}

void SocketFrameServer::WatchListeners() {
  for (const UniqueFd& listener : listeners_) {
    const Status watched =
        workers_.front()->loop->Watch(listener.get(), EPOLLIN, [this, fd = listener.get()](uint32_t) { Accept(fd); });
    CHECK(watched.ok(), watched.ToString());
  }
}

void SocketFrameServer::StopListening() {
  for (const UniqueFd& listener : listeners_) workers_.front()->loop->Unwatch(listener.get());
}

void SocketFrameServer::Accept(int listener) {
  while (true) {
    UniqueFd fd(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.valid()) {
      Deal(std::move(fd));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN) return;
    // Out of descriptors or memory: the connection stays in the backlog, which would wake the loop at once again.
    StopListening();
    workers_.front()->loop->PostAfter(kAcceptPauseMs, [this] { WatchListeners(); });
    return;
  }
}

void SocketFrameServer::Deal(UniqueFd fd) {
  // Refused by closing it: a client that is one too many must not cost a descriptor.
  if (context_.connection_count >= context_.options.connections_max) return;
  ++context_.connection_count;
  SetConnectionOptions(fd.get());
  Worker* const worker = workers_[next_worker_++ % workers_.size()].get();
  std::string peer = PeerAddressOf(fd.get());
  auto connection = std::make_shared<ServerConnection>(&context_, worker->loop.get(), std::move(peer));
  worker->loop->Post([this, worker, connection, shared_fd = std::make_shared<UniqueFd>(std::move(fd))] {
    worker->connections.emplace(connection.get(), connection);
    connection->Open(std::move(*shared_fd), [this, worker](ServerConnection* closed) {
      --context_.connection_count;
      worker->connections.erase(closed);
    });
  });
}

}  // namespace

Result<std::unique_ptr<FrameServer>> FrameServer::Start(const FrameServerOptions& options, HelloHandler hello,
                                                        RequestHandler handler) {
  auto server = std::make_unique<SocketFrameServer>(options, std::move(hello), std::move(handler));
  RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<FrameServer>(std::move(server));
}

Status ParseRequest(const Request& request, google::protobuf::MessageLite* message) {
  if (!message->ParseFromArray(request.message.data(), static_cast<int>(request.message.size()))) {
    return Status(StatusCode::kInvalidArgument, "the request is no " + message->GetTypeName());
  }
  return Status::Ok();
}

}  // namespace tarn::rpc
