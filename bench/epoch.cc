// A training job's epoch over a dataset of small files, as an image loader does it: every file once, in shuffled
// order, opened, read whole and closed, by several threads. `--phase write` makes the dataset (and measures that),
// `--phase read` reads it and checks each file's size and its first and last bytes.
//
// Prints one JSON object: {"files_per_second": ..., "seconds": ..., "bytes": ...}.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "bench/command_line.h"
#include "bench/thread_crew.h"

namespace tarn::bench {

namespace {

// Datasets keep classes or shards in directories of about this many files.
constexpr int64_t kFilesPerDirectory = 1000;

struct Dataset {
  std::string directory;
  int64_t file_count;
  int64_t file_bytes;
};

std::string DirectoryPath(const Dataset& dataset, int64_t directory) {
  return dataset.directory + "/class" + std::to_string(directory);
}

std::string FilePath(const Dataset& dataset, int64_t index) {
  return DirectoryPath(dataset, index / kFilesPerDirectory) + "/image" + std::to_string(index) + ".jpg";
}

// Incompressible bytes, the same for all files but for the index that StampIndex writes at both ends.
std::vector<char> MakeContent(int64_t bytes) {
  std::vector<char> content(static_cast<size_t>(bytes));
  std::mt19937_64 random(1);
  std::generate(content.begin(), content.end(), [&random] { return static_cast<char>(random()); });
  return content;
}

void StampIndex(std::vector<char>& content, int64_t index) {
  std::memcpy(content.data(), &index, sizeof(index));
  std::memcpy(content.data() + content.size() - sizeof(index), &index, sizeof(index));
}

bool HasIndex(const std::vector<char>& content, int64_t index) {
  return std::memcmp(content.data(), &index, sizeof(index)) == 0 &&
         std::memcmp(content.data() + content.size() - sizeof(index), &index, sizeof(index)) == 0;
}

void WriteFile(const std::string& path, const std::vector<char>& content) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) DieOfErrno("create", path);
  for (size_t done = 0; done < content.size();) {
    const ssize_t n = write(fd, content.data() + done, content.size() - done);
    if (n < 0) DieOfErrno("write", path);
    done += static_cast<size_t>(n);
  }
  if (close(fd) != 0) DieOfErrno("close", path);
}

void ReadAndCheckFile(const std::string& path, int64_t index, std::vector<char>& buffer) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) DieOfErrno("open", path);
  struct stat attributes = {};
  if (fstat(fd, &attributes) != 0) DieOfErrno("fstat", path);
  size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t n = read(fd, buffer.data() + done, buffer.size() - done);
    if (n < 0) DieOfErrno("read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  close(fd);
  if (attributes.st_size != static_cast<off_t>(buffer.size()) || done != buffer.size() || !HasIndex(buffer, index)) {
    std::fprintf(stderr, "%s: wrong size or content (%zu bytes read)\n", path.c_str(), done);
    std::_Exit(1);
  }
}

void MakeDirectories(const Dataset& dataset) {
  if (mkdir(dataset.directory.c_str(), 0755) != 0 && errno != EEXIST) DieOfErrno("mkdir", dataset.directory);
  for (int64_t i = 0; i * kFilesPerDirectory < dataset.file_count; ++i) {
    const std::string path = DirectoryPath(dataset, i);
    if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) DieOfErrno("mkdir", path);
  }
}

double WriteDataset(const Dataset& dataset, int threads) {
  MakeDirectories(dataset);
  const std::vector<char> content = MakeContent(dataset.file_bytes);
  std::atomic<int64_t> next = 0;
  return RunCrew(threads, [&](int) {
    std::vector<char> own = content;
    for (int64_t i = next++; i < dataset.file_count; i = next++) {
      StampIndex(own, i);
      WriteFile(FilePath(dataset, i), own);
    }
  });
}

double ReadDataset(const Dataset& dataset, int threads, uint64_t seed) {
  std::vector<int64_t> order(static_cast<size_t>(dataset.file_count));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  std::atomic<size_t> next = 0;
  return RunCrew(threads, [&](int) {
    std::vector<char> buffer(static_cast<size_t>(dataset.file_bytes));
    for (size_t i = next++; i < order.size(); i = next++) {
      ReadAndCheckFile(FilePath(dataset, order[i]), order[i], buffer);
    }
  });
}

int Main(int argc, char** argv) {
  const CommandLine options(
      argc, argv, "tarn-bench-epoch --dir DIRECTORY --phase write|read [OPTION VALUE]...",
      {{"dir", ""}, {"phase", ""}, {"files", "10000"}, {"bytes", "114688"}, {"threads", "8"}, {"seed", "1"}});
  const Dataset dataset = {options.Text("dir"), options.Number("files"), options.Number("bytes")};
  const auto threads = static_cast<int>(options.Number("threads"));
  const std::string& phase = options.Text("phase");
  if (dataset.directory.empty() || (phase != "write" && phase != "read") || dataset.file_bytes < 16) {
    std::fprintf(stderr, "--dir and --phase write|read are needed, and files of at least 16 bytes\n");
    return 2;
  }
  const double seconds = phase == "write"
                             ? WriteDataset(dataset, threads)
                             : ReadDataset(dataset, threads, static_cast<uint64_t>(options.Number("seed")));
  std::printf("{\"files_per_second\": %.1f, \"seconds\": %.4f, \"bytes\": %lld}\n",
              static_cast<double>(dataset.file_count) / seconds, seconds,
              static_cast<long long>(dataset.file_count * dataset.file_bytes));
  return 0;
}

}  // namespace

}  // namespace tarn::bench

int main(int argc, char** argv) { return tarn::bench::Main(argc, argv); }
