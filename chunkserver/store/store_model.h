// For tests: what a chunk store must show, kept in memory, and what it may show after a crash.
//
// For each chunk the model remembers every state since the last commit, in order. After a crash the chunk must be in one of them: the writes of
// a chunk survive as a prefix, at least up to the commit.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_store.h"

namespace tarn::store {

struct ModelChunk {
  std::string bytes;
  uint64_t truncate_generation = 0;
  bool exists = false;
  friend bool operator==(const ModelChunk&, const ModelChunk&) = default;
};

// One thread.
class StoreModel {
 public:
  const ModelChunk& Current(ChunkId id) { return History(id).back(); }
  void Write(ChunkId id, uint64_t offset, std::string_view bytes, const TruncateView& view);
  void Truncate(ChunkId id, const TruncateView& view);
  void Delete(DataId data);
  void Committed();

  // Compares every chunk with the store. Empty: all is as it must be; else what is not.
  std::string Compare(ChunkStore* store);
  // After a crash: takes over which of the allowed states each chunk is in.
  std::string CompareAfterCrash(ChunkStore* store);

  std::vector<ChunkId> chunks() const;

 private:
  std::vector<ModelChunk>& History(ChunkId id);
  static void Cut(ModelChunk* chunk, const TruncateView& view);
  std::map<ChunkId, std::vector<ModelChunk>> histories_;
};

// The whole chunk as the store shows it, its sums checked. An error text goes to `problem`.
std::string ReadWholeChunk(ChunkStore* store, ChunkId id, std::string* problem);
// Any range, as a client would read it.
std::string ReadRange(ChunkStore* store, const ReadRequest& request, std::string* problem);

}  // namespace tarn::store
