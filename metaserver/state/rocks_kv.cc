#include "metaserver/state/rocks_kv.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_buffer_manager.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace tarn::meta {
namespace {

// The letter and the first id of a key: a directory, the xattrs of an inode, a session's results.
constexpr size_t kPrefixBytes = 9;
constexpr uint64_t kTableBytes = 16 << 20;  // its filter has about a quarter of a megabyte
constexpr uint64_t kWriteBufferBytesMin = 4 << 20;
constexpr uint64_t kWriteBufferBytesMax = 64 << 20;
constexpr auto kCloseTimeMax = std::chrono::seconds(30);

rocksdb::Slice ToSlice(std::string_view bytes) { return rocksdb::Slice(bytes.data(), bytes.size()); }
std::string_view ToView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

Status FromRocks(const rocksdb::Status& status, const std::string& what) {
  if (status.ok()) return Status::Ok();
  const std::string text = what + ": " + status.ToString();
  if (status.IsCorruption()) return Status(StatusCode::kCorruption, text);
  if (status.IsNoSpace()) return Status(StatusCode::kNoSpace, text);
  return Status(StatusCode::kIoError, text);
}

// Only the lock and what the system refused are not the directory's own fault.
Status FromOpen(const rocksdb::Status& status, const std::string& directory) {
  if (status.ok()) return Status::Ok();
  const std::string text = "open the database " + directory + ": " + status.ToString();
  if (status.IsNoSpace()) return Status(StatusCode::kNoSpace, text);
  if (status.IsIOError() && text.find("lock") != std::string::npos) return Status(StatusCode::kBusy, text);
  if (status.IsIOError() && !status.IsPathNotFound()) return Status(StatusCode::kIoError, text);
  return Status(StatusCode::kCorruption, text);
}

rocksdb::BlockBasedTableOptions TableOptions(std::shared_ptr<rocksdb::Cache> cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = std::move(cache);
  table.block_size = 8 << 10;
  table.cache_index_and_filter_blocks = true;
  table.cache_index_and_filter_blocks_with_high_priority = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  // In pieces of a block each, so that a small cache holds what is used of them.
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.metadata_block_size = 4 << 10;
  table.pin_top_level_index_and_filter = true;
  table.data_block_index_type = rocksdb::BlockBasedTableOptions::kDataBlockBinaryAndHash;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10, false));
  table.whole_key_filtering = true;
  table.format_version = 5;
  return table;
}

// A shard must hold the largest block several times over: RocksDB's own choice are shards of half a megabyte, in which a
// table's filter never stays, so that every look-up would read it again.
int CacheShardBits(uint64_t cache_bytes) {
  constexpr uint64_t kShardBytesMin = uint64_t{32} << 20;
  int bits = 0;
  while (bits < 6 && cache_bytes >> (bits + 1) >= kShardBytesMin) ++bits;
  return bits;
}

rocksdb::Options MakeOptions(const RocksKvOptions& budget) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  // One budget: write buffers are charged to the cache.
  auto cache = rocksdb::NewLRUCache(budget.memory_bytes, CacheShardBits(budget.memory_bytes), false, 0.5);
  options.write_buffer_size = std::clamp(budget.memory_bytes / 8, kWriteBufferBytesMin, kWriteBufferBytesMax);
  options.max_write_buffer_number = 3;
  options.target_file_size_base = kTableBytes;
  options.write_buffer_manager = std::make_shared<rocksdb::WriteBufferManager>(options.write_buffer_size * 3, cache);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(TableOptions(cache)));
  options.prefix_extractor.reset(rocksdb::NewCappedPrefixTransform(kPrefixBytes));
  options.memtable_prefix_bloom_size_ratio = 0.05;
  options.memtable_whole_key_filtering = true;
  options.allow_concurrent_memtable_write = false;  // one writer
  options.enable_write_thread_adaptive_yield = false;
  options.max_background_jobs = 2;
  options.max_open_files = 1024;
  options.bytes_per_sync = 1 << 20;
  options.level_compaction_dynamic_level_bytes = true;
  options.compression = rocksdb::kNoCompression;
  options.bottommost_compression = rocksdb::kLZ4Compression;
  options.info_log_level = rocksdb::WARN_LEVEL;
  options.keep_log_file_num = 2;
  options.max_log_file_size = 4 << 20;
  return options;
}

rocksdb::ReadOptions ReadAt(const rocksdb::Snapshot* snapshot) {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  return options;
}

Result<std::optional<std::string>> GetAt(rocksdb::DB* db, const rocksdb::Snapshot* snapshot, std::string_view key) {
  std::string value;
  const rocksdb::Status status = db->Get(ReadAt(snapshot), ToSlice(key), &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  RETURN_IF_ERROR(FromRocks(status, "read the database " + db->GetName()));
  return std::optional<std::string>(std::move(value));
}

// The smallest string greater than all that begin with `prefix`; empty if there is none.
std::string PrefixEnd(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<unsigned char>(end.back()) == 0xff) end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

Status Replacing(const std::string& directory) {
  return Status(StatusCode::kUnavailable, "the database " + directory + " is being replaced");
}

// Holds the database: it is not closed before its last view.
class RocksView final : public KvView {
 public:
  explicit RocksView(std::shared_ptr<rocksdb::DB> db) : db_(std::move(db)), snapshot_(db_->GetSnapshot()) {}
  ~RocksView() override { db_->ReleaseSnapshot(snapshot_); }
  RocksView(const RocksView&) = delete;
  RocksView& operator=(const RocksView&) = delete;

  Result<std::optional<std::string>> Get(std::string_view key) const override {
    return GetAt(db_.get(), snapshot_, key);
  }

  Status Scan(std::string_view prefix, std::string_view from,
              const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    rocksdb::ReadOptions options = ReadAt(snapshot_);
    const std::string end = PrefixEnd(prefix);
    const rocksdb::Slice upper_bound(end);
    if (!end.empty()) options.iterate_upper_bound = &upper_bound;
    // The bloom filters hold prefixes of kPrefixBytes: they cannot answer for a shorter one.
    options.prefix_same_as_start = prefix.size() >= kPrefixBytes;
    options.total_order_seek = !options.prefix_same_as_start;
    const std::unique_ptr<rocksdb::Iterator> iterator(db_->NewIterator(options));
    for (iterator->Seek(ToSlice(from.empty() ? prefix : from)); iterator->Valid(); iterator->Next()) {
      const std::string_view key = ToView(iterator->key());
      if (!key.starts_with(prefix) || !visit(key, ToView(iterator->value()))) return Status::Ok();
    }
    return FromRocks(iterator->status(), "scan the database " + db_->GetName());
  }

 private:
  const std::shared_ptr<rocksdb::DB> db_;
  const rocksdb::Snapshot* const snapshot_;
};

// Stands for the database while there is none.
class NoView final : public KvView {
 public:
  explicit NoView(std::string directory) : directory_(std::move(directory)) {}
  Result<std::optional<std::string>> Get(std::string_view /*key*/) const override { return Replacing(directory_); }
  Status Scan(std::string_view /*prefix*/, std::string_view /*from*/,
              const std::function<bool(std::string_view, std::string_view)>& /*visit*/) const override {
    return Replacing(directory_);
  }

 private:
  const std::string directory_;
};

}  // namespace

struct RocksKv::Database {
  std::unique_ptr<rocksdb::DB> db;
  std::promise<void> closed;

  ~Database() {
    db.reset();
    closed.set_value();
  }
};

Result<std::unique_ptr<RocksKv>> RocksKv::Open(const std::string& directory, const RocksKvOptions& options) {
  std::unique_ptr<RocksKv> store(new RocksKv(directory, options));
  RETURN_IF_ERROR(store->OpenDatabase());
  return store;
}

RocksKv::RocksKv(std::string directory, const RocksKvOptions& options)
    : directory_(std::move(directory)), options_(options) {}

RocksKv::~RocksKv() = default;

Status RocksKv::OpenDatabase() {
  rocksdb::DB* db = nullptr;
  RETURN_IF_ERROR(FromOpen(rocksdb::DB::Open(MakeOptions(options_), directory_, &db), directory_));
  auto database = std::make_shared<Database>();
  database->db.reset(db);
  database_closed_ = database->closed.get_future();
  MutexLock lock(mutex_);
  database_ = std::move(database);
  return Status::Ok();
}

std::shared_ptr<RocksKv::Database> RocksKv::database() const {
  MutexLock lock(mutex_);
  return database_;
}

Status RocksKv::Replace(const std::function<Status()>& swap) {
  std::shared_ptr<Database> closing;
  {
    MutexLock lock(mutex_);
    closing.swap(database_);
  }
  closing.reset();
  if (database_closed_.wait_for(kCloseTimeMax) != std::future_status::ready) {
    return Status(StatusCode::kBusy, "the database " + directory_ + " is still being read and cannot be replaced");
  }
  RETURN_IF_ERROR(swap());
  return OpenDatabase();
}

std::unique_ptr<KvView> RocksKv::View() const {
  std::shared_ptr<Database> held = database();
  if (held == nullptr) return std::make_unique<NoView>(directory_);
  rocksdb::DB* const db = held->db.get();
  return std::make_unique<RocksView>(std::shared_ptr<rocksdb::DB>(std::move(held), db));
}

Result<std::optional<std::string>> RocksKv::Get(std::string_view key) const {
  const std::shared_ptr<Database> held = database();
  if (held == nullptr) return Replacing(directory_);
  return GetAt(held->db.get(), nullptr, key);
}

Status RocksKv::Write(const KvBatch& batch) {
  const std::shared_ptr<Database> held = database();
  if (held == nullptr) return Replacing(directory_);
  rocksdb::WriteBatch changes;
  for (const KvBatch::Change& change : batch.changes) {
    const rocksdb::Status status =
        change.value ? changes.Put(ToSlice(change.key), ToSlice(*change.value)) : changes.Delete(ToSlice(change.key));
    RETURN_IF_ERROR(FromRocks(status, "write the database " + directory_));
  }
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  return FromRocks(held->db->Write(options, &changes), "write the database " + directory_);
}

Status RocksKv::Flush() {
  const std::shared_ptr<Database> held = database();
  if (held == nullptr) return Replacing(directory_);
  rocksdb::FlushOptions options;
  options.wait = true;
  options.allow_write_stall = true;
  return FromRocks(held->db->Flush(options), "flush the database " + directory_);
}

Status RocksKv::Checkpoint(const std::string& directory) {
  const std::shared_ptr<Database> held = database();
  if (held == nullptr) return Replacing(directory_);
  rocksdb::Checkpoint* raw = nullptr;
  const std::string what = "copy the database " + directory_ + " to " + directory;
  RETURN_IF_ERROR(FromRocks(rocksdb::Checkpoint::Create(held->db.get(), &raw), what));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(raw);
  return FromRocks(checkpoint->CreateCheckpoint(directory), what);
}

}  // namespace tarn::meta
