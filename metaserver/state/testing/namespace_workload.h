// Random namespace operations from a seed, for tests that compare states: many clash, some fail, all are legal to send.
//
// One thread.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "proto/metadata.pb.h"

namespace tarn::meta {

class NamespaceWorkload {
 public:
  explicit NamespaceWorkload(uint64_t seed) : engine_(seed) {}

  // What operations may name; the caller keeps it up to date from the replies.
  void AddDirectory(uint64_t inode) { directories_.push_back(inode); }
  void AddFile(const proto::Attributes& file) { files_.push_back(file); }

  // The next mutation, unsigned.
  proto::Mutation Next();
  // Learns from a reply what later mutations can name.
  void Learn(const proto::MutationReply& reply);

  uint64_t Below(uint64_t bound) { return engine_() % bound; }

 private:
  static constexpr size_t kDirectoriesMax = 8;

  std::string Name() { return "n" + std::to_string(Below(8)); }
  uint64_t Directory() { return directories_[Below(directories_.size())]; }
  proto::Attributes File() { return files_.empty() ? proto::Attributes() : files_[Below(files_.size())]; }
  void LearnDirectory(uint64_t inode);
  void MakeEntry(uint64_t kind, proto::Mutation* mutation);
  void ChangeEntry(uint64_t kind, proto::Mutation* mutation);
  void ChangeFile(uint64_t kind, proto::Mutation* mutation);

  std::mt19937_64 engine_;
  std::vector<uint64_t> directories_;
  std::vector<proto::Attributes> files_;
};

}  // namespace tarn::meta
