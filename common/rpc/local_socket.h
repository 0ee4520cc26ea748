// The short way between two processes of one machine: a server that listens on IP-ADDRESS:PORT also listens on an
// abstract Unix socket named after it, and a client tries that name before it connects by TCP.
//
// Why: TCP over loopback costs 1.05 to 1.9 times the CPU of a Unix socket (common/rpc/frame_bench.cc; most for large
// answers from files), and on a node that holds both a copy and its reader that CPU is the training job's. Abstract
// names belong to a network namespace, as addresses do, and vanish with the process. There the name can be taken by any
// user: so a client goes on by it only if the listener runs as root or as the client's user.
#pragma once

#include <optional>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/rpc/socket_address.h"

namespace tarn::rpc {

// nullopt for what has no such name: Unix sockets, "any" addresses.
std::optional<SocketAddress> LocalNameOf(const SocketAddress& address);

// Listens on the names of the address that `listener` is bound to; if that is "any", of all the addresses this machine
// has now. Names that are taken are left out: TCP serves as well.
std::vector<UniqueFd> ListenOnLocalNames(int listener);

// A connection (non-blocking, close-on-exec) by the name of `address`; invalid if nobody who may be trusted with it
// listens there. Does not block.
UniqueFd ConnectByLocalName(const SocketAddress& address);

}  // namespace tarn::rpc
