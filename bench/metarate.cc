// Rates of metadata operations on empty files. Each phase is one run of the program, so that the caller can drop caches
// or remount in between: create, stat, ls, rename, unlink, in this order.
//
// `--layout own` gives each thread a directory of its own, `--layout shared` puts all of them into one. An `ls` reads
// names only; in a shared directory one thread does it, since several would list the same.
//
// Prints one JSON object: {"operations_per_second": ..., "seconds": ..., "operations": ...}.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "bench/command_line.h"
#include "bench/thread_crew.h"

namespace tarn::bench {

namespace {

struct Layout {
  std::string root;
  bool shared;
  int threads;
  int64_t files_per_thread;
};

std::string DirectoryOf(const Layout& layout, int thread) {
  return layout.root + (layout.shared ? "/all" : "/thread" + std::to_string(thread));
}

// `prefix` tells names from before and after the rename phase apart.
std::string FileOf(const Layout& layout, const char* prefix, int thread, int64_t index) {
  return DirectoryOf(layout, thread) + "/" + prefix + std::to_string(thread) + "_" + std::to_string(index);
}

void MakeDirectories(const Layout& layout) {
  if (mkdir(layout.root.c_str(), 0755) != 0 && errno != EEXIST) DieOfErrno("mkdir", layout.root);
  for (int thread = 0; thread < layout.threads; ++thread) {
    const std::string path = DirectoryOf(layout, thread);
    if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) DieOfErrno("mkdir", path);
  }
}

void RemoveDirectories(const Layout& layout) {
  for (int thread = 0; thread < (layout.shared ? 1 : layout.threads); ++thread) {
    const std::string path = DirectoryOf(layout, thread);
    if (rmdir(path.c_str()) != 0) DieOfErrno("rmdir", path);
  }
}

void Create(const Layout& layout, int thread, int64_t index) {
  const std::string path = FileOf(layout, "a", thread, index);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) DieOfErrno("create", path);
  if (close(fd) != 0) DieOfErrno("close", path);
}

void Stat(const Layout& layout, int thread, int64_t index) {
  const std::string path = FileOf(layout, "a", thread, index);
  struct stat attributes = {};
  if (stat(path.c_str(), &attributes) != 0) DieOfErrno("stat", path);
}

void Rename(const Layout& layout, int thread, int64_t index) {
  const std::string from = FileOf(layout, "a", thread, index);
  if (rename(from.c_str(), FileOf(layout, "b", thread, index).c_str()) != 0) DieOfErrno("rename", from);
}

void Unlink(const Layout& layout, int thread, int64_t index) {
  const std::string path = FileOf(layout, "b", thread, index);
  if (unlink(path.c_str()) != 0) DieOfErrno("unlink", path);
}

int64_t CountEntries(const std::string& path) {
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) DieOfErrno("opendir", path);
  int64_t entries = 0;
  errno = 0;
  while (const dirent* entry = readdir(directory)) {
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) ++entries;
  }
  if (errno != 0) DieOfErrno("readdir", path);
  closedir(directory);
  return entries;
}

double List(const Layout& layout, int64_t expected_entries) {
  std::atomic<int64_t> entries = 0;
  const double seconds = RunCrew(layout.shared ? 1 : layout.threads,
                                 [&](int thread) { entries += CountEntries(DirectoryOf(layout, thread)); });
  if (entries != expected_entries) {
    std::fprintf(stderr, "%s: listed %lld entries, expected %lld\n", layout.root.c_str(),
                 static_cast<long long>(entries.load()), static_cast<long long>(expected_entries));
    std::_Exit(1);
  }
  return seconds;
}

using Operation = std::function<void(const Layout&, int, int64_t)>;

double RunOperation(const Layout& layout, const Operation& operation) {
  return RunCrew(layout.threads, [&](int thread) {
    for (int64_t index = 0; index < layout.files_per_thread; ++index) operation(layout, thread, index);
  });
}

int Main(int argc, char** argv) {
  const std::map<std::string, Operation> operations = {
      {"create", Create}, {"stat", Stat}, {"rename", Rename}, {"unlink", Unlink}};
  const CommandLine options(
      argc, argv, "tarn-bench-meta --dir DIRECTORY --phase create|stat|ls|rename|unlink [OPTION VALUE]...",
      {{"dir", ""}, {"phase", ""}, {"layout", "own"}, {"threads", "1"}, {"files-per-thread", "5000"}});
  const Layout layout = {options.Text("dir"), options.Text("layout") == "shared",
                         static_cast<int>(options.Number("threads")), options.Number("files-per-thread")};
  const std::string& phase = options.Text("phase");
  if (layout.root.empty() || (phase != "ls" && !operations.contains(phase)) ||
      (!layout.shared && options.Text("layout") != "own")) {
    std::fprintf(stderr, "--dir and --phase are needed, and --layout own|shared; see --help\n");
    return 2;
  }
  const int64_t count = layout.threads * layout.files_per_thread;
  if (phase == "create") MakeDirectories(layout);
  const double seconds = phase == "ls" ? List(layout, count) : RunOperation(layout, operations.at(phase));
  if (phase == "unlink") RemoveDirectories(layout);
  std::printf("{\"operations_per_second\": %.1f, \"seconds\": %.5f, \"operations\": %lld}\n",
              static_cast<double>(count) / seconds, seconds, static_cast<long long>(count));
  return 0;
}

}  // namespace

}  // namespace tarn::bench

int main(int argc, char** argv) { return tarn::bench::Main(argc, argv); }
