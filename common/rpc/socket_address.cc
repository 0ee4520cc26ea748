#include "common/rpc/socket_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

namespace tarn::rpc {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr int kListenBacklog = 1024;
// Room for a few of the largest usual answers; with the system's default the two ends take turns within one of them.
constexpr int kUnixSendBufferBytes = 2 << 20;
constexpr int kKeepAliveIdleSeconds = 30;
constexpr int kKeepAliveIntervalSeconds = 10;
constexpr int kKeepAliveProbes = 3;

Status BadAddress(std::string_view text) {
  return Status(StatusCode::kInvalidArgument,
                "address '" + std::string(text) + "' is neither HOST:PORT nor unix:/PATH");
}

bool IsPort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size();
}

Result<std::vector<SocketAddress>> UnixAddress(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof(name.sun_path)) {
    return Status(StatusCode::kNameTooLong,
                  "socket path " + path + " is longer than " + std::to_string(sizeof(name.sun_path) - 1) + " bytes");
  }
  std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
  SocketAddress address;
  std::memcpy(&address.storage, &name, sizeof(name));
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return std::vector<SocketAddress>{address};
}

Result<std::vector<SocketAddress>> Resolve(const Endpoint& endpoint, int flags) {
  if (endpoint.is_unix) return UnixAddress(endpoint.host);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &list);
  if (error != 0) {
    const StatusCode code =
        error == EAI_NONAME && (flags & AI_NUMERICHOST) != 0 ? StatusCode::kNotFound : StatusCode::kUnavailable;
    return Status(code, "resolve " + endpoint.host + ": " + gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, &freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* info = list; info != nullptr; info = info->ai_next) {
    SocketAddress address;
    std::memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
    address.length = info->ai_addrlen;
    addresses.push_back(address);
  }
  return addresses;
}

// BBR, the default of some distributions and clouds, paces every connection by timers, which inside a cluster only
// costs: over loopback it takes 1.5 times the CPU of cubic with sendfile (BM_Read of frame_bench.cc). Other choices of
// the administrator stay.
void AvoidPacing(int fd) {
  std::array<char, 16> name{};
  socklen_t length = name.size() - 1;
  if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &length) != 0 || std::string_view(name.data()) != "bbr")
    return;
  // Without CAP_NET_ADMIN only the algorithms allowed by the administrator can be had: then it stays as it is.
  constexpr std::string_view kUnpaced = "cubic";
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kUnpaced.data(), kUnpaced.size());
}

// True if a server accepts on it. False removes nothing by itself.
bool SomebodyListens(const SocketAddress& address) {
  const UniqueFd probe(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int result = connect(probe.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length);
  // EAGAIN: its backlog is full, so it lives.
  return result == 0 || errno != ECONNREFUSED;
}

bool IsUnixSocket(int fd) {
  int domain = 0;
  socklen_t length = sizeof(domain);
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

using NameCall = int (*)(int, sockaddr*, socklen_t*);

std::string AddressFrom(NameCall call, int fd) {
  SocketAddress address;
  address.length = sizeof(address.storage);
  if (call(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) return {};
  return address.ToString();
}

}  // namespace

Result<Endpoint> ParseEndpoint(std::string_view text) {
  if (text.starts_with(kUnixPrefix)) {
    const std::string_view path = text.substr(kUnixPrefix.size());
    if (path.empty()) return BadAddress(text);
    return Endpoint{.is_unix = true, .host = std::string(path), .port = {}};
  }
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || !IsPort(text.substr(colon + 1))) return BadAddress(text);
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.empty() || (!bracketed && host.find(':') != std::string_view::npos)) return BadAddress(text);
  return Endpoint{.is_unix = false, .host = std::string(host), .port = std::string(text.substr(colon + 1))};
}

std::string SocketAddress::ToString() const {
  if (length < sizeof(sa_family_t)) return {};
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (storage.ss_family == AF_INET) {
    const auto* name = reinterpret_cast<const sockaddr_in*>(&storage);
    inet_ntop(AF_INET, &name->sin_addr, text.data(), text.size());
    return std::string(text.data()) + ":" + std::to_string(ntohs(name->sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto* name = reinterpret_cast<const sockaddr_in6*>(&storage);
    inet_ntop(AF_INET6, &name->sin6_addr, text.data(), text.size());
    return "[" + std::string(text.data()) + "]:" + std::to_string(ntohs(name->sin6_port));
  }
  if (storage.ss_family == AF_UNIX) {
    const auto* name = reinterpret_cast<const sockaddr_un*>(&storage);
    const size_t path_bytes = length > offsetof(sockaddr_un, sun_path) ? length - offsetof(sockaddr_un, sun_path) : 0;
    // An abstract name (unix(7)), which ParseEndpoint does not read: nobody configures one.
    if (path_bytes > 1 && name->sun_path[0] == '\0')
      return std::string(kUnixPrefix) + "@" + std::string(name->sun_path + 1, path_bytes - 1);
    return std::string(kUnixPrefix) + std::string(name->sun_path, strnlen(name->sun_path, path_bytes));
  }
  return {};
}

Result<std::vector<SocketAddress>> ResolveNumeric(const Endpoint& endpoint) {
  return Resolve(endpoint, AI_NUMERICHOST);
}

Result<std::vector<SocketAddress>> ResolveBlocking(const Endpoint& endpoint) { return Resolve(endpoint, 0); }

Result<UniqueFd> OpenStreamSocket(const SocketAddress& address) {
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Status::FromErrno(errno, "socket");
  SetConnectionOptions(fd.get());
  return fd;
}

void SetConnectionOptions(int fd) {
  const auto set = [fd](int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
  };
  // Nothing but the buffer applies to a Unix socket; TCP sizes its own by itself. Past the system's limit only with
  // CAP_NET_ADMIN.
  if (IsUnixSocket(fd)) {
    if (!set(SOL_SOCKET, SO_SNDBUFFORCE, kUnixSendBufferBytes)) set(SOL_SOCKET, SO_SNDBUF, kUnixSendBufferBytes);
    return;
  }
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
  set(IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
  SetUnacknowledgedMax(fd, kUnacknowledgedMsMax);
  AvoidPacing(fd);
}

void SetUnacknowledgedMax(int fd, int64_t milliseconds) {
  if (IsUnixSocket(fd)) return;
  const auto value = static_cast<unsigned>(milliseconds);
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof(value));
}

Result<UniqueFd> ListenOn(const SocketAddress& address) {
  const std::string text = address.ToString();
  const bool is_file = address.storage.ss_family == AF_UNIX && !text.starts_with("unix:@");
  if (is_file && !SomebodyListens(address)) unlink(text.substr(kUnixPrefix.size()).c_str());
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Status::FromErrno(errno, "socket");
  // A restarted server takes its port at once, although connections of its predecessor are in TIME_WAIT.
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0 ||
      listen(fd.get(), kListenBacklog) != 0) {
    if (errno == EADDRINUSE) return Status(StatusCode::kBusy, "address " + text + " is in use by another process");
    return Status::FromErrno(errno, "listen on " + text);
  }
  return fd;
}

std::string LocalAddressOf(int fd) { return AddressFrom(&getsockname, fd); }

std::string PeerAddressOf(int fd) { return AddressFrom(&getpeername, fd); }

}  // namespace tarn::rpc
