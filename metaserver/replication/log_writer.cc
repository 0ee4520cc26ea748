#include "metaserver/replication/log_writer.h"

#include <utility>

#include "common/base/named_thread.h"

namespace tarn::meta {
namespace {

// Of the entries that are joined into one write.
constexpr size_t kWriteBytesMax = 1u << 20;
constexpr size_t kWriteEntriesMax = 1024;

size_t BytesOf(const std::vector<LogEntryRef>& entries) {
  size_t bytes = 0;
  for (const LogEntryRef& entry : entries) bytes += EntryBytesInGroup(entry.bytes.size());
  return bytes;
}

}  // namespace

LogWriter::LogWriter(std::unique_ptr<LogFiles> files, Listener listener)
    : files_(std::move(files)), listener_(std::move(listener)) {
  thread_ = StartNamedThread("log write", [this] { Run(); });
}

LogWriter::~LogWriter() { Stop(false); }

uint64_t LogWriter::Add(Operation operation) {
  MutexLock lock(mutex_);
  operation.ticket = ++last_ticket_;
  if (stop_) return last_ticket_;
  operations_.push_back(std::move(operation));
  if (operations_.size() == 1) wake_.NotifyAll();
  return last_ticket_;
}

uint64_t LogWriter::WriteVote(uint64_t term, uint64_t voted_for) {
  Operation operation;
  operation.kind = Operation::Kind::kVote;
  operation.term = term;
  operation.voted_for = voted_for;
  return Add(std::move(operation));
}

uint64_t LogWriter::Append(uint64_t first_index, std::vector<LogEntryRef> entries) {
  Operation operation;
  operation.kind = Operation::Kind::kAppend;
  operation.index = first_index;
  operation.entries = std::move(entries);
  return Add(std::move(operation));
}

uint64_t LogWriter::PutMarker(LogMarker marker, uint64_t keep_from) {
  Operation operation;
  operation.kind = Operation::Kind::kMarker;
  operation.index = keep_from;
  operation.marker = std::move(marker);
  return Add(std::move(operation));
}

bool LogWriter::HasWaiting() const {
  MutexLock lock(mutex_);
  return !operations_.empty();
}

void LogWriter::Stop(bool seal) {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    seal_ = seal;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void LogWriter::Run() {
  std::deque<Operation> batch;
  while (true) {
    {
      MutexLock lock(mutex_);
      while (operations_.empty() && !stop_) wake_.Wait(lock);
      if (stop_ && (operations_.empty() || !seal_)) break;
      batch.swap(operations_);
    }
    if (const Status status = RunBatch(batch); !status.ok()) {
      listener_.failed(status);
      return;
    }
    batch.clear();
  }
  bool seal = false;
  {
    MutexLock lock(mutex_);
    seal = seal_;
  }
  if (!seal) return;
  if (const Status status = files_->Seal(); !status.ok()) listener_.failed(status);
}

Status LogWriter::RunBatch(std::deque<Operation>& batch) {
  const Operation* vote = nullptr;
  for (const Operation& operation : batch) {
    if (operation.kind == Operation::Kind::kVote) vote = &operation;
  }
  if (vote != nullptr) RETURN_IF_ERROR(files_->WriteVote(vote->term, vote->voted_for));
  for (size_t i = 0; i < batch.size(); ++i) {
    Operation& operation = batch[i];
    uint64_t ticket = operation.ticket;
    if (operation.kind == Operation::Kind::kMarker) {
      RETURN_IF_ERROR(files_->PutMarker(std::move(operation.marker), operation.index));
    } else if (operation.kind == Operation::Kind::kAppend) {
      size_t bytes = BytesOf(operation.entries);
      while (i + 1 < batch.size() && batch[i + 1].kind == Operation::Kind::kAppend &&
             batch[i + 1].index == operation.index + operation.entries.size()) {
        bytes += BytesOf(batch[i + 1].entries);
        if (bytes > kWriteBytesMax || operation.entries.size() >= kWriteEntriesMax) break;
        ++i;
        operation.entries.insert(operation.entries.end(), batch[i].entries.begin(), batch[i].entries.end());
        ticket = batch[i].ticket;
      }
      RETURN_IF_ERROR(files_->Append(operation.index, operation.entries));
    }
    listener_.done(ticket, i + 1 == batch.size());
  }
  return Status::Ok();
}

}  // namespace tarn::meta
