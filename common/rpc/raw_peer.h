// Either end of a connection played by hand, byte by byte: for tests of what the other end makes of it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/unique_fd.h"
#include "common/rpc/frame.h"
#include "common/rpc/socket_address.h"
#include "proto/hello.pb.h"
#include "proto/types.pb.h"

namespace tarn::rpc {

// A blocking socket, and frames by hand.
class RawPeer {
 public:
  explicit RawPeer(UniqueFd fd) : fd_(std::move(fd)) {}
  // Connects.
  explicit RawPeer(const std::string& address) {
    const auto addresses = ResolveNumeric(*ParseEndpoint(address));
    const SocketAddress& first = addresses->front();
    fd_ = UniqueFd(socket(first.storage.ss_family, SOCK_STREAM, 0));
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<const sockaddr*>(&first.storage), first.length), 0);
  }

  // False once the other end has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  bool SendFrame(FrameHeader header, const std::string& message, const std::string& payload = "") {
    header.message_bytes = static_cast<uint32_t>(message.size());
    header.payload_bytes = static_cast<uint32_t>(payload.size());
    const auto bytes = EncodeFrameHeader(header);
    return Send(std::string(bytes.begin(), bytes.end()) + message + payload);
  }
  // As a client.
  bool SayHello() {
    proto::HelloRequest hello;
    hello.set_protocol_version(1);
    hello.set_protocol_version_min(1);
    return SendFrame({.kind = FrameKind::kRequest, .method = Method::kHello, .request_id = 0}, hello.SerializeAsString()) &&
           ReceiveStatus() == StatusCode::kOk;
  }
  // As a server.
  bool AnswerHello() {
    const auto hello = ReceiveFrame();
    proto::HelloReply reply;
    reply.set_protocol_version(1);
    return hello.has_value() && hello->method == Method::kHello &&
           SendFrame({.kind = FrameKind::kReply, .method = Method::kHello, .request_id = hello->request_id}, reply.SerializeAsString());
  }
  // The next frame; nullopt if the other end has closed.
  std::optional<FrameHeader> ReceiveFrame() {
    std::array<uint8_t, kFrameHeaderBytes> bytes{};
    if (!Receive(bytes.data(), bytes.size())) return std::nullopt;
    const auto header = DecodeFrameHeader(bytes);
    EXPECT_TRUE(header.ok()) << header.status().ToString();
    message_.resize(header->message_bytes);
    payload_.resize(header->payload_bytes);
    if (!Receive(message_.data(), message_.size()) || !Receive(payload_.data(), payload_.size())) return std::nullopt;
    return *header;
  }
  // The status of the next frame.
  std::optional<StatusCode> ReceiveStatus() {
    const auto header = ReceiveFrame();
    return header.has_value() ? std::optional(header->status) : std::nullopt;
  }
  const std::string& payload() const { return payload_; }
  std::string detail() const {
    proto::ErrorDetail detail;
    EXPECT_TRUE(detail.ParseFromString(message_));
    return detail.message();
  }
  bool IsClosed() {
    char byte = 0;
    return !Receive(&byte, 1);
  }
  void EndSending() { shutdown(fd_.get(), SHUT_WR); }

 private:
  bool Receive(void* bytes, size_t size) { return size == 0 || recv(fd_.get(), bytes, size, MSG_WAITALL) == static_cast<ssize_t>(size); }

  UniqueFd fd_;
  std::string message_;  // of the frame received last
  std::string payload_;
};

// Listens on loopback.
class RawListener {
 public:
  RawListener() : fd_(std::move(*ListenOn(ResolveNumeric(*ParseEndpoint("127.0.0.1:0"))->front()))) {
    // Accept() waits.
    EXPECT_EQ(fcntl(fd_.get(), F_SETFL, 0), 0);
  }
  std::string address() const { return LocalAddressOf(fd_.get()); }
  RawPeer Accept() { return RawPeer(UniqueFd(accept(fd_.get(), nullptr, nullptr))); }

 private:
  const UniqueFd fd_;
};

}  // namespace tarn::rpc
