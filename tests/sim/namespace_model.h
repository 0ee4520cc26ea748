// What the namespace should be after each log entry, in the simplest form, and what each command should answer.
//
// Written apart from the state machine, so that the two do not share a mistake: it keeps names only; link counts, sizes
// and parents follow from them. Commands that were answered before (same session and sequence) are not given to it.
// Value type: the oracle keeps one per log entry.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "proto/metadata.pb.h"
#include "proto/state.pb.h"

namespace tarn::sim {

class NamespaceModel {
 public:
  struct Inode {
    proto::FileType type = proto::FILE_TYPE_REGULAR;
    uint32_t mode = 0;
    std::map<std::string, uint64_t> entries;  // directories
    uint64_t parent = 0;                      // directories
  };
  // The answers that are right.
  struct Expected {
    std::vector<StatusCode> codes;
    uint64_t inode = 0;  // of the attributes in the answer, if ok; 0: not checked
  };

  void SetRoot(uint64_t root);
  // nullopt: no matter of names.
  std::optional<Expected> Apply(const proto::LogCommand& command);

  // Empty if the answer to the read is right, else what is wrong with it. A look-up reads the name, then the attributes:
  // CheckLookup is about the name and the inode that it led to, CheckFound about the attributes.
  std::string CheckLookup(const proto::LookupRequest& request, StatusCode code, uint64_t found) const;
  std::string CheckFound(const proto::Attributes& found) const;
  std::string CheckGetAttr(const proto::GetAttrRequest& request, StatusCode code, const proto::Attributes& found) const;
  std::string CheckReadDir(const proto::ReadDirRequest& request, StatusCode code,
                           const proto::ReadDirReply& found) const;

  const std::map<uint64_t, Inode>& inodes() const { return inodes_; }
  uint64_t LinksOf(uint64_t inode) const;

 private:
  bool IsDirectory(uint64_t inode) const;
  Inode* Directory(uint64_t inode);
  Expected Add(uint64_t parent, const std::string& name, proto::FileType type, uint32_t mode, uint64_t made);
  Expected Create(const proto::CreateOp& op, uint64_t made);
  Expected Link(const proto::LinkOp& op);
  Expected Unlink(const proto::UnlinkOp& op);
  Expected Rmdir(const proto::RmdirOp& op);
  Expected Rename(const proto::RenameOp& op);
  Expected SetAttr(const proto::SetAttrOp& op);
  void DropIfNameless(uint64_t inode);
  bool IsUnder(uint64_t directory, uint64_t ancestor) const;
  std::string CheckAttributes(const proto::Attributes& found) const;

  uint64_t root_ = 0;
  std::map<uint64_t, Inode> inodes_;
  // Files without a name: they are there as long as somebody has them open, which is not modelled.
  std::set<uint64_t> nameless_;
};

}  // namespace tarn::sim
