#include "tests/sim/file_client.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "client/meta/convert.h"
#include "common/base/check.h"
#include "tests/sim/connection.h"
#include "tests/sim/sim_data_plane.h"

namespace tarn::sim {
namespace {

constexpr uint64_t kCacheBytesMax = 1 << 20;
constexpr int64_t kRetryDeadlineMs = 60'000;
constexpr int64_t kCallTimeoutMs = 1'000;
constexpr int64_t kSilenceMs = 150;
constexpr int64_t kThinkNs = 20 * kMillisecond;
constexpr int64_t kRetryNs = 50 * kMillisecond;
constexpr size_t kFilesOpenMax = 3;
constexpr size_t kReadBytesMax = 1 << 20;
constexpr uint64_t kCells = 3;
// Those that begin with an a are appended to.
constexpr std::array<const char*, 4> kNames = {"f0", "f1", "a0", "f2"};

bool IsAppended(const std::string& name) { return name[0] == 'a'; }

std::vector<uint64_t> CellsOf(const client::ReadResult& result) {
  std::vector<uint64_t> cells(result.bytes / kCellBytes);
  size_t done = 0;
  for (const iovec& piece : result.pieces) {
    std::memcpy(reinterpret_cast<char*>(cells.data()) + done, piece.iov_base, piece.iov_len);
    done += piece.iov_len;
  }
  return cells;
}

}  // namespace

FileClient::FileClient(Cluster* cluster, Hearsay* hearsay, uint64_t number)
    : cluster_(cluster),
      hearsay_(hearsay),
      endpoint_(kFirstFileClient + number),
      who_("file client " + std::to_string(number)),
      caches_(number == 0 || !cluster->scheduler->dice().Chance(0.2)),
      // The lease's margin covers 12 % between this and any member's.
      clock_rate_(1.0 + cluster->plan->faults.clock_rate *
                            static_cast<double>(cluster->scheduler->dice().Between(-100, 500)) / 1000.0) {}

FileClient::~FileClient() {
  if (life_ != nullptr) past_.push_back(std::move(life_));
  for (const LifePtr& life : past_) {
    life->process->Close();
    life->files.clear();
    life->filesystem.reset();
    life->parts.metadata.reset();
  }
}

// ---- Life ----

void FileClient::Start() {
  const auto life = std::make_shared<Life>();
  life_ = life;
  Scheduler* const scheduler = cluster_->scheduler;
  life->process = std::make_shared<SimProcess>(scheduler, clock_rate_);
  life->parts.clock = std::make_unique<SimClock>(scheduler, clock_rate_, kSecond);
  life->parts.random = std::make_unique<SimRandom>(scheduler);
  life->parts.retry_deadline_ms = kRetryDeadlineMs;
  client::MetadataChannelOptions channel;
  for (uint64_t member = 1; member <= cluster_->plan->members; ++member) channel.addresses.push_back(AddressOf(member));
  std::rotate(channel.addresses.begin(), channel.addresses.begin() + static_cast<int64_t>(dice().Below(channel.addresses.size())),
              channel.addresses.end());
  channel.client_name = who_;
  channel.retry_deadline_ms = kRetryDeadlineMs;
  channel.call_timeout_ms = kCallTimeoutMs;
  channel.silence_ms = kSilenceMs;
  channel.connect = Connection::Connector(cluster_, life->process, endpoint_);
  life->parts.metadata = std::make_unique<client::MetadataClient>(life->process.get(), life->parts.clock.get(),
                                                                 life->parts.random.get(), channel);
  life->metadata = life->parts.metadata.get();
  if (caches_) life->metadata->EnableCaching(kCacheBytesMax);
  FindVolume(life);
}

void FileClient::StopFor(int64_t length_ns) {
  cluster_->scheduler->Trace("stop client", endpoint_, static_cast<uint64_t>(length_ns));
  life_->process->StopFor(length_ns);
}

void FileClient::Kill() {
  if (life_->metadata == nullptr) return;  // it is dead, and about to be started again
  cluster_->scheduler->Trace("kill client", endpoint_);
  life_->process->Kill();
  past_.push_back(std::move(life_));
  life_ = std::make_shared<Life>();
  life_->process = std::make_shared<SimProcess>(cluster_->scheduler, clock_rate_);
  cluster_->scheduler->After(dice().LongTailed(200 * kMillisecond), [this] { Start(); });
}

void FileClient::EndFaults() { life_->process->Continue(); }

void FileClient::FindVolume(const LifePtr& life) {
  proto::GetVolumeRequest request;
  request.set_name("v");
  life->metadata->Read<proto::GetVolumeReply>(
      rpc::Method::kGetVolume, request, [this, life](const Result<proto::GetVolumeReply>& reply) {
        if (life->process->dead()) return;
        if (!reply.ok()) return life->process->RunAfter(kRetryNs, [this, life] { FindVolume(life); });
        life->parts.volume = client::VolumeFromProto(reply->volume());
        life->parts.root = life->parts.volume.root;
        OpenSession(life);
      });
}

void FileClient::OpenSession(const LifePtr& life) {
  life->metadata->OpenSession(life->parts.volume.id, [this, life](const Status& status) {
    if (life->process->dead()) return;
    if (!status.ok()) return life->process->RunAfter(kRetryNs, [this, life] { OpenSession(life); });
    Begin(life);
  });
}

void FileClient::Begin(const LifePtr& life) {
  DataContext context{cluster_, life->process, endpoint_, nullptr};
  auto made = client::FilesystemImpl::Create(
      std::move(life->parts), [&](client::MetadataForData* metadata) -> Result<std::unique_ptr<client::DataPlane>> {
        context.metadata = metadata;
        return std::unique_ptr<client::DataPlane>(std::make_unique<SimDataPlane>(context));
      });
  CHECK(made.ok(), "a simulated file system can be made");
  life->filesystem = std::move(*made);
  const uint32_t slots = caches_ ? cluster_->plan->slots : 1;
  for (uint32_t slot = 0; slot < slots; ++slot) ThinkThenAct(life);
}

// ---- Operations ----

void FileClient::ThinkThenAct(const LifePtr& life) {
  life->process->RunAfter(dice().LongTailed(kThinkNs), [this, life] {
    if (finishing_) return CloseAll(life);
    ++life->under_way;
    Act(life);
  });
}

void FileClient::Done(const LifePtr& life) {
  --life->under_way;
  ThinkThenAct(life);
}

void FileClient::Act(const LifePtr& life) {
  if (!caches_) return dice().Chance(0.5) ? OpenReadClose(life) : LookUp(life, kNames[dice().Below(kNames.size())], [this, life] { Done(life); });
  const uint64_t kind = dice().Below(100);
  if (kind < 6) return Unlink(life);
  if (kind < 16) return LookUp(life, kNames[dice().Below(kNames.size())], [this, life] { Done(life); });
  if (kind < 20) return List(life);
  if (kind < 28) return LookAtOthers(life);
  const FilePtr file = AnyFile(life);
  if (file == nullptr || (life->files.size() < kFilesOpenMax && kind < 40)) return Open(life);
  ActOn(life, file);
}

void FileClient::ActOn(const LifePtr& life, const FilePtr& file) {
  const uint64_t kind = dice().Below(100);
  ++file->uses;
  if (file->writable && kind < 45) return Write(life, file);
  if (kind < 65) {
    return Read(life, file, cluster_->files->Moment(), [this, life] { Done(life); });
  }
  if (kind < 80) return Stat(life, file);
  if (kind < 90 || file->uses > 1) return Sync(life, file);
  Close(life, file, [this, life] { Done(life); });
}

FileClient::FilePtr FileClient::AnyFile(const LifePtr& life) {
  return life->files.empty() ? nullptr : life->files[dice().Below(life->files.size())];
}

void FileClient::Open(const LifePtr& life) {
  if (life->unlinking) return Done(life);
  ++life->opening;
  const std::string name = kNames[dice().Below(kNames.size())];
  const bool writable = dice().Chance(0.7);
  client::OpenFlags flags;
  flags.write = writable;
  flags.append = writable && IsAppended(name);
  const auto keep = [this, life](const FilePtr& file) {
    --life->opening;
    if (file != nullptr) life->files.push_back(file);
    Done(life);
  };
  const SessionId session = life->metadata->session();
  const auto opened = [this, life, session, writable, name, keep](const Result<client::OpenedFile>& result) {
    OnOpened(life, session, writable, name, result, keep);
  };
  client::Filesystem& filesystem = *life->filesystem;
  if (dice().Chance(0.5)) return filesystem.Create(filesystem.root(), name, 0644, false, flags, {}, opened);
  const uint64_t began = cluster_->files->Moment();
  filesystem.Lookup(filesystem.root(), name, [=, this](const Result<client::Attributes>& found) {
    if (life->process->dead()) return;
    if (!found.ok()) return keep(nullptr);
    cluster_->files->OnAttributes(began, *found, who_ + " (to open it)");
    life->filesystem->OpenFile(found->inode, flags, opened);
  });
}

void FileClient::OnOpened(const LifePtr& life, SessionId session, bool writable, const std::string& name,
                          const Result<client::OpenedFile>& opened, const std::function<void(const FilePtr&)>& then) {
  if (life->process->dead()) return;
  if (!opened.ok()) return then(nullptr);
  auto file = std::make_shared<File>();
  file->handle = opened->handle;
  file->inode = opened->attributes.inode;
  if (session == life->metadata->session()) file->session = session;
  file->writable = writable;
  file->appended = IsAppended(name);
  cluster_->files->NoteFile(file->inode);
  then(file);
}

// ESTALE of a file that it has open.
void FileClient::CheckGone(const File& file, StatusCode code) {
  const bool gone = code == StatusCode::kStaleHandle || code == StatusCode::kNotFound;
  if (gone && file.session.valid()) cluster_->files->OnGone(file.inode, file.session, who_);
}

void FileClient::Write(const LifePtr& life, const FilePtr& file) {
  const uint64_t cell = dice().Below(kCells);
  const uint64_t value = cluster_->files->BeginWrite(file->inode, file->appended ? kAppendedCell : cell);
  std::array<uint8_t, kCellBytes> bytes{};
  std::memcpy(bytes.data(), &value, sizeof value);
  cluster_->scheduler->Trace("write file", endpoint_, value);
  life->filesystem->Write(file->handle, cell * kCellBytes, bytes, [this, life, file, value](const Status& status) {
    if (life->process->dead()) return;
    cluster_->files->EndWrite(value, status.ok());
    CheckGone(*file, status.code());
    if (status.ok()) file->returned.push_back(value);
    --file->uses;
    Done(life);
  });
}

void FileClient::Read(const LifePtr& life, const FilePtr& file, uint64_t began, std::function<void()> then) {
  life->filesystem->Read(file->handle, 0, kReadBytesMax,
                         [this, life, file, began, then = std::move(then)](const Result<client::ReadResult>& result) {
                           if (life->process->dead()) return;
                           if (result.ok()) cluster_->files->OnCells(began, file->inode, CellsOf(*result), who_ + " (read)");
                           CheckGone(*file, result.status().code());
                           --file->uses;
                           then();
                         });
}

void FileClient::Stat(const LifePtr& life, const FilePtr& file) {
  const uint64_t began = cluster_->files->Moment();
  life->filesystem->GetAttributes(file->inode, [this, life, file, began](const Result<client::Attributes>& result) {
    if (life->process->dead()) return;
    if (result.ok()) cluster_->files->OnAttributes(began, *result, who_ + " (stat)");
    CheckGone(*file, result.status().code());
    --file->uses;
    Done(life);
  });
}

void FileClient::Sync(const LifePtr& life, const FilePtr& file) {
  life->filesystem->Fsync(file->handle, [this, life, file, returned = std::exchange(file->returned, {}), errors = file->errors](const Status& status) {
    if (life->process->dead()) return;
    if (!status.ok()) {
      ++file->errors;
      file->returned.clear();
    }
    for (const uint64_t value : returned) {
      if (file->errors == errors) cluster_->files->OnPublished(value);
    }
    CheckGone(*file, status.code());
    --file->uses;
    Done(life);
  });
}

void FileClient::Close(const LifePtr& life, FilePtr file, std::function<void()> then) {
  std::erase(life->files, file);
  life->filesystem->Flush(file->handle, [this, life, file, then = std::move(then)](const Status& status) {
    if (life->process->dead()) return;
    for (const uint64_t value : file->returned) {
      if (status.ok() && file->writable) cluster_->files->OnPublished(value);
    }
    CheckGone(*file, status.code());
    life->filesystem->Release(file->handle);
    then();
  });
}

void FileClient::Unlink(const LifePtr& life) {
  if (life->opening > 0 || life->unlinking) return Done(life);
  life->unlinking = true;
  const std::string name = kNames[dice().Below(kNames.size())];
  life->filesystem->Unlink(life->filesystem->root(), name, {}, [this, life](const Status&) {
    if (life->process->dead()) return;
    life->unlinking = false;
    Done(life);
  });
}

void FileClient::LookUp(const LifePtr& life, const std::string& name, std::function<void()> then) {
  const uint64_t began = cluster_->files->Moment();
  life->filesystem->Lookup(life->filesystem->root(), name,
                           [this, life, began, then = std::move(then)](const Result<client::Attributes>& found) {
                             if (life->process->dead()) return;
                             if (found.ok()) cluster_->files->OnAttributes(began, *found, who_ + " (look-up)");
                             then();
                           });
}

void FileClient::List(const LifePtr& life) {
  const uint64_t began = cluster_->files->Moment();
  life->filesystem->ReadDirectory(life->filesystem->root(), 0, 1000, true,
                                  [this, life, began](const Result<client::DirectoryPage>& page) {
                                    if (life->process->dead()) return;
                                    for (size_t i = 0; page.ok() && i < page->entries.size(); ++i) {
                                      const client::Attributes& shown = page->entries[i].attributes;
                                      if (shown.nlink > 0) cluster_->files->OnAttributes(began, shown, who_ + " (listing)");
                                    }
                                    Done(life);
                                  });
}

// Names and attributes that the other clients change: what this one remembers must not be older than it may be.
void FileClient::LookAtOthers(const LifePtr& life) {
  proto::LookupRequest request;
  request.set_parent(hearsay_->directories.empty() ? life->filesystem->root().value()
                                                   : hearsay_->directories[dice().Below(hearsay_->directories.size())]);
  request.set_name("n" + std::to_string(dice().Below(5)));
  const auto at_once = std::make_shared<bool>(true);
  const uint64_t visible = cluster_->oracle->visible();
  life->filesystem->Lookup(InodeId(request.parent()), request.name(),
                           [this, life, request, at_once, visible](const Result<client::Attributes>& found) {
                             if (life->process->dead()) return;
                             JudgeName(request, *at_once, visible, found);
                             Done(life);
                           });
  *at_once = false;
}

// What was answered at once came from memory.
void FileClient::JudgeName(const proto::LookupRequest& request, bool at_once, uint64_t visible,
                           const Result<client::Attributes>& found) {
  const StatusCode code = found.status().code();
  if (!found.ok() && code != StatusCode::kNotFound) return;
  proto::LookupReply reply;
  if (found.ok()) *reply.mutable_attributes() = ClientCache::ToProto(*found);
  if (!at_once) return cluster_->oracle->OnLookupAnswered(visible, request, code, reply);
  cluster_->oracle->OnRemembered(request, reply.attributes().inode());
  if (found.ok()) cluster_->oracle->OnRemembered(reply.attributes());
}

// What one without caching may rely on: what it opens is as of then.
void FileClient::OpenReadClose(const LifePtr& life) {
  const std::string name = kNames[dice().Below(kNames.size())];
  const uint64_t began = cluster_->files->Moment();
  const auto close = [this, life](const FilePtr& file) {
    ++file->uses;
    Close(life, file, [this, life] { Done(life); });
  };
  const auto read = [=, this](const FilePtr& file) {
    if (file == nullptr) return Done(life);
    file->session = SessionId();
    ++file->uses;
    Read(life, file, began, [=] { close(file); });
  };
  life->filesystem->Lookup(life->filesystem->root(), name, [=, this](const Result<client::Attributes>& found) {
    if (life->process->dead()) return;
    if (!found.ok()) return Done(life);
    life->filesystem->OpenFile(found->inode, {}, [=, this](const Result<client::OpenedFile>& opened) {
      OnOpened(life, SessionId(), false, name, opened, read);
    });
  });
}

// ---- The end ----

void FileClient::Finish() { finishing_ = true; }

void FileClient::CloseAll(const LifePtr& life) {
  if (life->under_way > 0 || (closing_ && life->files.empty())) return;
  if (life->files.empty()) {
    closing_ = true;
    return LookOnceMore(life, 0);
  }
  ++life->under_way;
  Close(life, life->files.front(), [this, life] {
    --life->under_way;
    CloseAll(life);
  });
}

void FileClient::LookOnceMore(const LifePtr& life, size_t name) {
  if (name == kNames.size()) {
    finished_ = true;
    return;
  }
  LookUp(life, kNames[name], [this, life, name] { LookOnceMore(life, name + 1); });
}

}  // namespace tarn::sim
