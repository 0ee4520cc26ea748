#include "tests/exactly_once/cases.h"

#include <functional>
#include <optional>
#include <utility>

#include "proto/types.pb.h"

namespace tarn::testing {
namespace {

using proto::Mutation;

constexpr uint64_t kFileBytes = 100'000;
constexpr uint64_t kCutBytes = 10;

// Most operations: one mutation in the actor's directory, and looks at what is there afterwards.
class Change final : public Case {
 public:
  struct Steps {
    std::function<void(Change&, Actor&)> prepare = [](Change&, Actor&) {};
    std::function<void(Change&, Actor&, Mutation*)> fill;  // the operation
    // After a reply without an error.
    std::function<std::string(Change&, Actor&, const proto::MutationReply&)> check;
    StatusCode wanted = StatusCode::kOk;
    uint64_t entries_gained = 0;  // of the directory; wraps around for losses
  };

  Change(std::string operation, Steps steps) : Case(std::move(operation)), steps_(std::move(steps)) {}

  void Prepare(Cast& cast) override {
    steps_.prepare(*this, *cast.actor);
    entries_before_ = cast.actor->Get(cast.actor->directory())->size_bytes();
  }
  void Act(Cast& cast) override {
    Mutation mutation;
    steps_.fill(*this, *cast.actor, &mutation);
    reply_ = cast.actor->Mutate(mutation);
  }
  std::string Check(Cast& cast) override {
    if (!reply_.has_value()) return "it was not done";
    if (reply_->status().code() != steps_.wanted) return "the answer is " + reply_->status().ToString();
    const uint64_t entries = cast.actor->Get(cast.actor->directory())->size_bytes();
    if (entries != entries_before_ + steps_.entries_gained)
      return "the directory had " + std::to_string(entries_before_) + " entries and has " + std::to_string(entries);
    return steps_.check(*this, *cast.actor, reply_->ok() ? **reply_ : proto::MutationReply());
  }

  // What the steps hand on.
  proto::Attributes file;
  proto::Attributes second;

 private:
  const Steps steps_;
  uint64_t entries_before_ = 0;
  std::optional<Result<proto::MutationReply>> reply_;
};

Mutation CreateOf(Actor& actor, const std::string& name) {
  Mutation mutation;
  mutation.mutable_create()->set_parent(actor.directory());
  mutation.mutable_create()->set_name(name);
  mutation.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
  mutation.mutable_create()->set_mode(0644);
  mutation.mutable_create()->set_exclusive(true);
  return mutation;
}

Mutation MkdirOf(uint64_t parent, const std::string& name) {
  Mutation mutation;
  mutation.mutable_mkdir()->set_parent(parent);
  mutation.mutable_mkdir()->set_name(name);
  mutation.mutable_mkdir()->set_mode(0755);
  return mutation;
}

Mutation LinkOf(Actor& actor, uint64_t inode, const std::string& name) {
  Mutation mutation;
  mutation.mutable_link()->set_inode(inode);
  mutation.mutable_link()->set_new_parent(actor.directory());
  mutation.mutable_link()->set_new_name(name);
  return mutation;
}

Mutation UnlinkOf(Actor& actor, const std::string& name) {
  Mutation mutation;
  mutation.mutable_unlink()->set_parent(actor.directory());
  mutation.mutable_unlink()->set_name(name);
  return mutation;
}

Mutation RenameOf(Actor& actor, const std::string& from, const std::string& to) {
  Mutation mutation;
  mutation.mutable_rename()->set_parent(actor.directory());
  mutation.mutable_rename()->set_name(from);
  mutation.mutable_rename()->set_new_parent(actor.directory());
  mutation.mutable_rename()->set_new_name(to);
  return mutation;
}

Mutation CommitOf(const proto::Attributes& file) {
  Mutation mutation;
  mutation.mutable_commit_write()->set_inode(file.inode());
  mutation.mutable_commit_write()->set_data_id(file.data_id());
  mutation.mutable_commit_write()->set_truncate_generation(file.truncate_generation());
  mutation.mutable_commit_write()->set_min_size_bytes(kFileBytes);
  return mutation;
}

Mutation AllocateOf(const proto::Attributes& file) {
  Mutation mutation;
  mutation.mutable_allocate_data()->set_inode(file.inode());
  return mutation;
}

Mutation TruncateOf(const proto::Attributes& file) {
  Mutation mutation;
  mutation.mutable_truncate()->set_inode(file.inode());
  mutation.mutable_truncate()->set_size_bytes(kCutBytes);
  return mutation;
}

void MakeFile(Change& change, Actor& actor) { change.file = actor.Must(CreateOf(actor, "file")).attributes(); }

void MakeTwoFiles(Change& change, Actor& actor) {
  MakeFile(change, actor);
  change.second = actor.Must(CreateOf(actor, "second")).attributes();
}

// With a data id, and so a size; no bytes lie anywhere.
void MakeWrittenFile(Change& change, Actor& actor) {
  MakeFile(change, actor);
  change.file = actor.Must(AllocateOf(change.file)).attributes();
  change.file = actor.Must(CommitOf(change.file)).attributes();
}

std::string Differs(const char* what, uint64_t wanted, uint64_t found) {
  if (wanted == found) return "";
  return std::string(what) + " is " + std::to_string(found) + ", not " + std::to_string(wanted);
}

// Exactly one change of the inode, whose outcome is what the reply says.
std::string ChangedOnce(Change& change, Actor& actor, const proto::MutationReply& reply) {
  const auto now = actor.Get(change.file.inode());
  if (!now) return "the file is gone";
  if (auto wrong = Differs("its change number", change.file.change() + 1, now->change()); !wrong.empty()) return wrong;
  return Differs("the change number of the reply", now->change(), reply.attributes().change());
}

std::string IsNamed(Actor& actor, const std::string& name, uint64_t inode, uint64_t links) {
  const auto found = actor.Find(name);
  if (!found) return name + " is missing";
  if (auto wrong = Differs((name + "'s inode").c_str(), inode, found->inode()); !wrong.empty()) return wrong;
  return Differs((name + "'s link count").c_str(), links, found->nlink());
}

std::string IsAbsent(Actor& actor, const std::string& name) { return actor.Find(name) ? name + " is there" : ""; }

std::string FirstOf(std::initializer_list<std::string> wrongs) {
  for (const std::string& wrong : wrongs) {
    if (!wrong.empty()) return wrong;
  }
  return "";
}

CasePtr Make(std::string operation, Change::Steps steps) { return std::make_unique<Change>(std::move(operation), std::move(steps)); }

void AddCreations(std::vector<CasePtr>* cases) {
  cases->push_back(Make("create", {.fill = [](Change&, Actor& actor, Mutation* mutation) { *mutation = CreateOf(actor, "new"); },
                                   .check =
                                       [](Change&, Actor& actor, const proto::MutationReply& reply) {
                                         if (!reply.created()) return std::string("it says that it was there before");
                                         return IsNamed(actor, "new", reply.attributes().inode(), 1);
                                       },
                                   .entries_gained = 1}));
  cases->push_back(Make("create", {.fill =
                                       [](Change&, Actor& actor, Mutation* mutation) {
                                         *mutation = CreateOf(actor, "new");
                                         mutation->mutable_create()->set_exclusive(false);
                                       },
                                   .check =
                                       [](Change&, Actor& actor, const proto::MutationReply& reply) {
                                         if (!reply.created()) return std::string("it says that it was there before");
                                         return IsNamed(actor, "new", reply.attributes().inode(), 1);
                                       },
                                   .entries_gained = 1}));
  // An error is an answer as well.
  cases->push_back(Make("create", {.prepare = MakeFile,
                                   .fill = [](Change&, Actor& actor, Mutation* mutation) { *mutation = CreateOf(actor, "file"); },
                                   .check = [](Change& change, Actor& actor,
                                               const proto::MutationReply&) { return IsNamed(actor, "file", change.file.inode(), 1); },
                                   .wanted = StatusCode::kExists}));
  cases->push_back(Make("mkdir", {.fill = [](Change&, Actor& actor, Mutation* mutation) { *mutation = MkdirOf(actor.directory(), "new"); },
                                  .check =
                                      [](Change&, Actor& actor, const proto::MutationReply& reply) {
                                        return FirstOf({IsNamed(actor, "new", reply.attributes().inode(), 2),
                                                        Differs("the directory's link count", 3, actor.Get(actor.directory())->nlink())});
                                      },
                                  .entries_gained = 1}));
  cases->push_back(Make("symlink", {.fill =
                                        [](Change&, Actor& actor, Mutation* mutation) {
                                          mutation->mutable_symlink()->set_parent(actor.directory());
                                          mutation->mutable_symlink()->set_name("new");
                                          mutation->mutable_symlink()->set_target("elsewhere");
                                        },
                                    .check = [](Change&, Actor& actor, const proto::MutationReply& reply) { return IsNamed(actor, "new", reply.attributes().inode(), 1); },
                                    .entries_gained = 1}));
  cases->push_back(Make("link", {.prepare = MakeFile,
                                 .fill = [](Change& change, Actor& actor, Mutation* mutation) { *mutation = LinkOf(actor, change.file.inode(), "new"); },
                                 .check =
                                     [](Change& change, Actor& actor, const proto::MutationReply&) {
                                       return FirstOf({IsNamed(actor, "new", change.file.inode(), 2), IsNamed(actor, "file", change.file.inode(), 2)});
                                     },
                                 .entries_gained = 1}));
}

void AddRemovals(std::vector<CasePtr>* cases) {
  const uint64_t one_less = static_cast<uint64_t>(-1);
  cases->push_back(Make("unlink", {.prepare = MakeFile,
                                   .fill = [](Change&, Actor& actor, Mutation* mutation) { *mutation = UnlinkOf(actor, "file"); },
                                   .check = [](Change&, Actor& actor, const proto::MutationReply&) { return IsAbsent(actor, "file"); },
                                   .entries_gained = one_less}));
  cases->push_back(Make("unlink", {.prepare =
                                       [](Change& change, Actor& actor) {
                                         MakeFile(change, actor);
                                         actor.Must(LinkOf(actor, change.file.inode(), "kept"));
                                       },
                                   .fill = [](Change&, Actor& actor, Mutation* mutation) { *mutation = UnlinkOf(actor, "file"); },
                                   .check =
                                       [](Change& change, Actor& actor, const proto::MutationReply&) {
                                         return FirstOf({IsAbsent(actor, "file"), IsNamed(actor, "kept", change.file.inode(), 1)});
                                       },
                                   .entries_gained = one_less}));
  cases->push_back(Make("rmdir", {.prepare = [](Change&, Actor& actor) { actor.Must(MkdirOf(actor.directory(), "old")); },
                                  .fill =
                                      [](Change&, Actor& actor, Mutation* mutation) {
                                        mutation->mutable_rmdir()->set_parent(actor.directory());
                                        mutation->mutable_rmdir()->set_name("old");
                                      },
                                  .check =
                                      [](Change&, Actor& actor, const proto::MutationReply&) {
                                        return FirstOf({IsAbsent(actor, "old"), Differs("the directory's link count", 2, actor.Get(actor.directory())->nlink())});
                                      },
                                  .entries_gained = one_less}));
  cases->push_back(Make("remove_tree", {.prepare =
                                            [](Change&, Actor& actor) {
                                              const uint64_t top = actor.Must(MkdirOf(actor.directory(), "old")).attributes().inode();
                                              actor.Must(MkdirOf(top, "below"));
                                            },
                                        .fill =
                                            [](Change&, Actor& actor, Mutation* mutation) {
                                              mutation->mutable_remove_tree()->set_parent(actor.directory());
                                              mutation->mutable_remove_tree()->set_name("old");
                                            },
                                        .check = [](Change&, Actor& actor, const proto::MutationReply&) { return IsAbsent(actor, "old"); },
                                        .entries_gained = one_less}));
  cases->push_back(Make("release_orphan", {.prepare =
                                               [](Change& change, Actor& actor) {
                                                 MakeFile(change, actor);
                                                 Mutation unlink = UnlinkOf(actor, "file");
                                                 unlink.mutable_unlink()->set_held_open(true);
                                                 actor.Must(unlink);
                                                 CHECK(actor.Get(change.file.inode()).has_value(), "it is held");
                                               },
                                           .fill = [](Change& change, Actor&, Mutation* mutation) { mutation->mutable_release_orphan()->set_inode(change.file.inode()); },
                                           .check =
                                               [](Change& change, Actor& actor, const proto::MutationReply&) {
                                                 return actor.Get(change.file.inode()) ? std::string("it is still there") : std::string();
                                               }}));
}

void AddRenames(std::vector<CasePtr>* cases) {
  cases->push_back(Make("rename", {.prepare = MakeFile,
                                   .fill =
                                       [](Change&, Actor& actor, Mutation* mutation) {
                                         *mutation = RenameOf(actor, "file", "new");
                                         mutation->mutable_rename()->set_no_replace(true);
                                       },
                                   .check =
                                       [](Change& change, Actor& actor, const proto::MutationReply&) {
                                         return FirstOf({IsAbsent(actor, "file"), IsNamed(actor, "new", change.file.inode(), 1)});
                                       }}));
  cases->push_back(Make("rename", {.prepare = MakeTwoFiles,
                                   .fill = [](Change&, Actor& actor, Mutation* mutation) { *mutation = RenameOf(actor, "file", "second"); },
                                   .check =
                                       [](Change& change, Actor& actor, const proto::MutationReply& reply) {
                                         return FirstOf({IsAbsent(actor, "file"), IsNamed(actor, "second", change.file.inode(), 1),
                                                         Differs("what was replaced", change.second.inode(), reply.removed().inode()),
                                                         Differs("its link count", 0, reply.removed().nlink())});
                                       },
                                   .entries_gained = static_cast<uint64_t>(-1)}));
  // Done twice it would not be done at all.
  cases->push_back(Make("rename", {.prepare = MakeTwoFiles,
                                   .fill =
                                       [](Change&, Actor& actor, Mutation* mutation) {
                                         *mutation = RenameOf(actor, "file", "second");
                                         mutation->mutable_rename()->set_exchange(true);
                                       },
                                   .check =
                                       [](Change& change, Actor& actor, const proto::MutationReply&) {
                                         return FirstOf({IsNamed(actor, "file", change.second.inode(), 1), IsNamed(actor, "second", change.file.inode(), 1)});
                                       }}));
}

void AddAttributes(std::vector<CasePtr>* cases) {
  cases->push_back(Make("set_attr", {.prepare = MakeFile,
                                     .fill =
                                         [](Change& change, Actor&, Mutation* mutation) {
                                           mutation->mutable_set_attr()->set_inode(change.file.inode());
                                           mutation->mutable_set_attr()->set_mode(0600);
                                         },
                                     .check = ChangedOnce}));
  cases->push_back(Make("set_xattr", {.prepare = MakeFile,
                                      .fill =
                                          [](Change& change, Actor&, Mutation* mutation) {
                                            mutation->mutable_set_xattr()->set_inode(change.file.inode());
                                            mutation->mutable_set_xattr()->set_name("user.a");
                                            mutation->mutable_set_xattr()->set_value("1");
                                            mutation->mutable_set_xattr()->set_create_only(true);
                                          },
                                      .check =
                                          [](Change& change, Actor& actor, const proto::MutationReply&) {
                                            proto::GetXattrRequest request;
                                            request.set_inode(change.file.inode());
                                            request.set_name("user.a");
                                            const auto value = actor.Read<proto::GetXattrReply>(rpc::Method::kGetXattr, request);
                                            return value.ok() && value->value() == "1" ? std::string() : std::string("it is not there");
                                          }}));
  cases->push_back(Make("remove_xattr", {.prepare =
                                             [](Change& change, Actor& actor) {
                                               MakeFile(change, actor);
                                               Mutation set;
                                               set.mutable_set_xattr()->set_inode(change.file.inode());
                                               set.mutable_set_xattr()->set_name("user.a");
                                               actor.Must(set);
                                             },
                                         .fill =
                                             [](Change& change, Actor&, Mutation* mutation) {
                                               mutation->mutable_remove_xattr()->set_inode(change.file.inode());
                                               mutation->mutable_remove_xattr()->set_name("user.a");
                                             },
                                         .check =
                                             [](Change& change, Actor& actor, const proto::MutationReply&) {
                                               return actor.Get(change.file.inode())->has_xattrs() ? std::string("it is still there") : std::string();
                                             }}));
}

void AddData(std::vector<CasePtr>* cases) {
  cases->push_back(Make("allocate_data", {.prepare = MakeFile,
                                          .fill = [](Change& change, Actor&, Mutation* mutation) { *mutation = AllocateOf(change.file); },
                                          .check =
                                              [](Change& change, Actor& actor, const proto::MutationReply& reply) {
                                                return FirstOf({ChangedOnce(change, actor, reply),
                                                                Differs("its data id", reply.attributes().data_id(), actor.Get(change.file.inode())->data_id())});
                                              }}));
  cases->push_back(Make("commit_write", {.prepare =
                                             [](Change& change, Actor& actor) {
                                               MakeFile(change, actor);
                                               change.file = actor.Must(AllocateOf(change.file)).attributes();
                                             },
                                         .fill = [](Change& change, Actor&, Mutation* mutation) { *mutation = CommitOf(change.file); },
                                         .check =
                                             [](Change& change, Actor& actor, const proto::MutationReply& reply) {
                                               const proto::Attributes now = actor.Get(change.file.inode()).value_or(proto::Attributes());
                                               return FirstOf({ChangedOnce(change, actor, reply), Differs("its size", kFileBytes, now.size_bytes()),
                                                               Differs("its data generation", change.file.data_generation() + 1, now.data_generation())});
                                             }}));
  cases->push_back(Make("truncate", {.prepare = MakeWrittenFile,
                                     .fill = [](Change& change, Actor&, Mutation* mutation) { *mutation = TruncateOf(change.file); },
                                     .check =
                                         [](Change& change, Actor& actor, const proto::MutationReply& reply) {
                                           const proto::Attributes now = actor.Get(change.file.inode()).value_or(proto::Attributes());
                                           return FirstOf({ChangedOnce(change, actor, reply), Differs("its size", kCutBytes, now.size_bytes()),
                                                           Differs("its truncate generation", change.file.truncate_generation() + 1, now.truncate_generation())});
                                         }}));
  cases->push_back(Make("truncate_done", {.prepare =
                                              [](Change& change, Actor& actor) {
                                                MakeWrittenFile(change, actor);
                                                change.file = actor.Must(TruncateOf(change.file)).attributes();
                                              },
                                          .fill =
                                              [](Change& change, Actor&, Mutation* mutation) {
                                                mutation->mutable_truncate_done()->set_inode(change.file.inode());
                                                mutation->mutable_truncate_done()->set_truncate_generation(change.file.truncate_generation());
                                              },
                                          .check =
                                              [](Change& change, Actor& actor, const proto::MutationReply& reply) {
                                                const proto::Attributes now = actor.Get(change.file.inode()).value_or(proto::Attributes());
                                                return FirstOf({ChangedOnce(change, actor, reply), now.truncate_pending() ? "it is still pending" : ""});
                                              }}));
  cases->push_back(Make("reserve_data_ids", {.fill =
                                                 [](Change&, Actor& actor, Mutation* mutation) {
                                                   mutation->mutable_reserve_data_ids()->set_volume(actor.Get(actor.directory())->volume());
                                                   mutation->mutable_reserve_data_ids()->set_count(4);
                                                 },
                                             .check =
                                                 [](Change&, Actor& actor, const proto::MutationReply& reply) {
                                                   // The ids of the reply are those that are reserved.
                                                   Mutation create = CreateOf(actor, "brought-in");
                                                   create.mutable_create()->set_data_id(reply.first_data_id() + reply.data_id_count() - 1);
                                                   *create.mutable_create()->mutable_layout() = reply.layout_template();
                                                   const auto made = actor.Mutate(create);
                                                   return made.ok() ? Differs("their number", 4, reply.data_id_count()) : made.status().ToString();
                                                 }}));
}

}  // namespace

std::vector<CasePtr> NamespaceCases() {
  std::vector<CasePtr> cases;
  AddCreations(&cases);
  AddRemovals(&cases);
  AddRenames(&cases);
  AddAttributes(&cases);
  AddData(&cases);
  return cases;
}

}  // namespace tarn::testing
