// Fills a volume with files through the bulk path (batches of mutations, as `tarn put` sends them) and lists it,
// straight over the metadata protocol: what a metadata server needs for a million inodes, without a chunk server in the
// way.
//
// The files have a size, a layout and a reserved data id, but nobody has written their bytes: the volume is for
// measurements only. Prints one JSON object per phase.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/command_line.h"
#include "common/base/random.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "proto/hello.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::bench {
namespace {

constexpr int64_t kBatch = 512;
constexpr int64_t kBatchesInFlight = 8;
constexpr uint64_t kFileBytes = 112 << 10;
constexpr int64_t kTimeoutMs = 60'000;

using Seconds = std::chrono::duration<double>;
double SecondsSince(std::chrono::steady_clock::time_point start) {
  return Seconds(std::chrono::steady_clock::now() - start).count();
}

void DieUnless(const Status& status, const char* what) {
  if (status.ok()) return;
  std::fprintf(stderr, "tarn-bench-namespace: %s: %s\n", what, status.ToString().c_str());
  std::exit(1);
}

// One session; mutations are numbered and acknowledged as the client library does it.
class Filler {
 public:
  Filler(std::shared_ptr<rpc::FrameClient> client, const std::string& volume) : client_(std::move(client)) {
    proto::GetVolumeRequest request;
    request.set_name(volume);
    proto::GetVolumeReply reply;
    DieUnless(client_->CallAndWait(rpc::Method::kGetVolume, request, &reply, kTimeoutMs), "find the volume");
    root_ = reply.root().inode();
    volume_ = reply.volume().id();
    proto::Mutation open;
    open.mutable_open_session()->set_nonce(SystemRandom().NextNonZero());
    open.mutable_open_session()->set_client_name("tarn-bench-namespace");
    open.mutable_open_session()->set_volume(volume_);
    proto::MutationReply opened;
    DieUnless(client_->CallAndWait(rpc::Method::kMutate, open, &opened, kTimeoutMs), "open a session");
    session_ = opened.session();
  }

  uint64_t root() const { return root_; }

  void Reserve(int64_t count) {
    proto::Mutation mutation;
    mutation.mutable_reserve_data_ids()->set_volume(volume_);
    mutation.mutable_reserve_data_ids()->set_count(static_cast<uint32_t>(count));
    Sign(&mutation);
    proto::MutationReply reply;
    DieUnless(client_->CallAndWait(rpc::Method::kMutate, mutation, &reply, kTimeoutMs), "reserve data ids");
    acked_ = sequence_;
    next_data_id_ = reply.first_data_id();
    layout_ = reply.layout_template();
  }

  uint64_t MakeDirectory(uint64_t parent, const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_mkdir()->set_parent(parent);
    mutation.mutable_mkdir()->set_name(name);
    mutation.mutable_mkdir()->set_mode(0755);
    Sign(&mutation);
    proto::MutationReply reply;
    DieUnless(client_->CallAndWait(rpc::Method::kMutate, mutation, &reply, kTimeoutMs), "make a directory");
    acked_ = sequence_;
    return reply.attributes().inode();
  }

  void AddFile(uint64_t parent, int64_t number) {
    if (waiting_.mutations_size() == kBatch) Send();
    proto::Mutation* mutation = waiting_.add_mutations();
    proto::CreateOp* op = mutation->mutable_create();
    op->set_parent(parent);
    op->set_name("image-" + std::to_string(number) + ".jpg");
    op->set_type(proto::FILE_TYPE_REGULAR);
    op->set_mode(0644);
    op->set_data_id(next_data_id_++);
    *op->mutable_layout() = layout_;
    op->mutable_layout()->set_seed(static_cast<uint64_t>(number) * 0x9E3779B97F4A7C15ull);
    op->set_size_bytes(kFileBytes);
    Sign(mutation);
  }

  void Send() {
    if (waiting_.mutations().empty()) return;
    auto answer = std::make_shared<std::promise<Status>>();
    in_flight_.push_back(answer->get_future());
    rpc::CallOptions options;
    options.timeout_ms = kTimeoutMs;
    client_->Call(rpc::Method::kMutateBatch, waiting_, options, [answer](const rpc::Reply& reply) {
      proto::MutateBatchReply replies;
      Status status = rpc::ParseReply(reply, &replies);
      for (const auto& each : replies.replies()) {
        if (status.ok() && each.status() != 0) status = Status(static_cast<StatusCode>(each.status()), each.message());
      }
      answer->set_value(status);
    });
    waiting_.Clear();
    if (static_cast<int64_t>(in_flight_.size()) >= kBatchesInFlight) Drain();
  }

  void Drain() {
    for (auto& answer : in_flight_) DieUnless(answer.get(), "create files");
    in_flight_.clear();
    acked_ = sequence_ - static_cast<uint64_t>(waiting_.mutations_size());
  }

 private:
  void Sign(proto::Mutation* mutation) {
    mutation->set_session(session_);
    mutation->set_sequence(++sequence_);
    mutation->set_acked_through(acked_);
  }

  const std::shared_ptr<rpc::FrameClient> client_;
  uint64_t root_ = 0;
  uint32_t volume_ = 0;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
  uint64_t acked_ = 0;
  uint64_t next_data_id_ = 0;
  proto::Layout layout_;
  proto::MutateBatchRequest waiting_;
  std::vector<std::future<Status>> in_flight_;
};

void Fill(const std::shared_ptr<rpc::FrameClient>& client, const CommandLine& line) {
  constexpr int64_t kReserve = 32'768;
  Filler filler(client, line.Text("volume"));
  const int64_t files = line.Number("files");
  const int64_t per_directory = line.Number("files-per-directory");
  const auto start = std::chrono::steady_clock::now();
  const uint64_t top = filler.MakeDirectory(filler.root(), line.Text("name"));
  uint64_t directory = 0;
  for (int64_t number = 0; number < files; ++number) {
    const bool next_directory = number % per_directory == 0;
    const bool next_ids = number % kReserve == 0;
    if (next_directory || next_ids) {
      filler.Send();
      filler.Drain();
    }
    if (next_ids) filler.Reserve(kReserve);
    if (next_directory) directory = filler.MakeDirectory(top, "d" + std::to_string(number / per_directory));
    filler.AddFile(directory, number);
  }
  filler.Send();
  filler.Drain();
  const double seconds = SecondsSince(start);
  std::printf("{\"phase\": \"fill\", \"files\": %ld, \"seconds\": %.3f, \"files_per_second\": %.0f}\n",
              static_cast<long>(files), seconds, static_cast<double>(files) / seconds);
}

uint64_t FindDirectory(const std::shared_ptr<rpc::FrameClient>& client, const CommandLine& line) {
  proto::GetVolumeRequest request;
  request.set_name(line.Text("volume"));
  proto::GetVolumeReply volume;
  DieUnless(client->CallAndWait(rpc::Method::kGetVolume, request, &volume, kTimeoutMs), "find the volume");
  proto::LookupPathRequest path;
  path.set_root(volume.root().inode());
  path.set_path(line.Text("name") + "/d0");
  proto::LookupReply found;
  DieUnless(client->CallAndWait(rpc::Method::kLookupPath, path, &found, kTimeoutMs), "find the directory");
  return found.attributes().inode();
}

// Page by page, as a mount lists: nothing is kept.
void List(const std::shared_ptr<rpc::FrameClient>& client, const CommandLine& line) {
  proto::ReadDirRequest request;
  request.set_directory(FindDirectory(client, line));
  request.set_with_attributes(true);
  const auto start = std::chrono::steady_clock::now();
  double first_seconds = 0;
  int64_t entries = 0;
  size_t page_bytes_max = 0;
  for (bool end = false; !end;) {
    proto::ReadDirReply reply;
    DieUnless(client->CallAndWait(rpc::Method::kReadDir, request, &reply, kTimeoutMs), "list the directory");
    if (entries == 0) first_seconds = SecondsSince(start);
    entries += reply.entries_size();
    page_bytes_max = std::max(page_bytes_max, reply.ByteSizeLong());
    end = reply.end();
    if (!end) request.set_after_cookie(reply.entries(reply.entries_size() - 1).cookie());
  }
  const double seconds = SecondsSince(start);
  std::printf(
      "{\"phase\": \"list\", \"entries\": %ld, \"first_page_seconds\": %.6f, \"seconds\": %.3f, "
      "\"entries_per_second\": %.0f, \"page_bytes_max\": %zu}\n",
      static_cast<long>(entries), first_seconds, seconds, static_cast<double>(entries) / seconds, page_bytes_max);
}

int Run(int argc, char** argv) {
  const CommandLine line(argc, argv,
                         "tarn-bench-namespace --meta HOST:PORT: fills a volume with files that have no bytes "
                         "(--phase fill), lists the first directory of them (--phase list)",
                         {{"meta", "127.0.0.1:7400"},
                          {"volume", "default"},
                          {"phase", "fill"},
                          {"name", "filled"},
                          {"files", "100000"},
                          {"files-per-directory", "1000"}});
  auto loop = rpc::EventLoop::Start("bench");
  DieUnless(loop.status(), "start a loop");
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_TOOL);
  hello.set_peer_name("tarn-bench-namespace");
  rpc::FrameClientOptions options;
  options.address = line.Text("meta");
  const auto client = rpc::FrameClient::Create(loop->get(), options, hello);
  if (line.Text("phase") == "list") {
    List(client, line);
  } else {
    Fill(client, line);
  }
  client->Close();
  return 0;
}

}  // namespace
}  // namespace tarn::bench

int main(int argc, char** argv) { return tarn::bench::Run(argc, argv); }
