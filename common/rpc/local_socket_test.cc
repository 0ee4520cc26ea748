#include "common/rpc/local_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "common/rpc/frame_rpc_fixture.h"

namespace tarn::rpc {
namespace {

SocketAddress AddressOf(const std::string& text) { return ResolveNumeric(*ParseEndpoint(text))->front(); }

int DomainOf(int fd) {
  int domain = 0;
  socklen_t length = sizeof(domain);
  getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
  return domain;
}

TEST(LocalSocket, AddressesHaveNamesAndAnyHasNone) {
  EXPECT_EQ(LocalNameOf(AddressOf("127.0.0.1:7410"))->ToString(), "unix:@tarn-frames/127.0.0.1:7410");
  EXPECT_EQ(LocalNameOf(AddressOf("[::1]:7410"))->ToString(), "unix:@tarn-frames/[::1]:7410");
  EXPECT_FALSE(LocalNameOf(AddressOf("0.0.0.0:7410")).has_value());
  EXPECT_FALSE(LocalNameOf(AddressOf("[::]:7410")).has_value());
  EXPECT_FALSE(LocalNameOf(AddressOf("unix:/tmp/x")).has_value());
}

TEST(LocalSocket, NobodyListensUnderTheNameOfAPlainServer) {
  const Result<UniqueFd> listener = ListenOn(AddressOf("127.0.0.1:0"));
  ASSERT_TRUE(listener.ok());
  EXPECT_FALSE(ConnectByLocalName(AddressOf(LocalAddressOf(listener->get()))).valid());
}

TEST(LocalSocket, AServerOfAnyAddressIsFoundByEachOfThem) {
  const Result<UniqueFd> listener = ListenOn(AddressOf("0.0.0.0:0"));
  ASSERT_TRUE(listener.ok());
  const std::vector<UniqueFd> names = ListenOnLocalNames(listener->get());
  ASSERT_FALSE(names.empty());
  std::string address = LocalAddressOf(listener->get());
  address.replace(0, address.find(':'), "127.0.0.1");
  const UniqueFd connection = ConnectByLocalName(AddressOf(address));
  ASSERT_TRUE(connection.valid());
  EXPECT_EQ(DomainOf(connection.get()), AF_UNIX);
}

TEST_F(FrameRpc, AClientOfTheSameMachineTakesTheLocalSocket) {
  std::string peer;
  StartServer(FrameServerOptions{}, [&peer](Request request, std::unique_ptr<Responder> responder) {
    peer = request.peer->address();
    Echo(request, *responder);
  });
  ASSERT_TRUE(server_->address().starts_with("127.0.0.1:"));
  proto::LookupRequest reply;
  ASSERT_TRUE(Connect()->CallAndWait(Method::kLookup, Named("x"), &reply).ok());
  EXPECT_EQ(reply.name(), "x");
  EXPECT_TRUE(peer.starts_with("unix:")) << peer;
}

TEST_F(FrameRpc, WithoutALocalSocketTheClientTakesTcp) {
  std::string peer;
  StartServer([&peer](Request request, std::unique_ptr<Responder> responder) {
    peer = request.peer->address();
    Echo(request, *responder);
  });
  ASSERT_TRUE(Connect()->CallAndWait(Method::kLookup, Named("x"), nullptr).ok());
  EXPECT_TRUE(peer.starts_with("127.0.0.1:")) << peer;
}

// The name may be anybody's after the server has gone.
TEST_F(FrameRpc, ATakenNameLeavesTcpToTheServer) {
  const Result<UniqueFd> port = ListenOn(AddressOf("127.0.0.1:0"));
  ASSERT_TRUE(port.ok());
  const std::string address = LocalAddressOf(port->get());
  const std::vector<UniqueFd> squatter = ListenOnLocalNames(port->get());
  ASSERT_EQ(squatter.size(), 1u);
  EXPECT_TRUE(ListenOnLocalNames(port->get()).empty());
}

}  // namespace
}  // namespace tarn::rpc
