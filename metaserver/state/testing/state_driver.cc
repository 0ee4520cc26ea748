#include "metaserver/state/testing/state_driver.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace tarn::meta {

StateDriver::StateDriver(KvStore* store) : store_(store) { Reopen(); }

void StateDriver::Reopen() {
  auto opened = StateMachine::Open(store_);
  CHECK(opened.ok(), opened.status().ToString());
  machine_ = std::move(opened).value();
}

void StateDriver::SetUpCluster() {
  proto::Mutation init;
  init.mutable_init_cluster()->set_cluster_id("cluster-1");
  CHECK(RunAsLeader(init).status() == 0, "init");
  proto::Mutation registration;
  auto* request = registration.mutable_register_server()->mutable_request();
  request->set_address("127.0.0.1:7410");
  request->set_incarnation(77);
  for (int i = 0; i < 3; ++i) {
    auto* target = request->add_targets();
    target->set_capacity_bytes(1 << 30);
    target->set_available_bytes(1 << 29);
  }
  CHECK(RunAsLeader(registration).status() == 0, "register");
  proto::Mutation groups;
  for (uint32_t id = 1; id <= 6; ++id) {
    groups.mutable_add_groups()->add_groups()->add_targets(1 + (id - 1) % 3);
    groups.mutable_add_groups()->mutable_group_set()->add_groups(id);
  }
  CHECK(RunAsLeader(groups).status() == 0, "groups");
  proto::Mutation volume;
  volume.mutable_create_volume()->mutable_volume()->set_name("v");
  const proto::MutationReply made = RunAsLeader(volume);
  CHECK(made.status() == 0, made.message());
  root_ = made.volume().root();
  volume_ = made.volume().id();
  proto::Mutation open;
  open.mutable_open_session()->set_nonce(4711);
  open.mutable_open_session()->set_client_name("test");
  open.mutable_open_session()->set_volume(volume_);
  session_ = RunAsLeader(open).session();
  CHECK(session_ != 0, "session");
}

proto::LogEntry StateDriver::Fill(const std::vector<proto::Mutation>& mutations) {
  proto::LogEntry entry;
  entry.set_version(1);
  for (const proto::Mutation& mutation : mutations) {
    proto::LogCommand* command = entry.add_commands();
    *command->mutable_mutation() = mutation;
    now_ns_ += 1000;
    command->set_time_ns(now_ns_);
    command->set_random_seed(static_cast<uint64_t>(now_ns_) * 0x9E3779B97F4A7C15ull);
    if (NeedsInodeId(mutation)) command->set_inode(ComposeId(0, 0, next_inode_++));
    if (const uint32_t count = DataIdsNeeded(mutation); count > 0) {
      command->set_data_id(ComposeId(0, 0, next_data_id_));
      next_data_id_ += count;
    }
  }
  return entry;
}

std::vector<proto::MutationReply> StateDriver::ApplyEntry(const proto::LogEntry& entry) {
  auto replies = machine_->Apply(entry);
  CHECK(replies.ok(), replies.status().ToString());
  log_.push_back(entry);
  return std::move(replies).value();
}

std::vector<proto::MutationReply> StateDriver::ApplyAll(const std::vector<proto::Mutation>& mutations) {
  return ApplyEntry(Fill(mutations));
}

void StateDriver::Sign(proto::Mutation* mutation) {
  mutation->set_session(session_);
  mutation->set_sequence(next_sequence_);
  mutation->set_acked_through(next_sequence_ - 1);
  ++next_sequence_;
}

proto::MutationReply StateDriver::Run(proto::Mutation mutation) {
  Sign(&mutation);
  return ApplyAll({mutation}).front();
}

proto::MutationReply StateDriver::RunAsLeader(const proto::Mutation& mutation) { return ApplyAll({mutation}).front(); }

proto::MutationReply StateDriver::Create(uint64_t parent, std::string_view name, uint32_t mode) {
  proto::Mutation mutation;
  auto* op = mutation.mutable_create();
  op->set_parent(parent);
  op->set_name(std::string(name));
  op->set_type(proto::FILE_TYPE_REGULAR);
  op->set_mode(mode);
  op->set_exclusive(true);
  return Run(std::move(mutation));
}

proto::MutationReply StateDriver::Mkdir(uint64_t parent, std::string_view name, uint32_t mode) {
  proto::Mutation mutation;
  mutation.mutable_mkdir()->set_parent(parent);
  mutation.mutable_mkdir()->set_name(std::string(name));
  mutation.mutable_mkdir()->set_mode(mode);
  return Run(std::move(mutation));
}

proto::MutationReply StateDriver::Unlink(uint64_t parent, std::string_view name, bool held_open) {
  proto::Mutation mutation;
  mutation.mutable_unlink()->set_parent(parent);
  mutation.mutable_unlink()->set_name(std::string(name));
  mutation.mutable_unlink()->set_held_open(held_open);
  return Run(std::move(mutation));
}

proto::MutationReply StateDriver::Rmdir(uint64_t parent, std::string_view name) {
  proto::Mutation mutation;
  mutation.mutable_rmdir()->set_parent(parent);
  mutation.mutable_rmdir()->set_name(std::string(name));
  return Run(std::move(mutation));
}

proto::MutationReply StateDriver::Link(uint64_t inode, uint64_t new_parent, std::string_view new_name) {
  proto::Mutation mutation;
  mutation.mutable_link()->set_inode(inode);
  mutation.mutable_link()->set_new_parent(new_parent);
  mutation.mutable_link()->set_new_name(std::string(new_name));
  return Run(std::move(mutation));
}

proto::MutationReply StateDriver::Symlink(uint64_t parent, std::string_view name, std::string_view target) {
  proto::Mutation mutation;
  mutation.mutable_symlink()->set_parent(parent);
  mutation.mutable_symlink()->set_name(std::string(name));
  mutation.mutable_symlink()->set_target(std::string(target));
  return Run(std::move(mutation));
}

proto::MutationReply StateDriver::Rename(uint64_t parent, std::string_view name, uint64_t new_parent,
                                         std::string_view new_name) {
  proto::Mutation mutation;
  mutation.mutable_rename()->set_parent(parent);
  mutation.mutable_rename()->set_name(std::string(name));
  mutation.mutable_rename()->set_new_parent(new_parent);
  mutation.mutable_rename()->set_new_name(std::string(new_name));
  return Run(std::move(mutation));
}

proto::Attributes StateDriver::CreateWithData(uint64_t parent, std::string_view name, uint64_t size_bytes) {
  const proto::MutationReply created = Create(parent, name);
  CHECK(created.status() == 0, created.message());
  proto::Mutation allocate;
  allocate.mutable_allocate_data()->set_inode(created.attributes().inode());
  const proto::MutationReply allocated = Run(allocate);
  CHECK(allocated.status() == 0, allocated.message());
  const proto::MutationReply committed = Commit(allocated.attributes(), size_bytes);
  CHECK(committed.status() == 0, committed.message());
  return committed.attributes();
}

proto::MutationReply StateDriver::Commit(const proto::Attributes& file, uint64_t min_size_bytes) {
  proto::Mutation mutation;
  auto* op = mutation.mutable_commit_write();
  op->set_inode(file.inode());
  op->set_data_id(file.data_id());
  op->set_truncate_generation(file.truncate_generation());
  op->set_min_size_bytes(min_size_bytes);
  return Run(std::move(mutation));
}

proto::MutationReply StateDriver::Truncate(uint64_t inode, uint64_t size_bytes) {
  proto::Mutation mutation;
  mutation.mutable_truncate()->set_inode(inode);
  mutation.mutable_truncate()->set_size_bytes(size_bytes);
  return Run(std::move(mutation));
}

StatusCode StateDriver::Lookup(uint64_t parent, std::string_view name, proto::Attributes* attributes) {
  proto::LookupRequest request;
  request.set_parent(parent);
  request.set_name(std::string(name));
  proto::LookupReply reply;
  const Status status = machine_->Lookup(request, &reply);
  if (status.ok() && attributes != nullptr) *attributes = reply.attributes();
  return status.code();
}

proto::Attributes StateDriver::Attr(uint64_t inode) {
  proto::GetAttrRequest request;
  request.set_inode(inode);
  proto::GetAttrReply reply;
  const Status status = machine_->GetAttr(request, &reply);
  CHECK(status.ok(), status.ToString());
  return reply.attributes();
}

StatusCode StateDriver::AttrCode(uint64_t inode) {
  proto::GetAttrRequest request;
  request.set_inode(inode);
  proto::GetAttrReply reply;
  return machine_->GetAttr(request, &reply).code();
}

std::vector<std::string> StateDriver::Names(uint64_t directory) {
  std::vector<std::string> names;
  proto::ReadDirRequest request;
  request.set_directory(directory);
  proto::ReadDirReply reply;
  while (!reply.end()) {
    const Status status = machine_->ReadDir(request, &reply);
    CHECK(status.ok(), status.ToString());
    for (const proto::Entry& entry : reply.entries()) {
      names.push_back(entry.name());
      request.set_after_cookie(entry.cookie());
    }
  }
  std::ranges::sort(names);
  return names;
}

proto::Volume StateDriver::VolumeNow() {
  proto::GetVolumeRequest request;
  request.set_name("v");
  proto::GetVolumeReply reply;
  const Status status = machine_->GetVolume(request, &reply);
  CHECK(status.ok(), status.ToString());
  return reply.volume();
}

}  // namespace tarn::meta
