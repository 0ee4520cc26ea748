// The operator's view of a cluster: volumes and status over gRPC, without gRPC or protobuf in this header. Blocking;
// thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/types.h"

namespace tarn::client {

struct MetaserverStatus {
  uint64_t id = 0;
  std::string address;
  std::string role;  // leader | follower | learner | unknown
  uint64_t pid = 0;  // 0: unknown
  uint64_t applied_entries = 0;  // of the log, as far as the leader knows
  int64_t heard_ns = 0;          // when the leader last heard of it, since the epoch; 0: never
};

struct MetaserverGroup {
  std::vector<MetaserverStatus> metaservers;
  uint64_t leader = 0;
  uint64_t term = 0;
};

// What an elastic target has done since its server started.
struct ElasticUse {
  uint64_t cached_bytes = 0;
  uint64_t hits = 0;      // reads answered from the cache
  uint64_t misses = 0;    // reads that waited for bytes to be fetched
  uint64_t refusals = 0;  // of another generation, or not to be had: the reader asked an in-sync copy
  uint64_t bytes_served = 0;
  uint64_t bytes_filled = 0;
  uint64_t bytes_evicted = 0;
  uint64_t bad_units = 0;
};

struct ChunkserverStatus {
  uint64_t server_id = 0;
  uint64_t target_id = 0;
  std::string address;
  std::string node;
  std::string zone;
  std::string target_class;  // durable | elastic
  std::string state;  // online | offline | draining | retired | failed
  uint64_t pid = 0;
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t available_bytes = 0;
  uint64_t chunk_count = 0;
  uint64_t bytes_read = 0;            // sent to readers since the server started
  std::optional<ElasticUse> elastic;  // of an elastic one
};

// What is being brought up to date, of all placement groups together.
struct RepairProgress {
  uint32_t groups_degraded = 0;     // fewer in-sync copies than wanted
  uint32_t groups_unavailable = 0;  // no copy answers
  uint32_t groups_moving = 0;       // complete, and getting a copy elsewhere
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  uint64_t bytes_per_second = 0;
  uint64_t eta_seconds = 0;  // 0: not known
};

// Placement groups on their way to targets that carry less.
struct RebalanceProgress {
  uint32_t moves_left = 0;  // as planned now, those under way included
  uint32_t moves_done = 0;  // since it began
  uint64_t bytes_left = 0;
  uint64_t bytes_total = 0;
  uint64_t bytes_per_second = 0;
  uint64_t eta_seconds = 0;  // 0: not known
};

// Space that comes back, and what there is.
struct SpaceProgress {
  uint64_t reclaimed_bytes_per_second = 0;  // of late
  uint64_t leftover_bytes = 0;           // copies of placement groups that have left their target
  uint64_t unknown_data_ids = 0;         // data that nobody knows, in quarantine
  uint64_t unknown_bytes = 0;
  uint64_t unknown_reclaimed_bytes = 0;  // ever
  uint64_t kept_data_ids = 0;            // unknown, and from after a backup that was restored
  int64_t checked_ns = 0;                // last comparison of all data ids, since the epoch; 0: not yet
  bool checking = false;
  uint64_t usable_bytes = 0;  // of all targets together, one copy of each byte
  uint64_t used_bytes = 0;
  uint64_t available_bytes = 0;
};

struct GroupInfo {
  uint32_t id = 0;
  uint64_t epoch = 0;
  uint32_t replicas = 0;
  std::string health;             // ok | moving | degraded | unavailable
  std::vector<uint64_t> in_sync;  // targets; the first is the primary
  std::vector<uint64_t> syncing;
  std::vector<uint64_t> promotable;  // of an unavailable group: older copies that answer
  uint64_t bytes = 0;                // of one copy, as last measured
  bool used = false;                 // files may have data there
};

struct ForcedPromotion {
  uint32_t group = 0;
  uint64_t target = 0;
  int64_t at_ns = 0;  // since the epoch
};

// Every chunk server that names the node.
struct NodeInfo {
  std::string name;
  std::string zone;
  std::vector<ChunkserverStatus> targets;
  bool draining = false;
  uint32_t groups_left = 0;  // placement groups with a copy there
  uint64_t bytes_left = 0;   // of a draining node: about so much is still to be moved off
};

struct ScrubStatus {
  uint64_t target_id = 0;
  std::string node;
  bool running = false;
  uint64_t bytes_checked = 0;  // in this round
  uint64_t bytes_total = 0;
  uint64_t errors_found = 0;  // since the target was made
  uint64_t errors_repaired = 0;
  int64_t last_round_ended_ns = 0;  // since the epoch; 0: none yet
  int64_t next_round_ns = 0;        // 0: only on request
};

struct ClusterStatus {
  std::string health;      // ok | degraded | unavailable
  std::string cluster_id;  // hexadecimal
  std::vector<MetaserverStatus> metaservers;
  std::vector<ChunkserverStatus> chunkservers;  // one row per target
  std::vector<VolumeInfo> volumes;
  uint64_t map_version = 0;
  uint32_t placement_groups = 0;
  uint32_t sessions = 0;
  uint64_t dead_data_ids = 0;
  uint64_t removing_inodes = 0;        // about so many are still to be removed in the background
  uint64_t unsettled_directories = 0;  // whose changes of size have not been carried upwards yet
  bool reclaim_disabled = false;       // since a restore: dead data is kept
  RepairProgress repair;
  RebalanceProgress rebalance;
  SpaceProgress space;
  std::vector<ForcedPromotion> forced_promotions;  // the latest ones
  std::string software_version;
  std::vector<std::string> problems;
};

// What a new volume asks for; absent: the cluster's default.
struct VolumeRequest {
  std::string name;
  uint64_t quota_bytes = 0;
  uint64_t quota_inodes = 0;
  uint32_t replicas = 1;
  std::optional<uint32_t> stripe_unit_bytes;
  std::optional<uint32_t> stripe_width;
  std::optional<uint64_t> chunk_size_bytes;
};

struct FsckOptions {
  std::string volume;  // empty: all
  bool repair = false;
  bool skip_chunks = false;
};

struct FsckFinding {
  std::string kind;
  std::string what;
  bool repaired = false;
};

// What is known so far, and what was found since the last event.
struct FsckEvent {
  uint64_t inodes_checked = 0;
  uint64_t dentries_checked = 0;
  uint64_t chunks_checked = 0;
  uint64_t findings_total = 0;
  uint64_t repaired_total = 0;
  uint64_t remaining_total = 0;  // of the last event: what the last check still found
  bool end = false;
  std::vector<FsckFinding> findings;
};

class AdminClient {
 public:
  // Learns the gRPC address from any of the lean-frame addresses. kUnavailable naming what was tried, after
  // `timeout_ms`.
  static Result<std::unique_ptr<AdminClient>> Connect(const std::vector<std::string>& metaservers,
                                                      int64_t timeout_ms = 10'000);
  virtual ~AdminClient() = default;

  virtual Result<ClusterStatus> GetStatus() = 0;
  virtual Result<VolumeInfo> CreateVolume(const VolumeRequest& request) = 0;
  virtual Result<VolumeInfo> GetVolume(const std::string& name) = 0;
  virtual Result<std::vector<VolumeInfo>> ListVolumes() = 0;
  virtual Result<VolumeInfo> ResizeVolume(const std::string& name, std::optional<uint64_t> quota_bytes,
                                          std::optional<uint64_t> quota_inodes) = 0;
  // Calls back for each event; returns after the last one. Takes as long as it takes.
  virtual Status Fsck(const FsckOptions& options, const std::function<void(const FsckEvent&)>& on_event) = 0;
  // Calls back for each record of a backup file, in order; returns after the last one, or with the callback's error.
  virtual Status Backup(const std::function<Status(const std::string& record)>& on_record) = 0;
  // Whether dead data may be deleted (off after a restore).
  virtual Status SetReclaim(bool enabled) = 0;
  // kNotEmpty unless `recursive`.
  virtual Status DeleteVolume(const std::string& name, bool recursive) = 0;
  virtual Result<MetaserverGroup> ListMetaservers() = 0;
  // kNotFound; kBusy if what would be left has no majority that answers.
  virtual Status RemoveMetaserver(uint64_t id) = 0;
  // 0: whichever is most up to date.
  virtual Status TransferLeadership(uint64_t id) = 0;

  virtual Result<std::vector<NodeInfo>> ListNodes() = 0;
  // Nothing new is placed there, and what is there is moved off in the background. kNoSpace, saying why, if that cannot
  // work and it is not forced; kNotFound.
  virtual Result<NodeInfo> DrainNode(const std::string& node, bool force) = 0;
  virtual Result<NodeInfo> UncordonNode(const std::string& node) = 0;
  // For good. kBusy if it holds the last copy of something; kNotFound.
  virtual Result<ChunkserverStatus> RetireTarget(uint64_t target) = 0;
  // The node's targets that do not answer are gone for good. kBusy: they answer, or have the last current copy of
  // something and `accept_data_loss` is not set; kNotFound.
  virtual Result<NodeInfo> RemoveNode(const std::string& node, bool accept_data_loss) = 0;
  virtual Result<std::vector<GroupInfo>> ListGroups(bool unhealthy_only) = 0;
  // An older copy goes on alone. kBusy: it is not needed, or the loss is not accepted.
  virtual Result<GroupInfo> PromoteMember(uint32_t group, uint64_t target, bool accept_data_loss) = 0;
  virtual Result<std::vector<ScrubStatus>> GetScrubStatus() = 0;
  // 0: all targets.
  virtual Status StartScrub(uint64_t target) = 0;
};

}  // namespace tarn::client
