// Addresses of lean-frame servers: HOST:PORT, [IPV6]:PORT or unix:/PATH; and the sockets made from them, non-blocking and close-on-exec.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::rpc {

// A parsed address text.
struct Endpoint {
  bool is_unix = false;
  std::string host;  // or the path of a Unix socket
  std::string port;
};

// kInvalidArgument, naming the text, if it is none of the three forms.
Result<Endpoint> ParseEndpoint(std::string_view text);

// What connect(2) and bind(2) take. A value type.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  // The form that ParseEndpoint reads.
  std::string ToString() const;
};

// kNotFound if the host is a name (ask ResolveBlocking). Does not block.
Result<std::vector<SocketAddress>> ResolveNumeric(const Endpoint& endpoint);
// May ask name servers, for many seconds. kUnavailable with the resolver's reason.
Result<std::vector<SocketAddress>> ResolveBlocking(const Endpoint& endpoint);

// A stream socket for connect(2) to `address`, with the options of SetConnectionOptions.
Result<UniqueFd> OpenStreamSocket(const SocketAddress& address);
// No delay of small frames; keep-alive probes, so that an idle connection to a vanished peer ends within a minute; and one
// that is used, within kUnacknowledgedMsMax.
void SetConnectionOptions(int fd);

// Longer than a short loss of the network, or a peer that reads nothing because it has much to do.
inline constexpr int64_t kUnacknowledgedMsMax = 5'000;
// How long bytes that were sent (or the wish to connect) may go without a sign of the peer's kernel, or wait for room in its
// buffer, until the connection ends (tcp(7), TCP_USER_TIMEOUT). Without it TCP tries ever more seldom: a network that was cut
// for half a minute would be mended for its connections half a minute after it was. Nothing for a Unix socket.
void SetUnacknowledgedMax(int fd, int64_t milliseconds);

// Binds and listens. kBusy naming the address if it is taken. A Unix socket file that nobody listens on is replaced.
Result<UniqueFd> ListenOn(const SocketAddress& address);

// The socket's own address and the other end's; empty if the kernel gives none.
std::string LocalAddressOf(int fd);
std::string PeerAddressOf(int fd);

}  // namespace tarn::rpc
