// The state machine as a whole: opening, determinism over both stores, and crashes at every point between flushes.
#include "metaserver/state/state_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/state/keys.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/records.h"
#include "metaserver/state/rocks_kv.h"
#include "metaserver/state/testing/namespace_workload.h"
#include "metaserver/state/testing/state_driver.h"
#include "metaserver/state/testing/temporary_directory.h"

namespace tarn::meta {
namespace {

// What the leader does by itself, and what operators ask for.
proto::Mutation Background(NamespaceWorkload* workload, const StateDriver& driver) {
  proto::Mutation mutation;
  switch (workload->Below(4)) {
    case 0:
      mutation.mutable_remove_tree()->set_parent(driver.root());
      mutation.mutable_remove_tree()->set_name("n" + std::to_string(workload->Below(8)));
      break;
    case 1:
      mutation.mutable_purge()->set_volume(driver.volume());
      mutation.mutable_purge()->set_steps_max(2);
      break;
    default:
      mutation.mutable_propagate_counters()->set_steps_max(1 + static_cast<uint32_t>(workload->Below(4)));
  }
  return mutation;
}

// A log of random operations, in entries of one to eight commands, as a cluster would have written it.
std::vector<proto::LogEntry> RandomLog(uint64_t seed, int entries) {
  MemoryKv store;
  StateDriver driver(&store);
  driver.SetUpCluster();
  NamespaceWorkload workload(seed);
  workload.AddDirectory(driver.root());
  for (int i = 0; i < entries; ++i) {
    std::vector<proto::Mutation> mutations(1 + workload.Below(8));
    for (proto::Mutation& mutation : mutations) {
      mutation = workload.Next();
      driver.Sign(&mutation);
    }
    if (workload.Below(4) == 0) mutations.push_back(Background(&workload, driver));
    for (const proto::MutationReply& reply : driver.ApplyAll(mutations)) workload.Learn(reply);
  }
  return driver.log();
}

void Replay(StateMachine* machine, const std::vector<proto::LogEntry>& log) {
  for (size_t i = machine->applied_entries(); i < log.size(); ++i) {
    const auto replies = machine->Apply(log[i]);
    ASSERT_TRUE(replies.ok()) << replies.status().ToString();
  }
}

std::unique_ptr<StateMachine> Open(KvStore* store) {
  auto machine = StateMachine::Open(store);
  EXPECT_TRUE(machine.ok()) << machine.status().ToString();
  return std::move(machine).value();
}

MemoryKv::Contents AllKeys(const KvStore& store) {
  MemoryKv::Contents contents;
  const Status status = store.View()->Scan("", "", [&](std::string_view key, std::string_view value) {
    contents.emplace(key, value);
    return true;
  });
  EXPECT_TRUE(status.ok()) << status.ToString();
  return contents;
}

TEST(StateMachine, NewStateIsEmpty) {
  MemoryKv store;
  const auto machine = Open(&store);
  EXPECT_EQ(machine->applied_entries(), 0u);
  EXPECT_EQ(machine->header().format_version(), 1u);
  EXPECT_EQ(machine->header().next_inode(), 16u);
  ASSERT_NE(machine->cluster_map(), nullptr);
  EXPECT_EQ(machine->cluster_map()->version(), 0u);
  proto::ListVolumesReply volumes;
  EXPECT_TRUE(machine->ListVolumes(&volumes).ok());
  EXPECT_EQ(volumes.volumes_size(), 0);
}

TEST(StateMachine, ForeignOrNewerStoresAreRefused) {
  MemoryKv foreign;
  ASSERT_TRUE(foreign.Write(KvBatch{.changes = {{"other", "data"}}}).ok());
  EXPECT_EQ(StateMachine::Open(&foreign).status().code(), StatusCode::kCorruption);
  MemoryKv damaged;
  ASSERT_TRUE(damaged.Write(KvBatch{.changes = {{HeaderKey(), "\xff"}}}).ok());
  EXPECT_EQ(StateMachine::Open(&damaged).status().code(), StatusCode::kCorruption);
  MemoryKv newer;
  proto::StateHeader header;
  header.set_format_version(2);
  ASSERT_TRUE(newer.Write(KvBatch{.changes = {{HeaderKey(), Encode(header)}}}).ok());
  EXPECT_EQ(StateMachine::Open(&newer).status().code(), StatusCode::kNotSupported);
}

TEST(StateMachine, CountsEntriesAndRefusesNewerOnes) {
  MemoryKv store;
  const auto machine = Open(&store);
  proto::LogEntry entry;
  entry.set_version(1);
  EXPECT_TRUE(machine->Apply(entry)->empty());  // a leader's no-op
  EXPECT_EQ(machine->applied_entries(), 1u);
  EXPECT_EQ(Open(&store)->applied_entries(), 1u);
  entry.set_version(2);
  EXPECT_EQ(machine->Apply(entry).status().code(), StatusCode::kNotSupported);
  EXPECT_EQ(machine->applied_entries(), 1u);
}

TEST(StateMachine, StoreFailureEndsTheEntryWithNothingDone) {
  MemoryKv store;
  StateDriver driver(&store);
  driver.SetUpCluster();
  const auto before = store.Snapshot();
  proto::Mutation mutation;
  mutation.mutable_mkdir()->set_parent(driver.root());
  mutation.mutable_mkdir()->set_name("d");
  const proto::LogEntry entry = driver.Fill({mutation});
  store.FailWith(Status(StatusCode::kIoError, "disk"));
  EXPECT_EQ(driver.machine().Apply(entry).status().code(), StatusCode::kIoError);
  store.FailWith(Status::Ok());
  EXPECT_EQ(store.Snapshot(), before);
  EXPECT_EQ(driver.machine().header().SerializeAsString(), Open(&store)->header().SerializeAsString());
}

TEST(StateMachine, SameLogGivesTheSameKeysOnBothStores) {
  const std::vector<proto::LogEntry> log = RandomLog(7, 400);
  MemoryKv memory;
  Replay(Open(&memory).get(), log);
  const TemporaryDirectory directory;
  auto rocks = RocksKv::Open(directory.path(), {});
  ASSERT_TRUE(rocks.ok());
  Replay(Open(rocks->get()).get(), log);
  EXPECT_EQ(AllKeys(**rocks), memory.Snapshot());
  EXPECT_GT(memory.Snapshot().size(), 100u);
}

TEST(StateMachine, CommandsMayBeGroupedInAnyWay) {
  std::vector<proto::LogEntry> log = RandomLog(8, 200);
  MemoryKv grouped;
  Replay(Open(&grouped).get(), log);
  MemoryKv alone;
  const auto machine = Open(&alone);
  for (const proto::LogEntry& entry : log) {
    for (const proto::LogCommand& command : entry.commands()) {
      proto::LogEntry single;
      single.set_version(1);
      *single.add_commands() = command;
      ASSERT_TRUE(machine->Apply(single).ok());
    }
  }
  MemoryKv::Contents expected = grouped.Snapshot();
  MemoryKv::Contents actual = alone.Snapshot();
  expected.erase(HeaderKey());
  actual.erase(HeaderKey());
  EXPECT_EQ(actual, expected);
}

TEST(StateMachine, CrashAndReplayGiveTheSameState) {
  const std::vector<proto::LogEntry> log = RandomLog(9, 60);
  MemoryKv untroubled;
  Replay(Open(&untroubled).get(), log);
  for (size_t flush_at = 0; flush_at < log.size(); flush_at += 7) {
    for (size_t kept = 0; kept <= log.size() - flush_at; kept += 5) {
      MemoryKv store;
      {
        const auto machine = Open(&store);
        for (size_t i = 0; i < log.size(); ++i) {
          if (i == flush_at) {
            ASSERT_TRUE(store.Flush().ok());
          }
          ASSERT_TRUE(machine->Apply(log[i]).ok());
        }
      }
      store.Crash(kept);
      const auto machine = Open(&store);
      EXPECT_EQ(machine->applied_entries(), flush_at + kept);
      Replay(machine.get(), log);
      ASSERT_EQ(store.Snapshot(), untroubled.Snapshot()) << "flushed at " << flush_at << ", kept " << kept;
    }
  }
}

TEST(StateMachine, CheckpointCarriesTheWholeState) {
  const std::vector<proto::LogEntry> log = RandomLog(10, 100);
  const TemporaryDirectory directory;
  auto rocks = RocksKv::Open(directory.path() + "/db", {});
  ASSERT_TRUE(rocks.ok());
  const std::vector<proto::LogEntry> half(log.begin(), log.begin() + 50);
  const auto machine = Open(rocks->get());
  Replay(machine.get(), half);
  ASSERT_TRUE((*rocks)->Checkpoint(directory.path() + "/copy").ok());
  Replay(machine.get(), log);
  auto copy = RocksKv::Open(directory.path() + "/copy", {});
  ASSERT_TRUE(copy.ok());
  const auto other = Open(copy->get());
  EXPECT_EQ(other->applied_entries(), 50u);
  Replay(other.get(), log);
  EXPECT_EQ(AllKeys(**copy), AllKeys(**rocks));
}

TEST(StateMachine, TellsTheLeaderWhichIdsACommandNeeds) {
  proto::Mutation mutation;
  mutation.mutable_create();
  EXPECT_TRUE(NeedsInodeId(mutation));
  EXPECT_EQ(DataIdsNeeded(mutation), 0u);
  mutation.mutable_unlink();
  EXPECT_FALSE(NeedsInodeId(mutation));
  mutation.mutable_allocate_data();
  EXPECT_EQ(DataIdsNeeded(mutation), 1u);
  mutation.mutable_reserve_data_ids()->set_count(100);
  EXPECT_EQ(DataIdsNeeded(mutation), 100u);
  mutation.mutable_reserve_data_ids()->set_count(1'000'000'000);
  EXPECT_EQ(DataIdsNeeded(mutation), 0u);
}

}  // namespace
}  // namespace tarn::meta
