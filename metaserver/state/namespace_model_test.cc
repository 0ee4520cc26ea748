// Random operations against a plain model of a POSIX namespace: every answer, every link count and every counter must
// agree.
//
// A failing seed is printed; run it alone with TARN_TEST_SEED.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <set>

#include "metaserver/state/keys.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/records.h"
#include "metaserver/state/testing/namespace_workload.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

// What the namespace should be, in the simplest form: no link counts or sizes are kept, they follow from the names.
class Model {
 public:
  struct Inode {
    proto::FileType type = proto::FILE_TYPE_REGULAR;
    std::map<std::string, uint64_t> entries;  // directories
    uint64_t parent = 0;                      // directories
  };

  explicit Model(uint64_t root) : root_(root) { inodes_[root] = {proto::FILE_TYPE_DIRECTORY, {}, root}; }

  // The code the operation should give, `made` being the id it makes an inode with; what it should do is done.
  std::optional<StatusCode> Apply(const proto::Mutation& mutation, uint64_t made);

  const std::map<uint64_t, Inode>& inodes() const { return inodes_; }
  const std::set<uint64_t>& orphans() const { return orphans_; }

  uint64_t LinksOf(uint64_t inode) const {
    const Inode& record = inodes_.at(inode);
    uint64_t links = record.type == proto::FILE_TYPE_DIRECTORY ? 2 : 0;
    if (record.type == proto::FILE_TYPE_DIRECTORY) {
      for (const auto& [name, child] : record.entries) links += IsDirectory(child) ? 1 : 0;
      return links;
    }
    for (const auto& [id, other] : inodes_) {
      for (const auto& [name, child] : other.entries) links += child == inode ? 1 : 0;
    }
    return links;
  }

 private:
  bool IsDirectory(uint64_t inode) const { return inodes_.at(inode).type == proto::FILE_TYPE_DIRECTORY; }
  Inode* Directory(uint64_t inode) {
    const auto found = inodes_.find(inode);
    return found != inodes_.end() && IsDirectory(inode) ? &found->second : nullptr;
  }
  StatusCode Add(uint64_t parent, const std::string& name, proto::FileType type, uint64_t made) {
    Inode* directory = Directory(parent);
    if (directory == nullptr) return StatusCode::kNotFound;
    if (directory->entries.contains(name)) return StatusCode::kExists;
    directory->entries[name] = made;
    inodes_[made] = {type, {}, parent};
    return StatusCode::kOk;
  }
  void DropIfNameless(uint64_t inode, bool held_open) {
    if (LinksOf(inode) > 0) return;
    if (held_open) {
      orphans_.insert(inode);
    } else {
      inodes_.erase(inode);
    }
  }
  bool IsUnder(uint64_t directory, uint64_t ancestor) const {
    while (directory != ancestor && directory != root_) directory = inodes_.at(directory).parent;
    return directory == ancestor;
  }

  StatusCode Create(const proto::CreateOp& op, uint64_t made);
  StatusCode Link(const proto::LinkOp& op);
  StatusCode Unlink(const proto::UnlinkOp& op);
  StatusCode Rmdir(const proto::RmdirOp& op);
  StatusCode Rename(const proto::RenameOp& op);
  void Swap(Inode* from, Inode* to, const proto::RenameOp& op);

  const uint64_t root_;
  std::map<uint64_t, Inode> inodes_;
  std::set<uint64_t> orphans_;
};

StatusCode Model::Create(const proto::CreateOp& op, uint64_t made) {
  const StatusCode code = Add(op.parent(), op.name(), proto::FILE_TYPE_REGULAR, made);
  if (code != StatusCode::kExists || op.exclusive()) return code;
  const proto::FileType type = inodes_.at(Directory(op.parent())->entries.at(op.name())).type;
  if (type == proto::FILE_TYPE_REGULAR) return StatusCode::kOk;
  return type == proto::FILE_TYPE_DIRECTORY ? StatusCode::kIsDirectory : StatusCode::kExists;
}

StatusCode Model::Link(const proto::LinkOp& op) {
  Inode* directory = Directory(op.new_parent());
  if (directory == nullptr) return StatusCode::kNotFound;
  if (!inodes_.contains(op.inode())) return StatusCode::kStaleHandle;
  if (directory->entries.contains(op.new_name())) return StatusCode::kExists;
  if (orphans_.contains(op.inode())) return StatusCode::kNotFound;
  directory->entries[op.new_name()] = op.inode();
  return StatusCode::kOk;
}

StatusCode Model::Unlink(const proto::UnlinkOp& op) {
  Inode* directory = Directory(op.parent());
  if (directory == nullptr || !directory->entries.contains(op.name())) return StatusCode::kNotFound;
  const uint64_t inode = directory->entries[op.name()];
  if (IsDirectory(inode)) return StatusCode::kIsDirectory;
  directory->entries.erase(op.name());
  DropIfNameless(inode, op.held_open());
  return StatusCode::kOk;
}

StatusCode Model::Rmdir(const proto::RmdirOp& op) {
  Inode* directory = Directory(op.parent());
  if (directory == nullptr || !directory->entries.contains(op.name())) return StatusCode::kNotFound;
  const uint64_t inode = directory->entries[op.name()];
  if (!IsDirectory(inode)) return StatusCode::kNotDirectory;
  if (!inodes_.at(inode).entries.empty()) return StatusCode::kNotEmpty;
  directory->entries.erase(op.name());
  inodes_.erase(inode);
  return StatusCode::kOk;
}

void Model::Swap(Inode* from, Inode* to, const proto::RenameOp& op) {
  std::swap(from->entries[op.name()], to->entries[op.new_name()]);
  for (const auto& [parent, child] :
       {std::pair{op.parent(), from->entries[op.name()]}, {op.new_parent(), to->entries[op.new_name()]}}) {
    if (IsDirectory(child)) inodes_.at(child).parent = parent;
  }
}

StatusCode Model::Rename(const proto::RenameOp& op) {
  Inode* from = Directory(op.parent());
  Inode* to = Directory(op.new_parent());
  if (from == nullptr || to == nullptr || !from->entries.contains(op.name())) return StatusCode::kNotFound;
  const uint64_t source = from->entries[op.name()];
  const uint64_t target = to->entries.contains(op.new_name()) ? to->entries[op.new_name()] : 0;
  if (op.no_replace() && target != 0) return StatusCode::kExists;
  if (op.exchange() && target == 0) return StatusCode::kNotFound;
  if (from != to && IsDirectory(source) && IsUnder(op.new_parent(), source)) return StatusCode::kInvalidArgument;
  if (from != to && op.exchange() && IsDirectory(target) && IsUnder(op.parent(), target)) {
    return StatusCode::kInvalidArgument;
  }
  if (source == target) return StatusCode::kOk;
  if (op.exchange()) {
    Swap(from, to, op);
    return StatusCode::kOk;
  }
  if (target != 0 && IsDirectory(source) && !IsDirectory(target)) return StatusCode::kNotDirectory;
  if (target != 0 && !IsDirectory(source) && IsDirectory(target)) return StatusCode::kIsDirectory;
  if (target != 0 && IsDirectory(target) && !inodes_.at(target).entries.empty()) return StatusCode::kNotEmpty;
  from->entries.erase(op.name());
  to->entries[op.new_name()] = source;
  if (IsDirectory(source)) inodes_.at(source).parent = op.new_parent();
  if (target != 0 && IsDirectory(target)) {
    inodes_.erase(target);
  } else if (target != 0) {
    DropIfNameless(target, op.replaced_held_open());
  }
  return StatusCode::kOk;
}

std::optional<StatusCode> Model::Apply(const proto::Mutation& mutation, uint64_t made) {
  switch (mutation.op_case()) {
    case proto::Mutation::kCreate:
      return Create(mutation.create(), made);
    case proto::Mutation::kMkdir:
      return Add(mutation.mkdir().parent(), mutation.mkdir().name(), proto::FILE_TYPE_DIRECTORY, made);
    case proto::Mutation::kSymlink:
      return Add(mutation.symlink().parent(), mutation.symlink().name(), proto::FILE_TYPE_SYMLINK, made);
    case proto::Mutation::kLink:
      return Link(mutation.link());
    case proto::Mutation::kUnlink:
      return Unlink(mutation.unlink());
    case proto::Mutation::kRmdir:
      return Rmdir(mutation.rmdir());
    case proto::Mutation::kRename:
      return Rename(mutation.rename());
    case proto::Mutation::kReleaseOrphan:
      if (orphans_.erase(mutation.release_orphan().inode()) > 0) inodes_.erase(mutation.release_orphan().inode());
      return StatusCode::kOk;
    default:
      return std::nullopt;  // no matter of names
  }
}

void CompareInode(StateDriver* driver, const Model& model, uint64_t inode, uint64_t* bytes) {
  const Model::Inode& expected = model.inodes().at(inode);
  const proto::Attributes actual = driver->Attr(inode);
  EXPECT_EQ(actual.type(), expected.type);
  EXPECT_EQ(actual.nlink(), model.LinksOf(inode));
  if (actual.type() == proto::FILE_TYPE_REGULAR) *bytes += actual.size_bytes();
  if (actual.type() != proto::FILE_TYPE_DIRECTORY) return;
  EXPECT_EQ(actual.parent(), expected.parent);
  EXPECT_EQ(actual.size_bytes(), expected.entries.size());
  std::vector<std::string> names;
  for (const auto& [name, child] : expected.entries) {
    names.push_back(name);
    proto::Attributes found;
    ASSERT_EQ(driver->Lookup(inode, name, &found), StatusCode::kOk);
    EXPECT_EQ(found.inode(), child);
  }
  EXPECT_EQ(driver->Names(inode), names);
}

// Every key belongs to something that is there, and the counters are the sums.
void Compare(StateDriver* driver, const Model& model, const MemoryKv& store) {
  uint64_t bytes = 0;
  for (const auto& [inode, record] : model.inodes()) CompareInode(driver, model, inode, &bytes);
  EXPECT_EQ(driver->VolumeNow().used_bytes(), bytes);
  EXPECT_EQ(driver->VolumeNow().used_inodes(), model.inodes().size() - 1);
  std::set<uint64_t> orphans;
  uint64_t dead = 0;
  for (const auto& [key, value] : store.Snapshot()) {
    if (key[0] == 'I') {
      EXPECT_TRUE(model.inodes().contains(*ParseTrailingId(key)));
    }
    if (key[0] == 'X') {
      EXPECT_TRUE(model.inodes().contains(*ParseTrailingId(key.substr(0, 9))));
    }
    if (key[0] == 'O') orphans.insert(*ParseTrailingId(key));
    dead += key[0] == 'G' ? 1 : 0;
  }
  EXPECT_EQ(orphans, model.orphans());
  EXPECT_EQ(*driver->machine().CountDeadData(), dead);
}

void RunSeed(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  MemoryKv store;
  StateDriver driver(&store);
  driver.SetUpCluster();
  Model model(driver.root());
  NamespaceWorkload workload(seed);
  workload.AddDirectory(driver.root());
  for (int step = 0; step < 600; ++step) {
    proto::Mutation mutation = workload.Next();
    driver.Sign(&mutation);
    const proto::LogEntry entry = driver.Fill({mutation});
    const proto::MutationReply reply = driver.ApplyEntry(entry)[0];
    const auto expected = model.Apply(mutation, entry.commands(0).inode());
    if (expected) {
      ASSERT_EQ(CodeOf(reply), *expected) << "step " << step << ": " << mutation.ShortDebugString();
    }
    workload.Learn(reply);
    if (step % 100 == 99) Compare(&driver, model, store);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(NamespaceModel, EveryAnswerAgreesWithTheModel) {
  if (const char* seed = std::getenv("TARN_TEST_SEED"); seed != nullptr) {
    RunSeed(std::strtoull(seed, nullptr, 10));
    return;
  }
  for (uint64_t seed = 1; seed <= 60 && !HasFailure(); ++seed) RunSeed(seed);
}

}  // namespace
}  // namespace tarn::meta
