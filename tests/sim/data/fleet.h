// The chunk servers of a run: those there are, those that have come since, and those that are gone for good.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/sim/data/server.h"

namespace tarn::sim_data {

// One thread.
class Fleet {
 public:
  explicit Fleet(Server::World world) : world_(std::move(world)) {
    world_.on_identified = [this](Server* server) { by_target_[server->target()] = server; };
    world_.group_bytes = [this](uint32_t group) { return group_bytes_[group]; };
    world_.on_report = [this](const proto::GroupReport& report) {
      if (report.kind() == proto::GroupReport::KIND_FAILED) failed_.emplace(report.group(), report.epoch(), report.target());
    };
  }
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  Server* Add(const std::string& node, const std::string& zone, uint64_t capacity_bytes) {
    servers_.push_back(std::make_unique<Server>(Server::Place{servers_.size() + 1, node, zone, capacity_bytes}, world_));
    return servers_.back().get();
  }
  const std::vector<std::unique_ptr<Server>>& servers() const { return servers_; }
  // Null: no server that has answered has it.
  Server* Find(TargetId target) const {
    const auto found = by_target_.find(target);
    return found != by_target_.end() ? found->second : nullptr;
  }
  // That has the address.
  Server* At(const std::string& address) const {
    return std::ranges::find_if(servers_, [&](const auto& server) { return server->address() == address; })->get();
  }
  uint64_t NumberOf(TargetId target) const { return Find(target)->place().number; }
  // Whether the primary has said so in this epoch.
  bool WasReported(uint32_t group, uint64_t epoch, TargetId member) const { return failed_.contains({group, epoch, member.value()}); }
  void SetGroupBytes(uint32_t group, uint64_t bytes) { group_bytes_[group] = bytes; }

 private:
  Server::World world_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::map<TargetId, Server*> by_target_;
  std::map<uint32_t, uint64_t> group_bytes_;
  std::set<std::tuple<uint32_t, uint64_t, uint64_t>> failed_;
};

}  // namespace tarn::sim_data
