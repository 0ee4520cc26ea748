#include "common/rpc/local_socket.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

namespace tarn::rpc {
namespace {

constexpr std::string_view kNamePrefix = "tarn-frames/";

bool IsAny(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr);
}

in_port_t PortOf(const SocketAddress& address) {
  // sin_port and sin6_port lie at the same place.
  return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port;
}

// The addresses of this machine's interfaces of that family (of both if it is IPv6, whose "any" takes IPv4 connections
// too).
std::vector<SocketAddress> InterfaceAddresses(sa_family_t family, in_port_t port) {
  std::vector<SocketAddress> addresses;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return addresses;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, &freeifaddrs);
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    SocketAddress address;
    if (entry->ifa_addr->sa_family == AF_INET) {
      address.length = sizeof(sockaddr_in);
    } else if (entry->ifa_addr->sa_family == AF_INET6 && family == AF_INET6) {
      address.length = sizeof(sockaddr_in6);
    } else {
      continue;
    }
    std::memcpy(&address.storage, entry->ifa_addr, address.length);
    reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = port;
    addresses.push_back(address);
  }
  return addresses;
}

}  // namespace

std::optional<SocketAddress> LocalNameOf(const SocketAddress& address) {
  const sa_family_t family = address.storage.ss_family;
  if ((family != AF_INET && family != AF_INET6) || IsAny(address)) return std::nullopt;
  const std::string name = std::string(kNamePrefix) + address.ToString();
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  // An abstract name begins with a zero byte; its length says where it ends.
  static_assert(sizeof(local.sun_path) > 1 + kNamePrefix.size() + INET6_ADDRSTRLEN + sizeof("[]:65535"));
  std::memcpy(local.sun_path + 1, name.data(), name.size());
  SocketAddress result;
  std::memcpy(&result.storage, &local, sizeof(local));
  result.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return result;
}

std::vector<UniqueFd> ListenOnLocalNames(int listener) {
  std::vector<UniqueFd> listeners;
  SocketAddress bound;
  bound.length = sizeof(bound.storage);
  if (getsockname(listener, reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) != 0) return listeners;
  if (bound.storage.ss_family == AF_UNIX) return listeners;
  std::vector<SocketAddress> addresses = {bound};
  if (IsAny(bound)) addresses = InterfaceAddresses(bound.storage.ss_family, PortOf(bound));
  for (const SocketAddress& address : addresses) {
    const std::optional<SocketAddress> name = LocalNameOf(address);
    if (!name) continue;
    Result<UniqueFd> opened = ListenOn(*name);
    if (opened.ok()) listeners.push_back(std::move(*opened));
  }
  return listeners;
}

UniqueFd ConnectByLocalName(const SocketAddress& address) {
  const std::optional<SocketAddress> name = LocalNameOf(address);
  if (!name) return UniqueFd();
  Result<UniqueFd> fd = OpenStreamSocket(*name);
  if (!fd.ok()) return UniqueFd();
  // Done at once or not at all; a full backlog (EAGAIN) is not worth waiting for.
  if (connect(fd->get(), reinterpret_cast<const sockaddr*>(&name->storage), name->length) != 0) return UniqueFd();
  ucred listener{};
  socklen_t length = sizeof(listener);
  if (getsockopt(fd->get(), SOL_SOCKET, SO_PEERCRED, &listener, &length) != 0) return UniqueFd();
  if (listener.uid != 0 && listener.uid != geteuid()) return UniqueFd();
  return std::move(*fd);
}

}  // namespace tarn::rpc
