#include "common/rpc/event_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "common/base/unique_fd.h"

namespace tarn::rpc {
namespace {

std::unique_ptr<EventLoop> StartLoop() {
  auto loop = EventLoop::Start("loop");
  EXPECT_TRUE(loop.ok()) << loop.status().ToString();
  return std::move(*loop);
}

void RunOn(EventLoop& loop, const std::function<void()>& task) {
  std::promise<void> done;
  loop.Post([&] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

struct SocketPair {
  SocketPair() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    ours = UniqueFd(fds[0]);
    theirs = UniqueFd(fds[1]);
  }
  UniqueFd ours;
  UniqueFd theirs;
};

TEST(EventLoop, TasksRunInOrderOnItsThread) {
  const auto loop = StartLoop();
  EXPECT_FALSE(loop->InLoopThread());
  std::vector<int> order;
  for (int i = 0; i < 1000; ++i) {
    loop->Post([&, i] {
      EXPECT_TRUE(loop->InLoopThread());
      order.push_back(i);
    });
  }
  RunOn(*loop, [] {});
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(EventLoop, ManyThreadsPostWhileItSleepsAndWakes) {
  const auto loop = StartLoop();
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) loop->Post([&] { ++count; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  RunOn(*loop, [&] { EXPECT_EQ(count, 20'000); });
}

TEST(EventLoop, TimersFireInTheOrderOfTheirDeadlines) {
  const auto loop = StartLoop();
  std::vector<int> order;
  std::promise<void> done;
  // Far enough from the others that these are made in time on a busy machine.
  loop->PostAfter(300, [&] {
    order.push_back(300);
    done.set_value();
  });
  loop->Post([&] {
    loop->PostAfter(100, [&] { order.push_back(100); });
    loop->PostAfter(0, [&] { order.push_back(0); });
    loop->PostAfter(200, [&] { order.push_back(200); });
  });
  done.get_future().wait();
  EXPECT_THAT(order, testing::ElementsAre(0, 100, 200, 300));
}

TEST(EventLoop, DeferredTasksFollowThePostedOnesOfTheirTurn) {
  const auto loop = StartLoop();
  std::vector<std::string> order;
  std::promise<void> done;
  loop->Post([&] {
    loop->DeferToEndOfTurn([&] { order.push_back("deferred"); });
    order.push_back("task");
    loop->Post([&] {
      order.push_back("next turn");
      loop->DeferToEndOfTurn([&] { done.set_value(); });
    });
  });
  done.get_future().wait();
  EXPECT_THAT(order, testing::ElementsAre("task", "deferred", "next turn"));
}

TEST(EventLoop, DescriptorsAreWatchedUntilUnwatched) {
  const auto loop = StartLoop();
  const SocketPair sockets;
  std::promise<char> got;
  std::atomic<int> events = 0;
  RunOn(*loop, [&] {
    ASSERT_TRUE(loop->Watch(sockets.ours.get(), EPOLLIN,
                            [&](uint32_t) {
                              ++events;
                              char byte = 0;
                              EXPECT_EQ(read(sockets.ours.get(), &byte, 1), 1);
                              loop->Unwatch(sockets.ours.get());
                              got.set_value(byte);
                            })
                    .ok());
  });
  ASSERT_EQ(write(sockets.theirs.get(), "ab", 2), 2);
  EXPECT_EQ(got.get_future().get(), 'a');
  RunOn(*loop, [] {});
  EXPECT_EQ(events, 1);
}

TEST(EventLoop, AHandlerMayEndAnotherWhoseEventIsPending) {
  const auto loop = StartLoop();
  const SocketPair first;
  const SocketPair second;
  std::promise<void> called;
  int calls = 0;
  RunOn(*loop, [&] {
    const auto handler = [&](uint32_t) {
      // Whichever comes first: both are readable in the same turn.
      ++calls;
      loop->Unwatch(first.ours.get());
      loop->Unwatch(second.ours.get());
      called.set_value();
    };
    ASSERT_EQ(write(first.theirs.get(), "a", 1), 1);
    ASSERT_EQ(write(second.theirs.get(), "a", 1), 1);
    ASSERT_TRUE(loop->Watch(first.ours.get(), EPOLLIN, handler).ok());
    ASSERT_TRUE(loop->Watch(second.ours.get(), EPOLLIN, handler).ok());
  });
  called.get_future().wait();
  RunOn(*loop, [&] { EXPECT_EQ(calls, 1); });
}

TEST(EventLoop, BlockingTasksDoNotHoldItUp) {
  const auto loop = StartLoop();
  std::promise<void> release;
  std::promise<void> back;
  ASSERT_TRUE(loop->PostBlocking([&] {
                    EXPECT_FALSE(loop->InLoopThread());
                    release.get_future().wait();
                    loop->Post([&] { back.set_value(); });
                  })
                  .ok());
  RunOn(*loop, [] {});
  release.set_value();
  back.get_future().wait();
}

// Posts from its destructor, as objects that own answers do.
class PostsWhenDestroyed {
 public:
  PostsWhenDestroyed(EventLoop* loop, std::atomic<int>* destroyed) : loop_(loop), destroyed_(destroyed) {}
  ~PostsWhenDestroyed() {
    ++*destroyed_;
    loop_->Post([] {});
  }
  PostsWhenDestroyed(const PostsWhenDestroyed&) = delete;
  PostsWhenDestroyed& operator=(const PostsWhenDestroyed&) = delete;

 private:
  EventLoop* const loop_;
  std::atomic<int>* const destroyed_;
};

TEST(EventLoop, EndingItDestroysWhatItHolds) {
  std::atomic<int> destroyed = 0;
  const SocketPair sockets;
  auto loop = StartLoop();
  const auto make = [&] { return std::make_shared<PostsWhenDestroyed>(loop.get(), &destroyed); };
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  RunOn(*loop, [&] { ASSERT_TRUE(loop->Watch(sockets.ours.get(), EPOLLIN, [kept = make()](uint32_t) {}).ok()); });
  loop->PostAfter(3'600'000, [kept = make()] {});
  // The loop stands still here, mostly until its end has begun: then the next task is never run.
  loop->Post([released] { released.wait(); });
  loop->Post([kept = make()] {});
  std::thread releaser([&] { release.set_value(); });
  loop.reset();
  releaser.join();
  EXPECT_EQ(destroyed, 3);
}

}  // namespace
}  // namespace tarn::rpc
