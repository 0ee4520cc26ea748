#include "chunkserver/store/index.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/merge_operator.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <cstring>
#include <utility>

#include "chunkserver/store/format.h"

namespace tarn::store {
namespace {

rocksdb::Slice SliceOf(std::string_view text) { return {text.data(), text.size()}; }
std::string_view ViewOf(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

Status FromRocks(const rocksdb::Status& status, std::string_view what) {
  if (status.ok()) return Status::Ok();
  const std::string text = "index: " + std::string(what) + ": " + status.ToString();
  if (status.IsCorruption()) return Status(StatusCode::kCorruption, text);
  if (status.IsNoSpace()) return Status(StatusCode::kNoSpace, text);
  return Status(StatusCode::kIoError, text);
}

std::string EncodeCount(int64_t count) { return std::string(reinterpret_cast<const char*>(&count), sizeof(count)); }

int64_t DecodeCount(std::string_view bytes) {
  int64_t count = 0;
  if (bytes.size() == sizeof(count)) std::memcpy(&count, bytes.data(), sizeof(count));
  return count;
}

// Adds signed 64-bit numbers: only the count of chunks is merged.
class AddCounts final : public rocksdb::AssociativeMergeOperator {
 public:
  bool Merge(const rocksdb::Slice&, const rocksdb::Slice* existing, const rocksdb::Slice& value, std::string* merged,
             rocksdb::Logger*) const override {
    const int64_t before = existing == nullptr ? 0 : DecodeCount(ViewOf(*existing));
    *merged = EncodeCount(before + DecodeCount(ViewOf(value)));
    return true;
  }
  const char* Name() const override { return "tarn.AddCounts"; }
};

rocksdb::Options OptionsFor(const IndexOptions& options) {
  rocksdb::Options rocks;
  rocks.create_if_missing = options.create_if_missing;
  rocks.paranoid_checks = true;
  rocks.merge_operator = std::make_shared<AddCounts>();
  // One column family and no write-ahead log: flushes then keep the order of the batches.
  rocks.avoid_flush_during_shutdown = true;
  rocks.write_buffer_size = 32u << 20;
  rocks.compression = rocksdb::kNoCompression;  // sums do not compress
  rocks.max_background_jobs = 2;
  rocks.max_open_files = 512;
  rocks.manifest_preallocation_size = 64u << 10;
  rocks.max_log_file_size = 1u << 20;
  rocks.keep_log_file_num = 2;
  rocks.stats_dump_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(options.block_cache_bytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.data_block_index_type = rocksdb::BlockBasedTableOptions::kDataBlockBinaryAndHash;
  table.cache_index_and_filter_blocks = true;
  rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return rocks;
}

}  // namespace

struct Index::Batch::Body {
  rocksdb::WriteBatch writes;
};

struct Index::Cursor::Body {
  std::unique_ptr<rocksdb::Iterator> it;
};

struct Index::Body {
  std::unique_ptr<rocksdb::DB> db;
};

Index::Batch::Batch() : body_(std::make_unique<Body>()) {}
Index::Batch::~Batch() = default;
Index::Batch::Batch(Batch&&) noexcept = default;
Index::Batch& Index::Batch::operator=(Batch&&) noexcept = default;

// A WriteBatch in memory has no way to fail.
void Index::Batch::Put(std::string_view key, std::string_view value) { (void)body_->writes.Put(SliceOf(key), SliceOf(value)); }
void Index::Batch::Delete(std::string_view key) { (void)body_->writes.Delete(SliceOf(key)); }
void Index::Batch::AddToChunkCount(int64_t change) {
  (void)body_->writes.Merge(SliceOf(kChunkCountKey), EncodeCount(change));
}
size_t Index::Batch::bytes() const { return body_->writes.GetDataSize(); }
bool Index::Batch::empty() const { return body_->writes.Count() == 0; }

Index::Index(std::unique_ptr<Body> body) : body_(std::move(body)) {}
Index::~Index() = default;

Result<std::unique_ptr<Index>> Index::Open(const IndexOptions& options) {
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(OptionsFor(options), options.path, &db);
  if (opened.IsInvalidArgument() && !options.create_if_missing) {
    return Status(StatusCode::kNotFound, "index " + options.path + ": " + opened.ToString());
  }
  if (!opened.ok()) return FromRocks(opened, "open " + options.path);
  auto body = std::make_unique<Body>();
  body->db.reset(db);
  return std::unique_ptr<Index>(new Index(std::move(body)));
}

Result<std::optional<std::string>> Index::Get(std::string_view key) const {
  std::string value;
  const rocksdb::Status got = body_->db->Get(rocksdb::ReadOptions(), SliceOf(key), &value);
  if (got.IsNotFound()) return std::optional<std::string>();
  if (!got.ok()) return FromRocks(got, "read");
  return std::optional<std::string>(std::move(value));
}

Status Index::ForEach(std::string_view prefix,
                      const std::function<Status(std::string_view key, std::string_view value)>& visit) const {
  const std::unique_ptr<rocksdb::Iterator> it(body_->db->NewIterator(rocksdb::ReadOptions()));
  for (it->Seek(SliceOf(prefix)); it->Valid() && it->key().starts_with(SliceOf(prefix)); it->Next()) {
    RETURN_IF_ERROR(visit(ViewOf(it->key()), ViewOf(it->value())));
  }
  return FromRocks(it->status(), "list");
}

Index::Cursor::Cursor(std::unique_ptr<Body> body) : body_(std::move(body)) {}
Index::Cursor::Cursor(Cursor&&) noexcept = default;
Index::Cursor& Index::Cursor::operator=(Cursor&&) noexcept = default;
Index::Cursor::~Cursor() = default;
void Index::Cursor::Seek(std::string_view key) { body_->it->Seek(SliceOf(key)); }
void Index::Cursor::Next() { body_->it->Next(); }
bool Index::Cursor::IsWithin(std::string_view prefix) const {
  return body_->it->Valid() && body_->it->key().starts_with(SliceOf(prefix));
}
std::string_view Index::Cursor::key() const { return ViewOf(body_->it->key()); }
std::string_view Index::Cursor::value() const { return ViewOf(body_->it->value()); }
Status Index::Cursor::status() const { return FromRocks(body_->it->status(), "list"); }

Index::Cursor Index::MakeCursor() const {
  auto body = std::make_unique<Cursor::Body>();
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  body->it.reset(body_->db->NewIterator(options));
  return Cursor(std::move(body));
}

Result<uint64_t> Index::ChunkCount() const {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, Get(kChunkCountKey));
  const int64_t count = value ? DecodeCount(*value) : 0;
  return static_cast<uint64_t>(count > 0 ? count : 0);
}

Status Index::Apply(Batch batch) {
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  return FromRocks(body_->db->Write(options, &batch.body_->writes), "write");
}

Status Index::Flush() {
  rocksdb::FlushOptions options;
  options.wait = true;
  rocksdb::Status flushed = body_->db->Flush(options);
  // After a full disk RocksDB waits to be told that there is room again.
  if (!flushed.ok() && body_->db->Resume().ok()) flushed = body_->db->Flush(options);
  return FromRocks(flushed, "flush");
}

}  // namespace tarn::store
