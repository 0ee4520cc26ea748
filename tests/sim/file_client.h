// A simulated client that writes, reads and looks at files: the client library itself (client/filesystem_impl.h with all
// below it: open files, write grants, coherence, caches, session, channel) over simulated connections, a simulated data
// plane and a simulated clock. What it sees is judged by FileOracle, names and attributes of others' files by Oracle.
//
// Fault model: it is stopped and goes on later without having noticed; it dies, with what it had buffered, and a new one
// starts after a while. Some clients take no part in caching and grants: they only look, at what they open anew each time.
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/filesystem_impl.h"
#include "tests/sim/client.h"
#include "tests/sim/file_oracle.h"
#include "tests/sim/member.h"
#include "tests/sim/sim_process.h"

namespace tarn::sim {

class FileClient {
 public:
  FileClient(Cluster* cluster, Hearsay* hearsay, uint64_t number);
  ~FileClient();
  FileClient(const FileClient&) = delete;
  FileClient& operator=(const FileClient&) = delete;

  void Start();
  void StopFor(int64_t length_ns);
  void Kill();
  void EndFaults();
  // No new operations; closes what it has open, and looks at every name once more.
  void Finish();
  bool idle() const { return finished_; }

 private:
  struct File {
    client::FileHandlePtr handle;
    InodeId inode;
    SessionId session;  // under which it was opened; invalid: it changed meanwhile
    bool writable = false;
    bool appended = false;
    uint32_t uses = 0;
    std::vector<uint64_t> returned;  // writes through it
    // An error is told once, by the flush that is the first to end: it is of whatever was written before its end, and
    // flushes that were under way then may say nothing of it.
    uint64_t errors = 0;
  };
  using FilePtr = std::shared_ptr<File>;
  // From a start of the process to its end.
  struct Life {
    std::shared_ptr<SimProcess> process;
    client::FilesystemImpl::Parts parts;  // until there is a file system
    client::MetadataClient* metadata = nullptr;
    std::unique_ptr<client::FilesystemImpl> filesystem;
    std::vector<FilePtr> files;
    uint32_t under_way = 0;
    // A client that unlinks a file while it opens it itself decides at random which comes first.
    uint32_t opening = 0;
    bool unlinking = false;
  };
  using LifePtr = std::shared_ptr<Life>;

  Dice& dice() { return cluster_->scheduler->dice(); }
  void FindVolume(const LifePtr& life);
  void OpenSession(const LifePtr& life);
  void Begin(const LifePtr& life);
  void ThinkThenAct(const LifePtr& life);
  void Act(const LifePtr& life);
  void ActOn(const LifePtr& life, const FilePtr& file);
  void Done(const LifePtr& life);
  FilePtr AnyFile(const LifePtr& life);

  void Open(const LifePtr& life);
  void OnOpened(const LifePtr& life, SessionId session, bool writable, const std::string& name,
                const Result<client::OpenedFile>& opened, const std::function<void(const FilePtr&)>& then);
  void Write(const LifePtr& life, const FilePtr& file);
  void Read(const LifePtr& life, const FilePtr& file, uint64_t began, std::function<void()> then);
  void Stat(const LifePtr& life, const FilePtr& file);
  void Sync(const LifePtr& life, const FilePtr& file);
  void Close(const LifePtr& life, FilePtr file, std::function<void()> then);
  void Unlink(const LifePtr& life);
  void LookUp(const LifePtr& life, const std::string& name, std::function<void()> then);
  void List(const LifePtr& life);
  void LookAtOthers(const LifePtr& life);
  void JudgeName(const proto::LookupRequest& request, bool at_once, uint64_t visible,
                 const Result<client::Attributes>& found);
  void OpenReadClose(const LifePtr& life);
  void CheckGone(const File& file, StatusCode code);
  void CloseAll(const LifePtr& life);
  void LookOnceMore(const LifePtr& life, size_t name);

  Cluster* const cluster_;
  Hearsay* const hearsay_;
  const Endpoint endpoint_;
  const std::string who_;
  const bool caches_;
  const double clock_rate_;
  LifePtr life_;
  std::vector<LifePtr> past_;
  bool finishing_ = false;
  bool closing_ = false;
  bool finished_ = false;
};

}  // namespace tarn::sim
