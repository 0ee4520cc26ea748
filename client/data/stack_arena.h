// Messages of the hot paths are built in a block on the stack. Internal to the chunk client.
#pragma once

#include <google/protobuf/arena.h>

namespace tarn::client {

class StackArena {
 public:
  StackArena() : arena_(OptionsFor(block_, sizeof block_)) {}
  StackArena(const StackArena&) = delete;
  StackArena& operator=(const StackArena&) = delete;

  template <typename Message>
  Message* Make() {
    return google::protobuf::Arena::CreateMessage<Message>(&arena_);
  }

 private:
  static google::protobuf::ArenaOptions OptionsFor(char* block, size_t bytes) {
    google::protobuf::ArenaOptions options;
    options.initial_block = block;
    options.initial_block_size = bytes;
    return options;
  }

  alignas(8) char block_[1024];
  google::protobuf::Arena arena_;
};

}  // namespace tarn::client
