// Rates of metadata operations of the client library: many sessions at once, each with one operation under way, each in a
// directory of its own. No kernel and no mount in between, so what is measured is client library, network, metadata
// servers and their disks. Phases in this order: create, stat, ls, rename, unlink; a stat is a look-up by name that no
// cache answers.
//
// With --work readers or --work caching-readers instead: all sessions look up the same files in one directory (made by a
// session of its own), each session every file once. Phases: first (the server answers, and remembers which caching
// session knows it), again (what a session caches is answered from its memory).
//
// Prints one JSON object per phase: {"phase": ..., "operations_per_second": ..., "seconds": ..., "operations": ...}; of an
// ls, an operation is an entry.

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <latch>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "bench/command_line.h"
#include "client/blocking.h"
#include "client/filesystem.h"
#include "common/base/clock.h"
#include "common/rpc/event_loop.h"

namespace tarn::bench {
namespace {

using client::Attributes;
using client::Filesystem;
using client::StatusCallback;

constexpr uint32_t kListEntriesMax = 1'000;

void Die(const std::string& what, const Status& status) {
  std::fprintf(stderr, "%s: %s\n", what.c_str(), status.message().c_str());
  std::_Exit(1);
}

void PrintPhase(const char* name, int64_t operations, int64_t took_ns) {
  const double seconds = static_cast<double>(took_ns) / 1e9;
  std::printf("{\"phase\": \"%s\", \"operations_per_second\": %.1f, \"seconds\": %.5f, \"operations\": %lld}\n", name,
              static_cast<double>(operations) / seconds, seconds, static_cast<long long>(operations));
  std::fflush(stdout);
}

// One session and its chain of operations: each answer begins the next one, on the loop's thread.
class Session {
 public:
  // In a new directory of this name.
  Session(const client::FilesystemOptions& options, const std::string& directory) {
    Open(options);
    const Result<Attributes> made =
        client::Wait<Attributes>([&](auto done) { filesystem_->MakeDirectory(filesystem_->root(), directory, 0755, {}, std::move(done)); });
    if (!made.ok()) Die("mkdir " + directory, made.status());
    name_ = directory;
    directory_ = made->inode;
  }
  // In a directory that is there.
  Session(const client::FilesystemOptions& options, InodeId directory) : directory_(directory) { Open(options); }
  InodeId directory() const { return directory_; }

  using Operation = void (Session::*)(int64_t index, StatusCallback done);
  void Create(int64_t index, StatusCallback done) {
    filesystem_->MakeNode(directory_, Name("a", index), client::FileType::kRegular, 0644, 0, {}, DropValue(std::move(done)));
  }
  void Stat(int64_t index, StatusCallback done) { filesystem_->Lookup(directory_, Name("a", index), DropValue(std::move(done))); }
  void Rename(int64_t index, StatusCallback done) {
    filesystem_->Rename(directory_, Name("a", index), directory_, Name("b", index), {}, {}, std::move(done));
  }
  void Unlink(int64_t index, StatusCallback done) { filesystem_->Unlink(directory_, Name("b", index), {}, std::move(done)); }

  void Run(Operation operation, int64_t count, std::latch* ended) {
    operation_ = operation;
    left_ = count;
    count_ = count;
    ended_ = ended;
    Next();
  }
  // Counts what it finds.
  void List(std::atomic<int64_t>* entries, std::latch* ended) { ListFrom(0, entries, ended); }
  void RemoveDirectory() {
    const Status removed = client::WaitStatus([&](auto done) { filesystem_->RemoveDirectory(filesystem_->root(), name_, {}, std::move(done)); });
    if (!removed.ok()) Die("rmdir " + name_, removed);
  }

 private:
  void Open(const client::FilesystemOptions& options) {
    auto opened = Filesystem::Open(options);
    if (!opened.ok()) Die("open a session", opened.status());
    filesystem_ = std::move(*opened);
  }
  static std::string Name(const char* prefix, int64_t index) { return prefix + std::to_string(index); }
  static client::Callback<Attributes> DropValue(StatusCallback done) {
    return [done = std::move(done)](const Result<Attributes>& result) { done(result.ok() ? Status::Ok() : result.status()); };
  }

  void Next() {
    if (left_ == 0) return ended_->count_down();
    const int64_t index = count_ - left_--;
    (this->*operation_)(index, [this](const Status& status) {
      if (!status.ok()) Die("operation", status);
      Next();
    });
  }
  void ListFrom(uint64_t cookie, std::atomic<int64_t>* entries, std::latch* ended) {
    filesystem_->ReadDirectory(directory_, cookie, kListEntriesMax, false, [=, this](const Result<client::DirectoryPage>& page) {
      if (!page.ok()) Die("readdir", page.status());
      entries->fetch_add(static_cast<int64_t>(page->entries.size()));
      if (page->end || page->entries.empty()) return ended->count_down();
      ListFrom(page->entries.back().cookie, entries, ended);
    });
  }

  std::unique_ptr<Filesystem> filesystem_;
  std::string name_;
  InodeId directory_;
  Operation operation_ = nullptr;
  int64_t count_ = 0;
  int64_t left_ = 0;
  std::latch* ended_ = nullptr;
};

class Phases {
 public:
  Phases(std::vector<std::unique_ptr<Session>>* sessions, int64_t files) : sessions_(sessions), files_(files) {}

  void Run(const char* name, Session::Operation operation) {
    Measure(name, [&](std::latch* ended) {
      for (const auto& session : *sessions_) session->Run(operation, files_, ended);
    });
  }
  void List() {
    std::atomic<int64_t> entries = 0;
    Measure("ls", [&](std::latch* ended) {
      for (const auto& session : *sessions_) session->List(&entries, ended);
    });
    if (entries != Total()) {
      std::fprintf(stderr, "listed %lld entries, expected %lld\n", static_cast<long long>(entries.load()), static_cast<long long>(Total()));
      std::_Exit(1);
    }
  }

 private:
  int64_t Total() const { return files_ * static_cast<int64_t>(sessions_->size()); }
  void Measure(const char* name, const std::function<void(std::latch*)>& begin) {
    std::latch ended(static_cast<ptrdiff_t>(sessions_->size()));
    const int64_t started_ns = clock_.MonotonicNs();
    begin(&ended);
    ended.wait();
    PrintPhase(name, Total(), clock_.MonotonicNs() - started_ns);
  }

  std::vector<std::unique_ptr<Session>>* const sessions_;
  const int64_t files_;
  SystemClock clock_;
};

// What is measured when each session works in a directory of its own.
void MeasureOwnDirectories(const CommandLine& options, const client::FilesystemOptions& session_options) {
  std::vector<std::unique_ptr<Session>> sessions;
  for (int64_t i = 0; i < options.Number("sessions"); ++i) {
    sessions.push_back(std::make_unique<Session>(session_options, options.Text("prefix") + "-" + std::to_string(i)));
  }
  Phases phases(&sessions, options.Number("files-per-session"));
  phases.Run("create", &Session::Create);
  phases.Run("stat", &Session::Stat);
  phases.List();
  phases.Run("rename", &Session::Rename);
  phases.Run("unlink", &Session::Unlink);
  for (const auto& session : sessions) session->RemoveDirectory();
}

// What is measured when all sessions read one directory.
void MeasureReaders(const CommandLine& options, client::FilesystemOptions session_options) {
  const int64_t files = options.Number("files-per-session");
  std::vector<std::unique_ptr<Session>> maker;
  maker.push_back(std::make_unique<Session>(session_options, options.Text("prefix")));
  std::latch made(1);
  maker.front()->Run(&Session::Create, files, &made);
  made.wait();
  const InodeId directory = maker.front()->directory();
  maker.clear();
  session_options.cache_metadata = options.Text("work") == "caching-readers";
  std::vector<std::unique_ptr<Session>> sessions;
  const SystemClock clock;
  const int64_t started_ns = clock.MonotonicNs();
  for (int64_t i = 0; i < options.Number("sessions"); ++i) sessions.push_back(std::make_unique<Session>(session_options, directory));
  PrintPhase("open", options.Number("sessions"), clock.MonotonicNs() - started_ns);
  Phases phases(&sessions, files);
  phases.Run("first", &Session::Stat);
  phases.Run("again", &Session::Stat);
}

int Main(int argc, char** argv) {
  const CommandLine options(argc, argv, "tarn-bench-sessions --meta HOST:PORT[,...] [OPTION VALUE]...",
                            {{"meta", ""}, {"volume", "default"}, {"sessions", "1"}, {"files-per-session", "2000"}, {"prefix", "sessions"},
                             {"work", "own"}});
  if (options.Text("meta").empty()) {
    std::fprintf(stderr, "--meta is needed; see --help\n");
    return 2;
  }
  const std::string& work = options.Text("work");
  if (work != "own" && work != "readers" && work != "caching-readers") {
    std::fprintf(stderr, "--work is own, readers or caching-readers, not %s\n", work.c_str());
    return 2;
  }
  auto loop = rpc::EventLoop::Start("bench");
  if (!loop.ok()) Die("start", loop.status());
  client::FilesystemOptions session_options;
  std::istringstream addresses(options.Text("meta"));
  for (std::string address; std::getline(addresses, address, ',');) session_options.metaservers.push_back(address);
  session_options.volume = options.Text("volume");
  session_options.memory_limit_bytes = 64 << 20;
  session_options.loops = {loop->get()};
  if (work == "own") {
    MeasureOwnDirectories(options, session_options);
  } else {
    MeasureReaders(options, session_options);
  }
  return 0;
}

}  // namespace
}  // namespace tarn::bench

int main(int argc, char** argv) { return tarn::bench::Main(argc, argv); }
