#include "common/rpc/socket_address.h"

#include <gtest/gtest.h>

namespace tarn::rpc {
namespace {

TEST(SocketAddress, ThreeFormsAreUnderstood) {
  const auto plain = ParseEndpoint("node-1.local:7400");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->host, "node-1.local");
  EXPECT_EQ(plain->port, "7400");
  const auto six = ParseEndpoint("[::1]:7400");
  ASSERT_TRUE(six.ok());
  EXPECT_EQ(six->host, "::1");
  const auto local = ParseEndpoint("unix:/run/tarn/socket");
  ASSERT_TRUE(local.ok());
  EXPECT_TRUE(local->is_unix);
  EXPECT_EQ(local->host, "/run/tarn/socket");
}

TEST(SocketAddress, OtherFormsAreRefused) {
  for (const char* text :
       {"", "host", "host:", ":7400", "host:port", "host:70000", "host:-1", "::1:7400", "unix:", "host:7400x"}) {
    EXPECT_EQ(ParseEndpoint(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(SocketAddress, NumericOnesNeedNoResolver) {
  for (const char* text : {"127.0.0.1:7400", "[::1]:7400", "unix:/tmp/x"}) {
    const auto addresses = ResolveNumeric(*ParseEndpoint(text));
    ASSERT_TRUE(addresses.ok()) << addresses.status().ToString();
    EXPECT_EQ(addresses->front().ToString(), text);
  }
  EXPECT_EQ(ResolveNumeric(*ParseEndpoint("localhost:1")).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(ResolveBlocking(*ParseEndpoint("localhost:1")).ok());
  EXPECT_EQ(ResolveNumeric(*ParseEndpoint("unix:/" + std::string(200, 'x'))).status().code(), StatusCode::kNameTooLong);
}

}  // namespace
}  // namespace tarn::rpc
